"""Continued pretraining (or pretraining from scratch) on whole documents: opens or prepares the data, packs it,
and hands it to the engine.

Everything up to the hand-over runs on every rank, on the host, before any process group exists; what must happen
once per file system (preparing raw texts, packing) is done by the first process that takes a file lock.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from medscroll.config.arguments import AdapterArguments, DataArguments, ModelArguments, PackingArguments
from medscroll.config.training import TrainingArguments
from medscroll.engine.guards import check_flags
from medscroll.engine.session import StageData, run_session
from medscroll.engine.topology import Topology, topology
from medscroll.engine.trainer import BlockTrainer
from medscroll.errors import CapacityError
from medscroll.model.load import check_positions, check_vocabulary, load_config, load_tokenizer
from medscroll.packing.dataset import PackedDataset
from medscroll.packing.inputs import raw_input_bytes
from medscroll.packing.job import prepared_tokenizer
from medscroll.packing.ledger import ConsumptionLedger
from medscroll.packing.plan import PackPlan, bytes_of_blocks, load_or_pack
from medscroll.packing.prepare import prepare_once
from medscroll.packing.store import TokenStore

RAW_LIMIT = 1 << 30
REPLAY_NOTE = (
    "NOTE: no general-domain replay is declared. Continued pretraining on medical text alone makes a model forget; "
    "10 to 20 % of general text in the corpus is usual (declare it with --replay_share 0.15)."
)


def pretrain(
    model_args: ModelArguments,
    adapters: AdapterArguments,
    data_args: DataArguments,
    packing: PackingArguments,
    args: TrainingArguments,
    *,
    notes: list[str],
) -> BlockTrainer:
    """Train on packed documents; returns the Trainer, whose model stays loaded.

    Raises:
        UserError: a mistake in flags, data or environment, before the first step.
    """
    place = topology()
    check_flags(model_args, data_args, args, place)
    if place.is_main:
        print("\n".join(notes + ([REPLAY_NOTE] if data_args.replay_share is None else [])), flush=True)
    data_dir = prepared_data(data_args, model_args, place)
    train = TokenStore.open(data_dir / "tokens" / "train")
    validation_prefix = data_dir / "tokens" / "validation"
    validation = TokenStore.open(validation_prefix) if validation_prefix.with_suffix(".idx").exists() else None
    tokenizer = load_tokenizer(
        model_args.tokenizer_name_or_path or prepared_tokenizer(data_dir),
        trust_remote_code=model_args.trust_remote_code,
        cache_dir=model_args.cache_dir,
    )
    config = load_config(model_args, vocab_size=train.vocab_size)
    check_vocabulary(train.vocab_size, config)
    block_size = packing.block_size or config.get_text_config().max_position_embeddings
    if place.is_main and packing.block_size is None:
        print(f"--block_size {block_size}: the model's own number of positions", flush=True)
    plan = make_plan(train, data_dir, packing, block_size)
    check_positions(config, plan.longest_piece)
    data = StageData(
        train=PackedDataset(train, plan, document_mask=packing.document_mask),
        validation=None,
        validation_bytes=None,
        tokenizer=tokenizer,
        config=config,
        ledger=run_ledger,
        resolved=plain_flags(model_args, adapters, data_args, packing),
        max_train_blocks=data_args.max_train_samples,
        max_eval_blocks=data_args.max_eval_samples,
    )
    if validation is not None and len(validation) > 0:
        eval_plan = make_plan(validation, data_dir, packing, block_size)
        check_positions(config, eval_plan.longest_piece)
        data.validation = PackedDataset(validation, eval_plan, document_mask=packing.document_mask)
        data.validation_bytes = bytes_of_blocks(validation.document_bytes, eval_plan)
    return run_session(data, model_args, adapters, args, place)


def prepared_data(data_args: DataArguments, model_args: ModelArguments, place: Topology) -> Path:
    """The folder of prepared data: `--data_dir`, or the raw texts of `--train_file_dir`, prepared once.

    Raises:
        CapacityError: raw texts above 1 GB and more than one rank: they belong on CPU nodes, not on waiting GPUs.
    """
    if data_args.data_dir is not None:
        return Path(data_args.data_dir)
    raw = Path(str(data_args.train_file_dir))
    tokenizer = model_args.tokenizer_name_or_path or str(model_args.model_name_or_path)
    size = raw_input_bytes(raw, data_args.validation_file_dir)
    if size > RAW_LIMIT and place.world_size > 1:
        raise CapacityError(
            f"{size / 2**30:.1f} GiB of raw text would be tokenized while {place.world_size} ranks wait",
            where=f"--train_file_dir {raw}",
            remedy=f"on a CPU node: medscroll prepare {raw} --output_dir DATA --tokenizer_name_or_path {tokenizer}, "
            "then --data_dir DATA",
        )
    return prepare_once(
        raw,
        tokenizer_name_or_path=tokenizer,
        validation_file_dir=data_args.validation_file_dir,
        text_field=data_args.text_field,
        validation_fraction=data_args.validation_fraction,
        num_workers=data_args.preprocessing_num_workers,
        prepared_dir=data_args.prepared_dir,
        trust_remote_code=model_args.trust_remote_code,
        cache_dir=model_args.cache_dir,
        quiet=not place.is_main,
    )


def make_plan(store: TokenStore, data_dir: Path, packing: PackingArguments, block_size: int) -> PackPlan:
    """The pack plan of a store, packed now or found under its digest."""
    return load_or_pack(
        store,
        data_dir / "plans",
        block_size=block_size,
        group_by_text=packing.group_by_text,
        overlong=packing.overlong,
        context_tokens=packing.context_tokens,
        seed=packing.packing_seed,
        long_text_threshold=packing.long_text_threshold,
    )


def run_ledger(consumed: ConsumptionLedger) -> dict[str, Any]:
    """The run's ledger: what the plan placed, what the trainer consumed of it, pass by pass, and the sums of both."""
    report = consumed.report()
    total: dict[str, int] = {}
    for entry in report["passes"]:
        for name, count in entry.items():
            if isinstance(count, int) and name != "pass":
                total[name] = total.get(name, 0) + count
    return {"total": total, **report}


def plain_flags(*parts: Any) -> dict[str, Any]:
    """The flags of the given dataclasses that are not None."""
    values = {name: value for part in parts for name, value in dataclasses.asdict(part).items()}
    return {name: value for name, value in values.items() if value is not None}
