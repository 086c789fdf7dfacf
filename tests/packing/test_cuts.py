"""Cuts: where a text may be divided, and that a cut never falls inside a character, a row, a number or a mark."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from medscroll.packing.cuts import PARAGRAPH, SECTION, SENTENCE, TOKEN, Cuts, find_cuts
from medscroll.packing.plan import pack


@dataclass
class Heading:
    start: int


def characters(text: str) -> np.ndarray:
    """A tokenizer of one token a character."""
    return np.stack([np.arange(len(text)), np.arange(1, len(text) + 1)], axis=1)


def pieces(text: str, sections: list[Heading] | None = None) -> list[str]:
    positions, _ = find_cuts(text, sections or [], characters(text))
    borders = [0, *positions.tolist(), len(text)]
    return [text[a:b] for a, b in pairwise(borders)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("患者发热。查体：正常！", ["患者发热。", "查体：正常！"]),
        ("他说：“好。”然后走了。完", ["他说：“好。”", "然后走了。", "完"]),
        ("可以吗？？！可以……吧；行", ["可以吗？？！", "可以……", "吧；", "行"]),
        ("剂量3……5片", ["剂量3……5片"]),
        ("Dr. Smith came. He left.", ["Dr. Smith came.", " He left."]),
        ("Given 0.5 mg. daily, e.g. Aspirin vs. Placebo, see Fig. 3.", None),
        ("Seen by J. R. Smith, i.e. The doctor", None),
        ("It was 38. 5 degrees", None),
        ("1. Aspirin 100 mg", None),
        ("Pain (severe.) Then nausea! Was it? Yes", ["Pain (severe.)", " Then nausea!", " Was it?", " Yes"]),
        ("a disease.[12] The next", ["a disease.[12]", " The next"]),
        ("version 1.2.3 of p<0.05 and so on", None),
        ("| a. B | c。d |\nnext. Row", ["| a. B | c。d |\n", "next.", " Row"]),
        ("x\tyes. No\tz", None),
        ("seen [**2151. A-16**] at [**Hospital。1**] then", None),
        ("line wrapped\nonly. Layout", ["line wrapped\nonly.", " Layout"]),
    ],
)
def test_sentences(text: str, expected: list[str] | None) -> None:
    assert pieces(text) == (expected or [text])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hard\nwrapped\n\nblank line", ["hard\nwrapped\n\n", "blank line"]),
        ("气血两\n虚之证也。\n治以补", ["气血两\n虚之证也。\n", "治以补"]),
        ("气血。 \n治以补", ["气血。 \n", "治以补"]),
        ("text\n# Heading\nmore", ["text\n", "# Heading\nmore"]),
        ("text\n<篇名>卷一\nmore", ["text\n", "<篇名>卷一\nmore"]),
        ("正文\n【主治】头痛", ["正文\n", "【主治】头痛"]),
        ("无\n主诉：发热", ["无\n", "主诉：发热"]),
        ("text\n第十二章 总论", ["text\n", "第十二章 总论"]),
        ("none\nChief Complaint: cough", ["none\n", "Chief Complaint: cough"]),
        ("see Fig.\n3 for this", None),
        ("\n\nstarts late", None),
        ("ends early\n\n  \n", None),
    ],
)
def test_paragraphs(text: str, expected: list[str] | None) -> None:
    assert pieces(text) == (expected or [text])


def test_levels_and_the_better_one_wins() -> None:
    text = "One. Two.\n\nThree\n## Four. Five"
    positions, levels = find_cuts(text, [Heading(0), Heading(text.index("##"))], characters(text))
    found = {text[p : p + 5]: int(level) for p, level in zip(positions, levels, strict=True)}
    assert found == {" Two.": SENTENCE, "Three": PARAGRAPH, "## Fo": SECTION, " Five": SENTENCE}
    assert (positions.dtype, levels.dtype) == (np.int32, np.uint8)


def test_a_cut_needs_a_token_that_starts_there() -> None:
    text = "头。😀好。x"
    #       0 1 2 3 4 5;  the emoji takes 4 tokens; the last full stop is merged with what follows
    offsets = [(0, 0), (0, 1), (1, 2), (2, 3), (2, 3), (2, 3), (2, 3), (3, 4), (4, 6)]
    positions, _ = find_cuts(text, [Heading(3)], offsets)
    assert positions.tolist() == [3, 7]
    overlapping = [(0, 2), (2, 3), (2, 4), (3, 4), (4, 6)]  # byte-level tokens that share a character
    positions, _ = find_cuts(text, [Heading(3)], overlapping)
    assert positions.tolist() == [1]


def test_white_space_may_be_stepped_over_in_either_direction() -> None:
    text = "A.\n\n  B"
    assert find_cuts(text, [], [(0, 2), (2, 4), (6, 7)])[0].tolist() == [2]  # offsets without the indent
    assert find_cuts(text, [Heading(6)], [(0, 2), (2, 4), (4, 7)])[0].tolist() == [2]  # indent joined to the word
    assert find_cuts(text, [], [(0, 2), (2, 7)])[0].tolist() == [1]
    assert find_cuts(text, [], [(0, 1), (1, 7)])[0].tolist() == []


def test_random_texts_keep_the_promises() -> None:
    rng = random.Random(0)
    alphabet = ["。", "；", ".", " ", "\n", "A", "b", "3", "|", "\t", "药", "”", "[**", "**]", "Dr", "😀", "……"]
    seen = 0
    for _ in range(400):
        text = "".join(rng.choices(alphabet, k=rng.randint(0, 80)))
        borders = sorted({0, len(text), *rng.choices(range(len(text) + 1), k=60)})
        tokens = list(pairwise(borders))
        if not tokens:
            tokens = [(0, len(text))]
        sections = [Heading(rng.randrange(len(text) + 1)) for _ in range(3)]
        positions, levels = find_cuts(text, sections, tokens)
        assert len(positions) == len(levels)
        assert (np.diff(positions) > 0).all()
        for p, level in zip(positions, levels, strict=True):
            seen += 1
            assert 0 < p < len(tokens)
            start = tokens[p][0]
            assert text[:start].strip()
            assert text[start:].strip()
            assert level in (SECTION, PARAGRAPH, SENTENCE, TOKEN)
            opened = text.rfind("[**", 0, start)
            if opened >= 0 and "\n" not in text[opened : start + 3] and "]" in text[opened:]:
                close = text.index("]", opened)
                assert not opened < start <= close or "\n" in text[opened:close]
    assert seen > 500


WHOLE = [  # parts that no cut may divide
    *(
        "5 mg",
        "3.5 mmol/L",
        "10⁹/L",
        "4.2 × 10⁹/L",
        "120/80 mmHg",
        "5 ± 0.3 %",
        "0.5 mg/kg/day",
        "1,250 mL",
        "p < 0.05",
    ),
    *("37.5 ℃", "12 岁", "500 毫克", "三钱", "2.5 单位", "10–20 mg", "98.6 °F", "3 tablets", "24\nhours", "5  μg/dL"),
    *("[**2151-7-16**]", "[**Hospital. Ward 3**]", "[NAME]", "[PATIENT. ID 7]", "【姓名】", "<DATE>", "{{MRN. 12}}"),
    *("Dr. Wu", "e.g. Aspirin", "Fig. 3", "No. 5", "i.v. Dose", "vs. Placebo", "J. Smith", "3.14", "1.2.3"),
]
ROWS = [
    "| Drug. A | 5 mg。次 | Yes! No |",
    "Sex\tM. F\t3",
    "Weight, kg — Group A. B: 61.2; Group C. D: 60.8; Group E: 5",
]
PROSE = [
    "The patient slept. ",
    "Then, after noon: fever! ",
    "病情平稳。",
    "继续观察，然后出院；",
    "word ",
    "字词 ",
    "and (see) ",
]


def marked_text(rng: random.Random) -> tuple[str, list[tuple[int, int]]]:
    """A random text and the spans of the parts in it that must stay whole."""
    text, spans = "", []
    for _ in range(rng.randint(3, 60)):
        kind = rng.random()
        if kind < 0.35:
            part = rng.choice(WHOLE)
            spans.append((len(text), len(text) + len(part)))
            text += part + rng.choice([" ", ", ", "，", " and "])
        elif kind < 0.45:
            text += "" if text.endswith("\n") or not text else "\n"
            part = rng.choice(ROWS)
            spans.append((len(text), len(text) + len(part)))
            text += part + "\n"
        else:
            text += rng.choice(PROSE)
            text += rng.choice(["", "", "", "\n", "\n\n"])
    return text, spans


def test_no_cut_divides_a_number_with_its_unit_a_placeholder_or_a_row() -> None:
    """Property over random mixtures, one token a character: every position of a text is a possible cut."""
    rng = random.Random(1)
    by_level = dict.fromkeys((PARAGRAPH, SENTENCE, TOKEN), 0)
    for _ in range(1500):
        text, spans = marked_text(rng)
        positions, levels = find_cuts(text, [], characters(text))
        for position, level in zip(positions.tolist(), levels.tolist(), strict=True):
            by_level[level] += 1
            broken = [text[a:b] for a, b in spans if a < position < b]
            assert not broken, (
                f"{broken} divided: {text[position - 20 : position]!r} {text[position : position + 20]!r}"
            )
    assert min(by_level.values()) > 500


def test_rows_end_with_a_cut_and_text_without_ends_is_cut_between_words() -> None:
    row = "| 5 mg | twice a day |\n"
    positions, levels = find_cuts(row * 5, [], characters(row * 5))
    assert positions.tolist() == [len(row) * n for n in range(1, 5)]
    assert set(levels.tolist()) == {SENTENCE}
    text = "one two three, four five six " * 50
    positions, levels = find_cuts(text, [], characters(text))
    assert np.diff(np.concatenate([[0], positions, [len(text)]])).max() <= 64
    assert set(levels.tolist()) == {TOKEN}
    assert all(text[p - 1] == " " for p in positions)
    digits = "7" * 5000
    assert len(find_cuts(digits, [], characters(digits))[0]) == 0


def test_the_plan_prefers_a_place_between_words_to_the_rooms_end() -> None:
    text = "平" * 300 + "5 mg " + "字" * 1000
    positions, levels = find_cuts(text, [], characters(text))
    assert len(positions) > 10
    cuts = Cuts(np.asarray([0, len(positions)]), positions, levels)
    plan = pack(np.asarray([len(text)]), block_size=700, cuts=cuts, context_tokens=0)
    assert set(plan.start[plan.start > 0].tolist()) <= set(positions.tolist())
    assert plan.ledger()["cuts"]["token"] == plan.ledger()["continuations"] > 0


def test_long_runs_take_linear_time() -> None:
    many = 300_000
    for text in (
        "." * many,
        "…" * many,
        "\n" * many,
        " " * many + "\n",
        "A" * many,
        "1" * many + ". A",
        "a: b; " * many,
    ):
        positions, _ = find_cuts("x" + text + "y", [], [(0, 1), (1, len(text) + 1), (len(text) + 1, len(text) + 2)])
        assert len(positions) <= 2


def test_empty_text_has_no_cuts() -> None:
    positions, levels = find_cuts("", [], [])
    assert len(positions) == len(levels) == 0


def test_cuts_of_a_document() -> None:
    cuts = Cuts(np.asarray([0, 2, 2, 3]), np.asarray([5, 9, 4], np.int32), np.asarray([1, 3, 2], np.uint8))
    assert len(cuts) == 3
    assert cuts[0][0].tolist() == [5, 9]
    assert cuts[1][0].tolist() == []
    assert cuts[-1][1].tolist() == [2]
