"""One question of `medscroll plan`, from flags to an answer: candidates, budget, trade-off, and the files of the run.

    flags -> configuration of the model, cluster, constraints -> search -> calibration -> answer

The search itself is `medscroll.planning.search`; this module asks it once for every number of nodes, and once more
for every point of the trade-off where that is shown.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medscroll.config.arguments import AdapterArguments, DataArguments, ModelArguments, PackingArguments
from medscroll.config.training import TrainingArguments
from medscroll.engine.plan_setup import constraints_of, shape_arguments, weights_of
from medscroll.errors import CapacityError, ConfigError, UserError
from medscroll.model.load import check_positions, extend_by_theta, load_config
from medscroll.planning.budget import (
    PASSES_WITHOUT_LOSS,
    Affordable,
    affordable,
    parse_tokens,
    read_lengths,
    read_sources,
)
from medscroll.planning.calibration import calibrate, default_file, read_pairs
from medscroll.planning.candidate import Candidate, Constraints
from medscroll.planning.cluster import Cluster, parse_cluster
from medscroll.planning.page import Point, plan_page, setup_in_words, short
from medscroll.planning.report import candidate_json, cluster_json, make_console, print_budget, print_plan
from medscroll.planning.run_files import command_words, write_run
from medscroll.planning.search import plan_training

GIB = 2**30
SHORTEST = 2048  # tokens of a block that is still worth choosing without being asked
BLOCKS = (4096, 8192, 16384, 32768, 65536, 131072)


@dataclass(frozen=True)
class Flags:
    """The flags of a run as parsed; `given` names those that the user gave."""

    model_args: ModelArguments
    adapters: AdapterArguments
    data_args: DataArguments
    packing: PackingArguments
    training: TrainingArguments
    given: frozenset[str]

    def values(self) -> dict[str, Any]:
        """Flag -> value of everything that was given."""
        parts = (self.model_args, self.adapters, self.data_args, self.packing, self.training)
        return {
            item.name: getattr(part, item.name)
            for part in parts
            for item in dataclasses.fields(part)
            if item.name in self.given and hasattr(part, item.name)
        }


@dataclass
class Question:
    """What is asked of the search, the same for every number of nodes and block_size.

    Attributes:
        beyond: why the model as it is cannot be trained so: a piece longer than its positions. The plan is made as if
            they had been extended, which costs nothing; it is printed, and nothing is written.
    """

    config: Any
    model_name: str
    cluster: Cluster
    constraints: Constraints
    block_size: int
    tokens: int | None
    trust_remote_code: bool
    pairs: list[Any] = field(default_factory=list)
    pairs_file: str = ""
    beyond: UserError | None = None

    def ask(self, cluster: Cluster, block_size: int, *, fewer_nodes: bool) -> list[Candidate]:
        """The candidates for these machines, best first, as earlier runs correct them."""
        found = plan_training(
            self.config,
            cluster,
            block_size=block_size,
            model_name=self.model_name,
            tokens=self.tokens,
            constraints=dataclasses.replace(self.constraints, fewer_nodes=fewer_nodes),
            trust_remote_code=self.trust_remote_code,
        )
        return ranked([calibrate(item, cluster, self.pairs, self.pairs_file) for item in found])


@dataclass
class Answer:
    """What `plan` found.

    Attributes:
        candidates: best first; those that do not fit follow.
        affordable: where days or money were given.
        verdicts: sentences on days and money for the tokens asked for.
    """

    question: Question
    candidates: list[Candidate]
    affordable: Affordable | None = None
    verdicts: list[str] = field(default_factory=list)

    @property
    def best(self) -> Candidate:
        """The first candidate; it fits, or nothing does."""
        return self.candidates[0]

    def to_json(self) -> dict[str, Any]:
        """Plain values for --json."""
        value: dict[str, Any] = {
            "fits": self.best.fits,
            "model": self.question.model_name,
            "parameters": self.best.setup.parameters,
            "cluster": cluster_json(self.question.cluster),
            "block_size": self.question.block_size,
            "tokens": self.question.tokens,
            "candidates": [candidate_json(item) for item in self.candidates],
            "verdicts": self.verdicts,
        }
        if self.affordable is not None:
            found = self.affordable
            value["affordable"] = {
                **dataclasses.asdict(found),
                "passes": found.passes,
                "advice": found.advice(),
                "of_each_source": {source.name: found.of(source) for source in found.sources},
            }
        return value

    def refuse_if_impossible(self) -> None:
        """Raise where nothing fits, or where the model has too few positions.

        Raises:
            CapacityError: with the nearest setup and the smallest change.
            ConfigError: the three flags that extend positions are named.
        """
        if self.question.beyond is not None:
            raise self.question.beyond
        if self.best.fits:
            return
        remedy = next((item.remedy for item in self.candidates if item.remedy), "more or larger GPUs")
        raise CapacityError(
            f"nothing that was tried fits; nearest: {setup_in_words(self.best)}: {self.best.reason}",
            where=self.question.cluster.name,
            remedy=remedy,
        )


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that fit first, fastest first; then the others, least memory first. Ties keep their order."""
    return sorted(
        candidates,
        key=lambda item: (not item.fits, -item.time.tokens_per_second if item.fits else item.memory.total),
    )


