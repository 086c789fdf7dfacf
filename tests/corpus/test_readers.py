"""Readers: every format and compression gives the same documents, and every kind of bad input is named."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from medscroll.corpus.document import Document
from medscroll.corpus.stage import document_shards, read_shard, write_documents
from medscroll.errors import DataError

TEXTS = ["患者发热三天。\n血压 120/80 mmHg。", 'A "quoted", text;\n\nwith lines\tand tabs.', "第三个 😀 文本"]
JATS = "<article><front><article-meta/></front><body><p>Some text.</p></body></article>"


def documents_of(folder: Path) -> list[Document]:
    return [document for path in document_shards(folder) for document in read_shard(path)]


def read(tmp_path: Path, name: str, data: bytes, **options: Any) -> list[Document]:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    (source / name).write_bytes(data)
    write_documents([source], tmp_path / "out", **options)
    return documents_of(tmp_path / "out")


def failure(tmp_path: Path, name: str, data: bytes, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        read(tmp_path, name, data, **options)
    assert name in str(caught.value)
    return caught.value


def encode_records(kind: str, field: str = "text") -> bytes:
    rows = [{"name": f"r{n}", field: text} for n, text in enumerate(TEXTS)]
    if kind == "jsonl":
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    if kind == "json":
        return json.dumps(rows, indent=2).encode()
    if kind == "csv":
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue().encode()
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{**row, "vector": [1.0, 2.0]} for row in rows]), buffer, row_group_size=2)
    return buffer.getvalue()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("compression", list(COMPRESS))
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_records_of_every_format(tmp_path: Path, kind: str, compression: str) -> None:
    name = f"r.{kind}{compression}"
    documents = read(tmp_path, name, COMPRESS[compression](encode_records(kind)))
    assert [document.text for document in documents] == TEXTS
    assert [document.id for document in documents] == [f"{name}#{n}" for n in (1, 2, 3)]
    assert [document.metadata["name"] for document in documents] == ["r0", "r1", "r2"]
    assert [document.lang for document in documents] == ["zh", "en", "zh"]
    if kind == "parquet":
        assert documents[0].metadata["columns_left_out"] == ["vector"]


@pytest.mark.parametrize("compression", list(COMPRESS))
@pytest.mark.parametrize("suffix", [".txt", ".md", ".xml", ".nxml"])
def test_a_text_file_is_one_document(tmp_path: Path, suffix: str, compression: str) -> None:
    data = JATS.encode() if "xml" in suffix else b"line one\r\nline two\r\r\n\r\nline three\r"
    (document,) = read(tmp_path, f"a{suffix}{compression}", COMPRESS[compression](data))
    assert document.id == document.source == f"a{suffix}{compression}"
    assert document.text == ("Some text." if "xml" in suffix else "line one\nline two\n\nline three\n")


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_the_text_field_is_chosen_by_name_or_the_fields_are_listed(tmp_path: Path, kind: str) -> None:
    data = encode_records(kind, field="note_text")
    error = failure(tmp_path, f"r.{kind}", data)
    assert "'note_text'" in str(error)
    assert "--text_field" in str(error)
    assert "'note_text'" in str(failure(tmp_path, f"r.{kind}", data, text_field="no_such"))
    assert len(read(tmp_path, f"r.{kind}", data, text_field="note_text")) == 3


def test_a_csv_without_a_header_does_not_leak_its_text_into_the_error(tmp_path: Path) -> None:
    secret = "张三，男，五十岁，住院号一二三四五六，因发热三天入院，" + "既往有糖尿病史十余年，血糖控制不佳。"
    assert secret not in str(failure(tmp_path, "r.csv", f"1,{secret}\n2,{secret}\n".encode()))


@pytest.mark.parametrize(
    ("name", "data", "where", "what"),
    [
        ("a.jsonl", b'{"text": "a"}\n\n{"text": "b"\n{"text": "c"}\n', "line 3", "broken JSON"),
        ("a.json", b'[{"text": "a"},\n{"text": }]', "line 2", "broken JSON"),
        ("a.json", b'{"text": "a"}\n{"text" "b"}\n', "line 2", "broken JSON"),
        ("a.jsonl", b'{"text": "a"}\n[1, 2]\n', "line 2", "list"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 5}\n', "line 2", "number"),
        ("a.jsonl", b'{"text": "a"}\n{"other": "b"}\n', "line 2", "'other'"),
        ("a.csv", b'id,text\n1,a\n2,"b\n3,c\n', "line", "broken CSV"),
        ("a.csv", b"id,text\n1,a,b\n", "line 2", "3 fields"),
        ("a.xml", b"<article>\n<body>\n<p>text</body></article>", "line 3", "broken XML"),
        ("a.txt", b"good\n" * 10 + b"\xff\xff", "byte 50", "undecodable"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff\xff"}\n', "byte 24", "undecodable"),
        ("a.txt", b"%PDF-1.4 abc", "a.txt", "PDF"),
        ("a.txt.gz", gzip.compress(b"abc" * 1000, mtime=0)[:-9], "a.txt.gz", "ends early"),
        ("a.txt.gz", b"no gzip at all", "a.txt.gz", "broken"),
        ("a.txt.zst", zstandard.ZstdCompressor().compress(b"abc" * 100000)[:-3], "a.txt.zst", "ends early"),
        ("a.parquet", b"PAR1 nonsense", "a.parquet", "Parquet"),
        ("a.txt", b"", "source", "no document remains"),
        ("a.jsonl", b"\n \n", "source", "no document remains"),
        ("a.docx", b"PK", "source", "no file that can be read"),
    ],
)
def test_bad_input_is_an_error_that_names_the_place(
    tmp_path: Path, name: str, data: bytes, where: str, what: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        write_documents([source], tmp_path / "out")
    assert what in str(caught.value)
    assert where in str(caught.value)
    assert caught.value.remedy


def test_empty_folder_missing_path_and_unknown_kind(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.docx").write_bytes(b"PK")
    for source in (tmp_path / "empty", tmp_path / "absent", tmp_path / "a.docx"):
        with pytest.raises(DataError, match=source.name):
            write_documents([source], tmp_path / "out")


def test_json_in_its_usual_shapes(tmp_path: Path) -> None:
    shapes = {
        "list.json": [{"text": "a"}, {"text": "b"}],
        "one.json": {"content": "a", "title": "T"},
        "data.json": {"version": 1, "data": [{"body": "a"}]},
        "strings.json": ["a", "b"],
    }
    source = tmp_path / "source"
    source.mkdir()
    for name, value in shapes.items():
        (source / name).write_text(json.dumps(value))
    (source / "lines.json").write_text('{"text": "a"}\n{"text": "b"}\n')
    write_documents([source], tmp_path / "out")
    counts: dict[str, int] = {}
    for document in documents_of(tmp_path / "out"):
        counts[document.source] = counts.get(document.source, 0) + 1
        assert document.text in ("a", "b")
        assert document.title == ("T" if document.source == "one.json" else None)
    assert counts == {"list.json": 2, "one.json": 1, "data.json": 1, "strings.json": 2, "lines.json": 2}


def test_lone_surrogates_and_nul_are_repaired_and_counted(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "a\\ud83db\\u0000c\\ud83d\\ude00", "name": "\\ud800"}\n')
    summary = write_documents([source], tmp_path / "out")
    (document,) = documents_of(tmp_path / "out")
    assert document.text == "a\ufffdbc😀"
    assert document.metadata == {"name": "\ud800", "repairs": {"nul": 1, "lone_surrogate": 1}}
    assert summary.repairs == {"nul": 1, "lone_surrogate": 1}


def test_a_csv_field_of_megabytes_and_other_delimiters(tmp_path: Path) -> None:
    long = "很长的文本。" * 500_000
    (document,) = read(tmp_path, "a.csv", f'id;text\n1;"{long}"\n'.encode())
    assert document.text == long


def test_document_goes_through_json_unchanged() -> None:
    document = Document("a#1", "x\u2028y", "a", metadata={"n": [1, None], "s": "\udc80"})
    assert Document.from_json(document.to_json()) == document
    assert "\n" not in document.to_json()
    assert len(document.content_hash) == 32
