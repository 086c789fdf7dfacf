"""The one Trainer: transformers' loop, with the order of data, the ledger and the checkpoints of medscroll.

It overrides only documented methods of `transformers.Trainer`:

    get_train_dataloader   sequential over `ScheduledBlocks`, which owns the order; the Trainer's own skip resumes it
    get_batch_samples      the number of targets of the global batch is at least 1 (a batch may hold none)
    training_step          notes what was consumed, then trains
    floating_point_ops     document-masked model FLOPs
    evaluate               sums over all ranks instead of means of means
    _save_checkpoint       adds cursor and ledger, writes the manifest last, and only then removes old checkpoints

Loss: each rank's micro batch gives sum(nll) / (targets of the global batch) x ranks; the engine's mean over ranks
makes it the mean over all targets of all ranks and accumulation steps.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, SequentialSampler
from transformers import PrinterCallback, Trainer

from medscroll.engine import checkpoint as checkpoint_files
from medscroll.engine.evaluation import by_position, evaluate_sums, metrics_of
from medscroll.engine.monitoring import RunMonitor
from medscroll.engine.run_folder import write_json
from medscroll.engine.step_record import StepRecord
from medscroll.errors import DataError
from medscroll.model.borders import is_hybrid, sequence_index
from medscroll.model.loss_in_portions import LossInPortions
from medscroll.packing.collate import collate_blocks
from medscroll.packing.ledger import ConsumptionLedger
from medscroll.packing.schedule import ScheduledBlocks
from medscroll.planning.compute import ModelFlops


def collate_with_counts(features: list[dict[str, Any]], *, hybrid: bool = False) -> dict[str, Any]:
    """`collate_blocks`, with block numbers, targets counted from the labels, and tokens, all on the host.

    Adds "blocks" (list, one a row), "row_targets" (list, one a row), "targets" (their sum) and "tokens" of the batch.
    A hybrid also gets `seq_idx` (`medscroll.model.borders.sequence_index`).
    """
    batch = collate_blocks(features)
    if hybrid:
        batch["seq_idx"] = sequence_index(batch["cu_seq_lens_q"])
    batch["blocks"] = batch.pop("block_index").tolist()
    batch["row_targets"] = [int((feature["labels"] != -100).sum()) for feature in features]
    batch["targets"] = int((batch["labels"] != -100).sum())
    batch["tokens"] = batch["input_ids"].numel()
    return batch


class BlockTrainer(Trainer):
    """A `transformers.Trainer` over scheduled blocks.

    Args:
        schedule: the order of training blocks; its ranks, batch and accumulation are those of `args`.
        eval_schedule: the validation blocks in natural order, or None.
        eval_block_bytes: float64 array [validation blocks], UTF-8 bytes of each block's own tokens.
        consumption: the ledger of what this rank consumes.
        record: the counts of the step under way.
        flops: model FLOPs per token and squared token.
        stage_ledger: makes the run's ledger.json from the merged consumption.
        monitor: gets the marks of the phases; None with `--monitor_run false`.
        portions: computes the loss without whole logits; None: the model does, with Liger's loss where that is on.
        **arguments: those of `transformers.Trainer`.
    """

    def __init__(
        self,
        *,
        schedule: ScheduledBlocks,
        eval_schedule: ScheduledBlocks | None,
        eval_block_bytes: Any,
        consumption: ConsumptionLedger,
        record: StepRecord,
        flops: ModelFlops,
        stage_ledger: Callable[[ConsumptionLedger], dict[str, Any]],
        monitor: RunMonitor | None = None,
        portions: LossInPortions | None = None,
        **arguments: Any,
    ) -> None:
        self.schedule, self.eval_schedule = schedule, eval_schedule
        self.eval_block_bytes, self.consumption, self.record, self.flops = eval_block_bytes, consumption, record, flops
        self.stage_ledger, self.monitor, self.portions = stage_ledger, monitor, portions
        super().__init__(
            train_dataset=schedule,
            eval_dataset=eval_schedule,
            data_collator=collate_with_counts,
            compute_loss_func=portions.loss if portions is not None else None,
            **arguments,
        )
        self.remove_callback(PrinterCallback)  # `Progress` prints the line

    def _loader(self, schedule: ScheduledBlocks, batch_size: int) -> DataLoader:
        model: Any = self.model
        loader: DataLoader[Any] = DataLoader(
            schedule,  # type: ignore[arg-type]  # map-style by its methods
            batch_size=batch_size,
            sampler=SequentialSampler(schedule),
            collate_fn=functools.partial(collate_with_counts, hybrid=is_hybrid(model.config)),
            num_workers=self.args.dataloader_num_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
            persistent_workers=False,  # workers would keep the order of the epoch they were started in
        )
        return self.accelerator.prepare(loader)

    def get_train_dataloader(self) -> DataLoader:
        """The training blocks in the order of the schedule, sharded over the ranks."""
        return self._loader(self.schedule, self.args.per_device_train_batch_size)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        """The micro batches of one step and the targets of the global batch, at least 1; all ranks take part."""
        batches, targets = super().get_batch_samples(self._timed(epoch_iterator), num_batches, device)
        if isinstance(targets, torch.Tensor):
            targets = targets.clamp(min=1)
        step = self.state.global_step % self.schedule.steps_per_epoch
        self.record.set_global(self.schedule.blocks_of_step(self.schedule.epoch, step))
        return batches, targets

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """One micro step: note the blocks, forward, backward. Returns the detached loss, a scalar."""
        blocks, targets = inputs.pop("blocks"), inputs.pop("targets")
        row_targets, tokens = inputs.pop("row_targets"), inputs.pop("tokens")
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._mark("optimizer" if self.accelerator.sync_gradients else "other")
        self.record.add(blocks, targets)
        self.consumption.record(blocks, row_targets, tokens=tokens, epoch=self.schedule.epoch)
        self._micro_blocks = blocks
        return loss

    def _mark(self, phase: str) -> None:
        """Begin a phase of the step, for the monitor."""
        if self.monitor is not None:
            self.monitor.clock.mark(phase)

    def _timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The same micro batches; waiting for them is the phase `data`."""
        while True:
            self._mark("data")
            try:
                batch = next(batches)
            except StopIteration:
                return
            except DataError as error:  # a damaged store; a data loader's worker wraps its traceback around it
                raise DataError(error.what.rpartition("DataError: ")[2], error.where, error.remedy) from None
            finally:
                self._mark("other")
            yield batch

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The forward pass and the loss; marks where they begin and end."""
        self._mark("forward")
        with self.portions.of(inputs["labels"]) if self.portions is not None else contextlib.nullcontext():
            loss = super().compute_loss(model, inputs, *args, **kwargs)
        self._mark("backward")
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With `--report_to`, give what is reported the monitor's numbers of rank 0 too, under their own names."""
        if self.monitor is not None and self.args.report_to and "loss" in logs:
            logs = {**self.monitor.reported(), **logs}
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: dict[str, Any]) -> float:  # type: ignore[override]
        """Model FLOPs of this rank's last micro batch, from its blocks."""
        real = [block for block in self._micro_blocks if block >= 0]
        if not real:
            return 0.0
        return self.flops.of(float(self.record.block_tokens[real].sum()), float(self.record.block_squares[real].sum()))

    def evaluate(  # type: ignore[override]
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Perplexity over the validation blocks; all ranks take part. Call it during or after `train`."""
        schedule = eval_dataset or self.eval_schedule
        if schedule is None:
            return {}
        self._mark("evaluation")
        model = self.model_wrapped
        loader = self._loader(schedule, self.args.per_device_eval_batch_size)
        head = self.accelerator.unwrap_model(model).get_output_embeddings()
        sums = self.accelerator.reduce(evaluate_sums(model, loader, self.eval_block_bytes, head), "sum")
        model.train()
        metrics, self.record.loss_by_position = metrics_of(sums, metric_key_prefix), by_position(sums)
        self._mark("other")
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def merged_consumption(self) -> dict[str, Any]:
        """The consumption of all ranks since the start of the run, over resumes; every rank takes part and gets it."""
        own = self.consumption.state_dict()
        states: list[Any] = [own]
        if self.args.world_size > 1:
            states = [None] * self.args.world_size
            dist.all_gather_object(states, own)
        return self.consumption.merge(states)

    def write_ledger(self) -> dict[str, Any]:
        """Write the run's `ledger.json` (rank 0) from what all ranks consumed; every rank takes part."""
        return self._ledger_of(self.merged_consumption())

    def _ledger_of(self, merged: dict[str, Any]) -> dict[str, Any]:
        consumption = ConsumptionLedger(self.schedule.dataset.plan)
        consumption.load_state_dict(merged)
        ledger = self.stage_ledger(consumption)
        if self.args.should_save:
            write_json(Path(str(self.args.output_dir)) / "ledger.json", ledger)
        return ledger

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """A checkpoint with cursor and ledger; manifest after all ranks, old checkpoints removed after the manifest."""
        began = time.perf_counter()
        self._mark("checkpoint")
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        with self._no_rotation():
            super()._save_checkpoint(model, trial)
        consumption = self.merged_consumption()  # also a barrier: no rank is still writing its shard afterwards
        if self.args.should_save:
            write_json(folder / checkpoint_files.CURSOR, self.schedule.cursor(self.state.global_step).to_json())
            write_json(folder / checkpoint_files.CONSUMPTION, consumption)
        shares: list[Any] = [None] * self.args.world_size
        if self.args.world_size > 1:
            dist.barrier()
            dist.all_gather_object(
                shares, checkpoint_files.describe_files(folder, self.args.process_index, self.args.world_size)
            )
        else:
            shares = [checkpoint_files.describe_files(folder, 0, 1)]
        self._ledger_of(consumption)
        if self.args.should_save:
            sharded = self.args.world_size if self.is_deepspeed_enabled else None
            checkpoint_files.write_manifest(folder, self.state.global_step, shares, sharded_over=sharded)
            removed = checkpoint_files.rotate(
                folder.parent, self.args.save_total_limit, self.state.best_model_checkpoint
            )
            note = f" (removed {', '.join(removed)})" if removed else ""
            print(f"saved {folder}{note}", flush=True)
        self._mark("other")
        if self.monitor is not None:
            self.monitor.checkpoint(self.state.global_step, time.perf_counter() - began, folder.name)

    @contextlib.contextmanager
    def _no_rotation(self) -> Iterator[None]:
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            yield
        finally:
            self.args.save_total_limit = limit
