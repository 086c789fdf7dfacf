"""Configuration, RoPE flags, checks, and building: errors name the remedy, and no weight is random by accident."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medscroll.config.arguments import AdapterArguments, ModelArguments
from medscroll.errors import CheckpointError, ConfigError, EnvironmentError_, UserError
from medscroll.model.liger import choose_liger
from medscroll.model.load import (
    build_model,
    check_positions,
    check_vocabulary,
    extend_by_theta,
    load_config,
    load_tokenizer,
)
from tests.model.shapes import documents, pack_row, summed_loss, tiny_config


def scratch(name: str = "tiny", **flags: Any) -> ModelArguments:
    return ModelArguments(model_name_or_path=name, from_scratch=True, **flags)


def build(args: ModelArguments, adapters: AdapterArguments | None = None, **options: Any) -> Any:
    settings = {"dtype": torch.float32, "device": "cpu", "seed": 1, "gradient_checkpointing": False, **options}
    config = load_config(args, vocab_size=128)
    return build_model(args, adapters or AdapterArguments(), config, attn_backend="per_document", **settings)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "saved"
    build(scratch()).save_pretrained(folder)
    return folder


def test_a_preset_without_from_scratch_names_the_public_checkpoint() -> None:
    with pytest.raises(ConfigError, match=r"(?s)yi-34b.*01-ai/Yi-34B.*--from_scratch"):
        load_config(ModelArguments(model_name_or_path="yi-34b"))
    with pytest.raises(ConfigError, match="no public checkpoint has that shape"):
        load_config(ModelArguments(model_name_or_path="yi-67b"))


def test_small_presets_take_the_vocabulary_and_big_ones_keep_theirs() -> None:
    assert load_config(scratch("tiny"), vocab_size=777, eos_token_id=5).vocab_size == 777
    assert load_config(scratch("tiny"), vocab_size=777, eos_token_id=5).eos_token_id == 5
    assert load_config(scratch("yi-6b"), vocab_size=777).vocab_size == 64000


@pytest.mark.parametrize("name", [None, "/nowhere/at/all"])
def test_no_model_is_an_error(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="--model_name_or_path"):
        load_config(ModelArguments(model_name_or_path=name))


def test_yarn_and_linear_reach_the_model() -> None:
    yarn = load_config(scratch(rope_scaling="yarn", rope_factor=4.0))
    assert yarn.max_position_embeddings == 4 * 4096
    assert yarn.rope_parameters["rope_type"] == "yarn"
    assert yarn.rope_parameters["original_max_position_embeddings"] == 4096
    linear = load_config(scratch(rope_scaling="linear", max_position_embeddings=8192))
    assert (linear.rope_parameters["rope_type"], linear.rope_parameters["factor"]) == ("linear", 2.0)
    plain = build(scratch())
    for flags in ({"rope_scaling": "yarn"}, {"rope_scaling": "linear"}):
        scaled = build(scratch(**flags, rope_factor=4.0))
        assert not torch.equal(scaled.model.rotary_emb.inv_freq, plain.model.rotary_emb.inv_freq)
    theta = build(scratch(rope_theta=1e6, max_position_embeddings=9000))
    assert theta.model.rotary_emb.inv_freq[-1] < plain.model.rotary_emb.inv_freq[-1]
    assert theta.config.max_position_embeddings == 9000


def test_rope_flags_survive_a_save(tmp_path: Path) -> None:
    build(scratch(rope_scaling="yarn", rope_factor=4.0)).save_pretrained(tmp_path)
    again = load_config(ModelArguments(model_name_or_path=str(tmp_path)))
    assert again.rope_parameters["rope_type"] == "yarn"
    assert again.max_position_embeddings == 4 * 4096


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"rope_scaling": "dynamic", "rope_factor": 2.0}, "depends on the longest document"),
        ({"rope_factor": 2.0}, "without --rope_scaling"),
        ({"rope_scaling": "yarn"}, "needs a factor"),
        ({"rope_scaling": "yarn", "rope_factor": 0.5}, "needs a factor"),
        ({"model_name_or_path": "llama-3.1-8b", "rope_scaling": "yarn", "rope_factor": 2.0}, "already scales"),
    ],
)
def test_rope_flags_that_cannot_be(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(ModelArguments(**{"model_name_or_path": "tiny", "from_scratch": True, **flags}))


def test_a_model_without_rotary_positions_cannot_be_extended(tmp_path: Path) -> None:
    from transformers import GPT2Config

    GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=128).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="no rotary embedding"):
        load_config(ModelArguments(model_name_or_path=str(tmp_path), from_scratch=True, max_position_embeddings=4096))


def test_a_new_base_alone_extends_the_positions_to_the_block() -> None:
    arguments = scratch(rope_theta=1e6)
    config = load_config(arguments)
    assert extend_by_theta(config, arguments, 4096) is None
    assert "--rope_theta 1e+06" in str(extend_by_theta(config, arguments, 9000))
    check_positions(config, 9000)
    said = scratch(rope_theta=1e6, max_position_embeddings=5000)
    assert extend_by_theta(load_config(said), said, 9000) is None
    assert extend_by_theta(load_config(scratch()), scratch(), 9000) is None


def test_pieces_beyond_the_positions_name_the_three_flags() -> None:
    config = tiny_config("llama")
    check_positions(config, 512)
    with pytest.raises(ConfigError) as caught:
        check_positions(config, 513)
    for flag in ("--rope_scaling", "--rope_theta", "--max_position_embeddings"):
        assert flag in str(caught.value)


def test_vocabularies() -> None:
    config = tiny_config("llama", vocab_size=128)
    check_vocabulary(128, config)
    check_vocabulary(100, config)  # a padded embedding is fine
    check_vocabulary(SimpleNamespace(vocab_size=100, num_tokens=5), config)
    with pytest.raises(ConfigError, match=r"129.*128.*do not fit"):
        check_vocabulary(129, config)
    with pytest.raises(ConfigError, match="do not fit"):
        check_vocabulary(SimpleNamespace(vocab_size=129, num_tokens=5), config)


def test_a_preset_is_no_tokenizer() -> None:
    with pytest.raises(ConfigError, match=r"(?s)no tokenizer.*01-ai/Yi-9B"):
        load_tokenizer("yi-9b")


def test_a_checkpoint_comes_back_bitwise_and_saves_no_private_name(checkpoint: Path) -> None:
    from transformers import AutoModelForCausalLM

    ours = build(ModelArguments(model_name_or_path=str(checkpoint)))
    plain = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert "per_document" not in (checkpoint / "config.json").read_text()
    assert plain.config._attn_implementation == "sdpa"
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, ours.get_parameter(name))
    assert ours.training
    assert ours.config.use_cache is False


def test_a_checkpoint_that_lacks_weights_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
    with pytest.raises(CheckpointError, match=r"lacks 1 .*layers\.1\.mlp\.up_proj"):
        build(ModelArguments(model_name_or_path=str(tmp_path)))


def test_random_weights_depend_on_the_seed_alone_and_are_initialised() -> None:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same, other = build(scratch()), build(scratch()), build(scratch(), seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    reference = AutoModelForCausalLM.from_config(one.config)
    for name, parameter in reference.named_parameters():
        ours = one.get_parameter(name)
        assert torch.equal(ours, same.get_parameter(name))
        assert ours.std().item() == pytest.approx(parameter.std().item(), abs=2e-3)
        if ours.dim() > 1:
            assert not torch.equal(ours, other.get_parameter(name))
    for name, buffer in reference.named_buffers():
        assert torch.equal(buffer, one.get_buffer(name))


def test_a_configuration_folder_can_be_built_from_scratch(tmp_path: Path) -> None:
    tiny_config("qwen3").save_pretrained(tmp_path)
    model = build(scratch(str(tmp_path)))
    assert type(model).__name__ == "Qwen3ForCausalLM"


def test_tied_embeddings_are_one_parameter() -> None:
    model = build(scratch("demo"))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.lm_head.weight.std().item() == pytest.approx(0.02, abs=2e-3)


def test_gradient_checkpointing_changes_nothing_but_is_on() -> None:
    batch = pack_row(documents([20, 12]))
    plain, recomputing = build(scratch()), build(scratch(), gradient_checkpointing=True)
    assert recomputing.model.layers[0].gradient_checkpointing
    gradients = []
    for model in (plain, recomputing):
        summed_loss(model, batch).backward()
        gradients.append(model.model.layers[0].mlp.up_proj.weight.grad)
    torch.testing.assert_close(*gradients)


class TestAdapters:
    """LoRA where peft is installed; refusals everywhere."""

    @pytest.mark.parametrize("recompute", [False, True])
    def test_lora_trains_adapters_alone(self, recompute: bool, checkpoint: Path) -> None:
        pytest.importorskip("peft")
        adapters = AdapterArguments(use_peft=True, lora_rank=4, modules_to_save="lm_head")
        model = build(ModelArguments(model_name_or_path=str(checkpoint)), adapters, gradient_checkpointing=recompute)
        trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert all("lora_" in name or "modules_to_save" in name for name in trainable)
        for projection in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
            assert any(f"layers.1.{part}.{projection}.lora_A" in n for n in trainable for part in ("mlp", "self_attn"))
        summed_loss(model, pack_row(documents([20, 12]))).backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == (name in trainable), name

    def test_lora_of_the_same_seed_is_the_same(self, checkpoint: Path) -> None:
        pytest.importorskip("peft")
        adapters = AdapterArguments(use_peft=True, target_modules="q_proj,v_proj")
        models = [build(ModelArguments(model_name_or_path=str(checkpoint)), adapters) for _ in range(2)]
        for (name, one), (_, two) in zip(*(model.named_parameters() for model in models), strict=True):
            assert torch.equal(one, two), name

    def test_an_adapter_is_gone_on_with(self, checkpoint: Path, tmp_path: Path) -> None:
        pytest.importorskip("peft")
        model = build(ModelArguments(model_name_or_path=str(checkpoint)), AdapterArguments(use_peft=True))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.fill_(0.5)
        model.save_pretrained(tmp_path)
        again = AdapterArguments(use_peft=True, peft_path=str(tmp_path))
        loaded = build(ModelArguments(model_name_or_path=str(checkpoint)), again)
        values = [p for name, p in loaded.named_parameters() if "lora_B" in name]
        assert values
        assert all(p.requires_grad and bool((p == 0.5).all()) for p in values)

    def test_unknown_target_modules_list_those_that_exist(self, checkpoint: Path) -> None:
        pytest.importorskip("peft")
        with pytest.raises(ConfigError, match=r"(?s)cannot be placed.*down_proj"):
            build(
                ModelArguments(model_name_or_path=str(checkpoint)),
                AdapterArguments(use_peft=True, target_modules="query"),
            )

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ({"use_peft": True, "qlora": True}, "needs an NVIDIA GPU"),
            ({"use_peft": True, "load_in_8bit": True}, "needs an NVIDIA GPU"),
            ({"qlora": True}, "without an adapter"),
            ({"use_peft": True, "load_in_4bit": True, "load_in_8bit": True}, "4-bit and 8-bit"),
            ({"peft_path": "x"}, "without --use_peft"),
            ({"use_peft": True, "peft_path": "/nowhere"}, "no adapter in"),
        ],
    )
    def test_refusals(self, flags: dict[str, Any], message: str, checkpoint: Path) -> None:
        with pytest.raises(UserError, match=message):
            build(ModelArguments(model_name_or_path=str(checkpoint)), AdapterArguments(**flags))

    def test_qlora_with_zero3_and_from_scratch_are_refused_together(self) -> None:
        from transformers.integrations import HfDeepSpeedConfig, unset_hf_deepspeed_config

        pytest.importorskip("deepspeed")
        alive = HfDeepSpeedConfig({"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}})
        try:
            assert alive.is_zero3()
            with pytest.raises(ConfigError, match=r"(?s)2 mistakes.*from_scratch.*ZeRO-3"):
                build(scratch(), AdapterArguments(use_peft=True, qlora=True))
        finally:
            unset_hf_deepspeed_config()

    def test_missing_peft_names_the_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from medscroll.model import adapters

        monkeypatch.setattr(adapters.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(EnvironmentError_, match="pip install"):
            build(scratch(), AdapterArguments(use_peft=True))


def test_liger_decides_with_a_reason() -> None:
    config = tiny_config("llama")
    assert choose_liger("auto", config, "cpu").use is False
    assert "GPU" in choose_liger("auto", config, "cpu").reason
    assert choose_liger("false", config, "cuda").use is False
    with pytest.raises(EnvironmentError_, match="GPU"):
        choose_liger("true", config, "cpu")
    with pytest.raises(ConfigError):
        choose_liger("maybe", config, "cpu")
