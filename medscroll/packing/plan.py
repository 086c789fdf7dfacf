"""The pack plan: which pieces of which documents form which block.

`pack` takes the lengths of all documents (and their cuts) and gives a `PackPlan`, a function of nothing else than
its arguments. With `group_by_text` documents longer than a block are divided (`divide.py`), and the pieces are put in
blocks by best-fit decreasing (`best_fit.py`) within windows of documents drawn by a seeded permutation, so that a
block mixes documents from everywhere in the corpus. Two pieces of one document never share a block. Without
`group_by_text` the documents are concatenated in seeded order and chunked.
Cost: 10 million lognormal documents at block 4096 take 8 to 13 seconds and 1.1 GB on one core, filled to 99.99 %
(`benchmarks/pack_documents.py`); a plan takes 29 bytes a piece in memory, 21 on disk.
"""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xxhash

from medscroll.errors import DataError, UserError
from medscroll.packing.best_fit import best_fit_decreasing
from medscroll.packing.cuts import LEVEL_NAMES
from medscroll.packing.divide import CutsLike, Pieces, chunk, divide, row_tokens
from medscroll.packing.npz import DAMAGE
from medscroll.packing.order import seeded_permutation
from medscroll.packing.policy import FORMAT_VERSION, PackPolicy

WINDOW_DOCUMENTS = 1 << 16
DAMAGED_PLAN: tuple[type[Exception], ...] = (*DAMAGE, UserError)
_ARRAYS = {"document_lengths": "<i4", "block_offsets": "<i8", "document": "<i8", "start": "<i4", "stop": "<i4"} | {
    "context": "<i4",
    "level": "u1",
}


class StoreLike(Protocol):
    """What a plan needs of a token store."""

    lengths: np.ndarray
    adds_bos: bool

    @property
    def cuts(self) -> Any:
        """Where its documents may be divided."""


@dataclasses.dataclass(frozen=True, eq=False)
class PlanPart:
    """A pass over a store inside a plan; the parts of a plan follow each other (`medscroll.packing.mixture`).

    Attributes:
        store: its name.
        number: which pass over it within an epoch, from 0.
        store_tokens: of the whole store; a pass by a share has fewer.
        plan: of this part alone.
    """

    store: str
    number: int
    store_tokens: int
    plan: PackPlan


