"""The documents of a bucket of joined rows (see grouping.py): whole groups, each one document.

Memory: one bucket, about 64 MB of rows.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from medscroll.corpus.options import ReadOptions
from medscroll.corpus.readers_records import SPLIT_KEY, Row, key_of, make_record
from medscroll.corpus.record import OnBytes, Record
from medscroll.corpus.shards import Part
from medscroll.errors import DataError


def read_bucket(part: Part, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Record]:
    """The documents of one bucket, by key; their rows ordered by the fields of `order_by`, then as they came."""
    folder, bucket = Path(part.file.path), str(int(part.file.id.rpartition("-")[2]))
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    number = 0
    for directory in sorted(folder.glob("[0-9]*.json")):
        with directory.with_suffix(".rows").open("rb") as rows:
            for start, length in json.loads(directory.read_bytes()).get(bucket, ()):
                rows.seek(start)
                lines = zstandard.ZstdDecompressor().decompressobj().decompress(rows.read(length))
                on_bytes(length)
                for line in lines.split(b"\n"):
                    row = json.loads(line) if line else {}
                    if "failed" in row:
                        number += 1
                        yield Record(number, reason=row["reason"], detail=row["detail"], id=row["failed"])
                    elif row:
                        groups[row["key"]].append(row)
    for key in sorted(groups):
        number += 1
        try:
            yield _document(number, key, groups[key], options)
        except DataError as error:
            if not options.tolerant or error.reason == "no_such_field":
                raise
            yield Record(number, reason=error.reason or "broken_record", detail=error.what, id=f"group/{key[:16]}")


def _document(number: int, key: str, rows: list[dict[str, Any]], options: ReadOptions) -> Record:
    rows.sort(key=lambda row: [_order(row["values"].get(name)) for name in options.order_by])
    where = f"group {key[:16]}"
    if len({key_of(Row(0, row["values"], where), options.split_by) for row in rows} if options.split_by else {""}) > 1:
        raise DataError(
            "the rows of one group have different values of --split_by", where,
            "split by a field that --group_by names", reason="split_inside_group",
        )  # fmt: skip
    records = [make_record(Row(0, row["values"], where, left_out=row["left_out"]), options) for row in rows]
    texts = [record.text for record in records if record.text.strip()]
    constant = {
        name: value for name, value in records[0].metadata.items()
        if name not in options.keys and all(record.metadata.get(name) == value for record in records)
    }  # fmt: skip
    if options.split_by:
        constant[SPLIT_KEY] = records[0].metadata[SPLIT_KEY]
    reason = "" if texts else "empty"
    metadata = {**constant, "rows": len(rows), "rows_without_text": len(rows) - len(texts)}
    return Record(
        number, "\n\n".join(texts), title=records[0].title, licence=records[0].licence, metadata=metadata,
        reason=reason, detail="no row of the group has text" if reason else "", id=f"group/{key}",
    )  # fmt: skip


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers by size, texts (ISO dates) by characters, nothing first."""
    if value is None or value == "":
        return (0, 0.0, "")
    if isinstance(value, bool | int | float):
        return (1, float(value), "")
    try:
        return (1, float(value), "")
    except ValueError:
        return (2, 0.0, str(value))
