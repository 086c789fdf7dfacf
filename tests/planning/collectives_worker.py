"""Run by `torchrun`: a small model under DeepSpeed, with the elements of every collective of one optimizer step.

Argument: a JSON list of objects with the keys of `TASK`; prints one JSON line a task from rank 0.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import torch

from medscroll.planning.process_group import leave

TASK: dict[str, Any] = {
    "stage": 3, "accumulation": 1, "lora": 0, "recompute": True, "layers": 8,
    "vocabulary": 512, "options": {}, "hpz": 1,
}  # fmt: skip
COUNTED: Counter[str] = Counter()
NAMES = (
    "all_reduce", "all_gather_into_tensor", "_all_gather_base", "all_gather", "reduce_scatter_tensor",
    "_reduce_scatter_base", "reduce_scatter", "all_gather_single", "reduce_scatter_single",
)  # fmt: skip


def elements(values: Any) -> int:
    """Elements of the largest tensor, or list of tensors, of a call: the whole that is gathered or reduced."""
    found = [0]
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value.numel())
        elif isinstance(value, (list, tuple)):
            found.append(sum(item.numel() for item in value if isinstance(item, torch.Tensor)))
    return max(found)


def count_collectives() -> None:
    """Wrap torch's collectives, outermost calls only, for what DeepSpeed's backend calls."""
    inside = [False]

    def wrapped(name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if inside[0]:
                return real(*args, **kwargs)
            kind = "all_gather" if "gather" in name else "reduce_scatter" if "scatter" in name else "all_reduce"
            group = kwargs.get("group")
            small = group is not None and torch.distributed.get_world_size(group) < torch.distributed.get_world_size()
            size = elements([*args, *kwargs.values()])
            if size > 64:  # norms, overflow flags, orders of modules
                COUNTED[kind + "_in_group" * small] += size
            inside[0] = True
            try:
                return real(*args, **kwargs)
            finally:
                inside[0] = False

        return call

    for module in (torch.distributed, torch.distributed.distributed_c10d):
        for name in NAMES:
            if hasattr(module, name):
                setattr(module, name, wrapped(name, getattr(module, name)))


def one_step(task: dict[str, Any]) -> dict[str, int]:
    """Three steps of a task; the third is counted, when the order of modules is known."""
    import deepspeed
    from transformers import AutoModelForCausalLM
    from transformers.integrations import HfDeepSpeedConfig

    from medscroll.config.arguments import ModelArguments
    from medscroll.model.load import load_config
    from medscroll.planning.search import zero_options

    config = load_config(ModelArguments(model_name_or_path="tiny", from_scratch=True))
    config.num_hidden_layers, config.vocab_size = task["layers"], task["vocabulary"]
    options = {**zero_options(task["stage"], config.hidden_size), **task["options"]}
    if task["hpz"] > 1:
        options["zero_hpz_partition_size"] = task["hpz"]
    setup = {
        "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": task["accumulation"],
        "bf16": {"enabled": True}, "zero_optimization": options, "zero_allow_untested_optimizer": True,
        "gradient_clipping": 1.0,
    }  # fmt: skip
    alive = HfDeepSpeedConfig(setup)  # from_config then builds a sharded model
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.config.use_cache = False
    if task["recompute"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if task["lora"]:
        import peft

        model.enable_input_require_grads()
        model = peft.get_peft_model(model, peft.LoraConfig(r=task["lora"], target_modules="all-linear"))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
    model.train()
    trained = [item for item in model.parameters() if item.requires_grad]
    engine = deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(trained), config=alive.config)[0]
    ids = torch.arange(32).reshape(1, -1) % config.vocab_size
    for _ in range(3):
        COUNTED.clear()
        for _ in range(task["accumulation"]):
            engine.backward(engine(input_ids=ids, labels=ids).loss)
            engine.step()
    found = dict(COUNTED)
    engine.destroy()
    return found


def main() -> None:
    """Every task in turn, in one process group."""
    count_collectives()
    from medscroll.engine.deepspeed import join_deepspeed

    torch.distributed.init_process_group("gloo")
    join_deepspeed()
    for task in json.loads(sys.argv[1]):
        found = one_step(TASK | task)
        if torch.distributed.get_rank() == 0:
            print("COUNTED " + json.dumps(found), flush=True)
    leave()


if __name__ == "__main__":
    main()
