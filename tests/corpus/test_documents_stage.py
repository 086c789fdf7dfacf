"""The documents stage: shards, ids, resuming, processes, rejects; whatever happens, no document is lost or doubled."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from medscroll.corpus import shards, sources, worker
from medscroll.corpus.document import Document
from medscroll.corpus.record import Record
from medscroll.corpus.shards import plan_tasks
from medscroll.corpus.sources import find_sources, scan_sources
from medscroll.corpus.stage import document_shards, read_shard, source_digest, write_documents
from medscroll.errors import DataError


def documents_of(folder: Path) -> list[Document]:
    return [document for path in document_shards(folder) for document in read_shard(path)]


def texts_of(folder: Path) -> dict[str, str]:
    documents = documents_of(folder)
    found = {document.id: document.text for document in documents}
    assert len(found) == len(documents), "an id is there twice"
    return found


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Forty small files in two folders, one JSONL and one CSV of many records, one empty and one foreign file."""
    root = tmp_path / "corpus"
    for number in range(40):
        path = root / f"part{number % 2}" / f"{number:03d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"document {number} " * (number + 1), encoding="utf-8")
    lines = "".join(json.dumps({"text": f"记录 {n}。" * 30}, ensure_ascii=False) + "\n" for n in range(500))
    (root / "records.jsonl").write_text(lines, encoding="utf-8")
    (root / "table.csv").write_text("text\n" + "".join(f"row {n}\n" for n in range(300)), encoding="utf-8")
    (root / "blank.txt").write_text(" \n\t\n")
    (root / "scan.docx").write_bytes(b"%PDF")
    (root / ".hidden.txt").write_text("hidden")
    return root


def test_everything_is_read_once_or_counted(corpus: Path, tmp_path: Path) -> None:
    summary = write_documents([corpus], tmp_path / "out")
    texts = texts_of(tmp_path / "out")
    assert summary.documents == len(texts) == 40 + 500 + 300
    assert summary.characters == sum(map(len, texts.values()))
    assert summary.utf8_bytes == sum(len(text.encode()) for text in texts.values())
    assert summary.rejects == {"empty": 1, "hidden": 1, "unsupported_format": 1}
    assert summary.sources["records.jsonl"].documents == 500
    assert summary.sources["blank.txt"].rejects == 1
    assert texts["records.jsonl#7"] == "记录 6。" * 30
    assert texts["part1/003.txt"] == "document 3 " * 4
    rejects = [
        json.loads(line) for path in sorted((tmp_path / "out" / "rejects").iterdir()) for line in worker_lines(path)
    ]
    assert sorted((reject["id"], reject["reason"]) for reject in rejects) == [
        (".hidden.txt", "hidden"), ("blank.txt", "empty"), ("scan.docx", "unsupported_format"),
    ]  # fmt: skip


def worker_lines(path: Path) -> Iterator[bytes]:
    from medscroll.corpus.files import read_jsonl_zst

    return read_jsonl_zst(path)


def test_files_with_text_are_private(corpus: Path, tmp_path: Path) -> None:
    write_documents([corpus], tmp_path / "out")
    paths = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(paths) > 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}