def parse_nodes(text: str, most: int) -> list[int]:
    """`4`, `1-16` (doubling, both ends) or `2,4,6` as numbers of nodes.

    Raises:
        ConfigError: it is none of them.
    """
    found: list[int] = []
    for word in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= low <= high:
            raise ConfigError(
                f"--nodes {text!r} is no number of nodes", "--nodes", f"for example {most}, 1-{most} or 2,4"
            )
        while low < high:
            found.append(low)
            low *= 2
        found.append(high)
    return sorted(set(found))


def answer_question(plan_args: Any, flags: Flags) -> Answer:
    """Search, calibrate, and say what the budget affords.

    Args:
        plan_args: the flags of planning (`medscroll.cli.plan.PlanArguments`).

    Raises:
        ConfigError: every mistake at once.
    """
    question, sources = make_question(plan_args, flags)
    counts = parse_nodes(plan_args.nodes, question.cluster.nodes) if plan_args.nodes else None
    if flags.packing.block_size is None:
        shorten(question, counts)
    if counts is None:
        candidates = question.ask(question.cluster, question.block_size, fewer_nodes=True)
    else:
        candidates = []
        for nodes in counts:
            candidates += question.ask(question.cluster.with_nodes(nodes), question.block_size, fewer_nodes=False)
        question.cluster = question.cluster.with_nodes(counts[-1])
        candidates = ranked(candidates)
    answer = Answer(question, candidates)
    if plan_args.days is not None or plan_args.budget is not None:
        if question.tokens is None and answer.best.fits:
            limits = {"days": plan_args.days, "budget": plan_args.budget, "price": question.cluster.price}
            fitting = [item for item in candidates if item.fits]
            most = max(fitting, key=lambda item: affordable(item, **limits).tokens)  # the first of equals: the fastest
            answer.candidates = [most, *(item for item in candidates if item is not most)]
            answer.affordable = affordable(most, **limits, sources=sources)
        elif question.tokens is not None:
            answer.candidates, answer.verdicts = within_limits(candidates, plan_args.days, plan_args.budget, question)
    return answer


def shorten(question: Question, counts: list[int] | None) -> None:
    """Without --block_size: the largest block, from the model's positions downwards by halves, that fits anything."""
    most = question.block_size
    machines = question.cluster if counts is None else question.cluster.with_nodes(counts[-1])
    fewer = counts is None
    size = most
    while size >= SHORTEST:
        if question.ask(machines, size, fewer_nodes=fewer)[0].fits:
            break
        size //= 2
    if size == most or size < SHORTEST:
        return
    question.block_size = size
    question.cluster = dataclasses.replace(
        question.cluster,
        notes=(
            *question.cluster.notes,
            f"--block_size {size}: none was given, and of the model's {most:,} positions this is the longest block "
            "that fits (halving)",
        ),
    )


