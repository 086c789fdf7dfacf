"""One configuration built and trained as `medscroll pretrain` would, with its peaks, its times, and what the peak held.

Through `choose`, `build_model`, `apply_level`, `make_trainer` and the Trainer (with DeepSpeed where the run asks for
it); only the texts are random tokens, held in memory, and the proof of attention is shared by the runs of a process.
The last step is traced: the allocator's history is replayed to its highest point, and the live blocks there are listed
by size and by the lines of Python that asked for them. Cost: building takes seconds; the trace a few more.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib.metadata
import importlib.util
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from configurations import Run
from predict import predicted

from medscroll.config.arguments import AdapterArguments, ModelArguments
from medscroll.config.training import TrainingArguments
from medscroll.engine import session
from medscroll.engine.deepspeed import load_deepspeed, zero_stage
from medscroll.engine.plan_setup import setup_of_run
from medscroll.engine.session import StageData
from medscroll.engine.topology import topology, training_device
from medscroll.model.load import build_model, load_config
from medscroll.model.recompute import apply_level
from medscroll.packing.dataset import PackedDataset
from medscroll.packing.plan import pack
from medscroll.planning.compute import count_parameters, model_flops

PHASES = ("forward", "backward", "optimizer")
SHOWN = 24  # groups of blocks that a trace lists
PACKAGES = ("torch", "transformers", "accelerate", "deepspeed", "liger-kernel", "peft", "flash-attn-4", "bitsandbytes")


class RandomDocuments:
    """A token source of `count` documents of one length, all of random ids."""

    adds_bos = False
    cuts = None

    def __init__(self, count: int, length: int, vocabulary: int) -> None:
        import numpy as np

        self.lengths = np.full(count, length, dtype=np.int64)
        self.ids = np.random.default_rng(0).integers(3, vocabulary, size=(count, length), dtype=np.int64)

    def __getitem__(self, index: int) -> Any:
        return self.ids[index]

    def tokens(self, index: int, start: int, stop: int) -> Any:
        """Tokens of a piece of one document."""
        return self.ids[index, start:stop]

    def __len__(self) -> int:
        return len(self.lengths)


def tokenizer() -> Any:
    """A tokenizer of three words: the Trainer wants one beside the model."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2}, unk_token="<pad>")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), pad_token="<pad>", eos_token="</s>")


def stage_data(run: Run, config: Any) -> StageData:
    """The rows of a run: every block holds block_size tokens in documents of one length."""
    blocks = run.steps * run.accumulation * run.micro_batch * run.ranks
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


def arguments(run: Run, folder: str) -> tuple[ModelArguments, AdapterArguments, TrainingArguments]:
    """The flags of a run as `medscroll pretrain` parses them."""
    model = ModelArguments(
        model_name_or_path=run.model,
        from_scratch=True,
        dtype=run.dtype,
        use_liger=run.liger,
        attn_backend=run.attention,
    )
    adapters = AdapterArguments(use_peft=run.lora_rank > 0, lora_rank=max(run.lora_rank, 1), qlora=run.qlora)
    training = TrainingArguments(
        output_dir=folder,
        deepspeed=run.engine,
        max_steps=run.steps,
        warmup_steps=1,
        save_minutes=0,
        monitor_run=False,
        dataloader_num_workers=0,
        activation_memory=run.level,
        gradient_accumulation_steps=run.accumulation,
        per_device_train_batch_size=run.micro_batch,
    )
    return model, adapters, training


def config_of(run: Run, model_args: ModelArguments) -> Any:
    """The preset's configuration with the run's number of layers and enough positions for its documents."""
    config = load_config(model_args)
    config.num_hidden_layers = run.layers
    if getattr(config, "layer_types", None):
        config.layer_types = list(config.layer_types)[: run.layers]
    config.max_position_embeddings = max(config.max_position_embeddings, run.document)
    return config


