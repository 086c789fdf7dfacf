"""Readers of files that hold many records: JSON, JSONL, CSV, Parquet.

The text is taken from a named field; all other plain fields are kept as metadata. JSONL, CSV and Parquet are read
piece by piece; a `.json` file is loaded whole (limit 1 GiB, about five times that in memory), unless it has a record a
line, as many do, and then is read as JSONL.
"""

from __future__ import annotations

import csv
import datetime
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from medscroll.corpus.encoding import decode, decode_lines
from medscroll.corpus.files import open_source
from medscroll.corpus.record import OnBytes, Record, read_whole
from medscroll.corpus.shards import Part
from medscroll.errors import DataError

COMMON_FIELDS = ("text", "content", "document", "body")
_TITLE_FIELDS = ("title", "标题")
_LICENCE_FIELDS = ("licence", "license")
_BATCH_ROWS = 64  # of Parquet; a row may be a whole book


def read_records(part: Part, text_field: str | None, on_bytes: OnBytes) -> Iterator[Record]:
    """The records of one range of a JSON, JSONL, CSV or Parquet file; a file without any gives one reject."""
    readers = {"json": _read_json, "jsonl": _read_jsonl, "csv": _read_csv, "parquet": _read_parquet}
    count = 0
    for record in readers[part.file.format](part, text_field, on_bytes):
        count += 1
        yield record
    if count == 0 and part.first_record == 1 and part.stop is None:
        yield Record(0, reason="empty", detail="no records")


def choose_field(fields: Sequence[str], text_field: str | None, where: str) -> str:
    """The field that holds the text.

    Raises:
        DataError: it is not there; the fields that exist are listed.
    """
    if text_field is not None:
        if text_field in fields:
            return text_field
        what = f"there is no field {text_field!r}"
    else:
        for name in (*COMMON_FIELDS, *(name.capitalize() for name in COMMON_FIELDS)):
            if name in fields:
                return name
        what = f"none of the usual text fields ({', '.join(COMMON_FIELDS)}) is there"
    # A field name that long is a value (a CSV file without a header), and no corpus text goes into an error.
    shown = [
        repr(name) if len(name) <= 40 else f"(field {n}, {len(name)} characters)" for n, name in enumerate(fields, 1)
    ]
    listed = ", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")
    raise DataError(f"{what}; the fields are: {listed or 'none'}", where, "name the right one with --text_field")


def _record(number: int, values: Any, text_field: str | None, where: str) -> Record:
    """A record of its fields; a bare string is its own text."""
    if isinstance(values, str) and text_field is None:
        return Record(number, values)
    if not isinstance(values, dict):
        raise DataError(f"the record is a {_kind(values)}, not an object with fields", where, 'write {"text": "..."}')
    name = choose_field(list(values), text_field, where)
    text = values[name]
    if text is None:
        return Record(number, reason="empty", detail=f"field {name!r} is null")
    if not isinstance(text, str):
        raise DataError(f"field {name!r} is a {_kind(text)}, not text", where, "name another one with --text_field")
    metadata = {key: value for key, value in values.items() if key != name and value is not None}
    title = next((metadata.pop(key) for key in _TITLE_FIELDS if isinstance(metadata.get(key), str)), None)
    licence = next((metadata.pop(key) for key in _LICENCE_FIELDS if isinstance(metadata.get(key), str)), None)
    return Record(number, text, title=title or None, licence=licence or None, metadata=metadata)


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _read_jsonl(part: Part, text_field: str | None, on_bytes: OnBytes) -> Iterator[Record]:
    path = part.file.path
    with open_source(Path(path), part.file.compression, on_bytes) as stream:
        if part.start:
            stream.seek(part.start)
        source: Any = stream if part.stop is None else _Limited(stream, part.stop - part.start)
        for number, line in enumerate(decode_lines(source, path, offset=part.start), part.first_record):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _broken_json(error, path, number) from None
            yield _record(number, values, text_field, where)


