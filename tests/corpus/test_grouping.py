"""Rows of databases: one document a group whatever the format and the size, ordered by time, patients on one side."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from medscroll.corpus import encoding, grouping, grouping_reader, sources
from medscroll.corpus.document import Document
from medscroll.corpus.grouping_reader import order_key
from medscroll.corpus.options import ReadOptions
from medscroll.corpus.pipeline import Pipeline
from medscroll.corpus.request import CorpusRequest
from medscroll.corpus.stage import document_shards, read_shard, write_documents
from medscroll.errors import ConfigError, DataError
from medscroll.packing.parts import split_key, split_of

KEYS = ("patient", "admission")
OPTIONS = ReadOptions(
    text_template="{kind}：{note}", group_by=KEYS, order_by=("time",), split_by=("patient",), tolerant=True
)


def make_rows(patients: int, seed: int = 0) -> list[dict[str, Any]]:
    """Notes of some patients in a random order; the note says where it belongs."""
    random_numbers = random.Random(seed)
    rows = []
    for patient in range(patients):
        for admission in range(random_numbers.randint(1, 3)):
            for number in range(random_numbers.randint(1, 6)):
                rows.append(
                    {"patient": f"P{patient}", "admission": str(admission), "kind": "病程",
                     "time": f"2024-{number + 1:02d}-{random_numbers.randint(10, 28)} 08:00",
                     "note": f"P{patient} A{admission} note {number}", "ward": f"W{patient % 3}"}
                )  # fmt: skip
    random_numbers.shuffle(rows)
    return rows


def encode(rows: list[dict[str, Any]], kind: str) -> bytes:
    if kind.startswith("jsonl"):
        data = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        return gzip.compress(data) if kind.endswith(".gz") else data
    if kind == "json":
        return json.dumps(rows, ensure_ascii=False).encode()
    if kind == "csv":
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue().encode()
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, row_group_size=50)
    return buffer.getvalue()


def documents_of(folder: Path) -> list[Document]:
    return [document for path in document_shards(folder) for document in read_shard(path)]


def expected(rows: list[dict[str, Any]]) -> set[str]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["patient"], row["admission"]), []).append(row)
    return {
        "\n\n".join(f"{row['kind']}：{row['note']}" for row in sorted(group, key=lambda row: row["time"]))
        for group in groups.values()
    }


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_admission_is_one_document_in_every_format(tmp_path: Path, kind: str, workers: int) -> None:
    if workers == 2 and kind not in ("jsonl", "parquet"):
        pytest.skip("two processes are seen with the formats that are divided into ranges")
    rows = make_rows(40)
    source = tmp_path / "source"
    source.mkdir()
    for part in range(3):  # a group may lie in several files
        (source / f"notes{part}.{kind}").write_bytes(encode(rows[part::3], kind))
    summary = write_documents([source], tmp_path / "out", pipeline=Pipeline(OPTIONS), num_workers=workers)
    documents = documents_of(tmp_path / "out")
    assert {document.text for document in documents} == expected(rows)
    assert len({document.id for document in documents}) == len(documents) == summary.documents
    assert sum(document.metadata["rows"] for document in documents) == len(rows)
    assert summary.steps["read"]["counts"] == {"grouped_rows": len(rows)}
    for document in documents:
        assert document.metadata["ward"]  # equal in all rows of the group
        assert "patient" not in document.metadata, "a key may name a person"


def test_small_buckets_give_the_same_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows(150)
    (tmp_path / "a.jsonl").write_bytes(encode(rows, "jsonl"))
    write_documents([tmp_path / "a.jsonl"], tmp_path / "one", pipeline=Pipeline(OPTIONS))
    monkeypatch.setattr(grouping, "BUCKET_BYTES", 2000)
    monkeypatch.setattr(grouping, "_BUFFER", 3000)
    monkeypatch.setattr(sources, "RANGE_BYTES", 5000)
    write_documents([tmp_path / "a.jsonl"], tmp_path / "many", pipeline=Pipeline(OPTIONS))
    assert len(json.loads((tmp_path / "many" / "grouped" / "000000.json").read_bytes())) > 10
    assert len(list((tmp_path / "many" / "grouped").glob("0*.rows"))) > 5
    one, many = documents_of(tmp_path / "one"), documents_of(tmp_path / "many")
    assert {(d.id, d.text) for d in one} == {(d.id, d.text) for d in many}


def test_no_patient_is_on_both_sides(tmp_path: Path) -> None:
    rows = make_rows(200)
    (tmp_path / "a.jsonl").write_bytes(encode(rows, "jsonl"))
    sides: dict[str, set[str]] = {}
    for name, options in {
        "grouped": OPTIONS,
        "single": ReadOptions(text_field="note", split_by=("patient",), tolerant=True),
    }.items():
        write_documents([tmp_path / "a.jsonl"], tmp_path / name, pipeline=Pipeline(options))
        documents = documents_of(tmp_path / name)
        for document in documents:
            patient = document.text.split("P")[1].split()[0]
            sides.setdefault(patient, set()).add(split_of(split_key(document), 0.3))
    assert len(sides) == 200
    assert {len(found) for found in sides.values()} == {1}
    assert {side for found in sides.values() for side in found} == {"train", "validation"}


@pytest.mark.parametrize(
    "values",
    [
        [None, "2024-1-5", "2024-01-10", "2024/2/1", "2024年3月1日", "2024-03-01 08:00", "2024-3-1 10:00:00"],
        ["2024.12.31", "2025.1.1"],
        ["", 2, 10, "11.5", 100],
        ["NaN", 1, float("2e3")],
        ["2024-01-01T09:30:00Z", "2024-01-01T10:00:00+08:00", "2024-01-02"],
        [3, "2024-01-01", "after all dates"],
    ],
)
def test_order_of_numbers_and_dates(values: list[Any]) -> None:
    keys = [order_key(value) for value in values]
    assert keys == sorted(keys)
    shuffled = values[::-1]
    assert sorted(shuffled, key=order_key) == values


def test_rows_without_a_time_come_first_and_are_counted(tmp_path: Path) -> None:
    rows = [
        {"patient": "a", "admission": 1, "kind": "k", "time": time, "note": note}
        for time, note in (("2024-01-02", "two"), (None, "none"), ("2024-01-01", "one"))
    ]
    (tmp_path / "a.jsonl").write_bytes(encode(rows, "jsonl"))
    summary = write_documents([tmp_path / "a.jsonl"], tmp_path / "out", pipeline=Pipeline(OPTIONS))
    (document,) = documents_of(tmp_path / "out")
    assert document.text == "k：none\n\nk：one\n\nk：two"
    assert summary.steps["read"]["counts"] == {"grouped_rows": 3, "rows_without_order": 1}


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
@pytest.mark.parametrize(
    "change",
    [{"group_by": ("pateint",)}, {"order_by": ("tme",)}, {"split_by": ("no",)}, {"text_template": "{nothing}"}],
)
def test_a_wrong_name_is_an_error_that_lists_the_columns(tmp_path: Path, kind: str, change: dict[str, Any]) -> None:
    from dataclasses import replace

    (tmp_path / f"a.{kind}").write_bytes(encode(make_rows(3), kind))
    with pytest.raises(DataError) as caught:
        write_documents([tmp_path], tmp_path / "out", pipeline=Pipeline(replace(OPTIONS, **change)))
    for name in ("patient", "admission", "time", "note"):
        assert repr(name) in str(caught.value)
    assert caught.value.remedy


def test_mistakes_of_the_flags_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        CorpusRequest(text_template="{a", text_field="b", order_by=("time",)).pipeline()
    message = str(caught.value)
    assert "3 mistakes" in message
    assert all(word in message for word in ("--text_template", "--text_field", "--order_by"))
    pipeline = CorpusRequest.of(type("A", (), {"group_by": ["patient,admission"], "order_by": ["time"]})()).pipeline()
    assert pipeline.options.group_by == ("patient", "admission")


def test_what_cannot_be_grouped_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping_reader, "MAX_DOCUMENT_BYTES", 3000)
    rows: list[dict[str, Any]] = [
        {"patient": "a", "admission": 1, "kind": "k", "time": 1, "note": "good"},
        {"patient": "", "admission": 1, "kind": "k", "time": 1, "note": "no key"},
        {"patient": "b", "admission": 2, "kind": "", "time": 1, "note": " "},
        *({"patient": "c", "admission": 3, "kind": "k", "time": n, "note": "long " * 30} for n in range(20)),
    ]
    data = encode(rows, "jsonl") + b'{"patient": "broken\n'
    (tmp_path / "a.jsonl").write_bytes(data)
    summary = write_documents([tmp_path / "a.jsonl"], tmp_path / "out", pipeline=Pipeline(OPTIONS))
    assert [document.text for document in documents_of(tmp_path / "out")] == ["k：good"]
    assert {reason: n for reason, n in summary.rejects.items() if reason != "empty"} == {
        "no_key": 1, "too_large": 1, "broken_record": 1,
    }  # fmt: skip


def test_a_line_that_is_too_long_is_named_and_the_rest_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "LONGEST_LINE", 2_000_000)
    long = ['{"text": "' + "x" * 5_000_000 + '"}', '{"text": "' + "y" * 2_500_000]
    lines = ['{"text": "one"}', long[0], '{"text": "two"}', long[1]]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    summary = write_documents([tmp_path / "a.jsonl"], tmp_path / "out", pipeline=Pipeline(ReadOptions(tolerant=True)))
    assert [document.text for document in documents_of(tmp_path / "out")] == ["one", "two"]
    assert summary.rejects == {"too_large": 2}


def test_a_sparse_row_of_a_group_has_no_text_and_loses_nothing_else(tmp_path: Path) -> None:
    first = {"patient": "a", "admission": 1, "kind": "k", "time": 1, "note": "one"}
    (tmp_path / "a.jsonl").write_bytes(encode([first, {"patient": "a", "admission": 1, "time": 2}], "jsonl"))
    write_documents([tmp_path / "a.jsonl"], tmp_path / "out", pipeline=Pipeline(OPTIONS))
    (document,) = documents_of(tmp_path / "out")
    assert document.text == "k：one"
    assert (document.metadata["rows"], document.metadata["rows_without_text"]) == (2, 1)


def test_records_may_leave_out_empty_fields_of_a_template(tmp_path: Path) -> None:
    options = ReadOptions(text_template="{title}\n{note}", tolerant=True)
    rows = [{"title": "T", "note": "one"}, {"note": "two"}, {"other": "three"}]
    (tmp_path / "a.jsonl").write_bytes(encode(rows, "jsonl"))
    summary = write_documents([tmp_path / "a.jsonl"], tmp_path / "out", pipeline=Pipeline(options))
    assert [document.text for document in documents_of(tmp_path / "out")] == ["T\none", "two"]
    assert summary.steps["read"]["counts"] == {"template_field_missing": 1}
    assert summary.rejects == {"no_such_field": 1}
    (tmp_path / "b.jsonl").write_bytes(encode(rows[1:], "jsonl"))
    with pytest.raises(DataError, match="'title'"):
        write_documents([tmp_path / "b.jsonl"], tmp_path / "other", pipeline=Pipeline(options))
