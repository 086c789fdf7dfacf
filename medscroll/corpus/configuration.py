"""What `--corpus_config` says: a preset by name, or a YAML file with a preset and what differs from it.

    preset: clinical
    read: {references: true}
    unwrap: {enabled: false}

Each step has a dataclass of its own (beside the step), a key of the same name here, and `enabled`. `STEPS` is the
order in which documents pass through them. Unknown steps, unknown keys and wrong values are all reported at once, with
the nearest name. Presets are data files of the same form in `config/data/corpus/`. Cost: milliseconds.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from medscroll.config.fields import NULL, field_specs
from medscroll.config.yaml_file import Entry, read_nested_yaml
from medscroll.corpus.step import CorpusStep, Step
from medscroll.errors import ConfigError, UserError

PRESETS_DIR = Path(__file__).parents[1] / "config" / "data" / "corpus"
DEFAULT_PRESET = "default"
# name of the step -> the dataclass of its configuration; in the order in which documents pass through the steps.
# A step that needs the whole corpus comes after all that do not.
STEPS: dict[str, str] = {
    # repair and sections come first: what follows reads lines and headings
    "mojibake": "medscroll.corpus.repair_encoding:MojibakeConfig",
    "characters": "medscroll.corpus.repair_characters:CharactersConfig",
    "lost_characters": "medscroll.corpus.repair_classics:LostCharactersConfig",
    "marks": "medscroll.corpus.repair_classics:MarksConfig",
    "colons": "medscroll.corpus.repair_classics:ColonsConfig",
    "page_lines": "medscroll.corpus.repair_pages:PageLinesConfig",
    "unwrap": "medscroll.corpus.repair_wrap:UnwrapConfig",
    "repeated_paragraphs": "medscroll.corpus.repair_repeats:RepeatedParagraphsConfig",
    "copied_paragraphs": "medscroll.corpus.repair_repeats:CopiedParagraphsConfig",
    "half_width": "medscroll.corpus.repair_characters:HalfWidthConfig",
    "simplified": "medscroll.corpus.repair_script:SimplifiedConfig",
    "sections": "medscroll.corpus.sections:SectionsConfig",
    "deidentify": "medscroll.corpus.deidentify:DeidentifyConfig",
    "quality": "medscroll.corpus.quality:QualityConfig",
    "decontaminate": "medscroll.corpus.decontaminate:DecontaminateConfig",
    "deduplicate": "medscroll.corpus.near_duplicates:DeduplicateConfig",
}


class StepConfig(Protocol):
    """The configuration of one step: a dataclass, all fields with defaults."""

    enabled: bool

    def build(self) -> Step | CorpusStep:
        """The step that does what this says.

        Raises:
            ConfigError, DataError: it cannot be done, such as a file that is not there.
        """
        ...


@dataclass
class ReadConfig:
    """The key `read`: how formats are read."""

    references: bool = field(default=False, metadata={"help": "Write reference lists of articles too."})
    citations: bool = field(default=True, metadata={"help": "Keep marks that point at references, such as [12]."})
    figure_calls: bool = field(default=True, metadata={"help": "Keep marks that point at figures and tables."})
    html: str = field(
        default="main",
        metadata={"help": "Of web pages: main text, or all but scripts.", "choices": ["main", "all"]},
    )


@dataclass
class CorpusConfig:
    """The configuration of the corpus steps.

    Attributes:
        preset: what it starts from.
        examples: whether before/after examples are kept in private files.
        read: options of the readers, as `ReadOptions` has them.
        steps: name -> its configuration, in the order of `STEPS`, switched off ones included.
    """

    preset: str = DEFAULT_PRESET
    examples: bool = True
    read: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, Any] = field(default_factory=dict)

    def build(self) -> tuple[list[Step], list[CorpusStep]]:
        """(the steps that look at one document, those that need the corpus), of those that are switched on.

        Raises:
            ConfigError: with the mistakes of all steps.
        """
        built: list[Step | CorpusStep] = []
        problems: list[UserError] = []
        for config in self.steps.values():
            try:
                built += [config.build()] if config.enabled else []
            except UserError as error:
                problems.append(error)
        if problems:
            raise ConfigError.collect(problems)
        alone: list[Step] = [step for step in built if not isinstance(step, CorpusStep)]
        return alone, [step for step in built if isinstance(step, CorpusStep)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; paths and thresholds, no corpus text."""
        steps = {name: dataclasses.asdict(config) for name, config in self.steps.items()}
        return {"preset": self.preset, "examples": self.examples, "read": self.read, **steps}