def test_the_second_time_nothing_is_done(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_documents([corpus], tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in document_shards(tmp_path / "out")}
    for path in corpus.rglob("*"):
        os.utime(path)  # touched, not changed

    def refuse(*args: object) -> None:
        raise AssertionError("a task was done again")

    monkeypatch.setattr("medscroll.corpus.stage.run_task", refuse)
    second = write_documents([corpus], tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in document_shards(tmp_path / "out")} == before
    assert second.shards_reused == second.shards == first.shards > 0
    assert (second.documents, second.source_digest, second.sources) == (
        first.documents, first.source_digest, first.sources,
    )  # fmt: skip
    assert source_digest([corpus]) == first.source_digest


def test_changes_are_found_and_ids_stay(corpus: Path, tmp_path: Path) -> None:
    write_documents([corpus], tmp_path / "out")
    before = texts_of(tmp_path / "out")
    (corpus / "a_new.txt").write_text("new")
    (corpus / "part0" / "000.txt").unlink()
    (corpus / "part1" / "001.txt").write_text("changed")
    write_documents([corpus], tmp_path / "out")
    after = texts_of(tmp_path / "out")
    expected = {**before, "a_new.txt": "new", "part1/001.txt": "changed"}
    del expected["part0/000.txt"]
    assert after == expected


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small tasks and shards out of a small corpus."""
    monkeypatch.setattr(shards, "TASK_BYTES_LEAST", 5000)
    monkeypatch.setattr(shards, "TASK_BYTES", 5000)
    monkeypatch.setattr(sources, "RANGE_BYTES", 4000)
    monkeypatch.setattr(worker, "SHARD_CHARACTERS", 1000)


def test_large_files_are_divided_and_nothing_is_lost_at_the_seams(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_documents([corpus], tmp_path / "whole")
    monkeypatch.setattr(shards, "TASK_BYTES_LEAST", 5000)
    monkeypatch.setattr(sources, "RANGE_BYTES", 4000)
    monkeypatch.setattr(worker, "SHARD_CHARACTERS", 1000)
    summary = write_documents([corpus], tmp_path / "divided")
    files, _ = find_sources([corpus])
    scan_sources(files)
    ranges = {file.id: len(file.ranges) for file in files}
    assert ranges["records.jsonl"] > 10
    assert len(plan_tasks(files)) > 10
    assert summary.shards > 40
    assert texts_of(tmp_path / "divided") == texts_of(tmp_path / "whole")
    assert [d.id for d in documents_of(tmp_path / "divided")] == [d.id for d in documents_of(tmp_path / "whole")]


def test_parquet_row_groups_are_divided(tmp_path: Path, small_shards: None) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"content": f"文本 {n} " + os.urandom(50).hex()} for n in range(1000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=50)
    write_documents([tmp_path / "a.parquet"], tmp_path / "out")
    assert len(document_shards(tmp_path / "out")) > 5
    assert texts_of(tmp_path / "out") == {f"a.parquet#{n}": row["content"] for n, row in enumerate(rows, 1)}


@pytest.mark.parametrize("stop_after", [1, 37, 250, 640, 839])
def test_a_kill_loses_only_the_open_shard(
    corpus: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    write_documents([corpus], tmp_path / "whole")
    added = 0
    original = worker._Shard.add

    def add(self: worker._Shard, part: shards.Part, record: Record) -> None:
        nonlocal added
        added += 1
        if added > stop_after:
            raise KeyboardInterrupt
        original(self, part, record)

    with monkeypatch.context() as patch:
        patch.setattr(worker._Shard, "add", add)
        with pytest.raises(KeyboardInterrupt):
            write_documents([corpus], tmp_path / "out")
    kept = len(texts_of(tmp_path / "out"))
    assert kept <= stop_after
    assert stop_after - kept < 200
    again = 0

    def count(self: worker._Shard, part: shards.Part, record: Record) -> None:
        nonlocal again
        again += 1
        original(self, part, record)

    monkeypatch.setattr(worker._Shard, "add", count)
    summary = write_documents([corpus], tmp_path / "out")
    assert again + kept in (840, 841)  # 840 documents and one reject, which may have been kept
    assert summary.documents == 840
    assert texts_of(tmp_path / "out") == texts_of(tmp_path / "whole")
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_processes_give_what_one_gives(corpus: Path, tmp_path: Path) -> None:
    (corpus / "big.txt").write_text("word " * 400_000)
    seen: list[tuple[int, int]] = []
    one = write_documents([corpus], tmp_path / "one", progress=lambda done, total, what: seen.append((done, total)))
    two = write_documents([corpus], tmp_path / "two", num_workers=2)
    assert one == two
    assert [p.name for p in document_shards(tmp_path / "one")] == [p.name for p in document_shards(tmp_path / "two")]
    assert len(document_shards(tmp_path / "one")) > 1
    assert documents_of(tmp_path / "one") == documents_of(tmp_path / "two")
    assert seen[-1][0] == seen[-1][1] > 0
    assert all(done <= total for done, total in seen)


def test_an_error_in_a_process_arrives_as_it_was(corpus: Path, tmp_path: Path) -> None:
    (corpus / "big.txt").write_text("word " * 400_000)
    (corpus / "records.jsonl").write_text('{"text": "a"}\n{"text": \n')
    found = []
    for workers in (1, 2):
        with pytest.raises(DataError) as caught:
            write_documents([corpus], tmp_path / f"out{workers}", num_workers=workers)
        found.append((caught.value.what, caught.value.where, caught.value.remedy))
    assert found[0] == found[1]
    assert found[0][1] is not None
    assert "records.jsonl, line 2" in found[0][1]


def test_ids_of_several_roots_are_unique_and_a_file_given_twice_is_read_once(tmp_path: Path) -> None:
    for root in ("x", "y"):
        (tmp_path / root).mkdir()
        (tmp_path / root / "a.txt").write_text(f"text of {root}")
    (tmp_path / "y" / "b.txt").write_text("b")
    (tmp_path / "y" / "link.txt").symlink_to(tmp_path / "y" / "b.txt")
    write_documents([tmp_path / "x", tmp_path / "y", tmp_path / "x" / "a.txt"], tmp_path / "out")
    assert texts_of(tmp_path / "out") == {"x/a.txt": "text of x", "y/a.txt": "text of y", "b.txt": "b"}


def test_the_output_folder_inside_a_source_is_not_read(corpus: Path) -> None:
    first = write_documents([corpus], corpus / "prepared")
    second = write_documents([corpus], corpus / "prepared")
    assert first.documents == second.documents == 840


def test_another_text_field_is_another_corpus(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one", "other": "two"}\n')
    digests = set()
    for field, text in ((None, "one"), ("other", "two")):
        digests.add(write_documents([tmp_path / "a.jsonl"], tmp_path / "out", text_field=field).source_digest)
        assert [document.text for document in documents_of(tmp_path / "out")] == [text]
    assert len(digests) == 2


def test_a_lost_or_cut_shard_is_written_again(corpus: Path, tmp_path: Path) -> None:
    write_documents([corpus], tmp_path / "out")
    before = texts_of(tmp_path / "out")
    shard = document_shards(tmp_path / "out")[0]
    shard.write_bytes(shard.read_bytes()[:-5])
    write_documents([corpus], tmp_path / "out")
    assert texts_of(tmp_path / "out") == before


def test_a_killed_run_leaves_no_process_and_goes_on(corpus: Path, tmp_path: Path) -> None:
    for number in range(10):
        (corpus / f"book{number}.txt").write_text(f"word {number} " * 150_000)
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom medscroll.corpus.stage import write_documents\n"
        "if __name__ == '__main__':\n"
        "    write_documents([Path(sys.argv[1])], Path(sys.argv[2]), num_workers=2)\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, str(script), str(corpus), str(tmp_path / "out")]
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 60
    states = tmp_path / "out" / "documents" / ".state"
    while time.monotonic() < deadline and len(list(states.glob("0*.json"))) < 2:  # the first may hold only a reject
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    assert process.poll() is None, "the run was over before it could be killed"
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    kept = len(texts_of(tmp_path / "out"))
    assert 0 < kept < 850
    summary = write_documents([corpus], tmp_path / "out")
    assert summary.shards_reused > 0
    assert summary.documents == len(texts_of(tmp_path / "out")) == 850
