"""The synthetic corpus: deterministic, of the promised lengths, and readable in every format."""

from __future__ import annotations

from pathlib import Path

import pytest

from medscroll.corpus.stage import document_shards, read_shard, write_documents
from medscroll.corpus.synthetic import generate_documents, target_length
from medscroll.corpus.synthetic_files import as_text, write_sample
from medscroll.errors import ConfigError


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_lengths_kinds_and_languages() -> None:
    documents = list(generate_documents(300, seed=3))
    lengths = [len(as_text(document)) for document in documents]
    assert min(lengths) >= 200
    assert 150_000 < max(lengths) <= 200_000
    assert sum(length > 10_000 for length in lengths) > 5
    assert {document.lang for document in documents} == {"zh", "en"}
    assert len({document.kind for document in documents}) == 4
    assert len({as_text(document) for document in documents}) == 300
    assert 0.5e6 < sum(lengths) < 3e6


def test_a_document_depends_on_seed_and_number_alone() -> None:
    few, many = list(generate_documents(10, seed=5)), list(generate_documents(60, seed=5))
    assert many[:10] == few
    assert list(generate_documents(10, seed=6)) != few
    assert target_length(50, 0, 200_000) > 150_000


@pytest.mark.parametrize("most", [2000, 5000])
def test_short_limits_are_kept(most: int) -> None:
    for document in generate_documents(200, seed=0, max_characters=most):
        assert 200 <= len(as_text(document)) <= most


def test_every_format_is_read_back(tmp_path: Path) -> None:
    summary = write_sample(tmp_path / "s", documents=120, seed=1, max_characters=20_000)
    assert set(summary.formats) == {
        "txt", "txt_gb18030", "txt_utf16", "md", "xml", "json", "jsonl", "jsonl.gz", "jsonl.zst", "csv", "parquet",
    }  # fmt: skip
    read = write_documents([tmp_path / "s"], tmp_path / "out")
    documents = [document for path in document_shards(tmp_path / "out") for document in read_shard(path)]
    assert read.documents == len(documents) == 120
    assert read.rejects == {}
    assert read.languages == {"en": 60, "zh": 60}
    texts = {document.text for document in documents}
    for document in generate_documents(120, seed=1, max_characters=20_000):
        first = document.sections[0][1][0]
        assert any(first in text for text in texts), document.kind
    assert all(document.sections for document in documents)
    assert any("10⁹/L" in document.text for document in documents if document.source.endswith(".nxml"))


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_sample(tmp_path / name, documents=40, seed=2, max_characters=3000, validation_documents=10)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert {path.split("/")[0] for path in contents(tmp_path / "a")} == {
        "train", "validation", ".medscroll_sample.json",
    }  # fmt: skip


def test_only_a_sample_is_overwritten(tmp_path: Path) -> None:
    write_sample(tmp_path / "s", documents=20)
    with pytest.raises(ConfigError, match="--overwrite"):
        write_sample(tmp_path / "s", documents=5)
    (tmp_path / "s" / "mine.doc").write_text("kept")
    write_sample(tmp_path / "s", documents=5, seed=9, overwrite=True)
    assert (tmp_path / "s" / "mine.doc").read_text() == "kept"
    write_sample(tmp_path / "fresh", documents=5, seed=9)
    assert {**contents(tmp_path / "fresh"), "mine.doc": b"kept"} == contents(tmp_path / "s")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.txt").write_text("x")
    with pytest.raises(ConfigError, match="not empty"):
        write_sample(tmp_path / "other", overwrite=True)
    with pytest.raises(ConfigError, match="2 mistakes"):
        write_sample(tmp_path / "other2", documents=0, max_characters=10)
