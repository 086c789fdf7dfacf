"""The command line: flags, YAML keys and both together become dataclasses, or all mistakes at once."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from medscroll.config.parse import Parsed, Positional, parse_arguments
from medscroll.errors import ConfigError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Run:
    """A run."""

    output_dir: str = field(metadata={"help": "Where to."})
    steps: int = -1
    rate: float = 1e-5
    epochs: float | None = None
    masked: bool = True
    quick: bool = False
    maybe: bool | None = None
    mode: str = field(default="split", metadata={"choices": ["split", "drop"]})
    level: Literal[1, 2] = 1
    colour: Colour = Colour.RED
    strategy: Colour | str = "red"
    names: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    report_to: str | list[str] | None = "none"
    options: dict[str, Any] | str | None = None
    numbers: dict[str, int] | None = None
    backend: str = field(default="auto", metadata={"aliases": ["--engine"]})


def parse(*argv: str, **options: Any) -> Parsed:
    return parse_arguments(argv, (Run,), verb="run", **options)


def run(*argv: str) -> Run:
    (instance,) = parse("--output_dir", "out", *argv)
    assert isinstance(instance, Run)
    return instance


def mistakes(*argv: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(*argv, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--steps", "12"], "steps", 12),
        (["--steps=-1"], "steps", -1),
        (["--steps", "-1"], "steps", -1),
        (["--steps", "32_768"], "steps", 32768),
        (["--rate", "2e-5"], "rate", 2e-5),
        (["--epochs", "none"], "epochs", None),
        (["--epochs", "3"], "epochs", 3.0),
        (["--no_masked"], "masked", False),
        (["--no-masked"], "masked", False),
        (["--masked", "False"], "masked", False),
        (["--quick"], "quick", True),
        (["--quick", "--steps", "1"], "quick", True),
        (["--quick=yes"], "quick", True),
        (["--maybe"], "maybe", True),
        (["--no_maybe"], "maybe", False),
        (["--mode", "drop"], "mode", "drop"),
        (["--level", "2"], "level", 2),
        (["--colour", "blue"], "colour", Colour.BLUE),
        (["--strategy", "blue"], "strategy", "blue"),
        (["--names", "a", "b"], "names", ["a", "b"]),
        (["--sizes", "1", "2"], "sizes", [1, 2]),
        (["--sizes", "1"], "sizes", [1]),
        (["--report_to", "none"], "report_to", "none"),
        (["--report_to", "wandb", "tensorboard"], "report_to", ["wandb", "tensorboard"]),
        (["--options", '{"min": 1e-5}'], "options", {"min": 1e-5}),
        (["--options", "file.json"], "options", "file.json"),
        (["--numbers", '{"a": 1}'], "numbers", {"a": 1}),
        (["--engine", "fast"], "backend", "fast"),
        (["--report-to", "wandb"], "report_to", "wandb"),
    ],
)
def test_a_flag_becomes_a_value_of_its_type(words: list[str], name: str, value: Any) -> None:
    given = getattr(run(*words), name)
    assert given == value
    assert type(given) is type(value)


def test_yaml_values_are_read_by_the_type_of_the_field(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "# comment\noutput_dir: 007\nrate: 1e-5\nsteps: 10\nmasked: no\nmode: drop\nreport_to: no\nepochs: null\n"
        "names: [a, b]\nsizes: [1, 2]\noptions:\n  min_lr: 1e-6\n  deep: {on: true}\nstrategy: blue\n",
        encoding="utf-8",
    )
    (given,) = parse(str(recipe))
    assert (given.output_dir, given.rate, given.steps, given.masked) == ("007", 1e-5, 10, False)
    assert (given.mode, given.report_to, given.epochs) == ("drop", "no", None)
    assert (given.names, given.sizes, given.strategy) == (["a", "b"], [1, 2], "blue")
    assert given.options == {"min_lr": 1e-6, "deep": {"on": True}}


def test_flags_win_over_the_file_wherever_they_stand_and_every_origin_is_known(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("output_dir: file\n\nsteps: 5\nrate: 3e-4\n", encoding="utf-8")
    for words in (["--steps", "7", str(recipe)], [str(recipe), "--steps", "7"], ["--steps=7", "--config", str(recipe)]):
        parsed = parse(*words)
        (given,) = parsed
        assert (given.output_dir, given.steps, given.rate) == ("file", 7, 3e-4)
        assert parsed.provenance["steps"] == "flag"
        assert parsed.provenance["rate"] == f"{recipe}:4"
        assert parsed.provenance["mode"] == "default"
    assert set(parsed.provenance) == set(Run.__dataclass_fields__)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("stepz: 5\nrate: fast\nmode: keep\nrate: 1\nlevel: {a: 1}\nsteps:\n", encoding="utf-8")
    text = mistakes(str(recipe), "--quik", "--epochs", "many", "--names", "--colour", "green", "stray")
    for part in (
        "mistakes in the configuration",
        "unknown key 'stepz'",
        f"{recipe}:1",
        "did you mean steps?",
        "rate expects a number, not 'fast'",
        f"{recipe}:2",
        "mode must be one of split, drop; not 'keep'",
        f"{recipe}:3",
        "the key 'rate' stands twice, first in line 2",
        f"{recipe}:4",
        "level expects 1|2, not a mapping",
        "steps needs a value",
        "unknown flag '--quik'",
        "did you mean --quick?",
        "--epochs expects a number, not 'many'",
        "--names needs a value",
        "--colour must be one of red, blue; not 'green'",
        "unexpected word 'stray'",
        "--output_dir is missing",
    ):
        assert part in text, f"{part!r} is missing in:\n{text}"


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("a: [1\nb: 2\n", "not valid YAML"),
        ("- a\n- b\n", "must hold `key: value` lines"),
        ("output_dir: x\noptions: {a: 1, a: 2}\n", "'a' stands twice"),
        ("output_dir: x\nnames: [{a: 1}]\n", "plain values only"),
        ("output_dir: x\n? [a]\n: 1\n", "a key must be a plain word"),
        ("output_dir: x\noptions: !!python/object:os.system {}\n", "cannot read the value"),
    ],
)
def test_a_broken_file_is_a_mistake_with_its_place(tmp_path: Path, content: str, part: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(content, encoding="utf-8")
    text = mistakes(str(recipe))
    assert part in text
    assert f"{recipe}:" in text


def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    assert "No such file" in mistakes(str(tmp_path / "absent.yaml"))
    (tmp_path / "utf16.yaml").write_bytes("output_dir: x".encode("utf-16"))
    assert "not UTF-8" in mistakes(str(tmp_path / "utf16.yaml"))
    assert "needs the path" in mistakes("--output_dir", "x", "--config")


def test_bare_words_fill_the_positional_field_and_only_that() -> None:
    many = Positional(field="names", many=True)
    (given,) = parse("--output_dir", "x", "a.txt", "b", "--quick", "c", positional=many)
    assert (given.names, given.quick) == (["a.txt", "b", "c"], True)
    one = Positional(field="output_dir")
    assert next(iter(parse("here", positional=one))).output_dir == "here"
    assert "unexpected word 'there'" in mistakes("here", "there", positional=one)
    assert "unexpected word" in mistakes("--output_dir", "x", "a.yaml", allow_config_file=False)
    assert "unknown flag '-x'" in mistakes("--output_dir", "x", "-x")


def test_a_repeated_flag_is_named_and_the_last_one_counts() -> None:
    parsed = parse("--output_dir", "x", "--steps", "1", "--steps", "2")
    assert next(iter(parsed)).steps == 2
    assert parsed.notes == ["--steps is given more than once; the last one counts: 2"]
    assert not parse("--output_dir", "x", "--steps", "1", "--steps", "1").notes
    assert "say different things about backend" in mistakes("--output_dir", "x", "--backend", "a", "--engine", "b")


@dataclass
class Strict:
    """Refuses."""

    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError("size is 1 or more", where="--size")
        if self.size > 9:
            raise ValueError("too large")


def test_what_a_class_refuses_is_collected_with_the_rest() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_arguments(["--size", "0", "--stepz", "1"], (Run, Strict), verb="run")
    text = str(caught.value)
    assert "size is 1 or more" in text
    assert "--output_dir is missing" in text
    assert "unknown flag '--stepz'" in text
    with pytest.raises(ConfigError, match="too large"):
        parse_arguments(["--size", "10"], (Strict,), verb="run")


def test_help_names_every_flag_with_its_type_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name in Run.__dataclass_fields__:
        assert f"--{name} " in text
    assert "--masked true|false\n      (default: true)" in text
    assert "--quick true|false\n      (default: false)" in text
    assert "Where to. (required)" in text


def test_the_flags_of_transformers_are_flags_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from medscroll.config.training import TrainingArguments

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("save_strategy: no\nlr_scheduler_kwargs: {min_lr_rate: 1e-1}\n", encoding="utf-8")
    words = "--learning_rate 1e-5 --optim adamw_torch --tf32 true --report_to none --bf16 --accelerator_config {}"
    (given,) = parse_arguments([str(recipe), *words.split()], (TrainingArguments,), verb="pretrain")
    assert (given.learning_rate, given.optim, given.tf32, given.bf16) == (1e-5, "adamw_torch", True, True)
    assert (given.save_strategy, given.lr_scheduler_kwargs) == ("no", {"min_lr_rate": 0.1})
    for flag in ("--optim", "--eval_strategy", "--save_strategy", "--lr_scheduler_type"):
        with pytest.raises(ConfigError, match="must be one of"):
            parse_arguments([flag, "adamq"], (TrainingArguments,), verb="pretrain")
    with pytest.raises(SystemExit):
        parse_arguments(["--help"], (TrainingArguments,), verb="pretrain")
    short = capsys.readouterr().out
    assert "--learning_rate" in short
    assert "torch_compile_backend" in short
    assert "--torch_compile_backend" not in short
    with pytest.raises(SystemExit):
        parse_arguments(["--help_all"], (TrainingArguments,), verb="pretrain")
    assert "--torch_compile_backend" in capsys.readouterr().out


def test_a_number_out_of_bounds_is_a_mistake_with_the_bound() -> None:
    from medscroll.config.arguments import DataArguments, PackingArguments

    words = ["--block_size=1", "--context_tokens", "-1", "--validation_fraction=1.5", "--max_eval_samples=0"]
    with pytest.raises(ConfigError) as caught:
        parse_arguments(words, (DataArguments, PackingArguments), verb="pretrain")
    text = str(caught.value)
    for part in (
        "--block_size expects at least 2, not 1",
        "--context_tokens expects at least 0, not -1",
        "--validation_fraction expects at most 0.99, not 1.5",
        "--max_eval_samples expects at least 1, not 0",
    ):
        assert part in text
    (_, packing) = parse_arguments(["--block_size", "2"], (DataArguments, PackingArguments), verb="pretrain")
    assert packing.block_size == 2


def test_a_flag_that_was_given_wrongly_is_not_missing_too() -> None:
    text = mistakes("--output_dir")
    assert "--output_dir needs a value" in text
    assert "is missing" not in text
    assert "OUTPUT_DIR is missing" in mistakes(positional=Positional(field="output_dir"))