class _Limited:
    """The first `size` bytes of a stream."""

    def __init__(self, stream: Any, size: int) -> None:
        self._stream, self._left = stream, size

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; none after the limit."""
        data: bytes = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


def _broken_json(error: Exception, path: str, line: int) -> DataError:
    column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
    reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply or a number too long"
    return DataError(f"broken JSON: {reason}", f"{path}, line {line}{column}", "repair or remove this line")


def _read_json(part: Part, text_field: str | None, on_bytes: OnBytes) -> Iterator[Record]:
    path = part.file.path
    if _has_record_a_line(part):
        yield from _read_jsonl(part, text_field, on_bytes)
        return
    text, _ = decode(read_whole(part, on_bytes), path)
    if not text.strip():
        return
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise _broken_json(error, path, error.lineno) from None
    except (ValueError, RecursionError) as error:
        raise _broken_json(error, path, 1) from None
    del text
    records = values if isinstance(values, list) else [values]
    if isinstance(values, dict) and isinstance(values.get("data"), list) and text_field != "data":
        records = values["data"]
    for number, record in enumerate(records, 1):
        yield _record(number, record, text_field, f"{path}, record {number}")


def _has_record_a_line(part: Part) -> bool:
    """Whether a .json file is JSON Lines: its first two lines that are not blank are each an object."""
    objects = 0
    with open_source(Path(part.file.path), part.file.compression) as stream:
        for line in decode_lines(stream, part.file.path):
            if not line.strip():
                continue
            if line[0] != "{" or line.rstrip()[-1] != "}":
                return False
            try:
                objects += isinstance(json.loads(line), dict)
            except (ValueError, RecursionError):
                return objects > 0  # the second line is broken: let the JSONL reader name it
            if objects == 2:
                return True
    return False


def _read_csv(part: Part, text_field: str | None, on_bytes: OnBytes) -> Iterator[Record]:
    path = part.file.path
    csv.field_size_limit(sys.maxsize)
    with open_source(Path(path), part.file.compression, on_bytes) as stream:
        lines = decode_lines(stream, path)
        first = next((line for line in lines if line.strip()), None)
        if first is None:
            return
        rows = csv.reader(_chain(first, lines), delimiter=_delimiter(first), strict=True)
        number = 0
        try:
            header = [name.strip() for name in next(rows)]
            name = choose_field(header, text_field, f"{path}, line 1")
            repeated = sorted({field for field in header if field and header.count(field) > 1})
            if name in repeated:
                raise DataError(f"the header has the field {name!r} twice", f"{path}, line 1", "rename one of them")
            for row in rows:
                if not row:
                    continue
                number += 1
                if len(row) != len(header):
                    raise DataError(
                        f"the row has {len(row)} fields, the header {len(header)}",
                        f"{path}, line {rows.line_num} (record {number})",
                        'put fields that hold commas, quotes or line ends in "double quotes"',
                    )
                values = {
                    key or f"column_{n}": value for n, (key, value) in enumerate(zip(header, row, strict=True), 1)
                }
                yield _record(number, values, name, f"{path}, line {rows.line_num}")
        except csv.Error as error:
            raise DataError(
                f"broken CSV: {error}", f"{path}, line {rows.line_num}", "close the quotes, or double those inside"
            ) from None


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _delimiter(header: str) -> str:
    """The comma, unless the header has none and has semicolons or tabs."""
    counts = {mark: header.count(mark) for mark in ",;\t"}
    if counts[","] or not any(counts.values()):
        return ","
    return ";" if counts[";"] >= counts["\t"] else "\t"


def _read_parquet(part: Part, text_field: str | None, on_bytes: OnBytes) -> Iterator[Record]:
    """Rows of a range of row groups. Only plain columns become metadata; nested and binary ones are named there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = part.file.path
    with tempfile.TemporaryFile() as copy:
        source: Any = path
        if part.file.compression:  # Parquet is read from its end, so it is unpacked first, into a private file
            with open_source(Path(path), part.file.compression, on_bytes) as stream:
                shutil.copyfileobj(stream, copy, 1 << 20)
            copy.seek(0)
            source = copy
        try:
            file = pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)
            schema = file.schema_arrow
            name = choose_field(schema.names, text_field, path)
            if not (pa.types.is_string(_plain(schema.field(name).type)) or schema.field(name).type == pa.null()):
                raise DataError(
                    f"field {name!r} is of type {schema.field(name).type}, not text", path,
                    "name another one with --text_field",
                )  # fmt: skip
            plain = [field.name for field in schema if not _is_left_out(field.type)]
            left_out = [field.name for field in schema if _is_left_out(field.type)]
            stop = file.num_row_groups if part.stop is None else part.stop
            number = part.first_record
            groups = list(range(part.start, stop))
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=plain):
                if not part.file.compression and groups:
                    on_bytes(part.weight * batch.num_rows // max(1, _rows(file, groups)))
                for row in batch.to_pylist():
                    values = {key: _json_value(value) for key, value in row.items()}
                    record = _record(number, values, name, f"{path}, row {number}")
                    if left_out:
                        record.metadata["columns_left_out"] = left_out
                    yield record
                    number += 1
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DataError(
                "the Parquet file is broken, or of a kind that cannot be read", path, "write it again, or copy it again"
            ) from error


def _rows(file: Any, groups: list[int]) -> int:
    return sum(file.metadata.row_group(group).num_rows for group in groups)


def _plain(kind: Any) -> Any:
    """The type of the values of a dictionary-encoded column; large strings count as strings."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind


def _is_left_out(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _json_value(value: Any) -> Any:
    """A value that JSON can hold: dates in ISO form, decimals as text, intervals in seconds."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    return value
