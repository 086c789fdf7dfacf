"""Where overlong documents are divided: the rule of the best cut in the last tenth, walking forward."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medscroll.packing import divide as divide_module
from medscroll.packing.cuts import PARAGRAPH, SECTION, SENTENCE, TOKEN, Cuts
from medscroll.packing.divide import chunk, divide
from tests.packing.memory_store import random_cuts


def cuts_of(*places: tuple[int, int]) -> Cuts:
    positions, levels = zip(*places, strict=True) if places else ((), ())
    return Cuts(np.asarray([0, len(places)]), np.asarray(positions, np.int32), np.asarray(levels, np.uint8))


def borders(length: int, block: int, cuts: Cuts | None, context: int = 0) -> list[tuple[int, int]]:
    pieces = divide(np.asarray([length]), np.asarray([0]), block_size=block, context=context, bos=False, cuts=cuts)
    return list(zip(pieces.start.tolist(), pieces.level.tolist(), strict=True))


def test_best_level_of_the_last_tenth_and_the_latest_of_it() -> None:
    found = cuts_of((85, SECTION), (90, PARAGRAPH), (93, SECTION), (95, SECTION), (99, SENTENCE), (101, SECTION))
    assert borders(150, 100, found) == [(0, 0), (95, SECTION)]
    assert borders(150, 100, cuts_of((89, SECTION), (90, PARAGRAPH), (99, SENTENCE))) == [(0, 0), (90, PARAGRAPH)]
    assert borders(150, 100, cuts_of((89, SECTION), (99, SENTENCE), (100, SENTENCE))) == [(0, 0), (100, SENTENCE)]
    assert borders(150, 100, cuts_of((89, SECTION))) == [(0, 0), (100, TOKEN)]
    assert borders(150, 100, None) == [(0, 0), (100, TOKEN)]
    assert borders(100, 100, found) == [(0, 0)]


def test_context_takes_room_from_continuations_only() -> None:
    assert borders(250, 100, None, context=20) == [(0, 0), (100, TOKEN), (180, TOKEN)]
    assert borders(260, 100, None, context=20) == [(0, 0), (100, TOKEN), (180, TOKEN)]
    assert borders(261, 100, None, context=20) == [(0, 0), (100, TOKEN), (180, TOKEN), (260, TOKEN)]


def plain_walk(length: int, block: int, context: int, places: dict[int, int]) -> list[tuple[int, int]]:
    """The rule as one would write it for one document."""
    start, level, out = 0, 0, []
    while True:
        out.append((start, level))
        room = block if start == 0 else block - context
        if length - start <= room:
            return out
        window = range(start + room - room // 10, start + room + 1)
        choice = min(((places[p], -p) for p in window if p in places), default=(TOKEN, -(start + room)))
        start, level = -choice[1], choice[0]


@pytest.mark.parametrize("at_once", [7, divide_module.CUTS_AT_ONCE])
def test_many_documents_together_as_each_alone(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divide_module, "CUTS_AT_ONCE", at_once)
    rng = np.random.default_rng(1)
    levels_seen: set[int] = set()
    for block, context in [(1, 0), (7, 1), (40, 10), (100, 20), (300, 64)]:
        lengths = rng.integers(1, 6 * block + 2, size=50)
        cuts = random_cuts(lengths, rng)
        pieces = divide(lengths, np.arange(50), block_size=block, context=context, bos=False, cuts=cuts)
        for document, length in enumerate(lengths.tolist()):
            mine = np.flatnonzero(pieces.document == document)
            positions, levels = cuts[document]
            expected = plain_walk(length, block, context, dict(zip(positions.tolist(), levels.tolist(), strict=True)))
            got = list(zip(pieces.start[mine].tolist(), pieces.level[mine].tolist(), strict=True))
            assert got == expected
            assert pieces.stop[mine].tolist() == [start for start, _ in expected[1:]] + [length]
            levels_seen.update(level for _, level in got)
    assert levels_seen == {0, SECTION, PARAGRAPH, SENTENCE, TOKEN}


def test_chunk_fills_every_block_but_the_last() -> None:
    lengths = np.asarray([5, 3, 9, 1, 4])
    pieces, offsets = chunk(lengths, np.asarray([2, 0, 4, 1, 3]), block_size=4, context=0, bos=False)
    sums = [int((pieces.stop - pieces.start)[a:b].sum()) for a, b in itertools.pairwise(offsets)]
    assert sums == [4, 4, 4, 4, 4, 2]
    assert pieces.document.tolist() == [2, 2, 2, 0, 0, 4, 4, 1, 1, 3]
