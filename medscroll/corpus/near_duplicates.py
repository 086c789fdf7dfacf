"""The step `deduplicate`: copies of documents, and by option of sections, exact and near, over the whole corpus.

Each shard is prepared alone (a hash and a MinHash signature a document: `minhash`, `duplicate_table`); the decision
over all shards (`lsh`) does not depend on how documents lie in shards. Of a group of copies the longest stays (of
equally long ones the least id); every other one is dropped only if its own estimated similarity to one that
stays reaches the threshold, so a chain of small changes does not drop what differs much. The ledger names what it was
a copy of. Memory of the decision: about 10 bytes a document, the dropped ids, and a constant; disk: about 760 bytes a
document.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from medscroll.corpus.document import Document
from medscroll.corpus.duplicate_table import Table, TableWriter
from medscroll.corpus.lsh import PAIRS, Groups, exact_duplicates, near_groups
from medscroll.corpus.minhash import PERMUTATIONS, choose_bands, exact_hash, signatures
from medscroll.corpus.step import Decisions, StepLog, drop_or_cut
from medscroll.errors import ConfigError

LEAST_GRAMS = 10  # n-grams below which only exact copies are looked for
ROUNDS = 64  # documents of one group that may stay before the rest of it is left alone
_DOCUMENTS, _SECTIONS = "documents", "sections"


@dataclass
class DeduplicateConfig:
    """Keys of the step `deduplicate`."""

    enabled: bool = field(default=True, metadata={"help": "Find copies of documents."})
    near: bool = field(default=True, metadata={"help": "Find near-duplicates too, not only equal texts."})
    threshold: float = field(
        default=0.7, metadata={"help": "Jaccard similarity of n-grams (4 characters of Chinese, 3 words) of a copy."}
    )
    sections: bool = field(default=False, metadata={"help": "Take copied sections out of documents too."})
    least_section: int = field(default=300, metadata={"help": "Characters of a section to be looked at."})

    def build(self) -> Deduplicate:
        """The step.

        Raises:
            ConfigError: a value out of its range.
        """
        if not 0.3 <= self.threshold <= 1:
            raise ConfigError(f"deduplicate.threshold is {self.threshold}", remedy="give a number from 0.3 to 1")
        if self.least_section < 1:
            raise ConfigError(f"deduplicate.least_section is {self.least_section}", remedy="give at least 1 character")
        return Deduplicate(self)


class Deduplicate:
    """A `CorpusStep`; see the module."""

    name = "deduplicate"
    version = 1

    def __init__(self, config: DeduplicateConfig) -> None:
        self._config = config
        self._bands, self._rows = choose_bands(config.threshold) if config.near else (0, 1)

    def fingerprint(self) -> str:
        """The configuration and the shape of the bands."""
        return repr((self._config, self._bands, self._rows, PERMUTATIONS))

    def prepare_shard(self, documents: Iterator[Document], folder: Path) -> None:
        """Writes the columns of the shard's documents (and sections) into `folder`.

        Raises:
            EnvironmentError_: rensa is not installed and near-duplicates are looked for.
        """
        whole = TableWriter(folder, _DOCUMENTS, self._bands, self._rows)
        parts = TableWriter(folder, _SECTIONS, self._bands, self._rows) if self._config.sections else None
        try:
            pending: list[tuple[TableWriter, bytes, int, str, int]] = []

            def texts() -> Iterator[tuple[str, bool]]:
                for document in documents:
                    chinese = document.lang != "en"
                    pending.append((whole, exact_hash(document.text), len(document.text), document.id, 0))
                    yield document.text, chinese
                    for start, stop in self._sections(document) if parts else ():
                        text = document.text[start:stop]
                        pending.append((parts or whole, exact_hash(text), stop - start, document.id, start))
                        yield text, chinese

            done = 0
            if self._config.near:
                for signature, grams in signatures(texts()):
                    writer, exact, length, identifier, start = pending[done]
                    writer.add(exact, length, identifier, start, signature, near=grams >= LEAST_GRAMS)
                    done += 1
                    if done == 4096:
                        del pending[:done]
                        done = 0
            else:
                nothing = np.zeros(PERMUTATIONS, np.uint32)
                for _ in texts():
                    for writer, exact, length, identifier, start in pending:
                        writer.add(exact, length, identifier, start, nothing, near=False)
                    pending.clear()
        finally:
            whole.close()
            if parts:
                parts.close()

    def _sections(self, document: Document) -> Iterator[tuple[int, int]]:
        borders = [*(section.start for section in document.sections), len(document.text)]
        for start, stop in pairwise(borders):
            if stop - start >= self._config.least_section:
                yield start, stop

    def decide(self, folders: Sequence[Path], work_dir: Path) -> Decisions:
        """Which documents (and sections) go, over all shards. The order of the folders does not matter."""
        decisions = Decisions()
        log = decisions.log
        for unit, drop in self._copies(Table(folders, _DOCUMENTS), log, _DOCUMENTS, decisions):
            decisions.drops[unit[0]] = drop
        if self._config.sections:
            found: dict[str, list[tuple[int, int, str]]] = {}
            for (identifier, start, length), (_, detail) in self._copies(
                Table(folders, _SECTIONS), log, _SECTIONS, decisions
            ):
                found.setdefault(identifier, []).append((start, start + length, detail))
            for identifier, ranges in found.items():
                ranges.sort()
                decisions.edits[identifier] = [(start, stop) for start, stop, _ in ranges]
                decisions.origins[identifier] = [detail for _, _, detail in ranges]
        return decisions

    def _copies(
        self, table: Table, log: StepLog, kind: str, decisions: Decisions
    ) -> Iterator[tuple[tuple[str, int, int], tuple[str, str]]]:
        """((id, start, length), (reason, detail)) of every unit that goes."""
        excluded = np.zeros(len(table), bool)
        pairs = []
        for copies, heads in exact_duplicates(table, excluded):
            excluded[copies] = True
            pairs.append((copies, heads))
        groups = Groups(len(table))
        if self._config.near:
            groups, compared, alike = near_groups(table, self._bands, self._config.threshold, excluded)
            log.count(f"{kind}_pairs_compared", compared)
            log.count(f"{kind}_pairs_alike", alike)
        for copies, heads in pairs:
            groups.unite(copies, heads)
        del excluded, pairs
        for members in groups.members():
            yield from self._resolve(table, members, log, kind, decisions)

    def _resolve(
        self, table: Table, members: np.ndarray, log: StepLog, kind: str, decisions: Decisions
    ) -> Iterator[tuple[tuple[str, int, int], tuple[str, str]]]:
        """Decides within groups; members int64 [n, 2] as `Groups.members` gives them."""
        units = members[:, 1]
        identifiers = table.ids(units)
        lengths, starts = table.gather("length", units), table.gather("start", units)
        exact = table.gather("exact", units)
        small = len(units) <= 2 * PAIRS
        matrix = table.gather("signature", units) if small and self._config.near else None
        borders = np.flatnonzero(np.concatenate([[True], members[1:, 0] != members[:-1, 0], [True]]))
        for first, last in pairwise(borders):
            places = list(range(first, last))
            if kind == _SECTIONS:
                places = [place for place in places if identifiers[place] not in decisions.drops]
            left = np.array(sorted(places, key=lambda p: (-lengths[p], identifiers[p], starts[p])), np.int64)
            log.observe(f"{kind}_in_group", _bucket(len(left)))
            for _ in range(ROUNDS):
                if len(left) < 2:
                    break
                keeper, rest = left[0], left[1:]
                same = exact[rest] == exact[keeper]
                alike = (
                    self._similarity(table, matrix, units, keeper, rest) if self._config.near else same.astype(float)
                )
                gone = same | (alike >= self._config.threshold)
                for place, equal, share in zip(rest[gone], same[gone], alike[gone], strict=True):
                    reason = "exact_duplicate" if equal else "near_duplicate"
                    log.count(f"{kind}_{reason}")
                    detail = f"copy of {identifiers[keeper]}" + ("" if equal else f" (similarity {share:.2f})")
                    yield (identifiers[place], int(starts[place]), int(lengths[place])), (reason, detail)
                left = rest[~gone]
            else:
                log.count(f"{kind}_left_in_large_groups", max(0, len(left) - 1))

    def _similarity(
        self, table: Table, matrix: np.ndarray | None, units: np.ndarray, keeper: int, rest: np.ndarray
    ) -> np.ndarray:
        if matrix is not None:
            return (matrix[rest] == matrix[keeper]).mean(1)
        row = table.gather("signature", units[keeper : keeper + 1])
        chunks = [rest[start : start + PAIRS] for start in range(0, len(rest), PAIRS)]
        return np.concatenate([(table.gather("signature", units[chunk]) == row).mean(1) for chunk in chunks])

    def apply(self, document: Document, decisions: Decisions, log: StepLog) -> Document | None:
        """Drops copies and takes copied sections out."""
        return drop_or_cut(document, decisions, log, "duplicate_section")


def _bucket(size: int) -> str:
    return next((f"<={edge}" for edge in (1, 2, 3, 5, 10, 30, 100, 1000, 10_000) if size <= edge), ">10000")
