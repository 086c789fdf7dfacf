"""Peak memory and step time of real training runs on one GPU, for the planner to be held against.

    python benchmarks/planner/measure_gpu.py --output measured.jsonl [--minutes 8] [--only NAME,NAME] [--tiny]

Each run goes through what `medscroll pretrain` uses: `choose`, `build_model`, `make_trainer` and the Trainer (with
DeepSpeed where the run asks for it); only the texts are random tokens, held in memory. Three steps each, the first
warms up. One process a group of runs; what leaks memory or crashes ends its process, and the next one goes on with
the run after it. Prints one JSON line a run (and appends it to --output): the configuration, bytes allocated after
building, when training begins and after the last step; peak bytes until the end of the forward pass, of the backward
pass, of the optimizer and of all; reserved bytes; seconds of the phases (median of the steps after the first).
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]
from configurations import TINY, Run, all_runs  # noqa: E402

LEAK = 512 * 2**20
PHASES = ("forward", "backward", "optimizer")


def main() -> None:
    """Measure in processes of this script, or be one of them (--group)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="planner_measured.jsonl", help="JSON lines are appended to this file")
    parser.add_argument("--minutes", type=float, default=8.0, help="no run begins later than this")
    parser.add_argument("--only", default="", help="comma list of names of runs")
    parser.add_argument("--tiny", action="store_true", help="tiny models instead: a test of this script, on a CPU too")
    parser.add_argument("--group", default="", help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, default=0.0, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.group:
        work(chosen(flags), Path(flags.output), flags.deadline)
    else:
        supervise(flags)


def chosen(flags: argparse.Namespace) -> list[Run]:
    """The runs that the flags name."""
    runs = TINY if flags.tiny else all_runs()
    names = [name for name in flags.only.split(",") if name]
    return [r for r in runs if (not names or r.name in names) and (not flags.group or r.group == flags.group)]


def supervise(flags: argparse.Namespace) -> None:
    """One process a group, restarted behind the run that ended it, each with its share of the time."""
    output, began = Path(flags.output), time.time()
    runs = chosen(flags)
    groups = list(dict.fromkeys(run.group for run in runs))
    for at, group in enumerate(groups):
        left = began + 60 * flags.minutes - time.time()
        weights = [sum(run.group == other for run in runs) for other in groups[at:]]
        deadline = time.time() + left * weights[0] / sum(weights)
        for _ in range(8):
            rest = [run.name for run in runs if run.group == group and run.name not in finished(output)]
            if not rest or time.time() > deadline:
                break
            command = [sys.executable, __file__, "--group", group, "--output", str(output), "--only", ",".join(rest)]
            command += ["--deadline", str(deadline), *(["--tiny"] if flags.tiny else [])]
            code = subprocess.run(command, check=False).returncode
            left_over = [name for name in rest if name not in finished(output)]
            if code != 0 and left_over == rest:  # it died before its first run could say anything
                report(output, {"name": rest[0], "error": f"process ended with {code}"})
        for name in [run.name for run in runs if run.group == group and run.name not in finished(output)]:
            report(output, {"name": name, "error": "no time left"})
    print(f"{time.time() - began:.0f} s", file=sys.stderr)


def finished(output: Path) -> set[str]:
    """Names of the runs that have a line."""
    if not output.exists():
        return set()
    return {json.loads(line)["name"] for line in output.read_text("utf-8").splitlines()}


def report(output: Path, record: dict[str, Any]) -> None:
    """Print a line and append it."""
    line = json.dumps(record)
    print(line, flush=True)
    with output.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def work(runs: list[Run], output: Path, deadline: float) -> None:
    """Measure runs of one group, one after the other, until one leaves memory behind or time is over."""
    import torch

    for run in runs:
        if time.time() > deadline:
            return
        began = time.perf_counter()
        record: dict[str, Any] = dataclasses.asdict(run)
        try:
            record |= measure(run)
        except Exception as error:
            record["error"] = f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"
            if os.environ.get("MEASURE_TRACE"):
                traceback.print_exc()
            traceback.clear_frames(error.__traceback__)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            record["left_behind"] = torch.cuda.memory_allocated()
        else:
            tensors = [item for item in gc.get_objects() if isinstance(item, torch.Tensor)]
            record["left_behind"] = sum(item.numel() * item.element_size() for item in tensors)
        record["seconds_in_all"] = round(time.perf_counter() - began, 1)
        report(output, record)
        if record.get("left_behind", 0) > LEAK:
            os._exit(0)


class RandomDocuments:
    """A token source of `count` documents of one length, all of random ids."""

    adds_bos = False
    cuts = None

    def __init__(self, count: int, length: int, vocabulary: int) -> None:
        import numpy as np

        self.lengths = np.full(count, length, dtype=np.int64)
        self.tokens = np.random.default_rng(0).integers(3, vocabulary, size=(count, length), dtype=np.int64)

    def __getitem__(self, index: int) -> Any:
        return self.tokens[index]

    def __len__(self) -> int:
        return len(self.lengths)


def tokenizer() -> Any:
    """A tokenizer of three words: the Trainer wants one beside the model."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2}, unk_token="<pad>")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), pad_token="<pad>", eos_token="</s>")


def stage_data(run: Run, config: Any) -> Any:
    """The rows of a run: every block holds block_size tokens in documents of one length."""
    from medscroll.engine.session import StageData
    from medscroll.packing.dataset import PackedDataset
    from medscroll.packing.plan import pack

    blocks = run.steps * run.accumulation * run.micro_batch
    source = RandomDocuments(blocks * run.block_size // run.document, run.document, config.vocab_size)
    plan = pack(source.lengths, block_size=run.block_size, context_tokens=0)
    assert plan.num_blocks == blocks, "a row is not full"
    return StageData(
        train=PackedDataset(source, plan),
        validation=None,
        validation_bytes=None,
        tokenizer=tokenizer(),
        config=config,
        ledger=lambda consumed: {},
        resolved={},
    )


def arguments(run: Run, folder: str) -> tuple[Any, Any, Any]:
    """The flags of a run as `medscroll pretrain` parses them."""
    from medscroll.config.arguments import AdapterArguments, ModelArguments
    from medscroll.config.training import TrainingArguments

    model = ModelArguments(
        model_name_or_path=run.model,
        from_scratch=True,
        dtype=run.dtype,
        use_liger=run.liger,
        attn_backend=run.attention,
        max_position_embeddings=run.document,
    )
    adapters = AdapterArguments(use_peft=run.lora_rank > 0, lora_rank=max(run.lora_rank, 1), qlora=run.qlora)
    training = TrainingArguments(
        output_dir=folder,
        deepspeed=run.engine,
        max_steps=run.steps,
        warmup_steps=1,
        save_minutes=0,
        gradient_checkpointing=run.recompute,
        gradient_accumulation_steps=run.accumulation,
        per_device_train_batch_size=run.micro_batch,
    )
    if run.level:
        if not hasattr(training, "activation_memory"):
            raise NotImplementedError("this build has no --activation_memory")
        training.activation_memory = run.level
        training.gradient_checkpointing = None
    return model, adapters, training


def measure(run: Run) -> dict[str, Any]:
    """Build, train `run.steps` steps, and say what that took."""
    import torch

    from medscroll.engine import session
    from medscroll.engine.deepspeed import load_deepspeed, zero_stage
    from medscroll.engine.topology import topology, training_device
    from medscroll.model.load import build_model, load_config
    from medscroll.planning.compute import count_parameters, model_flops

    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="medscroll-measure-") as folder:
        model_args, adapters, args = arguments(run, folder)
        args.use_cpu = not on_gpu
        place = topology()
        device = training_device(place, args.use_cpu)
        config = load_config(model_args)
        config.num_hidden_layers = run.layers
        if run.qlora:
            quantized_checkpoint(model_args, config, folder, device)
        data = stage_data(run, config)
        parameters = count_parameters(config)
        flops = model_flops(config, parameters)
        deepspeed = load_deepspeed(args.deepspeed, on_gpu=on_gpu)
        prove_once(session)
        context = session.Context(device, zero_stage(deepspeed), parameters, run.lora_rank > 0, None)
        setup = session.choose(data, model_args, args, context)
        schedule = session.make_schedule(data, args, place.world_size, flops)
        session.open_process_group(args, deepspeed)
        recompute = bool(args.gradient_checkpointing)
        build = {"dtype": setup.dtype, "device": device, "attn_backend": setup.attn_backend, "seed": args.seed}
        model = build_model(model_args, adapters, config, **build, gradient_checkpointing=recompute)
        built = Memory.now()
        trainer = session.make_trainer(data, args, model, schedule=schedule, flops=flops, place=place, device=device)
        meter = Meter(on_gpu)
        trainer.add_callback(callback(meter, trainer))
        trainer.train()
        result = meter.result()
        result["allocated_built"], result["peak_built"] = built
        result |= {"parameters": parameters, "attn_backend": setup.attn_backend, "liger_used": args.use_liger_kernel}
        result |= {"fits": True, "weight_dtype": str(setup.dtype).removeprefix("torch."), "machine": machine()}
        result["build_seconds"] = round(meter.began - began, 1)
        result["model_flops"] = (
            run.accumulation * run.micro_batch * flops.of(run.block_size, run.block_size * run.document)
        )
        release(trainer)
    return result


def prove_once(session: Any) -> None:
    """Let runs of one process share the proof of attention: it takes seconds and depends on model class and dtype."""
    if hasattr(session.choose_backend, "known"):
        return
    real, known = session.choose_backend, {}

    def remembered(requested: str, config: Any, dtype: Any, device: Any, **more: Any) -> Any:
        key = (requested, config.model_type, dtype)
        if key not in known:
            known[key] = real(requested, config, dtype, device, **more)
        return known[key]

    remembered.known = known  # type: ignore[attr-defined]
    session.choose_backend = remembered


def quantized_checkpoint(model_args: Any, config: Any, folder: str, device: Any) -> None:
    """Random weights on disk, for a run that quantises a checkpoint; asks for bitsandbytes first."""
    import importlib.util

    import torch

    from medscroll.model.random_weights import build_random

    if importlib.util.find_spec("bitsandbytes") is None:
        raise NotImplementedError("bitsandbytes is not installed")
    path = str(Path(folder) / "base")
    model = build_random(config, dtype=torch.bfloat16, device=device, attn_backend="eager", seed=0)
    model.save_pretrained(path)
    del model
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model_args.model_name_or_path, model_args.from_scratch = path, False


class Memory:
    """Bytes of torch's allocator on the current GPU; zeros on a CPU."""

    @staticmethod
    def now() -> tuple[int, int]:
        """(allocated, peak since the last reset)."""
        import torch

        if not torch.cuda.is_available():
            return 0, 0
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()


class Meter:
    """Peaks and seconds of the phases of each step, from marks at their borders."""

    def __init__(self, on_gpu: bool) -> None:
        self.on_gpu, self.began = on_gpu, 0.0
        self.peaks = dict.fromkeys(("setup", *PHASES), 0)
        self.steps: list[dict[str, float]] = []
        self.events: list[tuple[str, Any]] = []
        self.allocated: dict[str, int] = {}
        self.after_forward = 0
        self.step_began = 0.0

    def start(self) -> None:
        """Training begins: engine and optimizer exist."""
        import torch

        self.began = time.perf_counter()
        self.allocated["begin"], self.peaks["setup"] = Memory.now()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def mark(self, ended: str) -> None:
        """The phase `ended` is over, or a forward pass begins ("start")."""
        import torch

        allocated, peak = Memory.now()
        if ended in self.peaks:
            self.peaks[ended] = max(self.peaks[ended], peak)
        if ended == "forward":
            self.after_forward = max(self.after_forward, allocated)
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.events.append((ended, event))

    def step_begin(self) -> None:
        """A step begins."""
        import torch

        if self.on_gpu:
            torch.cuda.synchronize()
        self.events, self.step_began = [], time.perf_counter()

    def step_end(self) -> None:
        """A step is over."""
        import torch

        self.mark("optimizer")
        if self.on_gpu:
            torch.cuda.synchronize()
        seconds = {"step": time.perf_counter() - self.step_began}
        for (_, before), (name, after) in zip(self.events, self.events[1:], strict=False):
            if name in PHASES:
                seconds[name] = seconds.get(name, 0.0) + before.elapsed_time(after) / 1e3
        self.steps.append(seconds)
        self.allocated["end"] = Memory.now()[0]

    def result(self) -> dict[str, Any]:
        """What was seen."""
        import torch

        warm = self.steps[1:] or self.steps
        result: dict[str, Any] = {f"peak_{name}": peak for name, peak in self.peaks.items()}
        result["peak"] = max(peak for name, peak in self.peaks.items() if name != "setup")
        result |= {f"allocated_{name}": size for name, size in self.allocated.items()}
        result["allocated_after_forward"] = self.after_forward
        result["seconds"] = {k: round(statistics.median(s.get(k, 0.0) for s in warm), 5) for k in ("step", *PHASES)}
        result["step_seconds"] = [round(step["step"], 4) for step in self.steps]
        if self.on_gpu:
            result["reserved"] = torch.cuda.max_memory_reserved()
            free, total = torch.cuda.mem_get_info()
            result["outside_allocator"] = total - free - torch.cuda.memory_reserved()
        return result


def callback(meter: Meter, trainer: Any) -> Any:
    """The meter as a Trainer callback; the borders of phases are hooks of the model and DeepSpeed's own `step`."""
    from transformers import TrainerCallback

    class Hooks(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            model = kwargs["model"]
            model.register_forward_pre_hook(lambda *_: meter.mark("start"))
            model.register_forward_hook(lambda *_: meter.mark("forward"))
            engine = trainer.deepspeed
            if engine is not None:  # its backward and its step are one call to the Trainer

                def step(*values: Any, real: Any = engine.step, **more: Any) -> Any:
                    meter.mark("backward")
                    return real(*values, **more)

                engine.step = step
            meter.start()

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            meter.step_begin()

        def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            meter.mark("backward")

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if trainer.deepspeed is None:
                meter.mark("backward")

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            meter.step_end()

    return Hooks()


def release(trainer: Any) -> None:
    """Let go of everything that a Trainer holds on the GPU."""
    engine, model = trainer.deepspeed, trainer.model
    trainer.optimizer = trainer.lr_scheduler = trainer.model = trainer.model_wrapped = trainer.deepspeed = None
    trainer.callback_handler.model = trainer.callback_handler.optimizer = None
    trainer.accelerator.free_memory()
    if engine is None:
        return
    engine.destroy()
    sharded = engine.optimizer
    base = getattr(sharded, "optimizer", None)
    if base is not None:
        base.state.clear()
        base.param_groups.clear()
    for parameter in model.parameters():
        for name in [name for name in vars(parameter) if name.startswith("ds_")]:
            delattr(parameter, name)
    engine.destroy = lambda: None  # called again when the engine is collected
    vars(sharded).clear()  # ZeRO-3's hooks outlive the engine and hold it


def machine() -> SimpleNamespace | dict[str, str]:
    """GPU and versions."""
    import importlib.metadata

    import torch

    names = ("torch", "transformers", "accelerate", "deepspeed", "liger-kernel", "peft", "bitsandbytes")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return found


if __name__ == "__main__":
    main()