@dataclasses.dataclass(frozen=True, eq=False)
class PackPlan:
    """Blocks made of pieces; block b has pieces block_offsets[b] .. block_offsets[b + 1] - 1.

    Attributes:
        policy: the settings it was packed with.
        digest: names the plan; a function of its inputs.
        document_lengths: int64 [docs], tokens of every document of the store.
        block_offsets: int64 [blocks + 1].
        document, start, stop: int64 [pieces], tokens start..stop-1 of a document.
        context: int32 [pieces], tokens before `start` repeated in front with label -100.
        level: uint8 [pieces], level of the cut at `start` (`medscroll.packing.cuts`), 0 at a document's beginning.
        parts: the passes over stores that it is put together from; empty where it is not known to be one of a run.
    """

    policy: PackPolicy
    digest: str
    document_lengths: np.ndarray
    block_offsets: np.ndarray
    document: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    context: np.ndarray
    level: np.ndarray
    parts: tuple[PlanPart, ...] = ()

    @property
    def num_blocks(self) -> int:
        """Blocks of one pass."""
        return len(self.block_offsets) - 1

    @property
    def bos(self) -> bool:
        """Whether continuations begin with a BOS of label -100."""
        return self.policy.bos

    @property
    def block_size(self) -> int:
        """Most tokens in a row."""
        return self.policy.block_size

    def block_sums(self, values: np.ndarray) -> np.ndarray:
        """Sums of a value of pieces [pieces] over each block, int64 [blocks]."""
        running = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        return running[self.block_offsets[1:]] - running[self.block_offsets[:-1]]

    @cached_property
    def part_starts(self) -> np.ndarray:
        """The first block of each part, and the number of blocks, int64 [parts + 1]; one part where none is known."""
        sizes = [part.plan.num_blocks for part in self.parts] or [self.num_blocks]
        return np.cumsum([0, *sizes])

    def part_of(self, blocks: np.ndarray) -> np.ndarray:
        """The part that each block belongs to, int64 [blocks]."""
        return np.searchsorted(self.part_starts, blocks, "right") - 1

    @cached_property
    def piece_lengths(self) -> np.ndarray:
        """Tokens of each piece in its row, context and BOS included, int64 [pieces]."""
        return row_tokens(self.start, self.stop, self.context, self.bos)

    @cached_property
    def piece_targets(self) -> np.ndarray:
        """Targets of each piece, int64 [pieces]: all its own tokens but the first, which needs context to be one."""
        return self.stop - self.start - (self.context == 0)

    @cached_property
    def block_lengths(self) -> np.ndarray:
        """Tokens of each row, int64 [blocks]."""
        return self.block_sums(self.piece_lengths)

    @cached_property
    def block_targets(self) -> np.ndarray:
        """Targets of each block, int64 [blocks]."""
        return self.block_sums(self.piece_targets)

    @cached_property
    def block_squares(self) -> np.ndarray:
        """Sum of squared piece lengths (context and BOS included) of each block, int64 [blocks]: attention's cost."""
        return self.block_sums(self.piece_lengths**2)

    @cached_property
    def longest_piece(self) -> int:
        """Tokens of the longest piece with its context and BOS: what the model's positions must hold; 0 if none."""
        return int(self.piece_lengths.max(initial=0))

    @cached_property
    def truncated_documents(self) -> np.ndarray:
        """Documents that lost their end (`overlong: truncate`), int64, ascending."""
        return self._overlong("truncate")

    @cached_property
    def dropped_documents(self) -> np.ndarray:
        """Documents that were left out (`overlong: drop`), int64, ascending."""
        return self._overlong("drop")

    def _overlong(self, what: str) -> np.ndarray:
        if self.policy.group_by_text and self.policy.overlong == what:
            return np.flatnonzero(self.document_lengths > self.block_size)
        return np.empty(0, np.int64)

    def ledger(self) -> dict[str, Any]:
        """What one full pass over the plan trains on and what it leaves out; see `_ledger` for the keys."""
        return _ledger(self)

    def save(self, path: str | Path) -> None:
        """Writes an .npz under a temporary name and renames it, so that no reader ever sees half a plan.

        Raises:
            OSError: the folder cannot be written.
        """
        path = Path(path)
        arrays = {name: np.ascontiguousarray(getattr(self, name), dtype=d) for name, d in _ARRAYS.items()}
        meta = {
            "format": FORMAT_VERSION,
            "digest": self.digest,
            "policy": dataclasses.asdict(self.policy),
            "content": _content_hash(arrays),
        }
        text = np.frombuffer(json.dumps(meta, sort_keys=True).encode(), np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as handle:
                np.savez(handle, meta=text, **arrays)  # type: ignore[arg-type]
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path, *, digest: str | None = None) -> PackPlan:
        """Reads a saved plan and verifies its content, and its digest where one is expected.

        Raises:
            DataError: missing, damaged, of another format version, or another plan than expected.
        """
        path = Path(path)
        remedy = "delete the file: it is made again from the token store"
        try:
            with np.load(path, allow_pickle=False) as file:
                meta = json.loads(file["meta"].tobytes())
                arrays = {name: file[name] for name in _ARRAYS}
            version, content, found = meta["format"], meta["content"], str(meta["digest"])
            policy = PackPolicy(**meta["policy"]) if version == FORMAT_VERSION else None
        except FileNotFoundError:
            raise DataError("there is no pack plan", where=str(path)) from None
        except DAMAGED_PLAN:
            raise DataError("the pack plan is damaged", where=str(path), remedy=remedy) from None
        if policy is None:
            raise DataError(f"the pack plan has format {version}, this is {FORMAT_VERSION}", str(path), remedy)
        if content != _content_hash(arrays):
            raise DataError("the pack plan's content does not have the hash written with it", str(path), remedy)
        if digest is not None and found != digest:
            raise DataError(f"the pack plan has digest {found}, expected {digest}", str(path), remedy)
        wide = {"context": np.int32, "level": np.uint8}
        return cls(
            policy=policy,
            digest=found,
            **{name: array.astype(wide.get(name, np.int64), copy=False) for name, array in arrays.items()},
        )


def _content_hash(arrays: dict[str, np.ndarray]) -> str:
    state = xxhash.xxh3_128()
    for name in _ARRAYS:
        state.update(name.encode() + len(arrays[name]).to_bytes(8, "little"))
        state.update(arrays[name].data)
    return state.hexdigest()