def preset_names() -> list[str]:
    """All presets, sorted."""
    return sorted(path.stem for path in PRESETS_DIR.glob("*.yaml"))


def load_corpus_config(name_or_path: str | None = None, **overrides: dict[str, Any]) -> CorpusConfig:
    """The configuration of a preset or a YAML file.

    Args:
        name_or_path: None for the default preset.
        overrides: step -> field -> value, which go over both (flags of the command line).

    Raises:
        ConfigError: with every mistake.
    """
    problems: list[UserError] = []
    entries: dict[str, Entry | list[Entry]] = {}
    preset = name_or_path or DEFAULT_PRESET
    if name_or_path and (name_or_path.endswith((".yaml", ".yml")) or Path(name_or_path).is_file()):
        entries, problems = read_nested_yaml(Path(name_or_path))
        given = entries.pop("preset", None)
        preset = str(given.raw) if isinstance(given, Entry) else DEFAULT_PRESET
    values: dict[str, dict[str, Any]] = {name: {} for name in (*STEPS, *_OTHERS)}
    if preset in preset_names():
        of_preset, own = read_nested_yaml(PRESETS_DIR / f"{preset}.yaml")
        problems += own
        _take(of_preset, values, problems)
    else:
        problems.append(_unknown("preset of the corpus steps", preset, preset_names(), name_or_path))
    _take(entries, values, problems)
    for step, changes in overrides.items():
        values[step].update(changes)
    config = CorpusConfig(preset)
    config.read = dataclasses.asdict(ReadConfig(**values["read"]))
    config.examples = _Examples(**values["examples"]).enabled
    for name in STEPS:
        try:
            config.steps[name] = config_class(name)(**values[name])
        except UserError as error:
            problems.append(error)
        except ValueError as error:
            problems.append(ConfigError(f"{name}: {error}", name_or_path))
    if problems:
        raise ConfigError.collect(problems)
    return config


@dataclass
class _Examples:
    """The key `examples`."""

    enabled: bool = field(default=True, metadata={"help": "Keep before/after examples in private files."})


_OTHERS: dict[str, Any] = {"read": ReadConfig, "examples": _Examples}


def config_class(step: str) -> Any:
    """The dataclass of a step's configuration."""
    if step in _OTHERS:
        return _OTHERS[step]
    module, _, name = STEPS[step].partition(":")
    return getattr(import_module(module), name)


def _take(
    entries: dict[str, Entry | list[Entry]], values: dict[str, dict[str, Any]], problems: list[UserError]
) -> None:
    """Converts what a file says by the types of the fields; mistakes go to `problems`."""
    for name, inner in entries.items():
        if name not in values:
            place = inner.place if isinstance(inner, Entry) else inner[0].place if inner else None
            problems.append(_unknown("step", name, [*values, "preset"], place))
            continue
        specs = {spec.name: spec for spec in field_specs(config_class(name))}
        if isinstance(inner, Entry) and inner.raw is NULL:
            continue
        listed = _expanded(inner, config_class(name)) if isinstance(inner, Entry) else inner
        for entry in listed:
            if entry.name not in specs:
                problems.append(_unknown(f"key of the step {name}", entry.name, list(specs), entry.place))
                continue
            try:
                values[name][entry.name] = specs[entry.name].convert(entry.raw)
            except ValueError as error:
                remedy = specs[entry.name].help or None
                problems.append(ConfigError(f"{name}.{entry.name} {error}", entry.place, remedy))


def _expanded(entry: Entry, config: Any) -> list[Entry]:
    """`unwrap: false` is short for `unwrap: {enabled: false}`, and `deidentify: audit` for its mode, switched on."""
    short, values = getattr(config, "SHORTHAND", ("", ()))
    if isinstance(entry.raw, str) and entry.raw in values:
        return [Entry("enabled", "true", entry.place), Entry(short, entry.raw, entry.place)]
    return [Entry("enabled", entry.raw, entry.place)]


def _unknown(what: str, name: str, known: list[str], place: str | None) -> ConfigError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return ConfigError(f"there is no {what} {name!r}", place, f"{hint}there are {', '.join(known)}")


def config_fingerprint(config: Any) -> str:
    """The values of a step's configuration as one line: what most steps return as their `fingerprint`."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True, ensure_ascii=True)
