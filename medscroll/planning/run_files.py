"""What a plan writes so that it can be run: recipe, DeepSpeed configuration with its comments, launcher, SLURM script.

    recipe.yaml            for `medscroll pretrain`: the user's flags with the plan's choices over them, each explained
    deepspeed.json, .md    what DeepSpeed gets; what each value does and costs
    launch.sh              torchrun on every node: the same command on each, or HOSTS="a b c" over ssh
    job.slurm              one step a node; warned before the limit, put back into the queue, resumed

The scripts know nothing that is not in them: no network, no home folder, no path but their own.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import textwrap
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from medscroll.planning.candidate import Candidate, TrainingSetup
from medscroll.planning.cluster import Cluster

GIB = 2**30
WARNING_SECONDS = 300  # before the time limit of SLURM
# key of zero_optimization -> what it does
ZERO_COMMENTS = {
    "stage": "what is divided among the ranks: 1 optimizer states, 2 also gradients, 3 also the weights",
    "overlap_comm": "collectives run beside the backward pass",
    "contiguous_gradients": "gradients are copied into one buffer as they come, so that memory is not fragmented",
    "reduce_bucket_size": "elements of gradients that are reduced at a time; two bytes each are held while they are",
    "allgather_bucket_size": "elements of weights that are gathered at a time after the optimizer's step",
    "reduce_scatter": "gradients are reduced to the rank that owns them (stages 1 and 2 still all-reduce)",
    "round_robin_gradients": "the copies of gradients to the host are spread over the ranks",
    "stage3_prefetch_bucket_size": "elements of weights that are gathered ahead of their use",
    "stage3_param_persistence_threshold": "weights with fewer elements than this stay on every GPU",
    "stage3_max_live_parameters": "elements of gathered weights that may lie on a GPU at once",
    "stage3_max_reuse_distance": "weights that are used again within this many elements are not released",
    "stage3_gather_16bit_weights_on_model_save": "the saved model is whole, in Hugging Face layout",
    "sub_group_size": "elements that the optimizer updates at a time; four bytes each are held while it does",
    "zero_hpz_partition_size": "ranks that share a second copy of the weights, so that the backward pass gathers "
    "inside that group: one node (ZeRO++)",
    "offload_optimizer": "where optimizer states and float32 weights lie, and are updated: host memory",
    "offload_param": "where the weights lie between their uses: host memory",
    "zero_quantized_weights": "weights are gathered in int8 (ZeRO++)",
    "zero_quantized_gradients": "gradients are reduced in int4 (ZeRO++)",
}


def base_deepspeed(setup: TrainingSetup) -> dict[str, Any]:
    """The shipped DeepSpeed configuration of a stage and offload, with the setup's `zero_options` over it."""
    offload = "_offload" if setup.zero_stage > 1 and (setup.offload_optimizer or setup.offload_parameters) else ""
    name = f"zero{setup.zero_stage}{offload}"
    text = resources.files("medscroll.config").joinpath(f"data/deepspeed/{name}.json").read_text("utf-8")
    config: dict[str, Any] = json.loads(text)
    zero = config["zero_optimization"]
    zero.update({key: value for key, value in setup.zero_options.items() if value is not None})
    for key, wanted in (("offload_optimizer", setup.offload_optimizer), ("offload_param", setup.offload_parameters)):
        if wanted and not isinstance(zero.get(key), dict):
            zero[key] = {"device": "cpu", "pin_memory": True}
        elif not wanted:
            zero.pop(key, None)
    if setup.hpz_group > 1:
        zero["zero_hpz_partition_size"] = setup.hpz_group
    return config