def make_question(plan_args: Any, flags: Flags) -> tuple[Question, tuple[Any, ...]]:
    """Read model, cluster and data; every mistake is reported at once."""
    problems: list[UserError] = []
    beyond: UserError | None = None

    def attempt(make: Any, *values: Any, **named: Any) -> Any:
        try:
            return make(*values, **named)
        except UserError as error:
            problems.append(error)
            return None

    host = int(plan_args.host_memory_gib * GIB) if plan_args.host_memory_gib else None
    cluster = attempt(
        parse_cluster,
        plan_args.cluster,
        cluster_file=plan_args.cluster_file,
        price=plan_args.price,
        host_memory=host,
    )
    config = attempt(load_config, shape_arguments(flags.model_args))
    tokens = attempt(parse_tokens, plan_args.tokens) if plan_args.tokens else None
    batch = attempt(parse_tokens, plan_args.global_batch_tokens) if plan_args.global_batch_tokens else None
    pairs = attempt(read_pairs, flags.training.calibration_file) or []
    lengths = attempt(read_lengths, flags.data_args.data_dir) if flags.data_args.data_dir else None
    if plan_args.days is not None and plan_args.days <= 0:
        problems.append(ConfigError(f"--days {plan_args.days:g} leaves no time", "--days"))
    if config is not None:
        text = config.get_text_config()
        extend_by_theta(config, flags.model_args, flags.packing.block_size)
        block_size = flags.packing.block_size or int(text.max_position_embeddings)
        document, longest = document_length(plan_args.document_length, lengths, block_size)
        beyond = _beyond_positions(config, longest)
        constraints = attempt(
            constraints_of,
            flags.model_args,
            flags.adapters,
            flags.training,
            flags.given,
            hidden_size=int(text.hidden_size),
            has_bf16=cluster.gpu.has_bf16 if cluster is not None else True,
            document_length=document,
            global_tokens=batch,
            disk_bytes_per_second=cluster.disk_bandwidth if cluster is not None else 2e9,
        )
    if problems:
        raise ConfigError.collect(problems + ([beyond] if beyond else []))
    question = Question(
        config=config,
        model_name=str(flags.model_args.model_name_or_path),
        cluster=cluster,
        constraints=constraints,
        block_size=block_size,
        tokens=tokens,
        trust_remote_code=flags.model_args.trust_remote_code,
        pairs=pairs,
        pairs_file=str(flags.training.calibration_file or default_file()),
        beyond=beyond,
    )
    sources = read_sources(flags.data_args.data_dir) if flags.data_args.data_dir else ()
    return question, sources


def _beyond_positions(config: Any, longest: int) -> UserError | None:
    """The error where a piece is longer than the model's positions, which are extended for the plan."""
    try:
        check_positions(config, longest)
    except UserError as error:
        config.get_text_config().max_position_embeddings = longest
        return error
    return None


def document_length(given: float | None, lengths: Any, block_size: int) -> tuple[float | None, int]:
    """Tokens over which attention runs on average (weighted by tokens), and the longest piece; None: a whole block."""
    if given is not None:
        return min(given, float(block_size)), min(int(given), block_size)
    if lengths is None or not len(lengths):
        return None, block_size
    pieces = lengths.clip(max=block_size).astype(float)
    return float((pieces**2).sum() / pieces.sum()), int(pieces.max())


