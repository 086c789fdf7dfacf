"""Where English cue words stand: one pass over the words of a text instead of one per rule.

A rule whose pattern begins with a literal word is tried only at words that begin alike (three letters, or the whole
word where it is shorter). Cost: some 20 million characters a second, plus the tries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_WORD = re.compile(r"[A-Za-z]+")
_LITERAL = re.compile(r"[A-Za-z]+")


def _key(word: str) -> str:
    return word[:3].lower()


def first_words(alternatives: str) -> frozenset[str]:
    """Keys of the words with which the branches of a pattern begin.

    Raises:
        ValueError: a branch does not begin with letters (a defect of the rule).
    """
    keys: set[str] = set()
    depth = start = 0
    for place, character in enumerate(alternatives + "|"):
        if alternatives[place - 1 : place] != "\\":
            depth += (character in "([") - (character in ")]")
        if character == "|" and depth == 0:
            branch = alternatives[start:place]
            keys |= _first_words_of_branch(branch)
            start = place + 1
    return frozenset(keys)


def _first_words_of_branch(branch: str) -> frozenset[str]:
    if branch.startswith("(?:"):
        depth = 0
        for place, character in enumerate(branch):
            depth += (character in "([") - (character in ")]")
            if depth == 0 and branch[place + 1 : place + 2] not in ("?", "*"):
                return first_words(branch[3:place])
            if depth == 0:
                break
    literal = _LITERAL.match(branch)
    if not literal:
        raise ValueError(f"the branch {branch!r} does not begin with a word")
    word = literal[0]
    if branch[len(word) : len(word) + 1] in ("?", "*"):
        word = word[:-1]
    return frozenset({_key(word)})


class Words:
    """The words of one text whose keys some rule wants.

    Args:
        folded: the text.
        wanted: keys (`first_words`) of all rules that will ask.
        names: lower-case words that are kept as well (`named`).
    """

    def __init__(self, folded: str, wanted: frozenset[str], names: frozenset[str]) -> None:
        self._folded = folded
        self._starts: dict[str, list[int]] = {}
        self.named: list[tuple[int, int]] = []
        for match in _WORD.finditer(folded):
            word = match[0].lower()
            key = word[:3]
            if key in wanted:
                self._starts.setdefault(key, []).append(match.start())
            if word in names and match[0][0] <= "Z":
                self.named.append(match.span())

    def matches(self, keys: Iterable[str], pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
        """Matches of a pattern at the words with these keys, ascending, none overlapping another."""
        lists = [self._starts[key] for key in keys if key in self._starts]
        starts = lists[0] if len(lists) == 1 else sorted(start for each in lists for start in each)
        reach = 0
        for start in starts:
            if start >= reach:
                match = pattern.match(self._folded, start)
                if match:
                    reach = match.end()
                    yield match
