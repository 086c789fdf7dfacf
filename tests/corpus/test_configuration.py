"""Presets and files of `--corpus_config`: what they say holds, and every mistake is named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from medscroll.config.yaml_file import read_nested_yaml
from medscroll.corpus.configuration import PRESETS_DIR, STEPS, config_class, load_corpus_config, preset_names
from medscroll.corpus.request import CorpusRequest
from medscroll.errors import ConfigError


def write(folder: Path, text: str) -> str:
    path = folder / "corpus.yaml"
    path.write_text(text, "utf-8")
    return str(path)


def test_all_presets_can_be_built_and_say_which_steps_run() -> None:
    assert preset_names() == ["books", "clinical", "default", "papers", "web"]
    for name in preset_names():
        config = load_corpus_config(name)
        assert list(config.steps) == list(STEPS)
        steps, corpus_steps = config.build()
        assert [step.name for step in corpus_steps] == ["deduplicate"]
        names = [step.name for step in steps]
        assert names == [step for step in STEPS if step in names]
        assert "quality" in names
        assert ("deidentify" in names) == (name == "clinical")
        assert "decontaminate" not in names
        said, problems = read_nested_yaml(PRESETS_DIR / f"{name}.yaml")
        assert not problems
        assert {"read", "deidentify", "quality", "decontaminate", "deduplicate"} <= said.keys()


def test_every_field_of_a_step_has_help_and_a_default() -> None:
    fields = 0
    for step in STEPS:
        made = config_class(step)()
        for name, each in made.__dataclass_fields__.items():
            if name.isupper():
                continue
            assert each.metadata.get("help", "").endswith("."), f"{step}.{name}"
            fields += 1
    assert fields > 20


def test_all_mistakes_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "preset: clinicl\nread: {referenzes: true}\ndeduplikate: {near: false}\nquality: {least_character: 3}\n"
        "deduplicate:\n  near: perhaps\n",
    )
    with pytest.raises(ConfigError) as caught:
        load_corpus_config(path)
    said = str(caught.value)
    for words in (
        "clinical",
        "references",
        "deduplicate?",
        "least_characters",
        "near",
        "corpus.yaml:2",
        "corpus.yaml:6",
    ):
        assert words in said
    with pytest.raises(ConfigError, match="did you mean papers"):
        load_corpus_config("paper")


def test_a_value_out_of_its_range_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "deduplicate: {threshold: 3}\nquality: {least_letter_share: 7, languages: [fr]}\n")
    with pytest.raises(ConfigError, match=r"threshold is 3.*") as caught:
        CorpusRequest(corpus_config=path).pipeline()
    for words in ("0.3 to 1", "least_letter_share is 7", "zh, en and other"):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("flag", "text", "enabled", "mode"),
    [
        (None, "preset: clinical\n", True, "replace"),
        ("audit", "preset: clinical\n", True, "audit"),
        ("off", "preset: clinical\n", False, None),
        ("false", "preset: clinical\n", False, None),
        ("true", "preset: default\n", True, "replace"),
        ("replace", "preset: web\n", True, "replace"),
        (None, "deidentify: audit\n", True, "audit"),
        (None, "deidentify: true\n", True, "replace"),
        (None, "preset: clinical\ndeidentify: false\n", False, None),
        ("audit", "deidentify: {mode: replace, dates: year}\n", True, "audit"),
    ],
)
def test_the_flag_goes_over_the_file_over_the_preset(
    tmp_path: Path, flag: str | None, text: str, enabled: bool, mode: str | None
) -> None:
    config = CorpusRequest(corpus_config=write(tmp_path, text), deidentify=flag).config()
    step = config.steps["deidentify"]
    assert step.enabled == enabled
    if mode is not None:
        assert step.mode == mode
    if "year" in text:
        assert step.dates == "year"
