"""One row of the long-context table: a few real training steps through what `medscroll pretrain` uses.

`load_config`, `pack`, `choose` (defaults, proof of attention, level of activation memory), `build_model`,
`apply_level`, `make_trainer` and the Trainer, with DeepSpeed where the row asks for it; only saving is left out. Where
a model does not fit this GPU at any level, layers are taken away until it does, and the row says so. Times are those
of whole optimizer steps between synchronisations; MFU counts document-masked, causal-exact model FLOPs
(`medscroll.planning.compute`), over the datasheet's dense bf16 peak.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from typing import Any

import numpy as np
from kernel_profile import start_profiler, summary
from rows import Row

GIB = 2**30
LONGEST_STEP = 8192
COPIES = 8  # how often the corpus may repeat in a row longer than itself


def preload() -> bool:
    """Import what every row needs; whether the GPU was left alone (bitsandbytes opens it where it is installed)."""
    import torch
    import transformers.models.llama.modeling_llama
    import transformers.trainer  # noqa: F401

    import medscroll.engine.session
    import medscroll.model.proof
    import medscroll.model.random_weights
    import medscroll.stages.pretrain  # noqa: F401

    return not torch.cuda.is_initialized()


class JoinedDocuments:
    """The documents of a store laid end to end and cut into documents of one length; the end is left out."""

    adds_bos = False
    cuts = None

    def __init__(self, store: Any, length: int, count: int) -> None:
        tokens = np.concatenate([np.asarray(store[index]) for index in range(len(store))])
        copies = -(-count * length // len(tokens))
        if copies > COPIES:
            raise ValueError(f"{count} documents of {length:,} tokens from a corpus of {len(tokens):,}")
        self.rows = np.tile(tokens, copies)[: count * length].reshape(count, length)
        self.lengths = np.full(count, length, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.rows[index]


class RepeatedDocuments:
    """The documents of a store, several times over: for rows that hold more than all of it."""

    adds_bos = False
    cuts = None

    def __init__(self, store: Any, copies: int) -> None:
        self.store, self.lengths = store, np.tile(np.asarray(store.lengths, dtype=np.int64), copies)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.store[index % len(self.store)]


def measure(row: Row, data_dir: str) -> dict[str, Any]:
    """Build, train `row.warm + row.steps` steps (and one under the profiler), and say what that took."""
    import torch

    from medscroll.engine import session
    from medscroll.engine.topology import topology, training_device

    began = time.perf_counter()
    on_gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory(prefix="medscroll-long-") as folder:
        run = Setup(row, data_dir, folder, training_device(topology(), not on_gpu))
        run.choose()
        schedule = session.make_schedule(run.data, run.args, 1, run.flops)
        session.open_process_group(run.args, run.deepspeed)
        model, store = run.build()
        built = time.perf_counter() - began
        trainer = session.make_trainer(
            run.data, run.args, model, schedule=schedule, flops=run.flops, place=run.place, device=run.device
        )
        clock = Clock(row, trainer, 0 if row.warm else states_of(run))
        trainer.add_callback(clock.callback())
        with session.watched(trainer.monitor):
            trainer.train()
        found = {**run.result(), **clock.result(run), "build_seconds": round(built, 1)}
        return {**found, **memory_of(run, store)}


class Setup:
    """Everything of a row that is known before the model exists."""

    def __init__(self, row: Row, data_dir: str, folder: str, device: Any) -> None:
        from medscroll.config.arguments import AdapterArguments, ModelArguments
        from medscroll.config.training import TrainingArguments
        from medscroll.engine.deepspeed import load_deepspeed
        from medscroll.engine.topology import topology
        from medscroll.packing.store import TokenStore

        self.row, self.device, self.place = row, device, topology()
        self.store = TokenStore.open(f"{data_dir}/tokens/train")
        self.block_size = row.block_size
        self.model_args = ModelArguments(
            model_name_or_path=row.model, from_scratch=True, dtype=row.dtype, attn_backend=row.attention
        )
        if row.peer:
            self.model_args.attn_backend = "per_document"  # replaced after building
        self.adapters = AdapterArguments(
            use_peft=row.lora_rank > 0, lora_rank=max(row.lora_rank, 1), qlora=row.quantized
        )
        self.args = TrainingArguments(
            output_dir=folder,
            deepspeed=row.engine,
            max_steps=row.warm + row.steps + row.profile,
            warmup_steps=1,
            save_minutes=0,
            monitor_window_every=0,  # a profiler window would fall into the few steps that are measured
            activation_memory=row.level,
            gradient_accumulation_steps=row.accumulation,
            per_device_train_batch_size=row.batch,
            weight_rounding="nearest" if row.peer else "auto",
        )
        self.args.use_cpu = device.type != "cuda"
        self.deepspeed = load_deepspeed(row.engine, on_gpu=device.type == "cuda")

    def choose(self) -> None:
        """Defaults, attention, level of activation memory; fewer layers where the model does not fit."""
        from medscroll.engine import session
        from medscroll.engine.deepspeed import zero_stage
        from medscroll.errors import CapacityError
        from medscroll.model.load import load_config
        from medscroll.planning.compute import count_parameters, model_flops

        full = load_config(self.model_args, vocab_size=self.store.vocab_size)
        all_layers, proofs = full.num_hidden_layers, prove_once(session)
        for eighths in (8, 7, 6, 5, 4, 3, 2, 1):
            self.model_args.max_position_embeddings = max(self.block_size, full.max_position_embeddings)
            self.config = load_config(self.model_args, vocab_size=self.store.vocab_size)
            self.config.num_hidden_layers = max(all_layers * eighths // 8, 1)
            self.parameters = count_parameters(self.config)
            self.flops = model_flops(self.config, self.parameters)
            context = session.Context(
                self.device,
                zero_stage(self.deepspeed),
                self.parameters,
                self.adapters,
                None,
                self.deepspeed,
                self.place,
            )
            try:
                self.data = self.stage_data(self.block_size)
                if self.row.longest:
                    self.data = self.stage_data(self.longest(context))
                self.setup = session.choose(self.data, self.model_args, self.args, context)
                self.step = session.planned_setup(
                    self.data,
                    self.model_args,
                    self.args,
                    context,
                    (self.setup.dtype, self.setup.attn_backend),
                    liger=bool(self.args.use_liger_kernel),
                )
                break
            except CapacityError as error:
                refused = error
        else:
            raise refused
        self.layers, self.all_layers, self.proof_seconds = self.config.num_hidden_layers, all_layers, proofs

    def longest(self, context: Any) -> int:
        """The longest row that the estimate allows on this GPU and host, at most `block_size`."""
        import torch

        from medscroll.engine import activation, session

        if self.device.type != "cuda":
            return self.block_size
        chosen = (torch.bfloat16, "flash_attention_4")
        step = session.planned_setup(self.data, self.model_args, self.args, context, chosen, liger=True)
        found = activation.longest_block_that_fits(step, activation.room_here(self.device, 1), tile=True)
        return max(found // LONGEST_STEP * LONGEST_STEP, LONGEST_STEP)

    def stage_data(self, block_size: int) -> Any:
        """The rows: real documents packed, or joined to one document a row."""
        from medscroll.engine.session import StageData
        from medscroll.packing.dataset import PackedDataset
        from medscroll.packing.plan import pack

        blocks = (self.row.warm + self.row.steps + self.row.profile) * self.row.accumulation * self.row.batch
        source: Any = self.store
        if self.row.one_document:
            source = JoinedDocuments(self.store, block_size, blocks)
            plan = pack(source.lengths, block_size=block_size, context_tokens=0)
        else:
            copies = -(-2 * block_size // int(np.sum(self.store.lengths)))
            if copies > 1:
                source = RepeatedDocuments(self.store, copies)
            plan = pack(np.asarray(source.lengths), block_size=block_size, cuts=source.cuts)
        self.longest_piece = plan.longest_piece
        return StageData(
            train=PackedDataset(source, plan, document_mask=self.row.document_mask),
            validation=None,
            validation_bytes=None,
            tokenizer=tokenizer(),
            config=self.config,
            ledger=lambda consumed: {},
            resolved={},
        )

    def build(self) -> tuple[Any, Any]:
        """The model with its level applied, and the host memory of that level."""
        import quantized

        from medscroll.engine.session import apply_level
        from medscroll.model.load import build_model

        model = (quantized.build if self.row.quantized else build_model)(
            self.model_args,
            self.adapters,
            self.config,
            dtype=self.setup.dtype,
            device=self.device,
            attn_backend=self.setup.attn_backend,
            seed=self.args.seed,
            gradient_checkpointing=self.setup.level.recomputes,
        )
        if self.row.peer:
            model.set_attn_implementation(self.row.peer)
        width = self.config.hidden_size * self.setup.element
        tokens = self.data.train.plan.block_size * self.row.batch
        return model, apply_level(model, self.setup.level, row_bytes=tokens * width)

    def result(self) -> dict[str, Any]:
        """What was chosen."""
        return {
            "block_size": self.data.train.plan.block_size,
            "layers": self.layers,
            "of_layers": self.all_layers,
            "parameters": self.parameters,
            "attn_backend": self.row.peer or self.setup.attn_backend,
            "level": self.setup.level.name,
            "weight_dtype": str(self.setup.dtype).removeprefix("torch."),
            "weight_rounding": self.args.weight_rounding,
            "liger": bool(self.args.use_liger_kernel),
            "longest_piece": self.longest_piece,
            "proof_seconds": round(sum(self.proof_seconds), 1),
        }


def prove_once(session: Any) -> list[float]:
    """Let the tries of one row share the proof of attention; returns the list of the seconds it takes."""
    real, known, seconds = session.choose_backend, dict[Any, Any](), list[float]()

    def remembered(requested: str, config: Any, *values: Any, **more: Any) -> Any:
        key = (requested, config.model_type)
        if key not in known:
            began = time.perf_counter()
            known[key] = real(requested, config, *values, **more)
            seconds.append(time.perf_counter() - began)
        return known[key]

    session.choose_backend = remembered
    return seconds


def tokenizer() -> Any:
    """A tokenizer of three words: the Trainer wants one beside the model."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2}, unk_token="<pad>")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), pad_token="<pad>", eos_token="</s>")


