"""Which prepared folders a run reads, and how often: `--data_dir` in words.

    DATA                        one folder, read once an epoch
    MEDICAL,GENERAL=0.15        GENERAL makes up 15 % of the tokens, MEDICAL the rest and is read once
    MEDICAL*2,BOOKS             MEDICAL is read twice an epoch, BOOKS once
    A=0.85,B=0.15               shares of the tokens; the first folder is read once and sets the size of an epoch

In a YAML file also a mapping: `data_dir: {MEDICAL: "*2", GENERAL: 0.15}`. Shares that all folders have are relative
to their sum; where some have none, the others' sum must stay below 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medscroll.errors import ConfigError, UserError

FLAG = "--data_dir"
_EXAMPLE = "for example --data_dir MEDICAL,GENERAL=0.15 or --data_dir MEDICAL*2,GENERAL"


@dataclass(frozen=True)
class Source:
    """A prepared folder.

    Attributes:
        folder: made by `medscroll prepare`.
        name: for reports; unique in a run.
        repeats: passes an epoch, where there is no share.
        share: of the tokens of an epoch; None: as `repeats` says.
    """

    folder: Path
    name: str
    repeats: float = 1.0
    share: float | None = None


def parse_sources(value: str | Path | Mapping[str, Any]) -> list[Source]:
    """The folders of `--data_dir`; see the module. A path is one folder.

    Raises:
        ConfigError: every mistake of it at once.
    """
    problems: list[UserError] = []
    entries = [(str(value), None, None)] if isinstance(value, Path) else _entries(value)
    found: list[tuple[str, float, float | None]] = []
    for folder, repeats, share in entries:
        try:
            found.append((folder, *_numbers(folder, repeats, share)))
        except ConfigError as error:
            problems.append(error)
    if not entries:
        problems.append(ConfigError("no folder of prepared data is named", FLAG, _EXAMPLE))
    paths = [str(Path(folder).absolute()) for folder, _, _ in found]
    for folder in sorted({found[i][0] for i, path in enumerate(paths) if paths.count(path) > 1}):
        problems.append(ConfigError(f"the folder {folder} is named twice", FLAG, f"read it twice with {folder}*2"))
    shares = [share for _, _, share in found if share is not None]
    if shares and not problems:
        if len(shares) == len(found) and sum(shares) == 0:
            problems.append(ConfigError("the shares of all folders sum to zero", FLAG, _EXAMPLE))
        elif len(shares) < len(found) and sum(shares) >= 1:
            what = f"the shares sum to {sum(shares):g} and leave nothing for the folders without one"
            problems.append(ConfigError(what, FLAG, "give shares below 1 together, or one to every folder"))
        elif shares and found[0][2] == 0:
            problems.append(ConfigError("the first folder sets the size of an epoch and has a share of 0", FLAG))
    if problems:
        raise ConfigError.collect(problems)
    names = _names([Path(folder) for folder, _, _ in found])
    return [
        Source(Path(folder), name, repeats, share) for (folder, repeats, share), name in zip(found, names, strict=True)
    ]


def _entries(value: str | Mapping[str, Any]) -> list[tuple[str, str | None, str | None]]:
    """(folder, repeats, share) as they are written; a folder whose name holds the signs is taken as it is."""
    if not isinstance(value, str):
        pairs = [(str(folder), str(given).strip()) for folder, given in value.items()]
        return [(f, g[1:], None) if g[:1] in "*x" and g else (f, None, g) for f, g in pairs]
    if Path(value).is_dir():
        return [(value, None, None)]
    entries: list[tuple[str, str | None, str | None]] = []
    for word in (word.strip() for word in value.split(",")):
        if not word:
            continue
        before, equals, share = word.rpartition("=")
        folder, star, repeats = word.rpartition("*")
        if Path(word).is_dir():
            entries.append((word, None, None))
        elif equals:
            entries.append((before, None, share))
        elif star:
            entries.append((folder, repeats, None))
        else:
            entries.append((word, None, None))
    return entries


def _numbers(folder: str, repeats: str | None, share: str | None) -> tuple[float, float | None]:
    text = repeats if share is None else share
    if text is None:
        return 1.0, None
    what = "share" if share is not None else "number of passes"
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not folder.strip() or not math.isfinite(number):
        raise ConfigError(f"{text!r} is no {what} of the folder {folder!r}", FLAG, _EXAMPLE)
    if number < 0 or (share is None and number == 0):
        raise ConfigError(f"the {what} of {folder} is {number:g}", FLAG, "give a number above 0")
    return (1.0, number) if share is not None else (number, None)


def _names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, with the parts before it where two are equal."""
    paths = [folder.absolute() for folder in folders]
    depth = 1
    while True:
        names = ["/".join(path.parts[-depth:]).lstrip("/") for path in paths]
        if len(set(names)) == len(names) or all(len(path.parts) <= depth for path in paths):
            return names
        depth += 1


def passes(sources: Sequence[Source], tokens: Sequence[int]) -> list[float]:
    """How often each folder is read in an epoch.

    Args:
        tokens: of each folder, at least 1.
    """
    shares = [source.share for source in sources]
    read = sum(t * s.repeats for s, t in zip(sources, tokens, strict=True) if s.share is None)
    given = sum(share for share in shares if share is not None)
    if read:
        total = read / (1 - given)
    else:  # all have shares: the first is read once
        shares = [share / given if share is not None else None for share in shares]
        total = tokens[0] / (shares[0] or 1.0)
    return [
        source.repeats if share is None else share * total / count
        for source, share, count in zip(sources, shares, tokens, strict=True)
    ]
