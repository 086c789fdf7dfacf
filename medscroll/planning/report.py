"""A plan in the terminal: the ranked few, why the others lost, memory by part, and what binds.

Works in a pipe too: without a terminal rich prints plain text at 120 columns. Cost: milliseconds.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from medscroll.planning.budget import Affordable
from medscroll.planning.candidate import Candidate
from medscroll.planning.cluster import Cluster
from medscroll.planning.page import PARTS, TIMES, setup_in_words, short

GIB = 2**30
BAR = 56
# One letter a part where there is no colour.
LETTERS = dict(zip(PARTS, "WwGOoAarLBCs", strict=True))
RANKED, LOST = 6, 8


def make_console() -> Console:
    """A console as wide as the terminal, 120 columns in a pipe."""
    width = None if sys.stdout.isatty() else max(120, shutil.get_terminal_size((120, 24)).columns)
    return Console(highlight=False, width=width, soft_wrap=False)


def print_plan(console: Console, candidates: Sequence[Candidate], cluster: Cluster, model: str) -> None:
    """Everything about the candidates, best first; at least one."""
    best = candidates[0]
    billions = best.setup.parameters / 1e9
    console.print(f"[bold]{model}[/bold], {billions:.2f} B parameters, on {cluster.describe()}")
    fitting = [item for item in candidates if item.fits]
    lost = [item for item in candidates if not item.fits]
    if fitting:
        console.print(_ranked(fitting[:RANKED], cluster))
        if len(fitting) > RANKED:
            console.print(f"and {len(fitting) - RANKED} slower ones that fit.")
    else:
        console.print("[bold red]Nothing that was tried fits.[/bold red]")
    shown = (fitting or lost)[0]
    console.print(f"\n[bold]{'Best' if fitting else 'Nearest'}[/bold]: {setup_in_words(shown)}")
    if shown.reason:
        console.print(f"  {shown.reason}")
    _memory(console, shown, cluster)
    if shown.fits:
        _time(console, shown)
    _surroundings(console, shown, cluster)
    if lost:
        console.print(_lost(lost[:LOST]))
        if len(lost) > LOST:
            console.print(f"and {len(lost) - LOST} others that do not fit either.")
    if not fitting:
        change = next((item.remedy for item in lost if item.remedy), "")
        console.print(f"[bold]Smallest change that would make it possible[/bold]: {change or 'more or larger GPUs'}")
    notes = list(dict.fromkeys([*cluster.notes, *shown.notes]))
    if notes:
        console.print("\n[bold]Assumed or measured[/bold]")
        for note in notes:
            console.print(Text(f"  - {note}"))


def _ranked(fitting: Sequence[Candidate], cluster: Cluster) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    columns = ["", "setup", "GiB a GPU", "tokens/s", "s/step", "MFU", "bound by"]
    has_days, has_cost = fitting[0].days is not None, fitting[0].cost is not None
    columns += ["days"] * has_days + [cluster.currency] * has_cost
    for name in columns:
        table.add_column(name, justify="left" if name in ("setup", "bound by", "") else "right", overflow="fold")
    for number, item in enumerate(fitting, 1):
        cells = [
            str(number),
            setup_in_words(item),
            f"{item.memory.total / GIB:.1f}",
            f"{item.time.tokens_per_second:,.0f}",
            f"{item.time.step:.2f}",
            f"{item.time.mfu:.1%}",
            item.binding,
        ]
        if has_days:
            cells.append(f"{item.days:,.1f}" if item.days is not None else "")
        if has_cost:
            cells.append(f"{item.cost:,.0f}" if item.cost is not None else "")
        table.add_row(*cells)
    return table


def _lost(lost: Sequence[Candidate]) -> Table:
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 2, 0, 0),
        title="Why others lost",
        title_justify="left",
    )
    for name in ("setup", "GiB a GPU", "why"):
        table.add_column(name, justify="right" if name == "GiB a GPU" else "left", overflow="fold")
    for item in lost:
        table.add_row(setup_in_words(item), f"{item.memory.total / GIB:.1f}", item.reason or "does not fit")
    return table


def memory_bar(candidate: Candidate, limit: int, width: int = BAR) -> Text:
    """The memory of a GPU as a bar of `width` characters; what exceeds the GPU is drawn beyond the bar's end."""
    bar, done = Text(), 0
    per_cell = limit / width
    for part, size in candidate.memory.parts.items():
        end = round((done + size) / per_cell)
        start = round(done / per_cell)
        shown = min(end, int(1.5 * width)) - min(start, int(1.5 * width))
        bar.append(LETTERS[part] * shown, style=f"{PARTS[part][2]}")
        done += size
    free = width - len(bar.plain)
    if free > 0:
        bar.append("." * free, style="dim")
    else:
        text = bar.plain
        bar = Text.assemble(bar[:width], ("|", "bold red"), bar[width:] if len(text) > width else "")
    return bar


def _memory(console: Console, item: Candidate, cluster: Cluster) -> None:
    memory, limit = item.memory, cluster.gpu.memory
    bound = f"+-{item.error_bound:.0%}"
    console.print(
        f"\n[bold]GPU memory[/bold] at the peak ({memory.moment}): {memory.total / GIB:.1f} GiB {bound} of "
        f"{limit / GIB:.1f}; torch's allocator: {memory.allocated / GIB:.1f}"
    )
    console.print(Text("  ").append_text(memory_bar(item, limit)))
    for part, size in sorted(memory.parts.items(), key=lambda entry: -entry[1]):
        if size:
            label = f"  {LETTERS[part]} {PARTS[part][0]:<31}{size / GIB:8.2f}  "
            console.print(Text(label, style=PARTS[part][2]).append(memory.why.get(part, ""), style="default"))


