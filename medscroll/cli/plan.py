"""`medscroll plan`: what fits on a cluster, how fast, at what price, and why; writes the run.

    medscroll plan --model_name_or_path yi-34b --cluster 8x8xH100-80G --block_size 32768 --rope_theta 5e6 --tokens 10B
    medscroll plan recipe.yaml --cluster cluster.json --output_dir RUN

Every flag of `pretrain` is accepted: what is given is fixed, the rest is searched. Exit code 0 where something fits, 2
where nothing does (the nearest setups and the smallest change are printed all the same) or where the model has too few
positions for the block (the plan is printed as if they had been extended). Nothing is downloaded but the model's
configuration, no weights are allocated. Cost: seconds, most of them imports and one pass over the model's layers on the
meta device.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

SUMMARY = "what fits on a cluster, how fast, at what price, and why; writes recipe, DeepSpeed JSON, launch scripts"


@dataclass
class PlanArguments:
    """What to plan for."""

    cluster: str = field(
        default="",
        metadata={"help": "Machines: 8x8xH100-80G, 8x8xA100-80G@1x200G, ..., or the JSON of doctor --cluster --json."},
    )
    cluster_file: str | None = field(
        default=None, metadata={"help": "Your own GPUs, links, prices and bandwidths: YAML or JSON."}
    )
    nodes: str | None = field(
        default=None, metadata={"help": "Numbers of nodes to compare: 4, 1-16 (doubling) or 2,4,6; default: up to all."}
    )
    tokens: str | None = field(default=None, metadata={"help": "Tokens to train on, such as 10B: gives days and cost."})
    days: float | None = field(
        default=None, metadata={"help": "Days there are: how many tokens they afford, or whether --tokens fit."}
    )
    budget: float | None = field(
        default=None, metadata={"help": "Money there is, in the currency of the price.", "least": 0}
    )
    price: float | None = field(default=None, metadata={"help": "Price of one GPU and hour.", "least": 0})
    global_batch_tokens: str | None = field(
        default=None, metadata={"help": "Tokens of an optimizer step to aim at, such as 4M; default: by model size."}
    )
    document_length: float | None = field(
        default=None,
        metadata={
            "help": "Tokens over which attention runs; default: from --data_dir, else the dearest case, a whole block.",
            "least": 1,
        },
    )
    host_memory_gib: float | None = field(
        default=None, metadata={"help": "Memory of one node in GiB; default: 256 a GPU.", "least": 1}
    )
    table: bool = field(
        default=False, metadata={"help": "Print only the table of block_size against GPUs, as Markdown."}
    )
    json: bool = field(default=False, metadata={"help": "Print the plan as JSON."})


def training_classes() -> tuple[type, ...]:
    """The classes of flags that `medscroll pretrain` reads."""
    from medscroll.config.arguments import AdapterArguments, DataArguments, ModelArguments, PackingArguments
    from medscroll.config.training import TrainingArguments

    return (ModelArguments, AdapterArguments, DataArguments, PackingArguments, TrainingArguments)


def pretrain_flags() -> frozenset[str]:
    """The names of the flags that `medscroll pretrain` reads."""
    from medscroll.config.fields import field_specs

    return frozenset(spec.name for cls in training_classes() for spec in field_specs(cls))


def main(argv: list[str]) -> int:
    """Plan, print, write; exit code 0 where something fits."""
    from medscroll.config.arguments import AdapterArguments, DataArguments, ModelArguments, PackingArguments
    from medscroll.config.medicalgpt import MEDICALGPT_ALIASES
    from medscroll.config.parse import parse_arguments
    from medscroll.config.training import TrainingArguments

    classes = (PlanArguments, ModelArguments, AdapterArguments, DataArguments, PackingArguments, TrainingArguments)
    parsed = parse_arguments(argv, classes, verb="plan", aliases=MEDICALGPT_ALIASES)
    plan_args, model_args, adapters, data_args, packing, training = parsed
    given = frozenset(name for name, place in parsed.provenance.items() if place != "default")

    from medscroll.engine.plan_question import Flags, answer_question, print_answer, write_answer

    flags = Flags(model_args, adapters, data_args, packing, training, given)
    if not plan_args.json:
        for note in parsed.notes:
            print(note)
    answer = answer_question(plan_args, flags)
    if plan_args.json:
        print(json.dumps(answer.to_json(), default=str))
    else:
        print_answer(answer, table=plan_args.table)
    if parsed.provenance["output_dir"] == "flag" and answer.question.beyond is None:
        written = write_answer(answer, flags, training.output_dir, argv, pretrain_flags())
        if not plan_args.json:
            print("\nWritten:")
            print("\n".join(f"  {path}" for path in written))
    answer.refuse_if_impossible()
    return 0
