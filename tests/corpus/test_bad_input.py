"""Input that is broken, hostile or absurd: each file is named with a reason, and the run goes on to the end."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import zstandard

from medscroll.corpus import files
from medscroll.corpus.document import Document
from medscroll.corpus.files import read_jsonl_zst
from medscroll.corpus.options import ReadOptions
from medscroll.corpus.pipeline import Pipeline
from medscroll.corpus.sources import find_sources
from medscroll.corpus.stage import DocumentsSummary, document_shards, read_shard, write_documents
from medscroll.errors import DataError
from tests.corpus.pdf_samples import lines, make_pdf

TOLERANT = Pipeline(ReadOptions(tolerant=True))
SECRET = "张三住院号一二三四五六七"


def run(source: Path, out: Path) -> tuple[DocumentsSummary, dict[str, str], list[Document]]:
    """(summary, id -> reason of every reject, documents); the numbers of the ledger hold."""
    summary = write_documents([source], out, pipeline=TOLERANT)
    rejects: dict[str, str] = {}
    for path in sorted((out / "rejects").iterdir()):
        for line in read_jsonl_zst(path):
            entry = json.loads(line)
            assert SECRET not in entry["detail"]
            rejects[entry["id"]] = entry["reason"]
    read = summary.steps["read"]
    rejected = sum(reason["documents"] for reason in read["rejected"].values())
    assert read["documents"]["in"] == read["documents"]["out"] + rejected
    return summary, rejects, [document for path in document_shards(out) for document in read_shard(path)]


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


ROWS = [{"text": f"{SECRET} {n} 患者发热三天。", "n": n} for n in range(30)]
JSONL = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in ROWS)
DEEP = 5000
BAD: dict[str, tuple[bytes, str]] = {  # name -> (content, reason)
    "empty.txt": (b"", "empty"),
    "blank.md": (b" \n\t", "empty"),
    "cut.txt.gz": (gzip.compress(b"text " * 5000)[:-20], "broken_compression"),
    "cut.jsonl.zst": (zstandard.ZstdCompressor().compress(os.urandom(5000).hex().encode())[:-10], "broken_compression"),
    "no.txt.gz": (b"no gzip", "broken_compression"),
    "no.zst.txt.zst": (b"no zstd", "broken_compression"),
    "latin.txt": ("naïve café à la carte ".encode("latin-1") * 20, "unreadable"),
    "half.txt": (SECRET.encode() * 5 + b"\xff\xff", "unreadable"),
    "program.txt": (b"\x7fELF" + os.urandom(500), "unreadable"),
    "noise.csv": (os.urandom(5000), "unreadable"),
    "zeros.txt": (b"\0" * 5000, "unreadable"),
    "picture.html": (b"\x89PNG\r\n" + os.urandom(300), "unreadable"),
    "zip.xml": (b"PK\x03\x04" + os.urandom(300), "unreadable"),
    "quote.csv": (f'text\n"{SECRET}\nand on'.encode(), "unreadable"),
    "broken.json": (f'[{{"text": "{SECRET}"}}, {{"text": '.encode(), "unreadable"),
    "deep.json": (b"[" * DEEP + b"]" * DEEP, "unreadable"),
    "broken.xml": (f"<article><body><p>{SECRET}</q></body></article>".encode(), "unreadable"),
    "laughs.xml": (
        b'<!DOCTYPE a [<!ENTITY a "ha">'
        + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 20) for n in range(9))
        + b"]><a>&j;</a>",
        "unreadable",
    ),
    "outside.xml": (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>', "external_entity"),
    "deep.xml": (b"<a>" * DEEP + b"x" + b"</a>" * DEEP, "unreadable"),
    "deep.html": (b"<div>" * DEEP + b"x", "nested_too_deeply"),
    "broken.pdf": (b"%PDF-1.7 and nothing", "broken_pdf"),
    "nothing.parquet": (b"PAR1 and nothing", "broken_parquet"),
    "cut.parquet": (parquet(ROWS)[:-30], "broken_parquet"),
}  # fmt: skip


def test_every_bad_file_is_named_and_the_good_ones_are_read(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, (data, _) in BAD.items():
        (source / name).write_bytes(data)
    (source / "good.txt").write_text("Good.")
    (source / "good.jsonl").write_bytes(JSONL)
    (source / "half.jsonl").write_text('{"text": "a"}\n{"text": \n[1]\n{"text": 5}\n' + '{"a": ' * DEEP + "\n")
    (source / "deep_fields.jsonl").write_text('{"text": "a", "x": ' + "[" * 300 + "]" * 300 + "}\n")
    summary, rejects, documents = run(source, tmp_path / "out")
    found = {name: rejects.get(name, rejects.get(f"{name}#1")) for name in BAD}
    assert found == {name: reason for name, (_, reason) in BAD.items()}
    assert {document.source for document in documents} == {"good.txt", "good.jsonl", "half.jsonl"}
    assert summary.documents == 1 + 30 + 1
    assert {f"half.jsonl#{n}" for n in (2, 3, 4, 5)} <= set(rejects)
    assert rejects["deep_fields.jsonl#1"] == "nested_too_deeply"
    assert sum(summary.failures.values()) == len(rejects) - 2  # the empty ones are nobody's mistake


@pytest.mark.parametrize("compression", ["gz", "zst"])
def test_a_bomb_is_stopped_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str) -> None:
    monkeypatch.setattr(files, "EXPANSION_ROOM", 1 << 20)
    raw = b'{"text": "' + b"0" * 10_000 + b'"}\n'
    raw *= 3_000
    data = gzip.compress(raw) if compression == "gz" else zstandard.ZstdCompressor(level=19).compress(raw)
    assert len(raw) > 300 * len(data)
    (tmp_path / f"bomb.jsonl.{compression}").write_bytes(data)
    (tmp_path / "good.txt").write_text("Good.")
    summary, rejects, documents = run(tmp_path, tmp_path / "out")
    assert rejects[f"bomb.jsonl.{compression}"] == "expands_too_much"
    assert "good.txt" in {document.id for document in documents}
    assert summary.documents < 3_000


def test_a_few_zero_bytes_are_taken_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"Fever for three days.\0 " * 1 + "血压正常。".encode() * 100)
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "a\0b"}\n' + JSONL * 3)
    summary, rejects, documents = run(tmp_path, tmp_path / "out")
    assert {document.id for document in documents} >= {"a.txt", "b.jsonl#2"}
    assert "Fever for three days. 血压" in {d.id: d.text for d in documents}["a.txt"]
    assert summary.repairs["nul"] == 1
    assert rejects == {"b.jsonl#1": "broken_record"}  # JSON allows no bare control characters


def test_links_in_circles_pipes_and_closed_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    (source / "inner" / "closed").mkdir(parents=True)
    (source / "inner" / "a.txt").write_text("A")
    (source / "inner" / "up").symlink_to(source)
    (source / "self").symlink_to(source / "self")
    (source / "one.txt").symlink_to(source / "two.txt")
    (source / "two.txt").symlink_to(source / "one.txt")
    (source / "gone.txt").symlink_to(source / "nowhere.txt")
    os.mkfifo(source / "pipe.txt")
    original = Path.iterdir

    def iterdir(self: Path) -> Any:
        if self.name == "closed":
            raise PermissionError(13, "Permission denied")
        return original(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found, skipped = find_sources([source])
    assert [file.id for file in found] == ["inner/a.txt"]
    assert {skip.id: skip.reason for skip in skipped} == {
        "self": "not_a_file", "one.txt": "not_a_file", "two.txt": "not_a_file", "gone.txt": "not_a_file",
        "pipe.txt": "not_a_file", "inner/closed": "unreadable",
    }  # fmt: skip


def test_files_without_permission_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("A")
    (tmp_path / "locked.txt").write_text("B")
    original = io.FileIO

    def opened(path: Any, mode: str = "r") -> Any:
        if str(path).endswith("locked.txt"):
            raise PermissionError(13, "Permission denied")
        return original(path, mode)

    monkeypatch.setattr("medscroll.corpus.files.io.FileIO", opened)
    out = tmp_path.with_name(tmp_path.name + "-out")
    with pytest.raises(DataError, match="Permission denied"):
        write_documents([tmp_path], out)
    _, rejects, documents = run(tmp_path, out)
    assert [document.id for document in documents] == ["a.txt"]
    assert rejects == {"locked.txt": "unreadable"}


def test_equal_names_are_told_apart(tmp_path: Path) -> None:
    for folder in ("x/data", "y/data"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.txt").write_text(folder)
    roots = [tmp_path / "x" / "data", tmp_path / "y" / "data"]
    write_documents(roots, tmp_path / "out")
    documents = [document for path in document_shards(tmp_path / "out") for document in read_shard(path)]
    assert len({document.id for document in documents}) == 2
    assert {document.text for document in documents} == {"x/data", "y/data"}


def test_one_record_without_the_field_is_a_reject_and_a_file_without_it_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"txt": "b"}\n{"text": "c"}\n')
    _, rejects, documents = run(tmp_path / "a.jsonl", tmp_path / "out")
    assert [document.text for document in documents] == ["a", "c"]
    assert rejects == {"a.jsonl#2": "no_such_field"}
    (tmp_path / "b.jsonl").write_text('{"txt": "b"}\n{"txt": "c"}\n')
    with pytest.raises(DataError, match="'txt'"):
        run(tmp_path / "b.jsonl", tmp_path / "other")


def good_files() -> dict[str, bytes]:
    page = f"<html><head><meta charset=utf-8></head><body><h1>T</h1><p>{SECRET}</p><table><tr><td>a<td>b</table>"
    jats = f"<article><front><article-meta/></front><body><sec><title>A</title><p>{SECRET}</p></sec></body></article>"
    return {
        "a.txt": f"{SECRET}\n".encode() * 30,
        "b.jsonl": JSONL,
        "c.json": json.dumps(ROWS, ensure_ascii=False).encode(),
        "d.csv": ("text,n\n" + "".join(f'"{row["text"]}",{row["n"]}\n' for row in ROWS)).encode(),
        "e.parquet": parquet(ROWS),
        "f.xml": jats.encode(),
        "g.html": page.encode(),
        "h.pdf": make_pdf([(lines("The patient had a fever."),), (b"", "image")]),
        "i.jsonl.gz": gzip.compress(JSONL),
        "j.txt.zst": zstandard.ZstdCompressor().compress(SECRET.encode() * 50),
        "k.json": json.dumps([{"type": "text", "text": SECRET, "page_idx": 0}], ensure_ascii=False).encode(),
        "l_0_res.json": json.dumps({"parsing_res_list": [{"block_label": "text", "block_content": "x"}]}).encode(),
    }


def damage(data: bytes, random_numbers: random.Random) -> bytes:
    """Bytes changed, cut off, doubled or put in between."""
    changed = bytearray(data)
    kind = random_numbers.randrange(4)
    at = random_numbers.randrange(len(changed))
    if kind == 0:
        for _ in range(random_numbers.choice((1, 3, 30))):
            changed[random_numbers.randrange(len(changed))] = random_numbers.randrange(256)
    elif kind == 1:
        del changed[at:]
    elif kind == 2:
        changed[at:at] = changed[at : at + random_numbers.randrange(200)]
    else:
        changed[at:at] = random_numbers.choice((b"\0", b"\xff\xfe", b'"', b"<", b"[{", b"\xed\xa0\xbd"))
    return bytes(changed)


def test_damaged_files_of_all_formats_never_end_the_run(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    reasons: set[str] = set()
    for seed in range(24):
        random_numbers = random.Random(seed)
        source = tmp_path / str(seed)
        for copy in range(3):
            (source / str(copy)).mkdir(parents=True)
            for name, data in good_files().items():
                (source / str(copy) / name).write_bytes(damage(data, random_numbers))
        (source / "zz.txt").write_text("always good")
        try:
            _, rejects, documents = run(source, tmp_path / f"out{seed}")
        except DataError as error:  # a damaged header: the field that holds the text is not there, and is asked for
            outcomes[error.reason] += 1
            continue
        assert "zz.txt" in {document.id for document in documents}
        outcomes["went_on"] += 1
        reasons |= set(rejects.values())
    assert outcomes["went_on"] + outcomes["no_such_field"] == 24
    assert outcomes["went_on"] > 14
    assert len(reasons) > 6
