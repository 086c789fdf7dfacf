"""Presets: exact shapes, checked by their parameter counts on the meta device."""

from __future__ import annotations

import pytest
import torch

from medscroll.config.presets import is_preset, load_preset, preset_names
from medscroll.errors import ConfigError

# billions of parameters as published (Yi, DeepSeek LLM, Llama 3.1, Qwen2.5 reports and model cards); ours by arithmetic
BILLIONS = {
    "yi-6b": 6.06, "yi-9b": 8.83, "yi-34b": 34.39, "yi-67b": 66.80, "deepseek-67b": 67.43, "llama-3.1-8b": 8.03,
    "llama-3.1-70b": 70.55, "qwen2.5-7b": 7.62, "qwen2.5-32b": 32.76, "qwen2.5-72b": 72.71, "small-2b": 1.98,
    "demo": 0.0094, "tiny": 0.0011, "tiny-95-layers": 0.0046,
}  # fmt: skip


def parameters(name: str) -> int:
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    values = dict(load_preset(name).config)
    config = CONFIG_MAPPING[values.pop("model_type")](**values)
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(config).parameters())


def test_every_preset_is_counted_here() -> None:
    assert set(BILLIONS) == set(preset_names())


@pytest.mark.parametrize("name", BILLIONS)
def test_parameter_counts(name: str) -> None:
    unit = 0.01 if BILLIONS[name] > 1 else 0.0001
    assert parameters(name) / 1e9 == pytest.approx(BILLIONS[name], abs=0.51 * unit)


def test_presets_say_where_they_are_from() -> None:
    for name in preset_names():
        preset = load_preset(name)
        assert preset.name == name
        assert preset.source
        assert preset.vocabulary in ("fixed", "tokenizer")
    assert load_preset("yi-67b").checkpoint is None
    assert "No public" in load_preset("yi-67b").note


def test_yi_67b_is_yi_at_the_shape_of_deepseek_67b() -> None:
    ours, theirs, yi = (load_preset(name).config for name in ("yi-67b", "deepseek-67b", "yi-34b"))
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size"):
        assert ours[key] == theirs[key]
    assert ours["vocab_size"] == yi["vocab_size"] == 64000
    assert ours["rope_theta"] == yi["rope_theta"]


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean yi-34b"):
        load_preset("yi-34")
    assert not is_preset("yi-34")
    assert not is_preset(None)
