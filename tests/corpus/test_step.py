"""The contract of steps: edits keep sections where their text is, and every document is counted in and out."""

from __future__ import annotations

import random

import pytest

from medscroll.corpus.document import Document, Section
from medscroll.corpus.step import Decisions, StepLog, drop_or_cut, edit_text, run_corpus_step, run_step


def document(text: str, *starts: int) -> Document:
    return Document("a", text, "a", sections=[Section(start, 1, text[start : start + 4]) for start in starts])


def test_sections_stay_with_their_text() -> None:
    generator = random.Random(0)
    checked = 0
    for _ in range(300):
        words = [f"<{n:03d}>" for n in range(30)]
        text = "".join(words)
        starts = sorted(generator.sample(range(30), 6))
        made = document(text, *(5 * n for n in starts))
        edited = sorted(generator.sample([n for n in range(30) if n not in starts], 8))
        edits = [(5 * n, 5 * n + 5, generator.choice(["", "x", "longer than before"])) for n in edited]
        generator.shuffle(edits)
        edit_text(made, edits)
        for section in made.sections:
            assert made.text.startswith(section.title, section.start)
            checked += 1
    assert checked > 1500


def test_an_edit_right_at_a_section_leaves_its_start() -> None:
    made = document("head body", 5)
    assert edit_text(made, [(5, 6, "BB")]) == 1
    assert (made.text, made.sections[0].start) == ("head BBody", 5)


def test_sections_whose_text_is_gone() -> None:
    made = document("aaaa bbbb cccc dddd", 0, 5, 10, 15)
    edit_text(made, [(5, 10, ""), (15, 19, "")])
    assert made.text == "aaaa cccc "
    assert [section.title for section in made.sections] == ["aaaa", "cccc"]


def test_edits_that_change_nothing_are_none() -> None:
    made = document("abc")
    assert edit_text(made, [(0, 1, "a")]) == 0
    with pytest.raises(ValueError, match="overlaps"):
        edit_text(made, [(0, 2, "x"), (1, 3, "y")])


class Upper:
    """Makes texts upper case, drops short ones."""

    name, version = "upper", 1

    def fingerprint(self) -> str:
        return ""

    def apply(self, document: Document, log: StepLog) -> Document | None:
        if len(document.text) < 3:
            log.reject("short", f"{len(document.text)} characters")
            return None
        log.count("letters", len(document.text))
        document.text = document.text.upper() + "!"
        return document


def test_numbers_add_up_over_shards() -> None:
    logs = [StepLog(), StepLog()]
    for log, texts in zip(logs, (["abc", "a"], ["defg", "", "xyz"]), strict=True):
        for text in texts:
            run_step(Upper(), document(text), log)
    total = StepLog()
    for log in logs:
        total.add(StepLog.from_numbers(log.numbers()))
    assert total.numbers() == {
        "documents": {"in": 5, "out": 3},
        "characters": {"in": 11, "out": 13},
        "rejected": {"short": {"documents": 2, "characters": 1}},
        "counts": {"letters": 10},
        "histograms": {},
    }


def test_a_rejection_needs_a_reason() -> None:
    class Silent(Upper):
        def apply(self, document: Document, log: StepLog) -> Document | None:
            return None

    with pytest.raises(ValueError, match="without a reason"):
        run_step(Silent(), document("abc"), StepLog())


def test_decisions_drop_and_cut() -> None:
    class Copies(Upper):
        name = "copies"

        def apply(self, document: Document, decisions: Decisions, log: StepLog) -> Document | None:  # type: ignore[override]
            return drop_or_cut(document, decisions, log, "range")

    log = StepLog()
    step: object = Copies()
    cut = Decisions(edits={"a": [(0, 2)]})
    kept = run_corpus_step(step, document("abcd"), cut, log)  # type: ignore[arg-type]
    assert kept is not None
    assert kept.text == "cd"
    drop = Decisions(drops={"a": ("duplicate", "copy of b")})
    assert run_corpus_step(step, document("abcd"), drop, log) is None  # type: ignore[arg-type]
    assert log.rejects == {"duplicate": [1, 4]}
    assert log.counts == {"range": 1, "range_characters": 2}
