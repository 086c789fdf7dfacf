"""Several token stores as one: each pass over each store is packed for itself, and the plans are put end to end.

    sources (folder, share or repeats) -> parts (store, pass, documents) -> one view of documents + one pack plan

A part is a pass over a store: all its documents, or, where a share asks for less than a whole pass, a seeded choice
of whole documents. Every part is packed with a seed of its own and found again under its digest in the folder it came
from; blocks never mix stores, so everything can be counted by store and pass. A run with one folder is a mixture of
one part, whose plan is that of the folder alone. All that follows (order, ledger, cursor, resume) sees one plan.
Cost: 8 bytes a document and part; the plans of the parts.
"""

from __future__ import annotations

import dataclasses
import itertools
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from medscroll.errors import ConfigError, DataError, UserError
from medscroll.packing.cuts import Cuts
from medscroll.packing.job import open_store, read_manifest
from medscroll.packing.order import seeded_permutation
from medscroll.packing.plan import PackPlan, PlanPart, load_or_pack, pack
from medscroll.packing.sources import FLAG, Source, passes
from medscroll.packing.store import TokenStore

_PASS_SEEDS = 1_000_003


class DocumentView:
    """Some documents of some stores as one store: what a plan and a dataset need of it.

    Args:
        parts: (store, documents int64 [n] or None for all), one after the other.
    """

    def __init__(self, parts: Sequence[tuple[TokenStore, np.ndarray | None]]) -> None:
        self._parts = [(store, None if documents is None else np.asarray(documents)) for store, documents in parts]
        lengths = [store.lengths if d is None else store.lengths[d] for store, d in self._parts]
        sizes = [s.document_bytes if d is None else s.document_bytes[d] for s, d in self._parts]
        self._starts = [0, *itertools.accumulate(map(len, lengths))]  # [parts + 1]
        self.lengths = np.concatenate(lengths) if len(lengths) != 1 else lengths[0]  # int64 [docs]
        self.document_bytes = np.concatenate(sizes) if len(sizes) != 1 else sizes[0]  # int64 [docs]
        self.adds_bos = bool(parts[0][0].adds_bos)
        self.digest = _data_digest(self._parts)

    @property
    def cuts(self) -> Cuts:
        """The cuts of all documents."""
        parts = [store.cuts if d is None else take_cuts(store.cuts, d) for store, d in self._parts]
        if len(parts) == 1:
            return parts[0]
        counts = np.concatenate([np.diff(cuts.offsets) for cuts in parts])
        return Cuts(
            np.concatenate([[0], np.cumsum(counts)]),
            np.concatenate([cuts.positions for cuts in parts]),
            np.concatenate([cuts.levels for cuts in parts]),
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        """The tokens of one document, uint16 or int32 [length]."""
        index = range(len(self))[index]
        return self.tokens(index, 0, int(self.lengths[index]))

    def tokens(self, index: int, start: int, stop: int) -> np.ndarray:
        """Tokens start..stop-1 of a document, uint16 or int32."""
        part = bisect_right(self._starts, index) - 1 if len(self._parts) > 1 else 0
        store, documents = self._parts[part]
        index -= self._starts[part]
        return store.tokens(index if documents is None else int(documents[index]), start, stop)


def _data_digest(parts: Sequence[tuple[TokenStore, np.ndarray | None]]) -> str:
    """Of all tokens: that of the store where it is one and whole, else over stores and chosen documents."""
    if len(parts) == 1 and parts[0][1] is None:
        return parts[0][0].digest
    state = xxhash.xxh3_128()
    for store, documents in parts:
        state.update(f"{store.digest} {'all' if documents is None else len(documents)}\n".encode())
        if documents is not None:
            state.update(np.ascontiguousarray(documents, "<i8").tobytes())
    return state.hexdigest()


def take_cuts(cuts: Any, documents: np.ndarray) -> Cuts:
    """The cuts of these documents, int64 [n], in their order."""
    first, counts = cuts.offsets[documents], cuts.offsets[documents + 1] - cuts.offsets[documents]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    index = np.repeat(first - offsets[:-1], counts) + np.arange(int(offsets[-1]))
    return Cuts(offsets, cuts.positions[index], cuts.levels[index])


@dataclasses.dataclass(frozen=True)
class Mixture:
    """The documents of a run, its plan, and how they came about.

    Attributes:
        view: the documents.
        plan: blocks over them; `plan.parts` says which belong to which store and pass.
        lines: what was read how often, to be printed; empty for one folder read once.
    """

    view: DocumentView
    plan: PackPlan
    lines: list[str]


class PreparedSources:
    """The folders of a run, opened and checked against each other.

    Args:
        sources: of `parse_sources`.

    Raises:
        ConfigError, DataError: every folder that cannot be used, all at once.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = list(sources)
        problems: list[UserError] = []
        self.train: list[TokenStore] = []
        self.validation: list[tuple[Source, TokenStore]] = []
        manifests: list[dict[str, Any]] = []
        for source in self.sources:
            try:
                manifests.append(read_manifest(source.folder))
                self.train.append(open_store(source.folder, "train", manifests[-1]))
                if (source.folder / "tokens" / "validation.idx").exists():
                    self.validation.append((source, open_store(source.folder, "validation", manifests[-1])))
            except UserError as error:
                problems.append(error)
        problems += _of_one_tokenizer(self.sources, manifests) if len(manifests) == len(self.sources) else []
        if len(self.train) == len(self.sources) > 1:
            problems += [
                DataError("the training split has no tokens", str(source.folder), f"leave it out of {FLAG}")
                for source, store in zip(self.sources, self.train, strict=True)
                if store.num_tokens == 0
            ]
        if len(problems) == 1:
            raise problems[0]
        if problems:
            raise ConfigError.collect(problems)

    @property
    def folder(self) -> Path:
        """The first folder, whose tokenizer is that of all."""
        return self.sources[0].folder

    @property
    def vocab_size(self) -> int:
        """Of the tokenizer, added tokens included."""
        return max(store.vocab_size for store in self.train)

    @property
    def notes(self) -> list[str]:
        """What should be known about the stores, to be printed."""
        old = [source.name for source, store in zip(self.sources, self.train, strict=True) if not store.checked]
        return [
            f"NOTE: {name} was prepared by an earlier version without checksums: damaged tokens go unnoticed. "
            "`medscroll prepare` with the same arguments into another folder adds them."
            for name in old
        ]

    def training(self, *, keep: bool = True, **settings: Any) -> Mixture:
        """The training documents of one epoch and their plan.

        Args:
            keep: find plans in the folders, and keep new ones there.
            settings: as for `pack`, without `cuts` and `bos`.
        """
        stores = self.train
        read = passes(self.sources, [max(1, store.num_tokens) for store in stores])
        parts: list[tuple[Source, TokenStore, int, np.ndarray | None]] = []
        for source, store, times in zip(self.sources, stores, read, strict=True):
            whole = int(times + 1e-9)
            parts += [(source, store, number, None) for number in range(whole)]
            chosen = _choice(store, times - whole, whole, int(settings.get("seed", 0)))
            if len(chosen):
                parts.append((source, store, whole, chosen))
        counts = dict.fromkeys((source.name for source in self.sources), 0)
        for source, store, _, documents in parts:
            counts[source.name] += int(store.lengths[slice(None) if documents is None else documents].sum())
        total = max(1, sum(counts.values()))
        lines = [
            f"{source.name}: {times:.4g} passes an epoch, {counts[source.name]:,} tokens "
            f"({counts[source.name] / total:.1%} of the epoch), from a store of {store.num_tokens:,}"
            for source, store, times in zip(self.sources, stores, read, strict=True)
        ]
        return _mix(parts, lines if read != [1.0] else [], settings, keep)

    def held_out(self, *, keep: bool = True, **settings: Any) -> Mixture | None:
        """The validation documents of all folders, each read once, and their plan; None where there are none."""
        parts = [(source, store, 0, None) for source, store in self.validation if len(store)]
        return _mix(parts, [], settings, keep) if parts else None


def _of_one_tokenizer(sources: Sequence[Source], manifests: Sequence[dict[str, Any]]) -> list[UserError]:
    prints = [manifest.get("tokenizer", {}).get("fingerprint") for manifest in manifests]
    return [
        DataError(
            f"the folder was prepared with another tokenizer than {sources[0].folder}",
            str(source.folder),
            "prepare all folders with the tokenizer of the model that is to be trained",
        )
        for source, fingerprint in zip(sources, prints, strict=True)
        if fingerprint != prints[0]
    ]


def _choice(store: TokenStore, share: float, number: int, seed: int) -> np.ndarray:
    """Documents that together make up a share of a store's tokens, a seeded choice, ascending, int64 [n].

    They are taken in drawn order; one that would go beyond the share is passed over, and at the end the first of the
    others that brings the sum nearer is added. So the sum is off by less than the shortest document
    that is left out.
    """
    target = share * store.num_tokens
    order = seeded_permutation(len(store), "mixture", seed, number)
    lengths = store.lengths[order]
    taken, left, at = np.zeros(len(order), bool), target, 0
    while left >= 1 and at < len(order):
        running = np.cumsum(lengths[at:])
        count = int(np.searchsorted(running, left, "right"))  # the longest run that fits
        taken[at : at + count] = True
        left -= float(running[count - 1]) if count else 0.0
        fitting = np.flatnonzero(lengths[at + count :] <= left)
        at = at + count + int(fitting[0]) if len(fitting) else len(order)
    nearer = np.flatnonzero(~taken & (lengths < 2 * left))
    taken[nearer[:1]] = True
    return np.sort(order[taken])


def _mix(
    parts: Sequence[tuple[Source, TokenStore, int, np.ndarray | None]],
    lines: list[str],
    settings: dict[str, Any],
    keep: bool,
) -> Mixture:
    plans: list[PackPlan] = []
    for source, store, number, documents in parts:
        seeded = settings | {"seed": int(settings.get("seed", 0)) + _PASS_SEEDS * number}
        view = DocumentView([(store, documents)])
        if keep:
            plans.append(load_or_pack(view, source.folder / "plans", **seeded))
        else:
            plans.append(pack(view.lengths, cuts=view.cuts, bos=view.adds_bos, **seeded))
    of_part = [
        PlanPart(source.name, number, store.num_tokens, plan)
        for (source, store, number, _), plan in zip(parts, plans, strict=True)
    ]
    view = DocumentView([(store, documents) for _, store, _, documents in parts])
    return Mixture(view, join(of_part), lines)


def join(parts: Sequence[PlanPart]) -> PackPlan:
    """The plans of all parts end to end, with the digest of one where it is alone, else of all in their order."""
    plans = [part.plan for part in parts]
    if len(plans) == 1:
        return dataclasses.replace(plans[0], parts=tuple(parts))
    documents = np.cumsum([0, *(len(plan.document_lengths) for plan in plans)])
    pieces = np.cumsum([0, *(len(plan.document) for plan in plans)])
    text = "\n".join(f"{plan.digest} {part.number}" for part, plan in zip(parts, plans, strict=True))

    def together(name: str) -> np.ndarray:
        return np.concatenate([getattr(plan, name) for plan in plans])

    columns = {name: together(name) for name in ("document_lengths", "start", "stop", "context", "level")}

    def of_part(at: int) -> PlanPart:
        """The part with its columns as views of the joined ones, so that they are held once."""
        rows = {name: slice(int(pieces[at]), int(pieces[at + 1])) for name in columns}
        rows["document_lengths"] = slice(int(documents[at]), int(documents[at + 1]))
        views: dict[str, Any] = {name: column[rows[name]] for name, column in columns.items()}
        return dataclasses.replace(parts[at], plan=dataclasses.replace(plans[at], **views))

    return PackPlan(
        policy=plans[0].policy,
        digest=xxhash.xxh3_128_hexdigest(f"mixture\n{text}".encode()),
        block_offsets=np.concatenate(
            [[0], *(plan.block_offsets[1:] + at for plan, at in zip(plans, pieces, strict=False))]
        ),
        document=np.concatenate([plan.document + at for plan, at in zip(plans, documents, strict=False)]),
        parts=tuple(of_part(at) for at in range(len(parts))),
        **columns,
    )