def measure(
    run: Run, announce: Callable[[dict[str, Any]], None] | None = None, meter_class: type[Meter] | None = None
) -> dict[str, Any]:
    """Build, train `run.steps` steps, and say what that took.

    Args:
        announce: is given what the planner predicts, before anything is built.
        meter_class: of the meter, where it is not `Meter`.
    """
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    began, host_before = time.perf_counter(), Host.now()
    with tempfile.TemporaryDirectory(prefix="medscroll-measure-") as folder:
        model_args, adapters, args = arguments(run, folder)
        args.use_cpu = not on_gpu
        place = topology()
        device = training_device(place, args.use_cpu)
        config = config_of(run, model_args)
        if run.qlora:
            quantized_checkpoint(model_args, config, folder, device)
        data = stage_data(run, config)
        parameters = count_parameters(config)
        flops = model_flops(config, parameters)
        deepspeed = load_deepspeed(args.deepspeed, on_gpu=on_gpu)
        prove_once()
        stage = zero_stage(deepspeed)
        context = session.Context(device, stage, parameters, adapters, None, deepspeed, place)
        setup = session.choose(data, model_args, args, context)
        planned = planned_setup(run, config, parameters, model_args, adapters, args=args, setup=setup)
        if announce is not None:
            announce({"setup": planned, "predicted": predicted(config, planned)})
        schedule = session.make_schedule(data, args, place.world_size, flops)
        session.open_process_group(args, deepspeed)
        build = {"dtype": setup.dtype, "device": device, "attn_backend": setup.attn_backend, "seed": args.seed}
        model = build_model(model_args, adapters, config, **build, gradient_checkpointing=setup.level.recomputes)
        row = run.block_size * run.micro_batch
        store = apply_level(model, setup.level, row_bytes=row * config.hidden_size * setup.element)
        built = allocated_now()
        trainer = session.make_trainer(data, args, model, schedule=schedule, flops=flops, place=place, device=device)
        meter = (meter_class or Meter)(on_gpu, run.steps)
        trainer.add_callback(callback(meter, trainer))
        trainer.train()
        result = meter.result()
        result["allocated_built"], result["peak_built"] = built
        result |= {"parameters": parameters, "setup": planned, "machine": machine()}
        result |= {"choices": [str(choice) for choice in setup.choices]}
        result |= {"host_before": host_before, "host_stored_inputs": store.bytes_held if store is not None else 0}
        result["build_seconds"] = round(meter.began - began, 1)
        result["model_flops"] = (
            run.accumulation * run.micro_batch * flops.of(run.block_size, run.block_size * run.document)
        )
        release(trainer)
    return result


def planned_setup(
    run: Run,
    config: Any,
    parameters: int,
    model_args: ModelArguments,
    adapters: AdapterArguments,
    *,
    args: TrainingArguments,
    setup: session.Setup,
) -> dict[str, Any]:
    """What the planner is asked: the run's `TrainingSetup` as plain values, without the configuration."""
    found = setup_of_run(
        config,
        parameters,
        SimpleNamespace(nodes=1, gpus_per_node=run.ranks),  # type: ignore[arg-type]
        model_args,
        adapters,
        args=args,
        block_size=run.block_size,
        document_length=float(run.document),
        weight_dtype=str(setup.dtype).removeprefix("torch."),
        attn_backend=setup.attn_backend,
        liger=bool(args.use_liger_kernel),
    )
    return {f.name: getattr(found, f.name) for f in dataclasses.fields(found) if f.name != "config"}


def prove_once() -> None:
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
    session.choose_backend = remembered  # type: ignore[assignment]


def quantized_checkpoint(model_args: ModelArguments, config: Any, folder: str, device: Any) -> None:
    """Random weights on disk, for a run that quantises a checkpoint; asks for bitsandbytes first."""
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


def allocated_now() -> tuple[int, int]:
    """(allocated, peak since the last reset) of torch's allocator on the current GPU; zeros on a CPU."""
    if not torch.cuda.is_available():
        return 0, 0
    return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()


class Host:
    """Resident bytes of this process."""

    @staticmethod
    def now() -> int:
        """Bytes at this moment."""
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    @staticmethod
    def forget() -> None:
        """Begin a new highest point, where the kernel allows it."""
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            return

    @staticmethod
    def peak() -> int:
        """Highest point of the process since `forget`."""
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
        return 0