def deepspeed_comments(config: dict[str, Any], candidate: Candidate) -> str:
    """The comment file of a DeepSpeed configuration, Markdown."""
    zero = config["zero_optimization"]
    lines = [
        "# What stands in deepspeed.json",
        "",
        "| key of zero_optimization | value | what it does |",
        "|---|---|---|",
    ]
    for key, value in zero.items():
        shown = json.dumps(value)
        comment = ZERO_COMMENTS.get(key, "as you gave it")
        if key == "offload_optimizer" and isinstance(value, dict) and value.get("device") == "nvme":
            comment = "where optimizer states lie: NVMe"
        lines.append(f"| `{key}` | `{shown}` | {comment} |")
    lines += ["", '"auto" is filled by transformers at the start, from the recipe and the model\'s width.', ""]
    lines += ["Bytes of one GPU at the peak, as planned:", "", "| part | GiB | of what |", "|---|---|---|"]
    for part, size in candidate.memory.parts.items():
        if size:
            lines.append(f"| {part} | {size / GIB:.2f} | {candidate.memory.why.get(part, '')} |")
    return "\n".join([*lines, ""])


def recipe_values(candidate: Candidate, given: dict[str, Any], accepted: frozenset[str]) -> dict[str, Any]:
    """The recipe's keys: what the user gave, with the plan's choices over it.

    Args:
        given: flag -> value that the user gave to `plan`, those of planning aside.
        accepted: names of the flags of `pretrain`; a choice whose flag does not exist there is left out.
    """
    setup = candidate.setup
    values = {key: value for key, value in given.items() if key in accepted}
    level = setup.activation_memory
    chosen: dict[str, Any] = {
        "block_size": setup.block_size,
        "per_device_train_batch_size": setup.micro_batch,
        "gradient_accumulation_steps": setup.accumulation,
        "activation_memory": level,
        "gradient_checkpointing": level != "none",
        "bf16": setup.compute_dtype == "bfloat16",
    }
    if setup.sequence_parallel > 1:
        chosen["sequence_parallel_size"] = setup.sequence_parallel
    if setup.compute_dtype == "float16":
        chosen["fp16"] = True
    if setup.lora_rank:
        chosen |= {"use_peft": True, "lora_rank": setup.lora_rank}
        if setup.quantized_bits == 4:
            chosen["qlora"] = True
        elif setup.quantized_bits == 8:
            chosen["load_in_8bit"] = True
    if candidate.checkpoint_seconds:
        chosen["save_minutes"] = max(5.0, round(candidate.checkpoint_seconds / 60))
    if setup.ranks > 8:
        chosen["ddp_timeout"] = 7200
    if "activation_memory" in accepted:
        chosen.pop("gradient_checkpointing")
    values |= {key: value for key, value in chosen.items() if key in accepted}
    values.pop("deepspeed", None)
    return values


def recipe_comments(candidate: Candidate, price: str) -> dict[str, str]:
    """Key -> why it has its value, for the comments of the recipe."""
    setup, memory = candidate.setup, candidate.memory
    tokens = f"{setup.micro_batch} x {setup.accumulation} x {setup.ranks} x {setup.block_size:,}"
    comments = {
        "block_size": "most tokens of a row; longer documents are divided at their sections",
        "per_device_train_batch_size": f"rows a micro step: {setup.micro_tokens:,} tokens a GPU; "
        f"{memory.total / GIB:.1f} GiB in all",
        "gradient_accumulation_steps": f"{tokens} = {setup.step_tokens:,} tokens a step",
        "gradient_checkpointing": "recomputed in the backward pass"
        if setup.activation_memory != "none"
        else "memory is enough without recomputation",
        "activation_memory": "level of recomputation that the plan found fastest among those that fit",
        "save_minutes": f"Young/Daly for {setup.ranks} GPUs; a checkpoint: {candidate.disk.checkpoint / 1e9:,.0f} GB",
        "bf16": "computation in bfloat16" if setup.compute_dtype == "bfloat16" else "this GPU has no bfloat16",
        "ddp_timeout": "seconds; loading and saving may keep a rank waiting longer than the default",
        "deepspeed": f"ZeRO-{setup.zero_stage}; deepspeed.md explains it",
    }
    if price:
        comments["block_size"] += f"; {price}"
    return comments


