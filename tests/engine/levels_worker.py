"""Run by `torchrun`: a few steps at each level of activation memory under each ZeRO stage; rank 0 prints the losses."""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from medscroll.config.arguments import AdapterArguments, ModelArguments
from medscroll.engine.deepspeed import join_deepspeed
from medscroll.model.activation_levels import parse_level
from medscroll.model.load import build_model, load_config
from medscroll.model.recompute import apply_level
from medscroll.model.tiled_mlp import _Tiled
from medscroll.planning.process_group import leave
from tests.model.shapes import documents, pack_row
from tests.model.storages import Storages

STEPS, LAYERS, LENGTHS = 3, 4, ([37, 1, 64, 19], [90, 31])


def main() -> None:
    """Arguments: ZeRO stages, levels, both comma lists."""
    import deepspeed

    stages, levels = sys.argv[1].split(","), sys.argv[2].split(",")
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    torch.distributed.init_process_group("gloo")
    join_deepspeed()
    results = {stage: {level: train(deepspeed, int(stage), level) for level in levels} for stage in stages}
    if torch.distributed.get_rank() == 0:
        print("RESULT " + json.dumps(results), flush=True)
    leave()


def train(deepspeed: Any, stage: int, level: str) -> dict[str, Any]:
    """Losses summed over ranks, norms of the gradient, and bytes that this rank kept for the first backward pass."""
    from transformers.integrations import HfDeepSpeedConfig, unset_hf_deepspeed_config

    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
    }
    alive = HfDeepSpeedConfig(settings)
    args = ModelArguments(model_name_or_path="tiny", from_scratch=True)
    config = load_config(args, vocab_size=128)  # logits would hide what layers keep
    config.num_hidden_layers = LAYERS
    # wide enough for the products of the layers to be told from those of an adapter
    config.hidden_size, config.intermediate_size, config.head_dim = 160, 224, 40
    parsed = parse_level(level)
    model = build_model(
        args, AdapterArguments(), config, dtype=torch.float32, device="cpu", attn_backend="per_document", seed=7,
        gradient_checkpointing=parsed.recomputes,
    )  # fmt: skip
    apply_level(model, parsed)
    for module in model.modules():
        if isinstance(module, _Tiled):
            module.tile_tokens = 50
    rank = torch.distributed.get_rank()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    engine = deepspeed.initialize(model=model, optimizer=optimizer, config=alive.config)[0]
    batch = pack_row(documents(LENGTHS[rank], seed=rank))
    losses, norms, kept = [], [], 0
    for step in range(STEPS):
        with Storages() as storages:
            loss = engine(**batch, use_cache=False).loss
        if step == 1:  # after what DeepSpeed sets up in the first one
            own = {StorageWeakRef(parameter.untyped_storage()) for parameter in model.parameters()}
            kept = storages.alive(own)
        engine.backward(loss)
        engine.step()
        total = loss.detach().clone()
        torch.distributed.all_reduce(total)
        losses.append(float(total))
        norms.append(float(engine.get_global_grad_norm() or 0.0))
    engine.destroy()
    unset_hf_deepspeed_config()
    del engine, model, optimizer
    gc.collect()
    return {"losses": losses, "norms": norms, "kept": kept}


if __name__ == "__main__":
    main()
