"""TRL's own SFTTrainer on the documents and the model of a row, for a comparison in the same run.

How: the documents of the token store become a dataset with one column, `input_ids`; TRL packs them itself
(`packing=True`, its default strategy "bfd"). A row sets `trl` to one of

- "plain": what an installation gives. SDPA, gradient checkpointing and mixed precision as TRL's defaults have them.
- "best": flash-attn-4 and Liger on top, weights and optimizer states in bfloat16 without autocast, fused AdamW.
  Liger rotates by its Triton kernel, as its default is compiled anew for every row length, and TRL's packed rows have
  many. Full recomputation: TRL's selective recomputation keeps operators of torch, which flash-attn-4 is not.
  Kernels from the hub (`use_kernels`) need a network and are left out; so is torch.compile, anew for every length.

The weights are random, drawn on the GPU, of `row.dtype`: where that is bfloat16, "plain" is given what TRL would make
float32 by default. A step holds one packed row, where TRL's default of eight would be one row eight times as long.
Where a setting runs out of memory the next of `SETTINGS` is tried, and the line says which did.

Times are those of whole optimizer steps between synchronisations, without the loading of the batch; tokens are those
of the rows, which have no padding; MFU counts the same document-masked FLOPs as the other rows. `attended_pieces` is
the length of the piece that a token lies in, on average.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from rows import Row

GIB = 2**30
SEED = 42
ENOUGH = 1  # measured steps after which a row that takes too long may end


@dataclass(frozen=True)
class Setting:
    """What a try changes after the one before it ran out of memory."""

    name: str
    offload: bool = False  # TRL's activation_offloading
    shorter: int = 1  # divides the length of the rows


SETTINGS = (Setting("as asked"), Setting("activations offloaded", offload=True), Setting("half the row", shorter=2))


def measure(row: Row, data_dir: str) -> dict[str, Any]:
    """Train `row.warm + row.steps` steps with TRL at the first setting that fits, and say what that took."""
    import torch

    os.environ["LIGER_KERNEL_IMPL_ROPE"] = "nvidia-triton"  # read by Liger at its first rotation
    began, refused = time.perf_counter(), list[str]()
    for setting in SETTINGS:
        try:
            return {**Peer(row, data_dir, setting, began).run(), "out_of_memory": refused}
        except torch.cuda.OutOfMemoryError:
            refused.append(setting.name)
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    raise RuntimeError(f"out of memory with every setting: {', '.join(refused)}")


class Peer:
    """One try: model, documents and trainer of TRL, and the clock of its steps."""

    def __init__(self, row: Row, data_dir: str, setting: Setting, began: float) -> None:
        import torch

        from medscroll.packing.store import TokenStore

        self.row, self.setting, self.began = row, setting, began
        self.on_gpu = torch.cuda.is_available()
        self.block_size = row.block_size // setting.shorter
        self.store = TokenStore.open(f"{data_dir}/tokens/train")
        self.seconds: list[float] = []
        self.positions: list[Any] = []
        self.losses: list[float] = []
        best = row.trl == "best"
        self.attention = "flash_attention_4" if best and self.on_gpu else "sdpa"
        self.liger = best and self.on_gpu and importlib.util.find_spec("liger_kernel") is not None
        if best and self.on_gpu and not self.liger:
            raise RuntimeError("liger-kernel is missing: pip install liger-kernel")

    def run(self) -> dict[str, Any]:
        """Build and train; the measured values."""
        with tempfile.TemporaryDirectory(prefix="medscroll-trl-") as folder:
            model = self.model()
            trainer = self.trainer(model, folder)
            built = time.perf_counter() - self.began
            trainer.train()
        import torch
        import trl

        settings = trainer.args
        return {
            "trl_version": trl.__version__,
            "setting": self.setting.name,
            "block_size": self.block_size,
            "attn_backend": model.config._attn_implementation,
            "weight_dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
            "autocast": bool(settings.bf16),
            "optimizer": str(getattr(settings.optim, "value", settings.optim)),
            "liger": bool(settings.use_liger_kernel),
            "rope_of_liger": os.environ["LIGER_KERNEL_IMPL_ROPE"] if self.liger else "",
            "gradient_checkpointing": bool(settings.gradient_checkpointing),
            "packing": settings.packing_strategy,
            **self.packed(trainer.train_dataset),
            **self.speed(),
            "build_seconds": round(built, 1),
            "peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 1) if self.on_gpu else None,
            "reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 1) if self.on_gpu else None,
        }

    def model(self) -> Any:
        """Random weights of the row's shape, with transformers' own attention."""
        import torch

        from medscroll.config.arguments import ModelArguments
        from medscroll.model.load import load_config
        from medscroll.model.random_weights import build_random
        from medscroll.planning.compute import count_parameters, model_flops

        arguments = ModelArguments(model_name_or_path=self.row.model, from_scratch=True)
        config = load_config(arguments, vocab_size=self.store.vocab_size)
        config.max_position_embeddings = max(self.block_size, config.max_position_embeddings)
        self.flops = model_flops(config, count_parameters(config))
        model = build_random(
            config,
            dtype=getattr(torch, self.row.dtype),
            device=torch.device("cuda", 0) if self.on_gpu else torch.device("cpu"),
            attn_backend="sdpa",
            seed=SEED,
        )
        if self.attention != "sdpa":
            model.set_attn_implementation(self.attention)
        return model.train()

    def trainer(self, model: Any, folder: str) -> Any:
        """TRL's trainer, which also packs; positions of every row are kept to count tokens and pieces."""
        from datasets import Dataset
        from measure import tokenizer
        from trl import SFTConfig, SFTTrainer

        peer = self

        class Timed(SFTTrainer):  # type: ignore[misc]
            def training_step(self, model: Any, inputs: dict[str, Any], *values: Any, **more: Any) -> Any:
                peer.positions.append(inputs["position_ids"])
                return super().training_step(model, inputs, *values, **more)

        best = {"bf16": False, "use_liger_kernel": self.liger, "optim": "adamw_torch_fused"}
        settings = SFTConfig(
            output_dir=folder,
            max_length=self.block_size,
            packing=True,
            per_device_train_batch_size=1,
            max_steps=self.row.warm + self.row.steps,
            activation_offloading=self.setting.offload,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not self.on_gpu,
            **(best if self.row.trl == "best" else {}),
        )
        documents = Dataset.from_dict(
            {"input_ids": [np.asarray(self.store[index], dtype=np.int64) for index in range(len(self.store))]}
        )
        words = tokenizer()
        return Timed(
            model=model, args=settings, train_dataset=documents, processing_class=words, callbacks=[self.clock()]
        )

    def clock(self) -> Any:
        """Seconds and losses of each optimizer step; ends a row that takes longer than it was given."""
        import torch
        from transformers import TrainerCallback

        peer = self

        def settle() -> float:
            if peer.on_gpu:
                torch.cuda.synchronize()
            return time.perf_counter()

        class Steps(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                peer.since = settle()

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                now = settle()
                peer.seconds.append(now - peer.since)
                measured = len(peer.seconds) - peer.row.warm
                if measured >= ENOUGH and now - peer.began + peer.seconds[-1] > peer.row.seconds:
                    control.should_training_stop = True

            def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if "loss" in (kwargs.get("logs") or {}):
                    peer.losses.append(float(kwargs["logs"]["loss"]))

        return Steps()

    def packed(self, rows: Any) -> dict[str, Any]:
        """What TRL's packing made of the documents."""
        lengths = [sum(pieces) for pieces in rows["seq_lengths"]]
        kept = sum(lengths)
        return {
            "packed_rows": len(lengths),
            "fill": round(kept / (len(lengths) * self.block_size), 4),
            "tokens_left_out": int(np.sum(self.store.lengths)) - kept,
        }

    def speed(self) -> dict[str, Any]:
        """Medians over the steps after the warm ones."""
        import torch

        from medscroll.planning.compute import peak_flops

        pieces = [lengths_of(positions.cpu().numpy()) for positions in self.positions]
        steps = list(zip(self.seconds, pieces, strict=True))[self.row.warm :]
        rates = [float(found.sum()) / second for second, found in steps]
        squares = [float((found**2).sum()) for _, found in steps]
        speeds = [
            self.flops.of(float(found.sum()), square) / second
            for (second, found), square in zip(steps, squares, strict=True)
        ]
        name = torch.cuda.get_device_name() if self.on_gpu else "CPU"
        peak = peak_flops(name) if self.on_gpu else None
        return {
            "device": name,
            "tokens_a_step": statistics.median(float(found.sum()) for _, found in steps),
            "pieces_a_step": [len(found) for _, found in steps],
            "attended_pieces": round(sum(squares) / sum(float(found.sum()) for _, found in steps), 1),
            "step_seconds": [round(second, 3) for second in self.seconds],
            "tokens_per_second": round(statistics.median(rates), 1),
            "model_tflops_per_second": round(statistics.median(speeds) / 1e12, 2),
            "mfu": round(statistics.median(speeds) / peak, 4) if peak else None,
            "losses": [round(loss, 4) for loss in self.losses],
        }


def lengths_of(positions: np.ndarray) -> np.ndarray:
    """Lengths of the pieces of a row, int64, from positions that begin at 0 in each; [1, T] or [T]."""
    flat = positions.reshape(-1)
    return np.diff(np.append(np.flatnonzero(flat == 0), len(flat))).astype(np.int64)