def within_limits(
    candidates: list[Candidate], days: float | None, budget: float | None, question: Question
) -> tuple[list[Candidate], list[str]]:
    """Put those that meet days and budget first; sentences on what the limits allow."""

    def meets(item: Candidate) -> bool:
        in_time = days is None or (item.days is not None and item.days <= days)
        in_budget = budget is None or (item.cost is not None and item.cost <= budget)
        return item.fits and in_time and in_budget

    if budget is not None and question.cluster.price is None:
        raise ConfigError("--budget needs the price of a GPU and hour", "--budget", "--price 2.5")
    kept = [item for item in candidates if meets(item)]
    limits = [f"{days:g} days"] if days is not None else []
    if budget is not None:
        limits.append(f"{budget:,.0f} {question.cluster.currency}")
    asked = f"{short(question.tokens or 0)} tokens in {' and '.join(limits)}"
    if kept:
        first = min(kept, key=lambda item: (item.cost or 0.0, -item.time.tokens_per_second))
        rest = [item for item in candidates if item is not first]
        others = f"; {len(kept)} setups meet it" if len(kept) > 1 else ""
        return [first, *rest], [f"{asked}: yes, cheapest with {setup_in_words(first)}{others}"]
    fitting = [item for item in candidates if item.fits and item.days is not None]
    if not fitting:
        return candidates, []
    fastest = min(fitting, key=lambda item: item.days or 0.0)
    words = f"{asked}: no. The fastest takes {fastest.days:,.1f} days"
    if fastest.cost is not None:
        words += f" and {fastest.cost:,.0f} {question.cluster.currency}"
    tokens = float(question.tokens or 0)
    if days is not None and fastest.days is not None and fastest.days > days:
        nodes = -(-fastest.setup.nodes * fastest.days // days)
        words += f"; the days hold {short(tokens * days / fastest.days)} tokens, or take about {nodes:.0f} nodes"
    cheapest = min(fitting, key=lambda item: item.cost or 0.0)
    if budget is not None and cheapest.cost is not None and cheapest.cost > budget:
        words += f"; the money buys {short(tokens * budget / cheapest.cost)} tokens"
    return candidates, [words]


def trade_off(question: Question) -> list[Point]:
    """The fastest setup for each block_size and number of GPUs."""
    blocks = sorted({*BLOCKS, question.block_size})
    counts = sorted({question.cluster.nodes, *(n for n in (1, 2, 4, 8, 16, 32) if n <= question.cluster.nodes)})
    fixed = question.constraints.document_length is not None
    points = []
    for nodes in counts[-4:]:
        machines = question.cluster.with_nodes(nodes)
        for block in blocks:
            found = question.ask(machines, block, fewer_nodes=False)
            first = found[0]
            label = setup_in_words(first) + ("" if fixed else ", one document a block")
            points.append(Point(machines.ranks, block, first.time.tokens_per_second, first.fits, label))
    return points


def print_answer(answer: Answer, *, table: bool) -> None:
    """The plan in the terminal, or the table of the trade-off as Markdown."""
    if table:
        print(trade_off_table(answer))
        return
    console = make_console()
    print_plan(console, answer.candidates, answer.question.cluster, answer.question.model_name)
    for verdict in answer.verdicts:
        console.print(f"\n[bold]{verdict}[/bold]")
    if answer.affordable is not None:
        print_budget(console, answer.affordable, answer.question.cluster.currency)


def trade_off_table(answer: Answer) -> str:
    """block_size against GPUs: tokens a second of all GPUs, or that it does not fit; Markdown."""
    points = trade_off(answer.question)
    blocks = sorted({point.block_size for point in points})
    lines = [
        "| GPUs | " + " | ".join(f"{block:,}" for block in blocks) + " |",
        "|---" * (len(blocks) + 1) + "|",
    ]
    for gpus in sorted({point.gpus for point in points}):
        own = {point.block_size: point for point in points if point.gpus == gpus}
        cells = [f"{own[block].tokens_per_second:,.0f}" if own[block].fits else "does not fit" for block in blocks]
        lines.append(f"| {gpus} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_answer(
    answer: Answer, flags: Flags, output_dir: str, argv: Sequence[str], accepted: frozenset[str]
) -> list[Path]:
    """Recipe, DeepSpeed configuration, scripts and page of the best candidate; where nothing fits, the page alone.

    Args:
        argv: the words after `medscroll plan`, for the head of the recipe.
        accepted: names of the flags of `pretrain`.
    """
    folder = Path(output_dir)
    best, question = answer.best, answer.question
    command = command_words(list(argv))
    written: list[Path] = []
    if best.fits:
        given = {**flags.values(), **weights_of(flags.model_args)}
        given.pop("output_dir", None)
        if answer.affordable is not None and (answer.affordable.passes or 0) < 1:
            given["max_steps"] = answer.affordable.steps
        elif answer.affordable is not None and answer.affordable.passes:
            given["num_train_epochs"] = min(int(answer.affordable.passes * 100) / 100, PASSES_WITHOUT_LOSS)
        price = (
            f"{best.cost:,.0f} {question.cluster.currency} in {best.days:.1f} days" if best.cost and best.days else ""
        )
        written = write_run(folder, best, question.cluster, given, accepted=accepted, command=command, price=price)
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "plan.html"
    positions = int(getattr(question.config.get_text_config(), "max_position_embeddings", 0) or 0)
    title = f"{question.model_name} on {question.cluster.name}, block_size {question.block_size:,}"
    notes = [*question.cluster.notes, *answer.verdicts, f"Made by: {command}"]
    page.write_text(
        plan_page(
            answer.candidates,
            question.cluster,
            trade_off(question),
            title=title,
            notes=notes,
            positions=positions,
        ),
        encoding="utf-8",
    )
    return [*written, page]
