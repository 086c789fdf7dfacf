"""The search: ordered, never empty, with reasons; parts obey the arithmetic of ZeRO; the changes that it names fit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from medscroll.cli.main import main
from medscroll.config.arguments import ModelArguments
from medscroll.model.load import load_config
from medscroll.planning.candidate import Constraints, TrainingSetup
from medscroll.planning.cluster import parse_cluster
from medscroll.planning.compute import count_parameters
from medscroll.planning.layer_work import model_work
from medscroll.planning.parameters import config_text
from medscroll.planning.search import changes, plan_training, predict, smallest_change
from medscroll.planning.traffic import gathered


def config_of(name: str) -> Any:
    return load_config(ModelArguments(model_name_or_path=name, from_scratch=True))


CONFIG = config_of("yi-6b")
PARAMETERS = count_parameters(CONFIG)


def setup(**changes: Any) -> TrainingSetup:
    options = {"stage": changes.get("zero_stage", 3), "reduce_bucket_size": 4096 * 4096}
    values: dict[str, Any] = {"config": CONFIG, "model_name": "yi-6b", "parameters": PARAMETERS, "gpus_per_node": 8}
    return TrainingSetup(**{**values, "zero_options": options, **changes})


def test_states_are_divided_as_the_stage_says() -> None:
    cluster = parse_cluster("8xH100-80G")
    parts = {stage: predict(setup(zero_stage=stage, accumulation=2), cluster).memory.parts for stage in (1, 2, 3)}
    for stage in (1, 2, 3):
        assert parts[stage]["optimizer_states"] == pytest.approx(12 * PARAMETERS / 8, rel=1e-6)
        assert parts[stage]["weights"] == pytest.approx(2 * PARAMETERS / (8 if stage == 3 else 1), rel=1e-3)
    assert parts[2]["gradients"] >= 2 * PARAMETERS / 8  # and the whole of the parameters at the borders of the part
    assert parts[3]["gradients"] == pytest.approx(2 * PARAMETERS / 8, rel=1e-6)
    offloaded = predict(setup(zero_stage=2, offload_optimizer=True), cluster)
    assert offloaded.memory.optimizer_states == 0
    assert offloaded.host.steady > 16 * PARAMETERS
    more = predict(setup(micro_batch=2), cluster).memory
    assert more.activations == pytest.approx(2 * predict(setup(), cluster).memory.activations, rel=0.02)
    assert predict(setup(activation_memory="none"), cluster).memory.activations > 4 * more.activations


def test_traffic_is_that_of_the_engine() -> None:
    """DeepSpeed all-reduces in stages 1 and 2; accumulation multiplies what stages 2 and 3 send."""
    cluster = parse_cluster("2x8xH100-80G@1x200G")
    whole, share = 2.0 * PARAMETERS, 15 / 16

    def sent(**changes: Any) -> float:
        return predict(setup(nodes=2, **changes), cluster).network.per_step

    def gathers(**changes: Any) -> Any:
        return gathered(setup(nodes=2, **changes), model_work(config_text(setup())), PARAMETERS)

    found = gathers()
    assert found.forward == pytest.approx(PARAMETERS, rel=0.02)
    assert 0.8 * PARAMETERS < found.backward < 0.9 * PARAMETERS  # the last layers of the forward pass are still there
    for steps in (1, 4):
        assert sent(zero_stage=1, accumulation=steps) == pytest.approx(3 * whole * share)
        assert sent(zero_stage=2, accumulation=steps) == pytest.approx((2 * steps + 1) * whole * share)
        micro = 2.0 * (found.forward + found.backward + PARAMETERS)
        kept = 2.0 * found.persistent
        assert sent(zero_stage=3, accumulation=steps) == pytest.approx((micro * steps + kept) * share)
        # with hpZ a weight crosses nodes once a step, gradients in every micro step
        crossing = (whole + whole * steps) * share
        assert sent(zero_stage=3, accumulation=steps, hpz_group=8) == pytest.approx(crossing)
    assert predict(setup(), parse_cluster("8xH100-80G")).network.per_step == 0
    slow = predict(setup(nodes=2), parse_cluster("2x8xH100-80G@10GbE"))
    assert slow.binding == "network"
    tokens = slow.network.hiding_tokens
    assert tokens is not None
    assert tokens > slow.setup.micro_tokens


def test_candidates_are_ordered_and_each_has_a_reason() -> None:
    found = plan_training(
        CONFIG, parse_cluster("2x8xA100-40G@1x200G"), block_size=4096, model_name="yi-6b", tokens=10**9
    )
    fitting = [item for item in found if item.fits]
    assert fitting
    assert found[: len(fitting)] == fitting
    rates = [item.time.tokens_per_second for item in fitting]
    assert rates == sorted(rates, reverse=True)
    assert all(item.reason and item.binding for item in found)
    small = plan_training(CONFIG, parse_cluster("8xRTX4090"), block_size=4096, model_name="yi-6b")
    assert any("ZeRO-1 needs" in item.reason for item in small)
    assert all("need" in item.reason for item in small if not item.fits)
    first = fitting[0]
    assert first.days == pytest.approx(1e9 / rates[0] / 86400)
    assert len(plan_training(CONFIG, parse_cluster("H200"), block_size=4096, model_name="yi-6b")) > 0


def test_what_is_fixed_stays_fixed() -> None:
    fixed = Constraints(zero_stage=3, micro_batch=2, accumulation=5, activation_memory="full", fewer_nodes=False)
    for item in plan_training(CONFIG, parse_cluster("8xH100"), block_size=2048, model_name="x", constraints=fixed):
        found = item.setup
        assert (found.zero_stage, found.micro_batch, found.accumulation) == (3, 2, 5)
        assert (found.activation_memory, found.nodes) == ("full", 1)


def test_the_smallest_change_fits() -> None:
    cluster = parse_cluster("8xA100-40G")
    large = setup(zero_stage=3, micro_batch=16, accumulation=1)
    assert not predict(large, cluster).fits
    words = smallest_change(large, cluster)
    assert words.startswith("--per_device_train_batch_size 1 --gradient_accumulation_steps 16")
    assert predict(setup(micro_batch=1, accumulation=16), cluster).fits


@pytest.mark.parametrize("block_size", [65_536, 262_144])
def test_changes_of_several_kinds_each_fit(block_size: int) -> None:
    """Flags, blocks and machines are taken out of the words and planned again: they do fit."""
    cluster = parse_cluster("1x8xRTX4090@1x200G")
    large = setup(zero_stage=3, block_size=block_size, accumulation=1, fused_loss=True)  # as runs under ZeRO-3 have it
    assert not predict(large, cluster).fits
    found = changes(large, cluster, most=9)
    assert len(found) >= 2
    for words in found:
        values: dict[str, Any] = {}
        if level := re.search(r"--activation_memory (\S+)", words):
            values["activation_memory"] = level[1]
        if size := re.search(r"--block_size (\d+)", words):
            values["block_size"] = int(size[1])
            if 2 * int(size[1]) < block_size:  # the halved block is the first that was tried
                assert not predict(large.replace(**{**values, "block_size": 2 * int(size[1])}), cluster).fits
        machines = cluster
        if nodes := re.search(r"^(\d+) nodes", words):
            machines, values["nodes"] = cluster.with_nodes(int(nodes[1])), int(nodes[1])
        elif gpu := re.search(r"^(\S+) instead", words):
            machines = parse_cluster(f"1x8x{gpu[1]}@1x200G")
        if "zero3_offload" in words:
            values |= {"offload_optimizer": True, "offload_parameters": True}
        if "--use_peft" in words:
            values["lora_rank"] = 16
        if "--qlora" in words:
            values |= {
                "quantized_bits": 4,
                "engine": "trainer",
                "zero_stage": 0,
                "zero_options": {},
                "fused_loss": True,
            }
        assert predict(large.replace(**values), machines).fits, words


def test_the_command_plans_writes_and_reads_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "plan",
        "--model_name_or_path",
        "yi-6b",
        "--cluster",
        "8xH100-80G",
        "--tokens",
        "1B",
        "--deepspeed",
        "zero3",
    ]
    words += ["--per_device_train_batch_size", "2", "--gradient_checkpointing"]
    assert main([*words, "--output_dir", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "fastest of those that fit" in shown
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "recipe.yaml",
        "plan.html",
        "launch.sh",
        "job.slurm",
    }
    again = ["plan", str(tmp_path / "out" / "recipe.yaml"), "--model_name_or_path", "yi-6b", "--cluster", "8xH100-80G"]
    assert main([*again, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["fits"]
    best = plan["candidates"][0]
    assert best["setup"]["micro_batch"] == 2
    assert best["setup"]["zero_stage"] == 3
    assert sum(best["memory"][part] for part in ("weights", "optimizer_states")) < best["memory"]["total"]


def test_an_impossible_request_says_what_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--model_name_or_path", "yi-34b", "--cluster", "1xRTX4090", "--deepspeed", "zero3"]
    assert main(words) == 2
    caught = capsys.readouterr()
    assert "Nothing that was tried fits" in caught.out
    assert "Smallest change" in caught.out
    assert "ZeRO-3 needs" in caught.out
    assert "remedy" in caught.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--cluster", "8x8xH101"], "unknown GPU"),
        (["--cluster", "1000000x8xH100"], "at most 4,096"),
        (["--cluster", "8x8xH100@2xNDX"], "unknown link"),
        (["--cluster", "8xH100", "--block_size", "100000"], "4,096 positions"),
        (["--cluster", "8xH100", "--tokens", "lots"], "10B"),
        (["--cluster", "8xH100", "--nodes", "0-3"], "--nodes"),
        ([], "8x8xH100-80G"),
    ],
)
def test_bad_input(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model_name_or_path", "yi-6b", *words]) == 2
    assert says in capsys.readouterr().err


def test_a_block_beyond_positions_is_planned_and_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table is there, nothing is written, and the error names what extends positions; with it, all is well."""
    words = ["plan", "--model_name_or_path", "tiny", "--cluster", "8xH100", "--block_size", "16384"]
    assert main([*words, "--output_dir", str(tmp_path / "run")]) == 2
    caught = capsys.readouterr()
    assert "tokens/s" in caught.out
    assert "--max_position_embeddings" in caught.err
    assert not (tmp_path / "run").exists()
    assert main([*words, "--max_position_embeddings", "16384"]) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--days", "7"], "10.0B tokens in 7 days: yes, cheapest with"),
        (["--days", "0.1"], "10.0B tokens in 0.1 days: no. The fastest takes"),
        (["--budget", "100", "--price", "2"], "10.0B tokens in 100 USD: no."),
        (["--days", "7", "--budget", "1000000"], "10.0B tokens in 7 days and 1,000,000 USD: yes"),
    ],
)
def test_limits_of_time_and_money(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    question = ["--model_name_or_path", "yi-6b", "--cluster", "2x8xH100-80G", "--tokens", "10B", "--deepspeed", "zero3"]
    fixed = ["--activation_memory", "full", "--per_device_train_batch_size", "1", "--block_size", "4096"]
    assert main(["plan", *question, *fixed, *words]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert says in shown
    if "no." in says and "--days" in words:
        assert "nodes" in shown
    if "no." in says and "--budget" in words:
        assert "the money buys" in shown