def _time(console: Console, item: Candidate) -> None:
    time = item.time
    parts = [(name, getattr(time, part)) for part, (name, _, _) in TIMES.items() if getattr(time, part) > 0]
    shown = ", ".join(f"{name} {seconds:.2f}" for name, seconds in sorted(parts, key=lambda entry: -entry[1]))
    console.print(f"\n[bold]A step[/bold] of {item.setup.step_tokens:,} tokens: {time.step:.2f} s: {shown}")
    if time.why:
        console.print(f"  rates: {'; '.join(f'{name} {text}' for name, text in time.why.items())}")
    if time.communication_total > 0:
        hidden = 1 - time.communication_exposed / time.communication_total
        console.print(
            f"  communication: {time.communication_total:.2f} s in all, {hidden:.0%} of it behind computation"
        )


def _surroundings(console: Console, item: Candidate, cluster: Cluster) -> None:
    network, host, disk = item.network, item.host, item.disk
    if item.setup.nodes > 1:
        seconds = network.per_micro_step / cluster.node_bandwidth
        console.print(
            f"[bold]Network[/bold]: {network.per_micro_step / 1e9:,.0f} GB out of every node a micro step "
            f"({network.per_step / 1e9:,.0f} a step): {seconds:.1f} s at {cluster.node_bandwidth / 1e9:.1f} GB/s"
        )
        if network.hiding_tokens:
            held = item.setup.micro_tokens
            verdict = "hidden" if held >= network.hiding_tokens else "not hidden"
            thumb = network.hiding_at_half_peak
            plain = f"; {network.hiding_without_hpz:,.0f} without hpZ" if network.hiding_without_hpz else ""
            rule = f" ({thumb:,.0f} by rule of thumb: GPUs at half their peak, line rate{plain})" if thumb else ""
            console.print(
                f"  least tokens a GPU and micro step that hide it: {network.hiding_tokens:,.0f} at this speed{rule}; "
                f"here {held:,}: {verdict}"
            )
    console.print(
        f"[bold]Host memory[/bold] of a node: {host.at_load / GIB:,.0f} GiB while the model is made, "
        f"{host.steady / GIB:,.0f} in training, of {cluster.host_memory / GIB:,.0f}"
    )
    line = f"[bold]Disk[/bold]: {disk.checkpoint / 1e9:,.0f} GB a checkpoint, {disk.kept / 1e9:,.0f} GB kept"
    if item.checkpoint_seconds:
        line += (
            f"; a checkpoint every {item.checkpoint_seconds / 60:,.0f} minutes (Young/Daly: {item.setup.ranks} GPUs "
            f"fail every {cluster.seconds_to_failure / 3600 * cluster.ranks / item.setup.ranks:,.0f} h)"
        )
    console.print(line)
    if item.binding:
        console.print(f"[bold]What binds[/bold]: {item.binding}")


def print_budget(console: Console, found: Affordable, currency: str) -> None:
    """What the budget affords, by source."""
    cost = f", {found.cost:,.0f} {currency}" if found.cost is not None else ""
    console.print(
        f"\n[bold]Affordable[/bold]: {short(found.tokens)} tokens in {found.steps:,} steps, {found.days:.1f} days{cost}"
        " "
        f"(bound by --{found.bound}): {found.advice()}"
    )
    if found.sources:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for name in ("source", "documents", "tokens", "afforded", "passes"):
            table.add_column(name, justify="left" if name == "source" else "right")
        for source in found.sources:
            table.add_row(
                source.name,
                f"{source.documents:,}",
                f"{source.tokens:,}",
                f"{found.of(source):,}",
                f"{found.passes or 0:.2f}",
            )
        console.print(table)


def candidate_json(candidate: Candidate) -> dict[str, Any]:
    """A candidate as plain JSON values; bytes and seconds, the model's configuration left out."""
    shallow = {
        field.name: getattr(candidate.setup, field.name)
        for field in dataclasses.fields(candidate.setup)
        if field.name != "config"
    }
    value: dict[str, Any] = {"setup": shallow, "words": setup_in_words(candidate)}
    value["memory"] = {
        **candidate.memory.parts,
        "allocated": candidate.memory.allocated,
        "total": candidate.memory.total,
        "moment": candidate.memory.moment,
        "why": candidate.memory.why,
    }
    value["time"] = {**dataclasses.asdict(candidate.time), "step": candidate.time.step}
    for name in ("host", "disk", "network"):
        value[name] = dataclasses.asdict(getattr(candidate, name))
    for name in ("fits", "reason", "binding", "error_bound", "days", "cost", "checkpoint_seconds", "remedy"):
        value[name] = getattr(candidate, name)
    value["notes"] = list(candidate.notes)
    return value


def cluster_json(cluster: Cluster) -> dict[str, Any]:
    """A cluster as plain JSON values; null for a bandwidth between nodes of a single node."""
    value = dataclasses.asdict(cluster)
    value["name"] = cluster.name
    if cluster.node_bandwidth == float("inf"):
        value["node_bandwidth"] = None
    return value
