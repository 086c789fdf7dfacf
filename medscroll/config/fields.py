"""Dataclass fields as command-line flags: which type a field has, and how text becomes a value of that type.

`field_specs(cls)` reads the type hints of any dataclass (also `transformers.TrainingArguments`, without importing
transformers itself) into a flat list of `FieldSpec`; `FieldSpec.convert` turns what a flag or a YAML file says into
the value, or raises ValueError with what was expected. Text is converted by the *field's* type, never guessed, so
`1e-5` (a string to YAML 1.1), `no` (a boolean to YAML 1.1) and `32_768` all mean what the field makes of them.

Price: `typing.get_type_hints`, about 1 ms for a class of a hundred fields.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

TRUE_WORDS = frozenset({"true", "yes", "on", "1", "t", "y"})
FALSE_WORDS = frozenset({"false", "no", "off", "0", "f", "n"})


class Null:
    """The value of a YAML key that is empty or `null`; a flag cannot give it."""


NULL = Null()
Raw = str | list[str] | dict[str, Any] | Null


@dataclasses.dataclass(frozen=True)
class FieldSpec:
    """One dataclass field seen from the command line.

    Attributes:
        name: the field and flag, in snake_case.
        members: the classes that a value may have, without None and enums (those are `choices`).
        element: for a list field, the type of its elements.
        choices: the only values allowed; empty where any will do.
        inherited: declared by transformers and not again by us (most are only listed in the help).
        least, most: bounds of a number, both allowed.
    """

    name: str
    members: frozenset[type]
    element: type
    optional: bool
    choices: tuple[Any, ...]
    default: Any
    required: bool
    help: str
    aliases: tuple[str, ...]
    constant: str | None
    owner: type
    inherited: bool
    enum: type[Enum] | None
    least: float | None = None
    most: float | None = None

    @property
    def is_bool(self) -> bool:
        """Whether the bare flag and its `--no_` form make sense."""
        return bool in self.members and str not in self.members

    @property
    def is_list(self) -> bool:
        """Whether the flag takes several words."""
        return list in self.members

    @property
    def type_name(self) -> str:
        """The type in words of the help text: `int`, `text`, `true|false`, `a|b|c`, `list of text`."""
        if self.choices:
            return "|".join(str(choice) for choice in self.choices)
        if self.is_list:
            return "text ..." if self.element is str else f"{self.element.__name__} ..."
        names = {bool: "true|false", str: "text", int: "int", float: "float", dict: "JSON", Path: "path"}
        order = [bool, int, float, Path, dict, str]
        return "|".join(names[member] for member in order if member in self.members) or "value"

    def convert(self, raw: Raw) -> Any:
        """The value of what was written, or ValueError with a sentence on what was expected."""
        if isinstance(raw, Null):
            if not self.optional:
                raise ValueError(f"needs a value ({self.type_name})")
            return None
        if isinstance(raw, dict):
            if dict not in self.members:
                raise ValueError(f"expects {self.type_name}, not a mapping")
            return raw
        if isinstance(raw, list):
            if not self.is_list:
                raise ValueError(f"expects one value ({self.type_name}), not a list of {len(raw)}")
            if len(raw) == 1 and str in self.members:
                return raw[0]
            return [self._element(item) for item in raw]
        return self._within(self._scalar(raw))

    def _within(self, value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if self.least is not None and not value >= self.least:
                raise ValueError(f"expects at least {self.least:g}, not {value}")
            if self.most is not None and not value <= self.most:
                raise ValueError(f"expects at most {self.most:g}, not {value}")
        return value

    def _element(self, text: str) -> Any:
        if self.choices and text not in self.choices:
            raise ValueError(f"expects values among {', '.join(map(str, self.choices))}; not {text!r}")
        return _to_type(text, frozenset({self.element}))

    def _scalar(self, text: str) -> Any:
        if self.choices:
            return self._choice(text)
        if self.optional and str not in self.members and text.lower() in ("none", "null"):
            return None
        if self.is_list and str not in self.members:
            return [self._element(text)]
        return _to_type(text, self.members)

    def _choice(self, text: str) -> Any:
        for choice in self.choices:
            if str(choice) == text:
                return self.enum(choice) if self.enum and str not in self.members else choice
        if self.optional and text.lower() in ("none", "null"):
            return None
        raise ValueError(f"must be one of {', '.join(str(choice) for choice in self.choices)}; not {text!r}")


def _to_type(text: str, members: frozenset[type]) -> Any:
    """Convert by the narrowest member that accepts the text."""
    word = text.strip().lower()
    if dict in members and text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"expects JSON; at character {error.pos}: {error.msg}") from None
    if bool in members:
        if str in members:
            return word == "true" if word in ("true", "false") else text
        if word in TRUE_WORDS | FALSE_WORDS:
            return word in TRUE_WORDS
        if not members & {int, float}:
            raise ValueError(f"expects true or false, not {text!r}")
    makers: tuple[tuple[type, Callable[[str], Any]], ...] = ((int, int), (float, float), (Path, Path))
    for member, make in makers:
        if member in members:
            try:
                return make(text)
            except ValueError:
                continue
    if str in members:
        return text
    words = {int: "a whole number", float: "a number", dict: 'a JSON object such as {"key": 1}'}
    wanted = [phrase for member, phrase in words.items() if member in members]
    raise ValueError(f"expects {wanted[-1] if wanted else 'another kind of value'}, not {text!r}")


def _flatten(hint: Any) -> list[Any]:
    """The members of a (nested) union."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [member for part in typing.get_args(hint) for member in _flatten(part)]
    return [hint]


