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
import string
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import xxhash

from medscroll.corpus import encoding
from medscroll.corpus.encoding import LongLine, decode, decode_lines
from medscroll.corpus.files import open_source
from medscroll.corpus.ocr_blocks import recognised_by
from medscroll.corpus.ocr_reader import read_recognised
from medscroll.corpus.options import ReadOptions
from medscroll.corpus.record import OnBytes, Record, failure_detail, read_whole
from medscroll.corpus.shards import Part
from medscroll.errors import ConfigError, DataError

COMMON_FIELDS = ("text", "content", "document", "body")
_TITLE_FIELDS = ("title", "标题")
_LICENCE_FIELDS = ("licence", "license")
SPLIT_KEY = "split_key"  # of the metadata: documents of one key stay on one side of the split
_TEMPLATE_REMEDY = "write fields in braces, such as '{title}\\n{note}'; a brace of the text itself is doubled"
_DEEPEST = 64  # levels of objects in a record
_BATCH_ROWS = 64  # of Parquet; a row may be a whole book


@dataclass(slots=True)
class Row:
    """One record as its fields, before its text is chosen.

    Attributes:
        number: from 1 (the line of a JSONL file). where: for errors.
        values: the fields; a bare string where the record is one; None where the record is broken.
        error: what is wrong with a broken one.
        left_out: columns of kinds that are not read.
        record: where the file is a document of another kind (recognised pages), that.
    """

    number: int
    values: Any
    where: str
    error: DataError | None = None
    left_out: list[str] = field(default_factory=list)
    record: Record | None = None


def read_records(part: Part, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Record]:
    """The records of one range of a JSON, JSONL, CSV or Parquet file; a file without any gives one reject."""
    count = good = 0
    for row in read_rows(part, options, on_bytes):
        count += 1
        try:
            if row.error is not None:
                raise row.error
            record = row.record or make_record(row, options, first=count == 1 and part.first_record == 1)
        except DataError as error:
            # A field that no record has is a mistake of the command, and not of this record.
            of_command = error.reason == "no_such_field" and not good and part.first_record == 1
            if not options.tolerant or of_command:
                raise
            detail = failure_detail(error, part.file.path)
            record = Record(row.number, reason=error.reason or "broken_record", detail=detail)
        else:
            good += 1
        yield record
    if count == 0 and part.first_record == 1 and part.stop is None:
        yield Record(0, reason="empty", detail="no records")


def read_rows(part: Part, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Row]:
    """The rows of one range of a file."""
    readers = {"json": _read_json, "jsonl": _read_jsonl, "csv": _read_csv, "parquet": _read_parquet}
    yield from readers[part.file.format](part, options, on_bytes)


def check_fields(names: Sequence[str], options: ReadOptions, where: str) -> None:
    """Raises DataError where a file with these columns lacks a field that the options name."""
    if options.text_template is None:
        choose_field(names, options.text_field, where)
    wanted = [*(template_fields(options.text_template) if options.text_template else ()), *options.keys]
    for name in wanted:
        if name not in names:
            raise _no_field(f"there is no field {name!r}", names, where, "correct the name")


def template_fields(template: str) -> list[str]:
    """The fields that a text template names, in order.

    Raises:
        ConfigError: the template has no fields, or its braces do not match.
    """
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"the text template is wrong: {error}", "--text_template", _TEMPLATE_REMEDY) from None
    names = [name for _, name, _, _ in parsed if name is not None]
    if not names or not all(names):
        raise ConfigError("the text template names no fields", "--text_template", _TEMPLATE_REMEDY)
    return names


def fill_template(template: str, values: dict[str, Any]) -> str:
    """The text of a record: the template with its fields; a line of it whose fields are all empty is left out."""
    lines = []
    for line in template.split("\n"):
        parsed = list(string.Formatter().parse(line))
        names = [name for _, name, _, _ in parsed if name is not None]
        texts = {name: "" if values.get(name) is None else str(values[name]) for name in names}
        if names and not any(text.strip() for text in texts.values()):
            continue
        lines.append("".join(literal + (texts[name] if name is not None else "") for literal, name, _, _ in parsed))
    return "\n".join(lines)


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
    raise _no_field(what, fields, where, "name the right one with --text_field")


