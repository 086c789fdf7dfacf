"""Run by `torchrun`: a small model under real DeepSpeed, with the bytes that every rank holds of each part.

Argument: a JSON list of objects with the keys of `TASK`; prints one JSON line a task from rank 0, a list over ranks.
Bytes are those of distinct storages, so that views and padding count as they are allocated.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterable
from typing import Any

import torch

TASK: dict[str, Any] = {
    "stage": 3, "accumulation": 1, "lora": 0, "layers": 5, "vocabulary": 1021, "options": {}, "offload": False,
    "half": True, "recompute": False,
}  # fmt: skip


def storages(values: Iterable[Any]) -> dict[int, int]:
    """Address -> bytes of the storages of all tensors in a nest of lists, tuples and dictionaries."""
    found: dict[int, int] = {}
    for value in values:
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
        elif isinstance(value, dict):
            found |= storages(value.values())
        elif isinstance(value, (list, tuple)):
            found |= storages(value)
    found.pop(0, None)
    return found


def size(values: Iterable[Any], besides: Iterable[Any] = ()) -> int:
    """Bytes of the storages of `values` that are not those of `besides`."""
    other = storages(besides)
    return sum(count for address, count in storages(values).items() if address not in other)


def alive() -> int:
    """Bytes of all storages that Python can reach."""
    gc.collect()
    return size(item for item in gc.get_objects() if type(item) in (torch.Tensor, torch.nn.Parameter))


def weights(model: Any) -> list[Any]:
    """The tensors that hold weights."""
    found = [item.data for item in model.parameters()]
    return found + [item.ds_tensor.data for item in model.parameters() if hasattr(item, "ds_tensor")]


def masters(optimizer: Any) -> list[Any]:
    """DeepSpeed's float32 weights of this rank."""
    name = "single_partition_of_fp32_groups"
    return getattr(optimizer, name, None) or optimizer.fp32_partitioned_groups_flat


def between_micro_steps(optimizer: Any, model: Any) -> list[Any]:
    """Gradients that wait for the next micro step."""
    flat = getattr(optimizer, "grad_partitions_flat_buffer", None)
    held = [flat] if flat is not None else []
    held += [list(getattr(optimizer, "all_grad_tensors", {}).values())]
    return held + [item.grad for item in model.parameters() if item.grad is not None]


def host_only(optimizer: Any) -> list[Any]:
    """What offload adds beside master weights and moments."""
    names = ("param_buffer_of_bit16_for_cpu_offload_groups", "temp_grad_buffer_for_cpu_offload")
    found = [getattr(optimizer, name) for name in names if hasattr(optimizer, name)]
    found += [getattr(optimizer, "accumulated_grads_in_cpu", {})]
    return [*found, [item.grad for item in masters(optimizer) if item.grad is not None]]


def watch_gathered(optimizer: Any, model: Any) -> dict[bool, int]:
    """Most elements of gathered parameters after any fetch, in the forward (True) and in the backward pass; live."""
    coordinator, most = optimizer._get_param_coordinator(), {True: 0, False: 0}
    real = type(coordinator).fetch_sub_module.__get__(coordinator)
    parameters = [item for item in model.parameters() if not item.ds_persist]

    def fetch(module: Any, forward: bool) -> Any:
        done = real(module, forward)
        there = sum(item.ds_numel for item in parameters if item.ds_status.name != "NOT_AVAILABLE")
        most[forward] = max(most[forward], there)
        return done

    coordinator.fetch_sub_module = fetch
    return most


def measure(task: dict[str, Any]) -> dict[str, int]:
    """Two optimizer steps of a task on this rank."""
    import deepspeed
    from transformers import AutoModelForCausalLM, Trainer
    from transformers.integrations import HfDeepSpeedConfig

    from medscroll.config.arguments import ModelArguments
    from medscroll.model.load import load_config

    config = load_config(ModelArguments(model_name_or_path="tiny", from_scratch=True))
    config.num_hidden_layers, config.vocab_size = task["layers"], task["vocabulary"]
    dtype = torch.bfloat16 if task["half"] else torch.float32
    alive_config = HfDeepSpeedConfig({
        "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": task["accumulation"],
        "bf16": {"enabled": task["half"]}, "zero_optimization": task["options"],
        "zero_allow_untested_optimizer": True, "gradient_clipping": 1.0, "zero_force_ds_cpu_optimizer": False,
    })  # fmt: skip
    before = alive()
    model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.config.use_cache = False
    if task["lora"]:
        import peft

        model = peft.get_peft_model(model, peft.LoraConfig(r=task["lora"], target_modules="all-linear"))
    if task["recompute"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    decayed = Trainer.get_decay_parameter_names(None, model)  # type: ignore[arg-type]
    groups: list[dict[str, Any]] = [{"params": [], "weight_decay": decay} for decay in (0.1, 0.0)]
    for name, item in model.named_parameters():
        if item.requires_grad:
            groups[0 if name in decayed else 1]["params"].append(item)
    adam = torch.optim.AdamW([group for group in groups if group["params"]])
    engine = deepspeed.initialize(model=model, optimizer=adam, config=alive_config.config)[0]
    ids = torch.arange(32).reshape(1, -1) % config.vocab_size
    waiting, live = 0, {True: 0, False: 0}
    for _ in range(3):
        if task["stage"] == 3:
            live = watch_gathered(engine.optimizer, model)
        for micro in range(task["accumulation"]):
            engine.backward(engine(input_ids=ids, labels=ids).loss)
            if micro < task["accumulation"] - 1:
                waiting = size(between_micro_steps(engine.optimizer, model), besides=weights(model))
            engine.step()
    optimizer, known = engine.optimizer, weights(model)
    moments = [value for state in adam.state.values() for value in state.values() if value.numel() > 1]
    flat = getattr(optimizer, "grad_partitions_flat_buffer", None)
    found = {
        "weights": size(known),
        "master": size(masters(optimizer), besides=known),
        "moments": size(moments),
        "gradients": max(waiting, size([flat]) if flat is not None else 0),
        "host_extra": size(host_only(optimizer), besides=[masters(optimizer), moments]) if task["offload"] else 0,
        "bucket": size(bucket.buffer for bucket in optimizer.ipg_buckets.values()),
    }
    found |= {"live_forward": live[True], "live_backward": live[False]}
    found["alive"] = alive() - before
    engine.destroy()
    return found


def main() -> None:
    """Every task in turn, in one process group."""
    from medscroll.engine.deepspeed import join_deepspeed

    torch.distributed.init_process_group("gloo")
    join_deepspeed()
    for task in json.loads(sys.argv[1]):
        gathered: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, measure(TASK | task))
        if torch.distributed.get_rank() == 0:
            print("HELD " + json.dumps(gathered), flush=True)
    from medscroll.planning.process_group import leave

    leave()


if __name__ == "__main__":
    main()