class Clock:
    """Seconds, tokens and losses of each optimizer step, and the kernels of the last one where asked."""

    def __init__(self, row: Row, trainer: Any, ballast: int = 0) -> None:
        self.row, self.trainer = row, trainer
        self.seconds: list[float] = []
        self.blocks: list[list[int]] = []
        self.losses: list[float] = []
        self.profiler: Any = None
        self.ballast, self.held = ballast, None
        self.kernels: dict[str, Any] = {}

    def callback(self) -> Any:
        """The clock as a callback of the Trainer, called after the others."""
        import torch
        from transformers import TrainerCallback

        clock = self

        def settle() -> float:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            return time.perf_counter()

        class Steps(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if clock.ballast and torch.cuda.is_available():  # the optimizer makes its states in its first step
                    clock.held = torch.empty(clock.ballast, dtype=torch.uint8, device="cuda")

            def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                clock.held = None

            def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                last = state.global_step + 1 == args.max_steps
                if clock.row.profile and last:
                    clock.profiler = start_profiler()
                clock.since = settle()

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                took = settle() - clock.since
                if clock.profiler is not None:
                    clock.kernels = summary(clock.profiler, took)
                else:
                    clock.seconds.append(took)
                    clock.blocks.append(clock.trainer.record.last_step["blocks"])

            def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if "loss" in (kwargs.get("logs") or {}):
                    clock.losses.append(kwargs["logs"]["loss"])

        return Steps()

    def result(self, run: Setup) -> dict[str, Any]:
        """Medians over the steps after the warm ones."""
        import torch

        from medscroll.planning.compute import peak_flops

        plan = run.data.train.plan
        squares = plan.block_squares if self.row.document_mask else plan.block_lengths**2
        warm = slice(self.row.warm if len(self.seconds) > self.row.warm else 0, None)
        steps = list(zip(self.seconds[warm], self.blocks[warm], strict=True))
        tokens = [float(plan.block_lengths[blocks].sum()) for _, blocks in steps]
        flops = [run.flops.of(t, float(squares[b].sum())) for t, (_, b) in zip(tokens, steps, strict=True)]
        rates = [t / s for t, (s, _) in zip(tokens, steps, strict=True)]
        speeds = [f / s for f, (s, _) in zip(flops, steps, strict=True)]
        peak = peak_flops(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
        found = {
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
            "tokens_a_step": statistics.median(tokens),
            "step_seconds": [round(second, 3) for second in self.seconds],
            "tokens_per_second": round(statistics.median(rates), 1),
            "model_tflops_per_second": round(statistics.median(speeds) / 1e12, 2),
            "mfu": round(statistics.median(speeds) / peak, 4) if peak else None,
            "losses": [round(loss, 4) for loss in self.losses],
        }
        return {**found, "kernels": self.kernels} if self.kernels else found


def states_of(run: Setup) -> int:
    """Bytes of optimizer states as planned: a run of one step holds them in the forward and backward pass too."""
    from medscroll.planning.memory import memory_of

    return memory_of(run.step.replace(activation_memory=run.setup.level.name)).optimizer_states


def memory_of(run: Setup, store: Any) -> dict[str, Any]:
    """Peak bytes measured beside the estimate that chose the level, in GiB."""
    import resource

    import torch

    from medscroll.engine.activation import estimate

    found: dict[str, Any] = {
        "host_inputs_gib": round(store.bytes_held / GIB, 2) if store is not None else 0.0,
        "host_peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1),
    }
    if torch.cuda.is_available():
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 1)
        found["reserved_gib"] = round(torch.cuda.max_memory_reserved() / GIB, 1)
        found["device_gib"] = round(torch.cuda.get_device_properties(0).total_memory / GIB, 1)
    try:
        guess = estimate(run.step, run.setup.level)
    except RuntimeError as error:  # the measurement is worth more than the estimate beside it
        return {**found, "estimate_error": str(error)}
    parts = [round(part / GIB, 1) for part in (guess.states, guess.kept, guess.working)]
    return {**found, "estimate_gib": round(guess.device / GIB, 1), "estimate_parts_gib": parts}