def recipe_text(values: dict[str, Any], comments: dict[str, str], head: list[str]) -> str:
    """The YAML of a recipe: comments of `head` above, one key a line, each with its reason."""
    lines = [f"# {line}".rstrip() for line in head]
    for key, value in values.items():
        shown = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=10_000)
        entry = f"{key}: {shown.removesuffix('...' + chr(10)).strip()}"
        reason = comments.get(key)
        lines.append(f"{entry}  # {reason}" if reason and "\n" not in entry else entry)
    return "\n".join([*lines, ""])


def launch_script(cluster: Cluster, nodes: int) -> str:
    """`launch.sh`: torchrun on this node, or on every node of HOSTS over ssh."""
    several = textwrap.dedent(
        """\
        if [ -n "${HOSTS:-}" ]; then  # HOSTS="node1 node2 ...": start all of them from here, the first holds the store
          read -r -a hosts <<< "$HOSTS"
          for host in "${hosts[@]}"; do
            # shellcheck disable=SC2029  # expanded here on purpose
            ssh "$host" "cd $(printf '%q' "$PWD") && HOST=$(printf '%q' "${hosts[0]}") NODES=${#hosts[@]} HOSTS=" \\
              "bash $(printf '%q' "$here/launch.sh") $([ $# -eq 0 ] || printf '%q ' "$@")" &
          done
          status=0
          for job in $(jobs -p); do
            wait "$job" || status=$?
          done
          exit "$status"
        fi
        """
    )
    host = (
        '"${HOST:?one of the nodes, reachable from all: HOST=node1, or HOSTS=\\"node1 node2\\" to start all from here}"'
    )
    head = f"""\
        #!/usr/bin/env bash
        # {cluster.describe()}
        # {"The same command on every node, HOST being one of them" if nodes > 1 else "On this machine"}:
        #   {"HOST=node1 " if nodes > 1 else ""}bash launch.sh --data_dir DATA [--flag value ...]
        # What follows is added to the recipe, and wins over it. A run that was interrupted goes on where it stopped.
        set -euo pipefail
        here=$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)
        """
    body = f"""\
        # Rows of many lengths leave holes in fixed segments of GPU memory, so segments may grow; the plan's slack was
        # measured so. A setting of your own is kept; an empty one (PYTORCH_CUDA_ALLOC_CONF=) is torch's default.
        export PYTORCH_CUDA_ALLOC_CONF="${{PYTORCH_CUDA_ALLOC_CONF-expandable_segments:True}}"
        python="${{PYTHON:-python}}"
        exec "$python" -m torch.distributed.run \\
          --nnodes "${{NODES:-{nodes}}}" --nproc_per_node {cluster.gpus_per_node} \\
          --rdzv_backend c10d --rdzv_endpoint {host if nodes > 1 else '"localhost"'}":${{PORT:-29500}}" \\
          --rdzv_id "${{RUN_ID:-medscroll}}" --max_restarts "${{RESTARTS:-0}}" \\
          -m medscroll pretrain "$here/recipe.yaml" @deepspeed@\\
          --output_dir "$here/run" --resume_from_checkpoint auto "$@"
        """
    return textwrap.dedent(head) + (several if nodes > 1 else "") + textwrap.dedent(body)


