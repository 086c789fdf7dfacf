"""From `argv` and a YAML file to dataclasses: every mistake at once, the nearest name suggested.

`parse_arguments(argv, classes, verb="pretrain")` reads `recipe.yaml --flag value --flag=value --no_flag`, in any mix;
flags win over the file. Values are converted by the type of their field (`fields`), foreign flags through a table
(`aliases`). Nothing is swallowed: what is not understood is a mistake, and all mistakes come in one `ConfigError`.

Price: milliseconds; no heavy import.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medscroll.config.aliases import Alias, Aliases, Refused, Same
from medscroll.config.fields import FALSE_WORDS, TRUE_WORDS, FieldSpec, Raw, field_specs
from medscroll.config.usage import print_usage
from medscroll.config.yaml_file import read_yaml
from medscroll.errors import ConfigError, UserError


@dataclass(frozen=True)
class Positional:
    """Bare words of the command line that fill a field.

    Args:
        field: its name.
        many: whether it takes several words (a list field).
        help: shown in `--help`.
    """

    field: str
    many: bool = False
    help: str = ""


@dataclass
class Parsed:
    """The dataclass instances (iterate over it), where each value came from, and notes to print.

    Attributes:
        instances: one of each class, in the order given.
        provenance: field -> "flag", "FILE:LINE" or "default".
        notes: sentences on foreign flags that were translated.
    """

    instances: tuple[Any, ...]
    provenance: dict[str, str]
    notes: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.instances)


@dataclass
class _Given:
    """A value as it was written."""

    name: str
    raw: Raw
    place: str
    spelling: str = ""

    @property
    def shown(self) -> str:
        """The name as the user wrote it."""
        name = self.spelling or self.name
        return f"--{name}" if self.place == "flag" else name


def parse_arguments(
    argv: Sequence[str],
    classes: Sequence[type],
    *,
    verb: str,
    positional: Positional | None = None,
    aliases: Aliases | None = None,
    allow_config_file: bool = True,
) -> Parsed:
    """Instances of `classes` from the command line and a YAML file.

    Args:
        argv: the words after the verb.
        classes: dataclasses whose fields are the flags; names are unique over all of them. A `__post_init__` may
            raise UserError or ValueError, which is collected too.
        verb: for the usage line.
        positional: the field that bare words fill.
        aliases: foreign flags and what they mean here.
        allow_config_file: whether `FILE.yaml` as a bare word, or `--config FILE`, is read.

    Raises:
        ConfigError: with every mistake.
        SystemExit: after `--help`.
    """
    specs = {spec.name: spec for cls in classes for spec in field_specs(cls)}
    asked = [word for word in argv if word in ("-h", "--help", "--help_all", "--help-all")]
    if asked:
        print_usage(
            verb, specs.values(), positional, aliases or {}, allow_config_file, in_full=len(asked[0]) > len("--help")
        )
        raise SystemExit(0)
    reader = _Reader(specs, aliases or {}, positional, allow_config_file)
    reader.read(list(argv))
    return reader.build(classes)


class _Reader:
    """Collects values and mistakes."""

    def __init__(
        self, specs: dict[str, FieldSpec], aliases: Aliases, positional: Positional | None, allow_config_file: bool
    ) -> None:
        self.specs, self.aliases, self.positional = specs, aliases, positional
        self.allow_config_file = allow_config_file
        self.spelling = {alias: spec.name for spec in specs.values() for alias in spec.aliases}
        self.values: dict[str, Any] = {}
        self.provenance: dict[str, str] = {}
        self.notes: list[str] = []
        self.problems: list[UserError] = []
        self.mistaken: set[str] = set()  # fields that were given, wrongly: they are not missing too
        self.first: dict[str, tuple[_Given, Any]] = {}

    def read(self, argv: list[str]) -> None:
        """Read the words, then the files they name, then set file values and after them flags."""
        flags, words, files = self._split(argv)
        for path in files:
            entries, problems = read_yaml(path)
            self.problems += problems
            for entry in entries:
                self._take(_Given(entry.name, entry.raw, entry.place))
        for given in flags:
            self._take(given)
        self._take_words(words)

    def _split(self, argv: list[str]) -> tuple[list[_Given], list[str], list[Path]]:
        flags: list[_Given] = []
        words: list[str] = []
        files: list[Path] = []
        at = 0
        while at < len(argv):
            word = argv[at]
            at += 1
            if word.startswith("-") and len(word) == 2 and word[1].isalpha():
                remedy = "flags are long: --flag; see --help"
                self.problems.append(ConfigError(f"unknown flag {word!r}", where="command line", remedy=remedy))
                continue
            if not word.startswith("--") or word == "--":
                is_file = self.allow_config_file and word.endswith((".yaml", ".yml"))
                if is_file:
                    files.append(Path(word))
                elif word != "--":
                    words.append(word)
                continue
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            following: list[str] = []
            if equals:
                following = [value]
            else:
                while at < len(argv) and not argv[at].startswith("--") and len(following) < self._most(name, argv[at]):
                    following.append(argv[at])
                    at += 1
            if name == "config" and self.allow_config_file and "config" not in self.specs:
                files += [Path(path) for path in following]
                if not following:
                    self.problems.append(ConfigError("--config needs the path of a YAML file"))
                continue
            flags.append(self._given(name, following))
        return flags, words, files

    def _most(self, name: str, next_word: str) -> float:
        """How many words a flag takes at most, given the next one."""
        spec = self._spec(name)
        foreign = self.aliases.get(name)
        boolean = spec.is_bool if spec is not None else bool(getattr(foreign, "boolean", False))
        if boolean:
            return 1 if next_word.lower() in TRUE_WORDS | FALSE_WORDS else 0
        return float("inf") if spec is not None and spec.is_list else 1

    def _spec(self, name: str) -> FieldSpec | None:
        return self.specs.get(self.spelling.get(name, name))

    def _given(self, name: str, words: list[str]) -> _Given:
        """A flag with its words; `--no_x` and bare booleans get their value."""
        spec = self._spec(name)
        positive = self._spec(name.removeprefix("no_"))
        if spec is None and name.startswith("no_") and positive is not None and positive.is_bool and not words:
            return _Given(positive.name, "false", "flag")
        if not words:
            foreign = self.aliases.get(name)
            if spec is not None and spec.is_bool:
                return _Given(name, "true", "flag")
            if spec is not None and spec.constant is not None:
                return _Given(name, spec.constant, "flag")
            if spec is not None or (isinstance(foreign, Alias) and not foreign.boolean):
                kind = f" ({spec.type_name})" if spec is not None else ""
                self.problems.append(ConfigError(f"--{name} needs a value{kind}"))
                self.mistaken.add(spec.name if spec is not None else name)
                return _Given("", "", "flag")
        if spec is not None and spec.is_list and len(words) != 1:
            return _Given(name, words, "flag")
        return _Given(name, words[0] if words else "true", "flag")

    def _take(self, given: _Given) -> None:
        if not given.name:
            return
        spec = self._spec(given.name)
        foreign = self.aliases.get(given.name) if not given.spelling else None
        if isinstance(foreign, Alias):
            self._take_alias(foreign, given)
        elif isinstance(foreign, Refused):
            self._take_refused(foreign, given)
        elif spec is None:
            self._take_unknown(given)
        else:
            self._set(spec, given)

    def _set(self, spec: FieldSpec, given: _Given) -> None:
        """Convert and keep a value; two spellings of one field must agree, and a repeated flag is named."""
        where = "command line" if given.place == "flag" else given.place
        try:
            value = spec.convert(given.raw)
        except ValueError as error:
            meaning = f"--{spec.name} {spec.type_name}: {spec.help}" if spec.help else None
            self.problems.append(ConfigError(f"{given.shown} {error}", where, meaning))
            self.mistaken.add(spec.name)
            return
        before = self.first.get(spec.name)
        if before is not None and before[0].place == given.place == "flag" and before[1] != value:
            if before[0].shown != given.shown:
                what = f"{before[0].shown} and {given.shown} say different things about {spec.name}"
                self.problems.append(ConfigError(what, where=where, remedy=f"keep one; the name here is --{spec.name}"))
            else:
                self.notes.append(f"{given.shown} is given more than once; the last one counts: {value}")
        self.first[spec.name] = (given, value)
        self.values[spec.name] = value
        self.provenance[spec.name] = given.place

    def _take_alias(self, entry: Alias, given: _Given) -> None:
        where = "command line" if given.place == "flag" else given.place
        if not isinstance(given.raw, str):
            self.problems.append(ConfigError(f"{given.shown} expects one value", where=where))
            return
        try:
            translated = entry.apply(given.raw)
        except ValueError as error:
            self.problems.append(ConfigError(f"{given.shown} {error}", where=where))
            return
        for name, value in translated.items():
            self._take(_Given(name, value, given.place, spelling=given.name))
        if entry.note:
            self.notes.append(f"{given.shown} {given.raw}: {entry.note}")

    def _take_refused(self, entry: Refused, given: _Given) -> None:
        text = given.raw if isinstance(given.raw, str) else "..."
        if "*" in entry.harmless or text.lower() in entry.harmless:
            self.notes.append(f"{given.shown} {text}: {entry.reason}")
            return
        where = "command line" if given.place == "flag" else given.place
        value = "" if "*" in entry.harmless or not entry.harmless else f" {text}"
        what = f"{given.shown}{value} has no meaning here: {entry.reason}"
        self.problems.append(ConfigError(what, where, entry.instead))

    def _take_unknown(self, given: _Given) -> None:
        known = [*self.specs, *self.spelling, *(n for n, e in self.aliases.items() if not isinstance(e, Same))]
        near = difflib.get_close_matches(given.name, known, n=1, cutoff=0.6)
        is_flag = given.place == "flag"
        remedy = f"did you mean {'--' if is_flag else ''}{near[0]}?" if near else "see --help"
        what = f"unknown {'flag' if is_flag else 'key'} {given.shown!r}"
        self.problems.append(ConfigError(what, where="command line" if is_flag else given.place, remedy=remedy))

    def _take_words(self, words: list[str]) -> None:
        if not words:
            return
        if self.positional is None or (len(words) > 1 and not self.positional.many):
            extra = words if self.positional is None else words[1:]
            listed = ", ".join(repr(word) for word in extra[:5])
            remedy = "flags begin with --" + ("; a configuration file ends in .yaml" if self.allow_config_file else "")
            self.problems.append(ConfigError(f"unexpected word {listed}", where="command line", remedy=remedy))
            if self.positional is None:
                return
        spec = self.specs[self.positional.field]
        raw: Raw = list(words) if self.positional.many else words[0]
        self._set(spec, _Given(spec.name, raw, "flag"))

    def build(self, classes: Sequence[type]) -> Parsed:
        """The instances; raises all mistakes at once."""
        bare = self.positional.field if self.positional is not None else None
        for name, spec in self.specs.items():
            if spec.required and name not in self.values and name not in self.mistaken:
                shown = name.upper() if name == bare else f"--{name}"
                self.problems.append(ConfigError(f"{shown} is missing", remedy=spec.help or None))
        instances = []
        for cls in classes:
            own = {name: value for name, value in self.values.items() if self.specs[name].owner is cls}
            if any(spec.owner is cls and spec.required and name not in own for name, spec in self.specs.items()):
                continue
            try:
                instances.append(cls(**own))
            except UserError as error:
                self.problems.append(error)
            except ValueError as error:
                self.problems.append(ConfigError(str(error).strip() or f"{cls.__name__} cannot be made"))
        if self.problems:
            raise ConfigError.collect(self.problems)
        provenance = {name: self.provenance.get(name, "default") for name in self.specs}
        return Parsed(tuple(instances), provenance, self.notes)
