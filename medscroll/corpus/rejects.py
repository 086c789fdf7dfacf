"""What lies in `rejects/`: names of what could not be read, for messages. Never text.

Cost: one pass over the reject files until enough are found.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from medscroll.corpus.files import read_jsonl_zst

# Reasons for which a file was left out that are no mistake of anybody.
EXPECTED = frozenset({"hidden", "unsupported_format", "empty", "superseded"})


def named_rejects(output_dir: Path, limit: int = 10, *, expected: bool = False) -> list[str]:
    """Up to `limit` sources and records that were not read, as "id: reason (detail)", in the order of the files.

    Args:
        expected: also those whose reason is no mistake, such as empty files.
    """
    found: list[str] = []
    for entry in _entries(output_dir / "rejects"):
        if entry.get("step", "read") != "read" or (entry["reason"] in EXPECTED and not expected):
            continue
        found.append(f"{entry['id']}: {entry['reason']}" + (f" ({entry['detail']})" if entry["detail"] else ""))
        if len(found) == limit:
            break
    return found


def listed_rejects(folders: list[Path], limit: int = 1000) -> list[dict[str, str]]:
    """The first files and records that were not read: {"id", "reason", "detail"}, those of no mistake included.

    Args:
        folders: prepared folders (`DATA`, `DATA/validation`).
    """
    found = []
    for entry in (entry for folder in folders for entry in _entries(folder / "rejects")):
        if entry.get("step", "read") == "read":
            found.append({"id": entry["id"], "reason": entry["reason"], "detail": entry["detail"]})
            if len(found) == limit:
                break
    return found


def _entries(folder: Path) -> Iterator[dict[str, str]]:
    for path in sorted(folder.glob("*.jsonl.zst"), key=lambda path: (path.name[0].isdigit(), path.name)):
        for line in read_jsonl_zst(path):
            yield json.loads(line)