def _analyse(hint: Any) -> tuple[set[type], type, bool, tuple[Any, ...], type[Enum] | None]:
    """Members, list element, optional, choices and enum of one type hint."""
    members: set[type] = set()
    element: type = str
    optional, choices, enum = False, (), None
    for part in _flatten(hint):
        origin = typing.get_origin(part)
        if part is type(None):
            optional = True
        elif origin is typing.Literal:
            literals = typing.get_args(part)
            members.update(type(value) for value in literals)
            if len(_flatten(hint)) - (type(None) in _flatten(hint)) == 1:
                choices = tuple(value for value in literals if value is not None)
        elif origin in (list, tuple, Sequence):
            members.add(list)
            arguments = typing.get_args(part)
            if arguments and isinstance(arguments[0], type) and not issubclass(arguments[0], Enum):
                element = arguments[0]
        elif origin is dict:
            members.add(dict)
        elif isinstance(part, type) and issubclass(part, Enum):
            choices, enum = tuple(item.value for item in part), part
        elif isinstance(part, type):
            members.add(part)
        else:
            members.add(str)
    return members, element, optional, choices, enum


def _hugging_face_base(cls: type) -> type | None:
    """The dataclass of transformers that `cls` extends (or is), if any."""
    for base in cls.__mro__:
        if base.__module__.split(".")[0] == "transformers" and dataclasses.is_dataclass(base):
            return base
    return None


def field_specs(cls: type) -> list[FieldSpec]:
    """Every field of a dataclass that can be set, in the order of declaration."""
    hints = typing.get_type_hints(cls)
    base = _hugging_face_base(cls)
    base_hints = typing.get_type_hints(base) if base is not None else {}
    ours = {name for part in cls.__mro__ if base and not issubclass(base, part) for name in part.__annotations__}
    specs = []
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        members, element, optional, choices, enum = _analyse(hints[field.name])
        if not choices and field.name in base_hints:  # a subclass that only changes a default may say `str`
            choices = _analyse(base_hints[field.name])[3]
        if members and not members & {str, int, float, bool, list, dict, Path}:
            continue  # an object that no text can give, such as accelerate's ParallelismConfig
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        aliases = field.metadata.get("aliases", ())
        aliases = (aliases,) if isinstance(aliases, str) else aliases
        specs.append(
            FieldSpec(
                name=field.name,
                members=frozenset(members),
                element=element,
                optional=optional or default is None,
                choices=tuple(field.metadata.get("choices", choices)),
                default=default,
                required=default is dataclasses.MISSING,
                help=" ".join(str(field.metadata.get("help", "")).split()),
                aliases=tuple(alias.lstrip("-").replace("-", "_") for alias in aliases),
                constant=field.metadata.get("const") if field.metadata.get("nargs") == "?" else None,
                owner=cls,
                inherited=field.name in base_hints and field.name not in ours,
                enum=enum,
                least=field.metadata.get("least"),
                most=field.metadata.get("most"),
            )
        )
    return specs
