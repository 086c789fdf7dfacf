"""Small files of prepared data: private, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash

from medscroll.corpus.files import atomic_file, file_lock
from medscroll.errors import CapacityError

__all__ = ["disk_errors", "file_lock", "read_json", "signed", "write_private"]


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is no such file or no object in it."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_private(path: Path, content: Any) -> None:
    """Writes text as it is, anything else as JSON, with mode 0600: to a temporary name, to the disk, then renamed."""
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    with atomic_file(path) as file:
        file.write(text)


def signed(content: dict[str, Any]) -> dict[str, Any]:
    """The same object with a "checksum" over everything else in it."""
    rest = {name: value for name, value in content.items() if name != "checksum"}
    text = json.dumps(rest, ensure_ascii=True, sort_keys=True)
    return rest | {"checksum": xxhash.xxh3_128_hexdigest(text.encode())}


@contextlib.contextmanager
def disk_errors(output_dir: Path) -> Iterator[None]:
    """Turns a full disk or quota into a `CapacityError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CapacityError(
                "the disk is full",
                f"--output_dir {output_dir}",
                "free some space and run the same command again: what is finished is kept",
            ) from error
        raise