def pack(
    lengths: np.ndarray,
    *,
    block_size: int,
    group_by_text: bool = True,
    overlong: str = "split",
    context_tokens: int = 64,
    seed: int = 0,
    cuts: CutsLike | None = None,
    bos: bool = False,
    long_text_threshold: int = 1024,
) -> PackPlan:
    """Packs documents into blocks; see `PackPolicy` for the settings.

    Args:
        lengths: int [docs], tokens of each document; one of 0 tokens is placed nowhere and counted as empty.
        cuts: where documents may be divided, `medscroll.packing.cuts.Cuts`; None: anywhere.

    Raises:
        ConfigError: settings that cannot be packed with.
        DataError: `overlong="error"` and there are documents longer than a block.
        ValueError: lengths below 0 or above 2^31 - 1, or cuts of another number of documents (a defect of the caller).
    """
    policy = PackPolicy(block_size, group_by_text, overlong, context_tokens, seed, bos, long_text_threshold)
    return _pack(policy, lengths, cuts, None)


def _pack(policy: PackPolicy, lengths: np.ndarray, cuts: CutsLike | None, digest: str | None) -> PackPlan:
    lengths = np.asarray(lengths, dtype=np.int64)
    if len(lengths) and not 0 <= lengths.min() <= lengths.max() < 1 << 31:
        raise ValueError("lengths are 0 to 2^31 - 1")
    if cuts is not None and len(cuts.offsets) != len(lengths) + 1:
        raise ValueError(f"cuts of {len(cuts.offsets) - 1} documents for {len(lengths)} lengths")
    _refuse_overlong(policy, lengths)
    digest = digest or policy.digest(lengths, cuts)
    if not policy.group_by_text:
        order = seeded_permutation(len(lengths), "documents", policy.seed)
        order = order[lengths[order] > 0]
        pieces, offsets = chunk(lengths, order, block_size=policy.block_size, context=policy.context, bos=policy.bos)
        return PackPlan(policy, digest, lengths, offsets, *pieces)
    kept = lengths
    if policy.overlong == "truncate":
        kept = np.minimum(lengths, policy.block_size)
    elif policy.overlong == "drop":
        kept = np.where(lengths > policy.block_size, 0, lengths)
    placed = np.flatnonzero(kept > 0)
    pieces = divide(kept, placed, block_size=policy.block_size, context=policy.context, bos=policy.bos, cuts=cuts)
    order, offsets = _fill_blocks(pieces, policy)
    return PackPlan(policy, digest, lengths, offsets, *pieces.take(order))


def _refuse_overlong(policy: PackPolicy, lengths: np.ndarray) -> None:
    if policy.group_by_text and policy.overlong == "error":
        over = lengths[lengths > policy.block_size]
        if len(over):
            raise DataError(
                f"{len(over)} of {len(lengths)} documents are longer than block_size {policy.block_size}; "
                f"the longest has {int(over.max())} tokens",
                where="--overlong error",
                remedy="use --overlong split (nothing is lost), truncate or drop, or a larger --block_size",
            )


