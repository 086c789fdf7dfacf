"""What holds for every repair step on every text: counts add up, a second run changes nothing, numbers stay."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscroll.corpus.document import Document
from medscroll.corpus.files import read_jsonl_zst
from medscroll.corpus.stage import document_shards, write_documents
from medscroll.corpus.step import StepLog, run_step
from tests.corpus.repair_texts import DEFAULT, REPAIRS, TEXTS, UNTOUCHABLE, apply, build, quantities

# What a step may take out or put in; what lies outside of this is a defect. Blanks and line ends are of none.
DECLARED = {
    "lost_characters": r"[KTH□]", "colons": r"[∶：]", "unwrap": r"[-\u2010]",
}  # fmt: skip


@pytest.mark.parametrize("name", REPAIRS)
@given(text=TEXTS, language=st.sampled_from(("zh", "en")))
@settings(max_examples=60, deadline=None)
def test_counts_add_up_and_a_second_run_changes_nothing(name: str, text: str, language: str) -> None:
    if name == "simplified":
        pytest.importorskip("opencc")
    step = build(name)
    once, _ = apply(step, text, language)
    twice, log = apply(step, once, language)
    assert twice == once
    assert not {key for key in log.counts if key != "document_not_settled"}


@pytest.mark.parametrize("name", DEFAULT)
@pytest.mark.parametrize("language", ["zh", "en"])
def test_what_medicine_writes_is_never_touched(name: str, language: str) -> None:
    step = build(name)
    for piece in UNTOUCHABLE:
        around = (f"前文，{piece}，后文。", f"before {piece} after", f"行\n{piece}\n行", f"a\n\n{piece}\n\nb")
        for text in (piece, *around):
            assert apply(step, text, language)[0] == text
    joined = "\n\n".join(UNTOUCHABLE)
    assert apply(step, joined, language)[0] == joined


@pytest.mark.parametrize("language", ["zh", "en"])
@given(pieces=st.lists(st.sampled_from(UNTOUCHABLE), min_size=1, max_size=12), filler=TEXTS)
@settings(max_examples=60, deadline=None)
def test_quantities_stay_through_the_chain(language: str, pieces: list[str], filler: str) -> None:
    """Page numbers are the only numbers that the default chain takes out, and the filler has none in sequence."""
    filler = re.sub(r"[\x0c\x80-\xff]|[0-9０-９]", "", filler)
    text = f"{filler}\n\n" + "\n\n".join(f"值 {piece} 。" for piece in pieces)
    before = quantities(text)
    document = Document("d", text, "d", language)
    for name in DEFAULT:
        result = run_step(build(name), document, StepLog())
        assert result is document
    assert quantities(document.text) == before
    for piece in pieces:
        assert piece in document.text or "∶" in piece


HOSTILE = (
    " ", "\n", "字", "a-\n", "- 1 -\n", "（", "\\x", "<目录>\n\n", "字 ", "Ã©", "∶", " \n", "\x0c", "12\n", "□ ", "KT ",
    "似 ，", "字" * 40 + "\n", "word " * 15 + "\n", "\u00a0", "# a\n", "1.1 甲乙\n", "【", "=\n",
)  # fmt: skip


@pytest.mark.parametrize("name", [*REPAIRS, "sections"])
def test_hostile_texts_end(name: str) -> None:
    """Nothing is measured: at this size anything quadratic runs into the limit of the suite."""
    if name == "simplified":
        pytest.importorskip("opencc")
    step = build(name)
    for piece in HOSTILE:
        text = piece * (200_000 // len(piece))
        for language in ("zh", "en"):
            document = Document("d", text, "d", language)
            assert run_step(step, document, StepLog()) is document


def read_every(shared_dir: Path, tmp_path: Path, every: int) -> list[Document]:
    """One document in so many of both corpora as they are read, without steps."""
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for folder in ("pmc_articles_en", "tcm_classics_zh"):
        for number, path in enumerate(sorted((shared_dir / "corpora" / folder).iterdir())):
            if number % every == 0:
                (source / path.name).symlink_to(path)
    write_documents([source], out, num_workers=1)
    return [Document.from_json(line) for path in document_shards(out) for line in read_jsonl_zst(path)]


@pytest.mark.corpora
def test_real_texts_keep_their_numbers_and_what_is_not_declared(shared_dir: Path, tmp_path: Path) -> None:
    found = read_every(shared_dir, tmp_path, 5)
    assert len(found) > 50
    check(found)


@pytest.mark.slow
@pytest.mark.corpora
def test_all_real_texts_keep_their_numbers_and_what_is_not_declared(shared_dir: Path, tmp_path: Path) -> None:
    found = read_every(shared_dir, tmp_path, 1)
    assert len(found) == 283
    check(found)


def check(real: list[Document]) -> None:
    """Every default step on every document: the log, the numbers, the characters, a second run, the sections."""
    steps = {name: build(name) for name in (*DEFAULT, "sections")}
    changed = Counter[str]()
    for document in real:
        if document.id.endswith((".txt", ".txt.gz")):
            document.sections = []  # looked for after the repairs; articles state theirs
        for name, step in steps.items():
            before = document.text
            log = StepLog()
            result = run_step(step, document, log)
            assert result is document
            removed, added = log.counts["removed_characters"], log.counts["added_characters"]
            assert len(before) - removed + added == len(document.text)
            changed[name] += before != document.text
            if before == document.text:
                continue
            assert quantities(before) == quantities(document.text), (document.id, name)
            allowed = re.compile(rf"\s|[\x00-\x1f\u200b-\u200f\ufeff\u2028]|{DECLARED.get(name, '$^')}")
            if name == "marks":  # volumes are named once; every title becomes a heading
                titles = re.findall(r"^<篇名>[ ]*([^\n]*\S)", before, re.MULTILINE)
                headings = re.findall(r"^#+ ([^\n]*)", document.text, re.MULTILINE)
                assert not Counter(titles) - Counter(headings)
                parts = {part.strip() for path in re.findall(r"^<目录>([^\n]*)", before, re.MULTILINE)
                         for part in path.split("\\")}  # fmt: skip
                assert parts - {""} <= set(headings)
                gone = re.findall(r"^<目录>[^\n]*|^(?:内容|属性)：|<篇名>|\\x", before, re.MULTILINE)
                lost = Counter(before) - Counter(document.text)
                assert not {char for char in lost - Counter("".join(gone)) if not char.isspace()}, document.id
                assert set(Counter(document.text) - Counter(before)) <= set("# \n"), document.id
            else:
                same = Counter(allowed.sub("", before)) == Counter(allowed.sub("", document.text))
                assert same, (document.id, name)  # ids only: no text in the message
            again = Document("d", document.text, "d", document.lang)
            run_step(step, again, StepLog())
            assert hash(again.text) == hash(document.text), (document.id, name)
        starts = [section.start for section in document.sections]
        assert starts
        assert starts == sorted(starts)
        for section in document.sections:
            title = " ".join(section.title.split())
            found = title[:20] in " ".join(document.text[section.start : section.start + 400].split())
            assert found, (document.id, section.start)
    assert changed["unwrap"] >= 10
    assert changed["marks"] >= 10
