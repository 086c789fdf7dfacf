"""Run by `torchrun`: builds or loads a model under ZeRO-3 and saves its gathered weights from rank 0."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

from medscroll.config.arguments import AdapterArguments, ModelArguments
from medscroll.model.load import build_model, load_config
from medscroll.planning.process_group import leave


def anonymous_memory() -> int:
    """Bytes of this process that no file backs."""
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


def main() -> None:
    """Arguments: model, scratch|load|checkpoint, dtype, output file (a folder for a DeepSpeed checkpoint) or "-"."""
    import deepspeed
    from transformers.integrations import HfDeepSpeedConfig

    name, mode, dtype, output = sys.argv[1:5]
    # DeepSpeed compiles its CPU communication once per cache folder; two environments that share one rebuild it under
    # each other's feet.
    own = hashlib.sha256(sys.prefix.encode()).hexdigest()[:12]
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(tempfile.gettempdir()) / f"torch_extensions_{own}"))
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    alive = HfDeepSpeedConfig(
        {
            "train_micro_batch_size_per_gpu": 1,
            "zero_optimization": {"stage": 3},
            "bf16": {"enabled": dtype == "bfloat16"},
        }
    )
    args = ModelArguments(model_name_or_path=name, from_scratch=mode != "load")
    config = load_config(args)
    before, peak, done = anonymous_memory(), [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], anonymous_memory())
            time.sleep(0.02)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    model = build_model(
        args, AdapterArguments(), config, dtype=getattr(torch, dtype), device="cpu", attn_backend="per_document",
        seed=7, gradient_checkpointing=False,
    )  # fmt: skip
    done.set()
    watcher.join()
    sharded = all(parameter.numel() == 0 for parameter in model.parameters())
    peaks = [torch.zeros(1, dtype=torch.int64) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(peaks, torch.tensor([peak[0] - before]))
    weights = {}
    if mode == "checkpoint":
        optimizer = torch.optim.AdamW(model.parameters())
        engine = deepspeed.initialize(model=model, optimizer=optimizer, config=alive.config)[0]
        engine.save_checkpoint(output)  # all ranks take part
        if torch.distributed.get_rank() == 0:
            model.config.save_pretrained(output)
    elif output != "-":
        for key, parameter in model.named_parameters():
            with deepspeed.zero.GatheredParameters([parameter]):  # all ranks take part
                weights[key] = parameter.detach().clone()
        weights |= dict(model.named_buffers())
    if torch.distributed.get_rank() == 0:
        total = (
            sum(parameter.ds_numel for parameter in model.parameters()) * torch.empty((), dtype=model.dtype).itemsize
        )
        print(f"RESULT sharded={sharded} model_bytes={total} peaks={[int(p) for p in peaks]}", flush=True)
        if weights:
            torch.save(weights, output)
    assert alive.is_zero3()
    leave()


if __name__ == "__main__":
    main()
