"""Run by `torchrun`: one step under ZeRO-3 with the loss in portions, beside the plain loss of one process."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from medscroll.model import kernels, loss_in_portions
from medscroll.model.loss_in_portions import LossInPortions
from medscroll.planning.process_group import leave
from tests.model.shapes import documents, pack_row, tiny_config

ROWS = [[37, 1, 200, 19, 70], [150, 2, 175]]


def build() -> Any:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(5)
    config = tiny_config("llama")
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="per_document").train()


def main() -> None:
    """Arguments: output file."""
    import deepspeed

    # DeepSpeed compiles its CPU communication once per cache folder: that of the runs, one per environment
    own = hashlib.sha256(sys.prefix.encode()).hexdigest()[:12]
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(tempfile.gettempdir()) / f"torch_extensions_{own}"))
    kernels.register()
    loss_in_portions.PORTION = 50
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    rank = torch.distributed.get_rank()
    rows = [pack_row(documents(lengths, seed=seed)) for seed, lengths in enumerate(ROWS)]
    targets = torch.tensor(sum(int((row["labels"] != -100).sum()) for row in rows))

    alone, expected, plain = build(), {}, torch.zeros(())
    if rank == 0:
        for row in rows:
            loss = alone(**row, use_cache=False, num_items_in_batch=targets).loss
            loss.backward()
            plain += loss.detach()
        expected = {name: parameter.grad for name, parameter in alone.named_parameters()}

    model = build()
    portions = LossInPortions(model)
    zero = {"stage": 3, "stage3_param_persistence_threshold": 0, "stage3_max_reuse_distance": 0}
    config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": zero, "zero_allow_untested_optimizer": True}
    engine = deepspeed.initialize(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.0), config=config)[0]
    gathers = [0]
    weight = model.lm_head.weight
    gather = weight.all_gather_coalesced

    def counted(parameters: Any, *args: Any, **kwargs: Any) -> Any:
        gathers[0] += sum(parameter.ds_id == weight.ds_id for parameter in parameters)
        return gather(parameters, *args, **kwargs)

    for parameter in model.parameters():
        parameter.all_gather_coalesced = counted
    row = rows[rank]
    rest = {name: value for name, value in row.items() if name != "labels"}
    with portions.of(row["labels"]):
        outputs = engine(**rest, use_cache=False)
    # the engine takes the mean over ranks: times their number it is the sum
    loss = portions.loss(outputs, row["labels"], num_items_in_batch=targets) * len(ROWS)
    engine.backward(loss)
    found = {}
    for name, parameter in model.named_parameters():
        found[name] = deepspeed.utils.safe_get_full_grad(parameter)  # all ranks take part
    total = loss.detach() / len(ROWS)
    torch.distributed.all_reduce(total)
    if rank == 0:
        print(f"gathers of lm_head: {gathers[0]}", flush=True)
        torch.save({"expected": expected, "plain": plain, "gradients": found, "loss": total}, sys.argv[1])
    leave()


if __name__ == "__main__":
    main()
