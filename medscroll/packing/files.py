"""Small files of prepared data: private, written whole or not at all; and the lock that keeps processes apart."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from medscroll.corpus.files import atomic_file
from medscroll.errors import CapacityError, ConfigError, EnvironmentError_


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


@contextlib.contextmanager
def file_lock(path: Path, *, wait: bool, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds an advisory lock on a file; the system releases it when the process ends, however that happens.

    Args:
        wait: wait for another holder; else it is an error.
        on_wait: called once before waiting.

    Raises:
        ConfigError: another process holds it and `wait` is false.
        EnvironmentError_: the file system has no locks.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "w") as handle:
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                if on_wait:
                    on_wait()
                fcntl.flock(handle, fcntl.LOCK_EX)
        except BlockingIOError as error:
            raise ConfigError(
                "another `medscroll prepare` is at work in this folder", str(path.parent), "wait for it to end"
            ) from error
        except OSError as error:
            raise EnvironmentError_(
                "the file system of this folder has no file locks",
                str(path.parent),
                "choose a folder on another file system, or mount this one with locks (Lustre: -o flock)",
            ) from error
        yield


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