def slurm_script(cluster: Cluster, nodes: int, days: float | None) -> str:
    """`job.slurm`: one step a node; before the limit the step is ended and the job goes back into the queue."""
    hours = 24 if days is None else max(1, min(24, round(days * 24 * 1.1 + 1)))
    return textwrap.dedent(
        f"""\
        #!/usr/bin/env bash
        # {cluster.describe()}
        # sbatch job.slurm --data_dir DATA     Adapt account, partition and time limit to your cluster.
        #SBATCH --job-name=medscroll
        #SBATCH --nodes={nodes}
        #SBATCH --ntasks-per-node=1
        #SBATCH --gpus-per-node={cluster.gpus_per_node}
        #SBATCH --exclusive
        #SBATCH --mem=0
        #SBATCH --time={hours}:00:00
        #SBATCH --signal=B:USR1@{WARNING_SECONDS}
        #SBATCH --requeue
        #SBATCH --open-mode=append
        #SBATCH --output=medscroll-%j.log
        # {WARNING_SECONDS} s before the limit SLURM sends USR1 to this script: the step gets SIGTERM, and the job is
        # put back into the queue. It goes on from the last checkpoint (--save_minutes in recipe.yaml bounds the loss).
        set -euo pipefail
        # SLURM runs a copy of this script: the folder of the recipe is where sbatch was called, or RUN_FOLDER.
        here="${{RUN_FOLDER:-$SLURM_SUBMIT_DIR}}"
        if [ ! -f "$here/recipe.yaml" ]; then
          echo "no recipe.yaml in $here: call sbatch in the folder of the plan, or set RUN_FOLDER" >&2
          exit 2
        fi
        HOST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
        export HOST NODES="$SLURM_NNODES" RUN_ID="$SLURM_JOB_ID" PORT="${{PORT:-$((20000 + SLURM_JOB_ID % 10000))}}"
        again=0
        step=
        # shellcheck disable=SC2329  # called by the trap
        warned() {{
          echo "$(date): the time limit is near; stopping, to go on in the next job"
          again=1
          [ -z "$step" ] || kill -TERM "$step" 2> /dev/null || true
        }}
        trap warned USR1
        srun --kill-on-bad-exit=1 bash "$here/launch.sh" "$@" &
        step=$!
        code=0
        wait "$step" || code=$?
        if [ "$again" = 1 ]; then
          wait "$step" || true  # the first wait ended with the signal
          scontrol requeue "$SLURM_JOB_ID"
          exit 0
        fi
        exit "$code"
        """
    )


def write_run(
    folder: Path,
    candidate: Candidate,
    cluster: Cluster,
    given: dict[str, Any],
    *,
    accepted: frozenset[str],
    command: str,
    price: str = "",
) -> list[Path]:
    """Write everything that runs a candidate into `folder`; returns the files in the order written.

    Args:
        given, accepted: see `recipe_values`.
        command: the command line of the plan, for the head of the recipe.
        price: what it costs in words, for a comment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    setup = candidate.setup
    machines = dataclasses.replace(cluster, nodes=setup.nodes, gpus_per_node=setup.gpus_per_node)
    values = recipe_values(candidate, given, accepted)
    written: list[tuple[str, str]] = []
    if setup.engine == "deepspeed" and setup.zero_stage > 0:
        config = base_deepspeed(setup)
        values["deepspeed"] = str((folder / "deepspeed.json").resolve())
        written.append(("deepspeed.json", json.dumps(config, indent=2) + "\n"))
        written.append(("deepspeed.md", deepspeed_comments(config, candidate)))
    head = [
        f"Planned by: {command}",
        f"for {machines.describe()}.",
        f"{candidate.time.tokens_per_second:,.0f} tokens/s, {candidate.memory.total / GIB:.1f} of "
        f"{cluster.gpu.memory / GIB:.1f} GiB of GPU memory; {candidate.reason or 'as planned'}",
        "To run it: bash launch.sh --data_dir DATA     or: sbatch job.slurm --data_dir DATA",
    ]
    written.insert(0, ("recipe.yaml", recipe_text(values, recipe_comments(candidate, price), head)))
    given_deepspeed = '--deepspeed "$here/deepspeed.json" ' if "deepspeed" in values else ""
    launch = launch_script(machines, setup.nodes).replace("@deepspeed@", given_deepspeed)
    written.append(("launch.sh", launch))
    written.append(("job.slurm", slurm_script(machines, setup.nodes, candidate.days)))
    for name, text in written:
        path = folder / name
        path.write_text(text, encoding="utf-8")
        if name.endswith((".sh", ".slurm")):
            path.chmod(0o755)
    return [folder / name for name, _ in written]


def command_words(argv: list[str]) -> str:
    """The command line of a plan as one could type it again."""
    return shlex.join(["medscroll", "plan", *argv])
