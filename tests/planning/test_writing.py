"""What a plan writes: a recipe that `pretrain` reads, scripts that shellcheck accepts, a page without a network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from medscroll.planning.cluster import parse_cluster
from medscroll.planning.page import PARTS, Point, plan_page
from medscroll.planning.run_files import write_run
from tests.planning.hand_made import candidate


def accepted_flags() -> frozenset[str]:
    from medscroll.cli.plan import pretrain_flags

    return pretrain_flags()


def read_as_pretrain(path: Path) -> dict[str, object]:
    from medscroll.cli.plan import training_classes
    from medscroll.config.medicalgpt import MEDICALGPT_ALIASES
    from medscroll.config.parse import parse_arguments

    parsed = parse_arguments([str(path)], training_classes(), verb="pretrain", aliases=MEDICALGPT_ALIASES)
    return {name: value for instance in parsed for name, value in vars(instance).items()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nodes": 1, "gpus_per_node": 1, "zero_stage": 2, "offload_optimizer": True, "zero_options": {"stage": 2}},
        {"engine": "trainer", "zero_stage": 0, "nodes": 1, "gpus_per_node": 1, "lora_rank": 64, "quantized_bits": 4},
        {"hpz_group": 8, "activation_memory": "none"},
    ],
)
def test_what_is_written_runs(tmp_path: Path, changes: dict[str, object]) -> None:
    item = candidate(**changes)
    cluster = parse_cluster("8x8xH100-80G@1x400G").with_nodes(item.setup.nodes)
    given = {"model_name_or_path": "deepseek-67b", "from_scratch": True, "learning_rate": 1e-5, "cluster": "8xH100"}
    files = write_run(tmp_path, item, cluster, given, accepted=accepted_flags(), command="medscroll plan")
    names = {path.name for path in files}
    assert names >= {"recipe.yaml", "launch.sh", "job.slurm"}
    values = read_as_pretrain(tmp_path / "recipe.yaml")
    assert values["block_size"] == item.setup.block_size
    assert values["per_device_train_batch_size"] == item.setup.micro_batch
    assert values["gradient_accumulation_steps"] == item.setup.accumulation
    assert values["learning_rate"] == 1e-5
    assert values["save_minutes"] == 90
    if item.setup.engine == "deepspeed":
        from medscroll.engine.deepspeed import load_deepspeed

        config = load_deepspeed(str(values["deepspeed"]))
        assert config is not None
        zero = config["zero_optimization"]
        assert zero["stage"] == item.setup.zero_stage
        assert ("offload_optimizer" in zero) == item.setup.offload_optimizer
        assert zero.get("zero_hpz_partition_size", 1) == item.setup.hpz_group
        text = (tmp_path / "deepspeed.md").read_text("utf-8")
        assert all(f"`{key}`" in text for key in zero)
        assert "as you gave it" not in text, "every key that the plan writes is explained"
    else:
        assert "deepspeed.json" not in names
    assert bool(values["use_peft"]) == bool(item.setup.lora_rank)
    for script in ("launch.sh", "job.slurm"):
        subprocess.run(["bash", "-n", str(tmp_path / script)], check=True)
    linter = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if linter:
        done = subprocess.run(
            [linter, str(tmp_path / "launch.sh"), str(tmp_path / "job.slurm")],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
    slurm = (tmp_path / "job.slurm").read_text("utf-8")
    for line in ("--ntasks-per-node=1", "--requeue", "--signal=B:USR1@300", f"--nodes={item.setup.nodes}"):
        assert f"#SBATCH {line}" in slurm


def test_the_launcher_starts_the_recipe_on_every_node(tmp_path: Path) -> None:
    """With stand-ins for python and ssh: which commands come out."""
    item = candidate()
    cluster = parse_cluster("8x8xH100-80G@1x400G")
    write_run(tmp_path, item, cluster, {}, accepted=accepted_flags(), command="medscroll plan")
    fakes = tmp_path / "bin"
    fakes.mkdir()
    for name, body in {
        "python": 'printf "%s\\n" "$@"; echo "segments: $PYTORCH_CUDA_ALLOC_CONF" >&2',
        "ssh": 'host="$1"; shift; echo "ON $host"; env -u HOSTS bash -c "$*"',
    }.items():
        (fakes / name).write_text(f"#!/bin/sh\n{body}\n" if name == "python" else f"#!/bin/bash\n{body}\n", "utf-8")
        (fakes / name).chmod(0o755)
    environment = {"PATH": f"{fakes}:/usr/bin:/bin", "HOSTS": "", "HOST": "n1"}
    words = ["bash", str(tmp_path / "launch.sh"), "--data_dir", "my DATA"]
    done = subprocess.run(words, check=True, env=environment, capture_output=True, text=True, timeout=30)
    assert done.stderr.strip() == "segments: expandable_segments:True"
    own = {**environment, "PYTORCH_CUDA_ALLOC_CONF": ""}
    kept = subprocess.run(words, check=True, env=own, capture_output=True, text=True, timeout=30)
    assert kept.stderr.strip() == "segments:"
    alone = done.stdout.splitlines()
    assert alone[:2] == ["-m", "torch.distributed.run"]
    assert alone[alone.index("--nnodes") + 1] == "8"
    assert alone[alone.index("--rdzv_endpoint") + 1] == "n1:29500"
    assert alone[-2:] == ["--data_dir", "my DATA"]
    assert str(tmp_path / "deepspeed.json") in alone
    environment |= {"HOSTS": "n1 n2"}
    both = subprocess.run(words, check=True, env=environment, capture_output=True, text=True, timeout=30).stdout
    assert sorted(re.findall(r"ON (\w+)", both)) == ["n1", "n2"]
    assert both.count("my DATA") == both.count("n1:29500") == 2
    missing = subprocess.run(words, check=False, env={"PATH": environment["PATH"]}, capture_output=True, text=True)
    assert missing.returncode != 0
    assert "one of the nodes" in missing.stderr


class _Page(HTMLParser):
    """Collects tags, and checks that they close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_shows_every_part() -> None:
    items = [candidate(), candidate(micro_batch=1), candidate(fits=False, activations=110.0, zero_stage=2)]
    points = [
        Point(gpus, block, 30_000.0 * gpus / 64 if gpus > 16 or block < 32768 else 0.0, gpus > 16 or block < 32768)
        for gpus in (16, 64)
        for block in (4096, 32768, 131072)
    ]
    text = plan_page(items, parse_cluster("8x8xH100-80G"), points, title="67B & <more>", notes=["a note"])
    page = _Page()
    page.feed(text)
    assert not page.open
    assert page.seen.count("svg") == 3
    assert page.seen.count("circle") == len(points)
    assert not {"script", "link", "img", "iframe"} & set(page.seen)
    assert not [value for name, value in page.attributes if name in ("src", "href") or "http" in (value or "")]
    assert "&lt;more&gt;" in text
    assert "&lt;ranks&gt;" in text
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text
    for part, size in items[0].memory.parts.items():
        assert (f'fill="var(--m-{part})"' in text) == (size > 0)
    assert "needs 130.0 GiB of 79.1" in text
    assert set(PARTS) == set(items[0].memory.parts)
    # widths of the first bar are in proportion to the parts
    widths = {
        match[1]: float(match[0]) for match in re.findall(r'width="([\d.]+)" height="22" fill="var\(--m-(\w+)\)"', text)
    }
    assert widths["optimizer_states"] / widths["gradients"] == pytest.approx(3, rel=0.02)


def test_json_of_a_candidate_is_plain() -> None:
    from medscroll.planning.report import candidate_json, cluster_json

    value = json.loads(json.dumps(candidate_json(candidate())))
    assert value["memory"]["total"] == candidate().memory.total
    assert "config" not in value["setup"]
    assert json.loads(json.dumps(cluster_json(parse_cluster("8xH200"))))["node_bandwidth"] is None
