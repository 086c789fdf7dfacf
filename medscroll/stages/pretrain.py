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
from medscroll.model.load import check_positions, check_vocabulary, extend_by_theta, load_config, load_tokenizer
from medscroll.packing.dataset import PackedDataset
from medscroll.packing.inputs import raw_input_bytes
from medscroll.packing.job import prepared_tokenizer
from medscroll.packing.ledger import ConsumptionLedger
from medscroll.packing.mixture import PreparedSources
from medscroll.packing.plan import bytes_of_blocks
from medscroll.packing.prepare import prepare_once
from medscroll.packing.sources import Source, parse_sources

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
    sources = data_sources(data_args, model_args, place)
    say = print if place.is_main else _silent
    replays = data_args.replay_share is not None or len(sources) > 1
    say("\n".join(notes + ([] if replays else [REPLAY_NOTE])))
    prepared = PreparedSources(sources)
    tokenizer = load_tokenizer(
        model_args.tokenizer_name_or_path or prepared_tokenizer(prepared.folder),
        trust_remote_code=model_args.trust_remote_code,
        cache_dir=model_args.cache_dir,
    )
    config = load_config(model_args, vocab_size=prepared.vocab_size)
    check_vocabulary(prepared.vocab_size, config)
    block_size = packing.block_size or config.get_text_config().max_position_embeddings
    if packing.block_size is None:
        say(f"--block_size {block_size}: the model's own number of positions")
    if extended := extend_by_theta(config, model_args, block_size):
        say(extended)
    settings = packing_settings(packing, block_size)
    mixture = prepared.training(**settings)
    say("\n".join(mixture.lines + prepared.notes))
    check_positions(config, mixture.plan.longest_piece)
    data = StageData(
        train=PackedDataset(mixture.view, mixture.plan, document_mask=packing.document_mask),
        validation=None,
        validation_bytes=None,
        tokenizer=tokenizer,
        config=config,
        ledger=ConsumptionLedger.report,
        resolved=plain_flags(model_args, adapters, data_args, packing),
        max_train_blocks=data_args.max_train_samples,
        max_eval_blocks=data_args.max_eval_samples,
    )
    held_out = prepared.held_out(**settings)
    if held_out is not None:
        check_positions(config, held_out.plan.longest_piece)
        data.validation = PackedDataset(held_out.view, held_out.plan, document_mask=packing.document_mask)
        data.validation_bytes = bytes_of_blocks(held_out.view.document_bytes, held_out.plan)
    return run_session(data, model_args, adapters, args, place)


def data_sources(data_args: DataArguments, model_args: ModelArguments, place: Topology) -> list[Source]:
    """The folders of prepared data: those of `--data_dir`, or the raw texts of `--train_file_dir`, prepared once.

    Raises:
        ConfigError: `--data_dir` cannot be understood.
        CapacityError: raw texts above 1 GB and more than one rank: they belong on CPU nodes, not on waiting GPUs.
    """
    if data_args.data_dir is not None:
        return parse_sources(data_args.data_dir)
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
    folder = prepare_once(
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
    return [Source(folder, folder.name)]


def packing_settings(packing: PackingArguments, block_size: int) -> dict[str, Any]:
    """The flags as keyword arguments of `medscroll.packing.pack`."""
    return {
        "block_size": block_size,
        "group_by_text": packing.group_by_text,
        "overlong": packing.overlong,
        "context_tokens": packing.context_tokens,
        "seed": packing.packing_seed,
        "long_text_threshold": packing.long_text_threshold,
    }


def plain_flags(*parts: Any) -> dict[str, Any]:
    """The flags of the given dataclasses that are not None."""
    values = {name: value for part in parts for name, value in dataclasses.asdict(part).items()}
    return {name: value for name, value in values.items() if value is not None}


def _silent(*_: Any) -> None:
    """Print nothing: what ranks other than 0 say."""