def _fill_blocks(pieces: Pieces, policy: PackPolicy) -> tuple[np.ndarray, np.ndarray]:
    """Best fit, window by window: the order of pieces, int64 [pieces], and block_offsets, int64 [blocks + 1]."""
    if len(pieces.document) == 0:
        return np.empty(0, np.int64), np.zeros(1, np.int64)
    sizes = row_tokens(pieces.start, pieces.stop, pieces.context, policy.bos)
    first = np.flatnonzero(np.append(True, np.diff(pieces.document) != 0))  # [placed documents]
    counts = np.diff(np.append(first, len(sizes)))
    permutation = seeded_permutation(len(first), "documents", policy.seed)
    windows = np.array_split(permutation, -(-len(permutation) // WINDOW_DOCUMENTS))
    orders, offsets, filled = [], [np.zeros(1, np.int64)], 0
    for window in windows:
        number = counts[window]
        ends = np.cumsum(number)
        into = np.arange(int(ends[-1])) - np.repeat(ends - number, number)  # which piece of its document
        index = np.repeat(first[window], number) + into
        window_sizes = sizes[index]
        # Any piece but the last takes over nine tenths of a block, so only a small last one could join one of them.
        bound = (window_sizes <= policy.block_size // 10) & (into > 0)
        bins, blocks = best_fit_decreasing(window_sizes, policy.block_size, np.where(bound, into, 0))
        orders.append(index[np.argsort(bins, kind="stable")])
        offsets.append(filled + np.cumsum(np.bincount(bins, minlength=blocks)))
        filled += len(index)
    return np.concatenate(orders), np.concatenate(offsets)


def load_or_pack(store: StoreLike, plans_dir: str | Path, **settings: Any) -> PackPlan:
    """The plan of a token store, from `plans_dir/<digest>.npz` where it exists, else packed and saved there.

    Several processes may do this at once: they would write the same content, and each renames a whole file into
    place. A damaged file is packed again; a folder that cannot be written costs a warning.

    Args:
        store: a `TokenStore`.
        settings: as for `pack`, without `cuts` and `bos`, which the store knows.
    """
    policy = PackPolicy(bos=bool(getattr(store, "adds_bos", False)), **settings)
    lengths = np.asarray(store.lengths, dtype=np.int64)
    digest = policy.digest(lengths, store.cuts)
    path = Path(plans_dir) / f"{digest}.npz"
    if path.is_file():
        try:
            return dataclasses.replace(PackPlan.load(path, digest=digest), policy=policy)
        except DataError as error:
            warnings.warn(f"packing again: {error.what} ({path})", stacklevel=2)
    plan = _pack(policy, lengths, store.cuts, digest)
    try:
        plan.save(path)
    except OSError as error:
        warnings.warn(f"the pack plan is not kept for the next start: {path}: {error.strerror}", stacklevel=2)
    return plan


def _ledger(plan: PackPlan) -> dict[str, Any]:
    """The conservation ledger of one full pass.

    Of `documents` in the store, `empty` have no tokens and `dropped` are left out; the others are placed: `whole`,
    `divided` (in two or more pieces) or `truncated`. Each placed document has one first token, which is no target
    (`first_tokens` = documents placed). `tokens` counts all tokens of all documents, and always
        tokens = targets + first_tokens + continuations_without_context + truncated tokens + dropped tokens
    """
    policy, lengths = plan.policy, plan.document_lengths
    continued = plan.start > 0
    pieces_of = np.bincount(plan.document, minlength=len(lengths))
    truncated, dropped = plan.truncated_documents, plan.dropped_documents
    divided, placed = int((pieces_of > 1).sum()), int((pieces_of > 0).sum())
    long = lengths > policy.long_text_threshold
    levels = np.bincount(plan.level[continued], minlength=max(LEVEL_NAMES) + 1)
    ledger: dict[str, Any] = {
        "documents": len(lengths),
        "tokens": int(lengths.sum()),
        "targets": int(plan.piece_targets.sum()),
        "first_tokens": placed,
        "continuations_without_context": int((continued & (plan.context == 0)).sum()),
        "truncated": {
            "documents": len(truncated),
            "tokens": int((lengths[truncated] - plan.block_size).sum()),
            "document_indices": truncated.tolist(),
        },
        "dropped": {
            "documents": len(dropped),
            "tokens": int(lengths[dropped].sum()),
            "document_indices": dropped.tolist(),
        },
        "empty": int((lengths == 0).sum()),
        "placed": placed,
        "whole": placed - divided - len(truncated),
        "divided": divided,
        "pieces": len(plan.document),
        "continuations": int(continued.sum()),
        "context_tokens": int(plan.context.sum()),
        "bos_tokens": int((plan.bos & (plan.start > plan.context)).sum()),
        "cuts": {name: int(levels[level]) for level, name in LEVEL_NAMES.items()},
        "long": {
            "threshold": policy.long_text_threshold,
            "documents": int(long.sum()),
            "tokens": int(lengths[long].sum()),
        },
        "longest_document": int(lengths.max(initial=0)),
        "longest_piece": plan.longest_piece,
        "blocks": plan.num_blocks,
        "block_size": plan.block_size,
        "row_tokens": int(plan.block_lengths.sum()),
        "fill": float(plan.block_lengths.sum() / max(1, plan.num_blocks * plan.block_size)),
        "padding": 0,
        "group_by_text": policy.group_by_text,
        "overlong": policy.overlong if policy.group_by_text else "no effect (group_by_text is off)",
        "plan_digest": plan.digest,
    }
    left_out = ledger["truncated"]["tokens"] + ledger["dropped"]["tokens"]
    accounted = ledger["targets"] + placed + ledger["continuations_without_context"] + left_out
    if accounted != ledger["tokens"]:
        raise AssertionError(f"pack plan {plan.digest}: {ledger['tokens']} tokens, {accounted} accounted for")
    return ledger


def bytes_of_blocks(document_bytes: np.ndarray, plan: PackPlan) -> np.ndarray:
    """UTF-8 bytes of each block's own tokens, float64 [blocks]: a piece takes its share of its document's bytes.

    Args:
        document_bytes: int64 [docs], of the store that the plan was made for.
    """
    share = (plan.stop - plan.start) / np.maximum(plan.document_lengths[plan.document], 1)  # [pieces]
    sums = np.concatenate([[0.0], np.cumsum(document_bytes[plan.document] * share)])  # [pieces + 1]
    return sums[plan.block_offsets[1:]] - sums[plan.block_offsets[:-1]]