class Meter:
    """Peaks and seconds of the phases of each step, from marks at their borders; the last step is traced."""

    def __init__(self, on_gpu: bool, steps: int) -> None:
        self.on_gpu, self.last, self.began = on_gpu, steps, 0.0
        self.peaks = dict.fromkeys(("setup", *PHASES), 0)
        self.after = dict.fromkeys(PHASES, 0)
        self.steps: list[dict[str, float]] = []
        self.events: list[tuple[str, Any]] = []
        self.allocated: dict[str, int] = {}
        self.host: dict[str, int] = {}
        self.trace: dict[str, Any] = {}
        self.step_began = 0.0

    def start(self) -> None:
        """Training begins: engine and optimizer exist."""
        self.began = time.perf_counter()
        self.allocated["begin"], self.peaks["setup"] = allocated_now()
        self.host = {"begin": Host.now(), "load_peak": Host.peak()}
        Host.forget()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def mark(self, ended: str) -> None:
        """The phase `ended` is over, or a forward pass begins ("start")."""
        allocated, peak = allocated_now()
        if ended in self.after:
            self.peaks[ended] = max(self.peaks[ended], peak)
            self.after[ended] = max(self.after[ended], allocated)
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.events.append((ended, event))

    def step_begin(self) -> None:
        """A step begins; the last one is recorded."""
        if self.on_gpu:
            torch.cuda.synchronize()
            if len(self.steps) + 1 == self.last:
                self.trace["base"] = torch.cuda.memory_allocated()
                torch.cuda.memory._record_memory_history(
                    enabled="all", context="alloc", stacks="python", max_entries=400_000
                )
        self.events, self.step_began = [], time.perf_counter()

    def step_end(self) -> None:
        """A step is over."""
        self.mark("optimizer")
        if self.on_gpu:
            torch.cuda.synchronize()
        seconds = {"step": time.perf_counter() - self.step_began}
        for (_, before), (name, after) in zip(self.events, self.events[1:], strict=False):
            if name in PHASES:
                seconds[name] = seconds.get(name, 0.0) + before.elapsed_time(after) / 1e3
        self.steps.append(seconds)
        self.allocated["end"] = allocated_now()[0]
        if self.on_gpu and len(self.steps) == self.last:
            try:
                entries = torch.cuda.memory._snapshot()["device_traces"][torch.cuda.current_device()]
                self.trace = peak_contents(entries, self.trace["base"])
            except Exception as error:  # the numbers above stand without it
                self.trace = {"error": f"{type(error).__name__}: {error}"[:300]}
            torch.cuda.memory._record_memory_history(enabled=None)

    def result(self) -> dict[str, Any]:
        """What was seen."""
        warm = self.steps[1:-1] or self.steps[1:] or self.steps
        result: dict[str, Any] = {f"peak_{name}": peak for name, peak in self.peaks.items()}
        result["peak"] = max(peak for name, peak in self.peaks.items() if name != "setup")
        result |= {f"allocated_{name}": size for name, size in self.allocated.items()}
        result |= {f"allocated_after_{name}": size for name, size in self.after.items()}
        result |= {f"host_{name}": size for name, size in self.host.items()}
        result["host_peak"] = Host.peak()
        result["seconds"] = {k: round(statistics.median(s.get(k, 0.0) for s in warm), 5) for k in ("step", *PHASES)}
        result["step_seconds"] = [round(step["step"], 4) for step in self.steps]
        if self.on_gpu:
            result["reserved"] = torch.cuda.max_memory_reserved()
            free, total = torch.cuda.mem_get_info()
            result["device_total"] = total
            result["outside_allocator"] = total - free - torch.cuda.memory_reserved()
        result["trace"] = self.trace
        return result


def peak_contents(entries: list[dict[str, Any]], base: int) -> dict[str, Any]:
    """What was live at the highest point of a recorded stretch.

    Args:
        entries: of `torch.cuda.memory._snapshot()["device_traces"]`, in order.
        base: bytes that were live before the first entry.

    Returns:
        "peak": bytes then; "older": of them from before the stretch; "groups": [bytes, count, size, lines of Python],
        most bytes first; "entries": how many there were.
    """
    live: dict[int, int] = {}
    total = highest = base
    at = -1
    for index, entry in enumerate(entries):
        if entry["action"] == "alloc":
            total += entry["size"]
            live[entry["addr"]] = entry["size"]
        elif entry["action"] == "free_completed":
            total -= entry["size"]
            live.pop(entry["addr"], None)
        if total > highest:
            highest, at = total, index
    alive: dict[int, dict[str, Any]] = {}
    older = base
    for entry in entries[: at + 1]:
        if entry["action"] == "alloc":
            alive[entry["addr"]] = entry
        elif entry["action"] == "free_completed" and alive.pop(entry["addr"], None) is None:
            older -= entry["size"]
    groups: Counter[tuple[int, str]] = Counter()
    for entry in alive.values():
        groups[entry["size"], _asked_by(entry.get("frames") or [])] += 1
    most = sorted(groups.items(), key=lambda item: -item[0][0] * item[1])[:SHOWN]
    listed = [[size * count, count, size, where] for (size, where), count in most]
    return {"peak": highest, "older": older, "groups": listed, "entries": len(entries)}


def _asked_by(frames: list[dict[str, Any]]) -> str:
    """The innermost four lines of Python outside torch's dispatch, as file:line(function)."""
    names = []
    for frame in frames:
        path = str(frame.get("filename", ""))
        if not path.endswith(".py") or path.endswith(("_jit_internal.py", "nn/modules/module.py", "_ops.py")):
            continue
        names.append(f"{'/'.join(path.split('/')[-2:])}:{frame.get('line')}({frame.get('name')})")
        if len(names) == 4:
            break
    return " < ".join(names)


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


def empty_what_is_left() -> None:
    """Give back the memory of large tensors that DeepSpeed's hooks still hold; nothing of a finished run is needed."""
    if not torch.cuda.is_available():
        return
    gc.collect()
    for item in gc.get_objects():
        if isinstance(item, torch.Tensor) and item.is_cuda and item.untyped_storage().nbytes() > 2**24:
            item.untyped_storage().resize_(0)


def machine() -> dict[str, str]:
    """GPU, allocator settings and versions."""
    import os

    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    found["allocator"] = os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "") or os.environ.get("PYTORCH_ALLOC_CONF", "")
    return found