def _no_field(what: str, fields: Sequence[str], where: str, remedy: str) -> DataError:
    # A field name that long is a value (a CSV file without a header), and no corpus text goes into an error.
    shown = [
        repr(name) if len(name) <= 40 else f"(field {n}, {len(name)} characters)" for n, name in enumerate(fields, 1)
    ]
    listed = ", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")
    return DataError(f"{what}; the fields are: {listed or 'none'}", where, remedy, reason="no_such_field")


def make_record(row: Row, options: ReadOptions, *, first: bool = False) -> Record:
    """A record of a row: its text by the options, all other plain fields as metadata.

    Args:
        first: it is the first of its file, which must have all fields of a template; records after it may leave some
            out, as exports do with empty ones (counted: "template_field_missing").

    Raises:
        DataError: no such field, or it is not text.
    """
    values, where = row.values, row.where
    if isinstance(values, str) and options.text_field is None and options.text_template is None:
        return Record(row.number, values)
    if not isinstance(values, dict):
        raise DataError(f"the record is a {_kind(values)}, not an object with fields", where, 'write {"text": "..."}')
    if _is_too_deep(values):
        raise DataError(
            f"fields are nested more than {_DEEPEST} deep", where, "flatten the record", reason="nested_too_deeply"
        )
    metadata = {key: value for key, value in values.items() if value is not None}
    counts: dict[str, int] = {}
    if options.text_template is not None:
        used = template_fields(options.text_template)
        missing = [name for name in used if name not in values]
        if missing and (first or len(missing) == len(used)):
            raise _no_field(f"there is no field {missing[0]!r}", list(values), where, "correct --text_template")
        counts = {"template_field_missing": len(missing)} if missing else {}
        for name in used:
            metadata.pop(name, None)
        text: Any = fill_template(options.text_template, values)
    else:
        name = choose_field(list(values), options.text_field, where)
        text = metadata.pop(name, None)
        if text is None:
            return Record(row.number, reason="empty", detail=f"field {name!r} is null")
    if not isinstance(text, str):
        raise DataError(f"field {name!r} is a {_kind(text)}, not text", where, "name another one with --text_field")
    title = next((metadata.pop(key) for key in _TITLE_FIELDS if isinstance(metadata.get(key), str)), None)
    licence = next((metadata.pop(key) for key in _LICENCE_FIELDS if isinstance(metadata.get(key), str)), None)
    if row.left_out:
        metadata["columns_left_out"] = row.left_out
    if options.split_by:
        metadata[SPLIT_KEY] = key_of(row, options.split_by)
    return Record(
        row.number, text, title=title or None, licence=licence or None, metadata=metadata, counts=counts,
    )  # fmt: skip


def _is_too_deep(value: Any) -> bool:
    """Whether lists and objects are nested too deeply to be copied and written safely."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner for each in level for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]  # fmt: skip
        if not level:
            return False
    return True


def key_of(row: Row, names: Sequence[str]) -> str:
    """A hash of the values of some fields: tells equal ones without showing them (they may name a patient).

    Raises:
        DataError: a field is not there or empty.
    """
    values = [row.values.get(name) if isinstance(row.values, dict) else None for name in names]
    for name, value in zip(names, values, strict=True):
        if value is None or not str(value).strip():
            raise DataError(f"the field {name!r} is empty or not there", row.where, "fill it in", reason="no_key")
    return xxhash.xxh3_128_hexdigest("\0".join(str(value).strip() for value in values).encode("utf-8", "surrogatepass"))


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _read_jsonl(part: Part, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Row]:
    path = part.file.path
    with open_source(Path(path), part.file.compression, on_bytes) as stream:
        if part.start:
            stream.seek(part.start)
        source: Any = stream if part.stop is None else _Limited(stream, part.stop - part.start)
        for number, line in enumerate(decode_lines(source, path, offset=part.start), part.first_record):
            where = f"{path}, line {number}"
            if isinstance(line, LongLine):
                yield Row(number, None, where, _too_long(line, where))
                continue
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield Row(number, None, where, _broken_json(error, path, number))
                continue
            yield Row(number, values, where)


class _Limited:
    """The first `size` bytes of a stream."""

    def __init__(self, stream: Any, size: int) -> None:
        self._stream, self._left = stream, size

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; none after the limit."""
        data: bytes = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


