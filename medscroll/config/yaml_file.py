"""A flat YAML file of arguments, with the line of every key.

Scalars stay text, as they were written: the field's type decides what `1e-5` or `no` means (see `fields`).
Duplicate keys, which YAML libraries silently resolve to the last, are mistakes here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medscroll.config.fields import NULL, Raw
from medscroll.errors import ConfigError, UserError


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-5 as a number (YAML 1.2) inside nested mappings."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True)
class Entry:
    """One key of the file: its name, its raw value and `file:line`."""

    name: str
    raw: Raw
    place: str


def read_yaml(path: Path) -> tuple[list[Entry], list[UserError]]:
    """The entries of a YAML file and every mistake in its form; never raises for the user's mistakes."""
    root, problems = _compose(path)
    if problems or root is None:
        return [], problems
    return _entries(root, path)


def read_nested_yaml(path: Path) -> tuple[dict[str, Entry | list[Entry]], list[UserError]]:
    """As `read_yaml`, for a file whose values may be mappings of plain values or lists: those become lists of entries,
    their scalars text as written."""
    root, problems = _compose(path)
    if problems or root is None:
        return {}, problems
    found: dict[str, Entry | list[Entry]] = {}
    problems = _duplicates(root, path)
    for key, value in root.value:
        if isinstance(value, yaml.MappingNode):
            entries, own = _entries(value, path)
            found[str(key.value)] = entries
            problems += [problem for problem in own if "stands twice" not in problem.what]  # named above
        else:
            entries, own = _entries(yaml.MappingNode(root.tag, [(key, value)]), path)
            found.update({entry.name: entry for entry in entries})
            problems += own
    return found, problems


def _compose(path: Path) -> tuple[yaml.MappingNode | None, list[UserError]]:
    """The root of a file; None where it is empty."""
    root: yaml.Node | None = None
    problem: UserError | None = None
    try:
        root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except OSError as error:
        problem = ConfigError(f"cannot read the configuration file: {error.strerror}", where=str(path))
    except UnicodeDecodeError as error:
        problem = ConfigError(f"the configuration file is not UTF-8 (byte {error.start})", where=str(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = ConfigError(f"not valid YAML: {reason}", where=where)
    if root is not None and not isinstance(root, yaml.MappingNode):
        message = "the configuration file must hold `key: value` lines"
        problem = ConfigError(message, where=f"{path}:{root.start_mark.line + 1}")
    if problem is not None:
        return None, [problem]
    return (root if isinstance(root, yaml.MappingNode) else None), []


def _entries(root: yaml.MappingNode, path: Path) -> tuple[list[Entry], list[UserError]]:
    entries: list[Entry] = []
    problems: list[UserError] = _duplicates(root, path)
    for key, value in root.value:
        place = f"{path}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            problems.append(ConfigError("a key must be a plain word", where=place))
            continue
        try:
            raw = _raw(value)
        except (yaml.YAMLError, ValueError) as error:
            first = str(error).splitlines()[0]
            problems.append(ConfigError(f"{key.value}: cannot read the value: {first}", where=place))
            continue
        entries.append(Entry(key.value.replace("-", "_"), raw, place))
    return entries, problems


def _raw(node: yaml.Node) -> Raw:
    if isinstance(node, yaml.ScalarNode):
        return NULL if node.tag == "tag:yaml.org,2002:null" else str(node.value)
    if isinstance(node, yaml.SequenceNode):
        if not all(isinstance(item, yaml.ScalarNode) for item in node.value):
            raise ValueError("a list may hold plain values only")
        return [str(item.value) for item in node.value]
    value = _construct(node)
    return value if isinstance(value, dict) else {}


def _construct(node: yaml.Node) -> Any:
    """The value of a nested node; keys are text as written, so that `on:` stays a word."""
    if isinstance(node, (yaml.MappingNode, yaml.SequenceNode)) and node.tag not in _PLAIN_TAGS:
        raise ValueError(f"the tag {node.tag} is not read here")
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _construct(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_construct(item) for item in node.value]
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _duplicates(node: yaml.Node, path: Path) -> list[UserError]:
    """A mistake for every key that stands twice in one mapping, at any depth."""
    problems: list[UserError] = []
    children = [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else []
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            name = str(key.value).replace("-", "_")
            if name in seen:
                what = f"the key {key.value!r} stands twice, first in line {seen[name]}"
                problems.append(ConfigError(what, where=f"{path}:{line}", remedy="keep one of the two"))
            seen.setdefault(name, line)
    elif isinstance(node, yaml.SequenceNode):
        children = list(node.value)
    for child in children:
        problems.extend(_duplicates(child, path))
    return problems
