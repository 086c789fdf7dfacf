"""Looking at code points at once says what looking at characters one after another says."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from medscroll.corpus.code_points import BLANKS, CharacterClasses, CharacterSet, Translation, code_points, matches_at
from medscroll.corpus.deid_dates import find_dates
from medscroll.corpus.minhash import gram_hashes, hash_runs, hash_words

TEXTS = st.text(st.sampled_from("aZ9 \n\t\u3000\x1c\u00a0é患者一二年月日□\U00020000\ud800"), max_size=60)


def test_blanks_are_what_python_takes_for_blanks() -> None:
    every = "".join(map(chr, range(0x110000)))
    expected = [place for place, character in enumerate(every) if character.isspace()]
    assert len(expected) > 20
    assert BLANKS.contains(code_points(every)).nonzero()[0].tolist() == expected


@given(TEXTS)
def test_counts_and_places(text: str) -> None:
    letters = CharacterSet([(0x61, 0x7A), (0x4E00, 0x9FFF)])
    expected = [place for place, each in enumerate(text) if re.match("[a-z\u4e00-\u9fff]", each)]
    assert list(letters.places(text)) == expected
    assert letters.count(text) == len(expected)
    assert letters.found_in(text) == bool(expected)
    both = CharacterClasses({"latin": [(0x61, 0x7A)], "han": [(0x4E00, 0x9FFF)]}).count(text)
    assert sum(both.values()) == len(expected)
    assert both["latin"] == len(re.findall("[a-z]", text))
    followed = [place for place in expected if text[place + 1 : place + 2].isdigit()]
    assert list(letters.places(text, CharacterSet([(0x30, 0x39)]))) == followed


@given(TEXTS, st.integers(0, 20))
def test_translation_is_that_of_strings(text: str, times: int) -> None:
    table = {ord("Z"): ord("z"), 0x3000: 0x20, 0x20000: 0x4E00}
    assert Translation(table).apply(text * times) == (text * times).translate(table)


@given(TEXTS)
def test_matches_at_places_are_those_of_the_whole_search(text: str) -> None:
    pattern = re.compile(r"[a9][a9 ]*|患者?")
    starts = [place for place, each in enumerate(text) if each in "a9患"]
    found = [match.span() for match in matches_at(pattern, text, starts)]
    assert found == [match.span() for match in pattern.finditer(text)]


def test_dates_are_found_wherever_they_stand() -> None:
    forms = ("2021年3月5日", "2021-03-05", "March 5, 2021", "5 Mar 2021", "3/5/2021", "二〇二一年三月五日")
    for form in forms:
        for before in ("", "于", "on ", "（", "\n"):
            found = find_dates(f"{before}{form}。")
            assert [(each.start, each.day is not None) for each in found] == [(len(before), True)], (before, form)


def test_words_of_a_long_text_are_hashed_as_those_of_a_short_one() -> None:
    words = ["患者"[: number % 3] + f"word{number % 977}" for number in range(200_000)]
    text = " ".join(words)
    assert len(text) > 1 << 20  # more than is looked at in one go
    blocks = list(gram_hashes(text, chinese=False))
    assert len(blocks) > 1
    together = [value for block in blocks for value in block.tolist()]
    assert together == hash_runs(hash_words(words), 3).tolist()