def _too_long(line: LongLine, where: str) -> DataError:
    return DataError(
        f"the line has {line.characters:,} characters, more than {encoding.LONGEST_LINE:,}", where, "divide the record",
        reason="too_large",
    )  # fmt: skip


def _broken_json(error: Exception, path: str, line: int) -> DataError:
    column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
    reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply or a number too long"
    return DataError(f"broken JSON: {reason}", f"{path}, line {line}{column}", "repair or remove this line")


def _read_json(part: Part, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Row]:
    path = part.file.path
    if _has_record_a_line(part):
        yield from _read_jsonl(part, options, on_bytes)
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
    if options.text_field is None and options.text_template is None and recognised_by(values):
        record = read_recognised([values], path, references=options.references)
        yield Row(0, None, path, record=record)
        return
    records = values if isinstance(values, list) else [values]
    if isinstance(values, dict) and isinstance(values.get("data"), list) and options.text_field != "data":
        records = values["data"]
    for number, record in enumerate(records, 1):
        yield Row(number, record, f"{path}, record {number}")


def _has_record_a_line(part: Part) -> bool:
    """Whether a .json file is JSON Lines: its first two lines that are not blank are each an object."""
    objects = 0
    with open_source(Path(part.file.path), part.file.compression) as stream:
        for line in decode_lines(stream, part.file.path):
            if isinstance(line, LongLine) or (line.strip() and line[0] != "{"):
                return False
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


def _read_csv(part: Part, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Row]:
    path = part.file.path
    csv.field_size_limit(encoding.LONGEST_LINE)
    with open_source(Path(path), part.file.compression, on_bytes) as stream:
        lines = _short_lines(decode_lines(stream, path), path)
        first = next((line for line in lines if line.strip()), None)
        if first is None:
            return
        rows = csv.reader(_chain(first, lines), delimiter=_delimiter(first), strict=True)
        number = 0
        try:
            header = [name.strip() for name in next(rows)]
            check_fields(header, options, f"{path}, line 1")
            used = options.named or [choose_field(header, None, path)]
            for name in used:
                if header.count(name) > 1:
                    raise DataError(f"the header has the field {name!r} twice", f"{path}, line 1", "rename one of them")
            for row in rows:
                if not row:
                    continue
                number += 1
                where = f"{path}, line {rows.line_num}"
                if len(row) != len(header):
                    error = DataError(
                        f"the row has {len(row)} fields, the header {len(header)}",
                        f"{where} (record {number})",
                        'put fields that hold commas, quotes or line ends in "double quotes"',
                    )
                    yield Row(number, None, where, error)
                    continue
                values = {
                    key or f"column_{n}": value for n, (key, value) in enumerate(zip(header, row, strict=True), 1)
                }
                yield Row(number, values, where)
        except csv.Error as error:
            raise DataError(
                f"broken CSV: {error}", f"{path}, line {rows.line_num}", "close the quotes, or double those inside"
            ) from None


def _short_lines(lines: Iterator[str], path: str) -> Iterator[str]:
    """The lines of a CSV file; an absurdly long one ends it, since the rows after it cannot be told apart safely."""
    for number, line in enumerate(lines, 1):
        if isinstance(line, LongLine):
            raise _too_long(line, f"{path}, line {number}")
        yield line


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _delimiter(header: str) -> str:
    """The comma, unless the header has none and has semicolons or tabs."""
    counts = {mark: header.count(mark) for mark in ",;\t"}
    if counts[","] or not any(counts.values()):
        return ","
    return ";" if counts[";"] >= counts["\t"] else "\t"


def _read_parquet(part: Part, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Row]:
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
            check_fields(schema.names, options, path)
            name = options.text_field or ("" if options.text_template else choose_field(schema.names, None, path))
            kind = schema.field(name).type if name else pa.string()
            if not (pa.types.is_string(_plain(kind)) or kind == pa.null()):
                raise DataError(
                    f"field {name!r} is of type {kind}, not text", path,
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
                    yield Row(number, values, f"{path}, row {number}", left_out=left_out)
                    number += 1
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DataError(
                f"the Parquet file is broken, or of a kind that cannot be read ({type(error).__name__})", path,
                "write it again, or copy it again", reason="broken_parquet",
            ) from None  # fmt: skip


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
