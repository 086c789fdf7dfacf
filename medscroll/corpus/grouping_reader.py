"""The documents of a bucket of joined rows (see grouping.py): whole groups, each one document.

Memory: one bucket, about 64 MB of rows.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from medscroll.corpus.options import ReadOptions
from medscroll.corpus.readers_records import SPLIT_KEY, Row, key_of, make_record
from medscroll.corpus.record import MAX_DOCUMENT_BYTES, OnBytes, Record
from medscroll.corpus.shards import Part
from medscroll.errors import DataError

FAILED = "-" * 32  # in the place of the key of a row that has none
_DATE = re.compile(
    r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?(?:[ T]+(\d{1,2})[:：时](\d{1,2})分?(?:[:：]?(\d{1,2})秒?)?)?"
)


def read_bucket(part: Part, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Record]:
    """The documents of one bucket, by key; their rows ordered by the fields of `order_by`, then as they came."""
    folder, bucket = Path(part.file.path), str(int(part.file.id.rpartition("-")[2]))
    groups: dict[str, list[bytes]] = defaultdict(list)
    sizes: dict[str, int] = defaultdict(int)
    number = 0
    for directory in sorted(folder.glob("[0-9]*.json")):
        with directory.with_suffix(".rows").open("rb") as rows:
            for start, length in json.loads(directory.read_bytes()).get(bucket, ()):
                rows.seek(start)
                lines = zstandard.ZstdDecompressor().decompressobj().decompress(rows.read(length))
                on_bytes(length)
                for line in lines.split(b"\n"):
                    key = line[:32].decode("ascii")
                    if key == FAILED:
                        row = json.loads(line[33:])
                        number += 1
                        yield Record(number, reason=row["reason"], detail=row["detail"], id=row["failed"])
                    elif key:
                        sizes[key] += len(line)
                        if sizes[key] > MAX_DOCUMENT_BYTES:  # named below; its rows are let go
                            groups[key] = []
                        else:
                            groups[key].append(line[33:])
    for key in sorted(groups):
        number += 1
        if sizes[key] > MAX_DOCUMENT_BYTES:
            detail = f"the rows of the group have {sizes[key]:,} bytes, more than {MAX_DOCUMENT_BYTES:,}"
            yield Record(number, reason="too_large", detail=detail, id=f"group/{key[:16]}")
            continue
        try:
            yield _document(number, key, [json.loads(line) for line in groups.pop(key)], options)
        except DataError as error:
            if not options.tolerant:
                raise
            yield Record(number, reason=error.reason or "broken_record", detail=error.what, id=f"group/{key[:16]}")


def _document(number: int, key: str, rows: list[dict[str, Any]], options: ReadOptions) -> Record:
    rows.sort(key=lambda row: [order_key(row["values"].get(name)) for name in options.order_by])
    where = f"group {key[:16]}"
    if len({key_of(Row(0, row["values"], where), options.split_by) for row in rows} if options.split_by else {""}) > 1:
        raise DataError(
            "the rows of one group have different values of --split_by", where,
            "split by a field that --group_by names", reason="split_inside_group",
        )  # fmt: skip
    records = [_record(Row(0, row["values"], where, left_out=row["left_out"]), options) for row in rows]
    texts = [record.text for record in records if record.text.strip()]
    constant = {
        name: value for name, value in records[0].metadata.items()
        if name not in options.keys and all(record.metadata.get(name) == value for record in records)
    }  # fmt: skip
    if options.split_by:
        constant[SPLIT_KEY] = key_of(Row(0, rows[0]["values"], where), options.split_by)
    unordered = sum(all(order_key(row["values"].get(name))[0] == 0 for name in options.order_by) for row in rows)
    counts = Counter({"grouped_rows": len(rows), "rows_without_order": unordered if options.order_by else 0})
    for record in records:
        counts.update(record.counts)
    reason = "" if texts else "empty"
    metadata = {**constant, "rows": len(rows), "rows_without_text": len(rows) - len(texts)}
    return Record(
        number, "\n\n".join(texts), title=records[0].title, licence=records[0].licence, metadata=metadata,
        reason=reason, detail="no row of the group has text" if reason else "", id=f"group/{key}", counts=dict(counts),
    )  # fmt: skip


def _record(row: Row, options: ReadOptions) -> Record:
    """The record of a row; one without text where the fields that hold it are left out, as in sparse exports."""
    try:
        return make_record(row, options)
    except DataError as error:
        if error.reason != "no_such_field":
            raise
        return Record(0, metadata={name: value for name, value in row.values.items() if value is not None})


def order_key(value: Any) -> tuple[int, float, str]:
    """What rows are ordered by: nothing first, then numbers by size, then dates and times by time, then other texts.

    Dates may be written as 2024-01-05, 2024/1/5, 2024.1.5 or 2024年1月5日, with a time of day after a blank or a T; a
    time counts as it is written, its zone aside. 20240105 is a number.
    """
    if value is None or value == "":
        return (0, 0.0, "")
    try:
        number = float(value)
        return (1, number, "") if math.isfinite(number) else (0, 0.0, "")
    except (TypeError, ValueError):
        pass
    text = str(value).strip()
    match = _DATE.match(text)
    if match is None:
        return (3, 0.0, text)
    fields = [int(part or 0) for part in match.groups()[:6]]
    year, month, day, hour, minute, second = fields
    days = (year * 12 + month) * 31 + day
    return (2, float(((days * 24 + hour) * 60 + minute) * 60 + second), text[match.end() :])
