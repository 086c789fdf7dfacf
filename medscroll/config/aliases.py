"""Flags of other programs, translated: what `parse_arguments(..., aliases=table)` accepts besides the fields.

A table maps a foreign flag to one of three entries. `Same` is documentation that a test checks: the flag exists here
under that name. `Alias` becomes other fields here. `Refused` has no meaning here: it is a mistake that says what to use
instead, unless it is given with one of its `harmless` values, which ask for nothing that is not done anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Translate = Callable[[str], dict[str, str]]


@dataclass(frozen=True)
class Same:
    """The flag means here what it means there; `remark` names a different default, if any."""

    remark: str = ""


@dataclass(frozen=True)
class Alias:
    """The flag is spelt differently here.

    Args:
        apply: text of the foreign value -> text of the values of fields here; ValueError says what was expected.
        note: printed when the flag is used; what differs. Empty where nothing does.
        boolean: whether it may stand without a value (which then is `true`).
    """

    apply: Translate
    note: str = ""
    boolean: bool = False


@dataclass(frozen=True)
class Refused:
    """The flag has no meaning here.

    Args:
        reason: why, one clause.
        instead: what to use instead.
        harmless: values (lower case) that are accepted, with the reason as a note; "*" accepts every value.
        boolean: whether it may stand without a value (which then is `true`).
    """

    reason: str
    instead: str
    harmless: frozenset[str] = frozenset()
    boolean: bool = False


Aliases = Mapping[str, Same | Alias | Refused]


def to(field: str, convert: Callable[[str], str] = str) -> Translate:
    """A translation to one field, the value converted by `convert`."""
    return lambda text: {field: convert(text)}
