"""Host memory of building a model under ZeRO-3: peak resident memory of every rank, against full copies.

    torchrun --standalone --nproc_per_node 4 benchmarks/zero3_build_memory.py --model small-2b
    torchrun --standalone --nproc_per_node 4 benchmarks/zero3_build_memory.py --model FOLDER     (a checkpoint)

Builds and does not train. Prints one JSON object: bytes of one full copy, the sum over ranks of the growth of
anonymous and of all resident memory at its peak (sampled every 10 ms), and the ratio to one copy a rank.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from pathlib import Path

import psutil
import torch
import torch.distributed as dist


class PeakMemory(threading.Thread):
    """Samples this process's resident and anonymous memory until stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.running, self.resident, self.private = True, 0, 0

    def run(self) -> None:
        """Sample until `running` is false."""
        process = psutil.Process()
        while self.running:
            memory = process.memory_info()
            self.resident = max(self.resident, memory.rss)
            self.private = max(self.private, memory.rss - memory.shared)
            time.sleep(0.01)


def main() -> None:
    """Build under ZeRO-3 and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="small-2b", help="a preset, or a folder in Hugging Face layout")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    flags = parser.parse_args()
    from medscroll.config.arguments import AdapterArguments, ModelArguments
    from medscroll.config.training import TrainingArguments
    from medscroll.engine.deepspeed import join_deepspeed, load_deepspeed
    from medscroll.model.load import build_model, load_config
    from medscroll.planning.compute import count_parameters
    from medscroll.planning.process_group import leave

    on_gpu = torch.cuda.is_available()
    model_args = ModelArguments(model_name_or_path=flags.model, from_scratch=not Path(flags.model).is_dir())
    config = load_config(model_args)
    parameters = count_parameters(config)  # before ZeRO-3 is on: it partitions whatever transformers builds
    args = TrainingArguments(output_dir="zero3-build", use_cpu=not on_gpu, bf16=flags.dtype == "bfloat16")
    args.learning_rate, args.gradient_checkpointing, args.save_steps = 1e-5, False, 500
    args.deepspeed = load_deepspeed("zero3", on_gpu=on_gpu)
    args.start()
    join_deepspeed()
    before = psutil.Process().memory_info()
    sampler = PeakMemory()
    sampler.start()
    started = time.perf_counter()
    model = build_model(
        model_args,
        AdapterArguments(),
        config,
        dtype=getattr(torch, flags.dtype),
        device=args.device,
        attn_backend="per_document",
        seed=1,
        gradient_checkpointing=False,
    )
    seconds = time.perf_counter() - started
    sampler.running = False
    sampler.join()
    growth = torch.tensor([sampler.resident - before.rss, sampler.private - (before.rss - before.shared)])
    ranks = [torch.zeros_like(growth) for _ in range(dist.get_world_size())]
    dist.all_gather(ranks, growth)
    if dist.get_rank() == 0:
        copy = parameters * torch.finfo(getattr(torch, flags.dtype)).bits // 8
        total = int(sum(rank[0] for rank in ranks))
        report = {
            "model": flags.model,
            "parameters": parameters,
            "dtype": flags.dtype,
            "ranks": len(ranks),
            "one_copy_bytes": copy,
            "peak_growth_bytes_by_rank": [int(rank[0]) for rank in ranks],
            "peak_private_growth_bytes_by_rank": [int(rank[1]) for rank in ranks],
            "sum_over_copies": round(total / copy, 3),
            "full_copies_would_be": len(ranks),
            "seconds": round(seconds, 1),
            "partitioned": all(hasattr(parameter, "ds_id") for parameter in model.parameters()),
            "host": os.uname().machine,
        }
        print(json.dumps(report, indent=2))
    leave()


if __name__ == "__main__":
    main()
