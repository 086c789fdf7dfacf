"""Documents to pieces: where a document that does not fit in a block is divided.

`divide` walks forward through every overlong document at once, one piece of each document a round: the room is the
block (less context tokens and BOS at a continuation), and the piece ends at the best cut in the last tenth of the
room: a section before a paragraph before a sentence before a place between words, the latest of the best level; where
there is none (a table row or a run of digits that fills that tenth), at the room's end. The last two count as cuts at
the level of the token. The last piece is what remains. Pieces are not made equal in size:
that costs up to 20 % of fill (measured).
`chunk` is classic concatenate-and-chunk over documents in a given order, without dropping the tail.
Cost: a few microseconds a round plus about 0.3 a piece; the cuts of overlong documents are gathered in bounded parts.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from typing import NamedTuple, Protocol

import numpy as np

from medscroll.packing.cuts import PARAGRAPH, SECTION, SENTENCE, TOKEN

CUTS_AT_ONCE = 8_000_000


class CutsLike(Protocol):
    """The cuts of a store, see `medscroll.packing.cuts.Cuts`."""

    offsets: np.ndarray
    positions: np.ndarray
    levels: np.ndarray


class Pieces(NamedTuple):
    """Pieces in order, those of one document together and ascending; all arrays [pieces].

    Attributes:
        document: int64, index of the document.
        start, stop: int64, its tokens start..stop-1.
        context: int32, tokens before start that are repeated in front.
        level: uint8, the level of the cut at `start`; 0 at the beginning of a document.
    """

    document: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    context: np.ndarray
    level: np.ndarray

    def take(self, index: np.ndarray) -> Pieces:
        """The pieces at these indices."""
        return Pieces(*(array[index] for array in self))


def row_tokens(start: np.ndarray, stop: np.ndarray, context: np.ndarray, bos: bool) -> np.ndarray:
    """Tokens that each piece takes in a row, int64 [pieces]: its own, the context, and the BOS before the context.

    The BOS is added where the tokenizer adds one and the context does not reach back to the document's own.
    """
    return stop - start + context + (bos & (start > context))


def divide(
    lengths: np.ndarray, documents: np.ndarray, *, block_size: int, context: int, bos: bool, cuts: CutsLike | None
) -> Pieces:
    """The pieces of these documents; those that fit in a block are one piece.

    Args:
        lengths: int64 [docs], tokens of all documents, each >= 1 where listed in `documents`.
        documents: int64 [n], ascending: which documents.
        block_size: room of a first piece.
        context: tokens repeated in front of a continuation, at most a quarter of the block.
        bos: whether a continuation also has a BOS.
        cuts: where documents may be divided; None divides at the room's end.
    """
    overlong = documents[lengths[documents] > block_size]
    parts: list[tuple[np.ndarray, ...]] = []
    counts = np.zeros(len(overlong), np.int64) if cuts is None else np.diff(cuts.offsets)[overlong]
    part_of = np.cumsum(counts) // CUTS_AT_ONCE
    for first, last in _runs(part_of):
        group = overlong[first:last]
        parts.extend(_walk(lengths[group], group, block_size, block_size - context - bos, _LevelCuts(cuts, group)))
    whole = documents[lengths[documents] <= block_size]
    zero = np.zeros(len(whole), np.int64)
    parts.append((whole, zero, lengths[whole], zero.astype(np.uint8)))
    document, start, stop, level = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.lexsort((start, document)) if len(overlong) else slice(None)
    contexts = np.where(start > 0, np.minimum(context, start), 0).astype(np.int32)
    return Pieces(document[order], start[order], stop[order], contexts[order], level[order])


def _runs(values: np.ndarray) -> list[tuple[int, int]]:
    """first, last + 1 of each run of equal values."""
    if len(values) == 0:
        return []
    borders = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return list(itertools.pairwise(borders))


class _LevelCuts:
    """The cuts of a group of documents, one ascending array a level over all of them."""

    def __init__(self, cuts: CutsLike | None, group: np.ndarray) -> None:
        self.levels: list[tuple[int, np.ndarray]] = []
        if cuts is None:
            return
        first, last = cuts.offsets[group], cuts.offsets[group + 1]
        counts = last - first
        index = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
        # Token lengths are int32 in the store: (number in the group, position) fits in one int64.
        places = (np.repeat(np.arange(len(group)), counts) << 32) + cuts.positions[index]
        levels = cuts.levels[index]
        self.levels = [(level, places[levels == level]) for level in (SECTION, PARAGRAPH, SENTENCE, TOKEN)]

    def best(self, number: np.ndarray, low: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Best cut in low..end of documents `number` of the group: positions int64 [n], levels uint8 [n]."""
        stop, found = end.copy(), np.full(len(end), TOKEN, np.uint8)
        shift = number << 32
        for level, places in self.levels:
            if len(places) == 0:
                continue
            at = np.searchsorted(places, shift + end, "right") - 1
            candidate = places[np.maximum(at, 0)] - shift
            good = (at >= 0) & (candidate >= low) & (found == TOKEN)
            stop[good], found[good] = candidate[good], level
        return stop, found


def _walk(
    lengths: np.ndarray, documents: np.ndarray, first_room: int, next_room: int, cuts: _LevelCuts
) -> list[tuple[np.ndarray, ...]]:
    """(document, start, stop, level) of all pieces of overlong documents, one tuple a round."""
    rounds: list[tuple[np.ndarray, ...]] = []
    number = np.arange(len(documents), dtype=np.int64)  # [documents still under way]
    start, level, room = np.zeros(len(documents), np.int64), np.zeros(len(documents), np.uint8), first_room
    while len(number):
        end = start + room
        over = lengths[number] > end
        stop, next_level = cuts.best(number, end - room // 10, end)
        stop = np.where(over, stop, lengths[number])
        rounds.append((documents[number], start, stop, level))
        number, start, level, room = number[over], stop[over], next_level[over], next_room
    return rounds


def chunk(
    lengths: np.ndarray, documents: np.ndarray, *, block_size: int, context: int, bos: bool
) -> tuple[Pieces, np.ndarray]:
    """Concatenate-and-chunk: all documents in the given order, cut wherever a block is full; the tail is shorter.

    Returns:
        the pieces, and block_offsets int64 [blocks + 1] into them.
    """
    ends = np.cumsum(lengths[documents])
    begins = ends - lengths[documents]
    ends_list = ends.tolist()
    total, position, borders = (ends_list[-1] if ends_list else 0), 0, [0]
    while position < total:
        into = position - (ends_list[at - 1] if (at := bisect_right(ends_list, position)) else 0)
        repeated = min(context, into)
        position += block_size - repeated - (1 if bos and into > repeated else 0)
        borders.append(min(position, total))
    cut_at = np.asarray(borders, np.int64)
    # A piece begins at each document's beginning and at each block's beginning.
    piece_start = np.union1d(begins, cut_at[:-1])
    piece_stop = np.append(piece_start[1:], total)[: len(piece_start)]
    owner = np.searchsorted(ends, piece_start, "right")
    start = piece_start - begins[owner]
    contexts = np.where(start > 0, np.minimum(context, start), 0).astype(np.int32)
    level = np.where(start > 0, TOKEN, 0).astype(np.uint8)
    offsets = np.append(np.searchsorted(piece_start, cut_at[:-1]), len(piece_start)).astype(np.int64)
    return Pieces(documents[owner], start, piece_stop - begins[owner], contexts, level), offsets
