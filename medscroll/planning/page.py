"""A plan as one HTML page: memory bars by part, the time of a step, and block_size against speed against GPUs.

Self-contained (no script, no font, no image from anywhere), light and dark by the reader's setting, printable. Every
text goes through `html.escape`. Cost: milliseconds, some 30 kB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from medscroll.planning.candidate import Candidate
from medscroll.planning.cluster import Cluster

GIB = 2**30
# part -> (name for people, colour on light, colour on dark): what belongs together shares a hue
PARTS = {
    "weights": ("weights", "#1f5fa8", "#5b9be0"),
    "live_parameters": ("gathered weights", "#8bb8e8", "#2f5f95"),
    "gradients": ("gradients", "#2c7a4b", "#58b57e"),
    "optimizer_states": ("optimizer states", "#6b4fa0", "#a389da"),
    "optimizer_workspace": ("workspace of the optimizer", "#bda9e0", "#574284"),
    "activations": ("activations", "#c8641b", "#f09a52"),
    "recompute_workspace": ("one layer under recomputation", "#f0b583", "#9c5a24"),
    "attention_workspace": ("workspace of attention", "#e0d06a", "#8f8128"),
    "logits": ("logits and loss", "#b3344c", "#e8708a"),
    "communication_buffers": ("buffers of communication", "#1f8a8a", "#4fc0c0"),
    "cuda_context": ("CUDA context", "#6b7280", "#9ca3af"),
    "allocator_slack": ("slack of the allocator", "#c3c8d0", "#4b5563"),
}
TIMES = {
    "matmul": ("matrix products", "#1f5fa8", "#5b9be0"),
    "attention": ("attention", "#8bb8e8", "#2f5f95"),
    "elementwise": ("elementwise", "#2c7a4b", "#58b57e"),
    "recompute": ("recomputation", "#f0b583", "#9c5a24"),
    "optimizer": ("optimizer", "#6b4fa0", "#a389da"),
    "host_transfer": ("host transfers", "#e0d06a", "#8f8128"),
    "communication_exposed": ("communication not hidden", "#b3344c", "#e8708a"),
    "overhead": ("waiting for the host, other", "#c3c8d0", "#4b5563"),
}
LINES = ("#1f5fa8", "#c8641b", "#2c7a4b", "#b3344c", "#6b4fa0", "#1f8a8a")
LINES_DARK = ("#5b9be0", "#f09a52", "#58b57e", "#e8708a", "#a389da", "#4fc0c0")


@dataclass(frozen=True)
class Point:
    """One point of the trade-off: so many GPUs at one block_size. `tokens_per_second` is 0 where it does not fit."""

    gpus: int
    block_size: int
    tokens_per_second: float
    fits: bool
    label: str = ""


def short(number: float) -> str:
    """1234 as 1.2k, 5.0e6 as 5.0M."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            value = number / limit
            return f"{value:.0f}{suffix}" if value >= 100 else f"{value:.1f}{suffix}"
    return f"{number:.0f}" if abs(number) >= 10 or number == int(number) else f"{number:.2g}"


def setup_in_words(candidate: Candidate) -> str:
    """The choices of a setup in one line: `8 x 8 GPUs, ZeRO-3, 1 x 2 blocks of 32,768, recomputation full`."""
    setup = candidate.setup
    engine = f"ZeRO-{setup.zero_stage}" if setup.engine == "deepspeed" and setup.zero_stage else "no sharding"
    parts = [f"{setup.nodes} x {setup.gpus_per_node} GPU{'s' if setup.ranks > 1 else ''}", engine]
    if setup.lora_rank:
        base = f", base in {setup.quantized_bits} bits" if setup.quantized_bits else ""
        parts.append(f"LoRA of rank {setup.lora_rank}{base}")
    parts.append(f"{setup.micro_batch} x {setup.accumulation} blocks of {setup.block_size:,}")
    parts.append(f"activations {setup.activation_memory}")
    offloaded = [
        name for name, on in (("optimizer", setup.offload_optimizer), ("weights", setup.offload_parameters)) if on
    ]
    if offloaded:
        parts.append(f"{' and '.join(offloaded)} in host memory")
    if setup.hpz_group > 1:
        parts.append(f"hpZ over {setup.hpz_group}")
    if setup.sequence_parallel > 1:
        parts.append(f"rows over {setup.sequence_parallel} GPUs")
    return ", ".join(parts)


def plan_page(
    candidates: Sequence[Candidate],
    cluster: Cluster,
    points: Sequence[Point] = (),
    *,
    title: str,
    notes: Sequence[str] = (),
    positions: int = 0,
    shown: int = 8,
) -> str:
    """The HTML of a plan; `candidates` in the order of their rank, at least one.

    Args:
        points: of the trade-off plot; without any the plot is left out.
        title: model and cluster, for the heading.
        notes: sentences below everything: assumptions, sources, calibration.
        positions: of the model, named where the plot goes beyond them; 0: unknown.
        shown: how many candidates get a bar.
    """
    best = candidates[0]
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p class=lead>{escape(_headline(best, cluster))}</p>",
        _facts(best, cluster),
        "<h2>GPU memory at the peak, by part</h2>",
        _memory_bars(candidates[:shown], cluster),
        _legend([part for part in PARTS if any(item.memory.parts[part] for item in candidates[:shown])], PARTS),
        _memory_table(best),
        "<h2>Time of one optimizer step</h2>",
        _time_bar(best),
        _legend([part for part in TIMES if getattr(best.time, part) > 0], TIMES),
    ]
    if points:
        body += ["<h2>block_size against speed against GPUs</h2>", _trade_off(points, positions)]
    body += ["<h2>Why the others lost</h2>", _losers(candidates[1:shown])]
    listed = "".join(f"<li>{escape(note)}</li>" for note in [*best.notes, *notes])
    body.append(f"<h2>How this was predicted</h2><ul class=notes>{listed}</ul>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_style()}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _style() -> str:
    light, dark = [], []
    for table in (PARTS, TIMES):
        prefix = "m" if table is PARTS else "t"
        for name, (_, on_light, on_dark) in table.items():
            light.append(f"--{prefix}-{name}:{on_light}")
            dark.append(f"--{prefix}-{name}:{on_dark}")
    light += [f"--line-{index}:{colour}" for index, colour in enumerate(LINES)]
    dark += [f"--line-{index}:{colour}" for index, colour in enumerate(LINES_DARK)]
    return (
        ":root{color-scheme:light dark;--page:#fff;--text:#1b2230;--faint:#5a6475;--rule:#d8dde6;--limit:#b3344c;"
        + ";".join(light)
        + "}@media (prefers-color-scheme:dark){:root:not(.print){--page:#14181f;--text:#e6eaf1;--faint:#9aa5b5;"
        "--rule:#323a47;--limit:#e8708a;" + ";".join(dark) + "}}"
        "body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 system-ui,sans-serif}"
        "main{max-width:920px;margin:0 auto;padding:24px 20px 48px}"
        "h1{font-size:24px;line-height:1.25;margin:0 0 6px}h2{font-size:17px;margin:30px 0 10px}"
        ".lead{font-size:16px;margin:0 0 18px;color:var(--faint)}"
        ".facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:14px 18px;margin:0;"
        "border-top:1px solid var(--rule);padding-top:14px}.facts dt{color:var(--faint);font-size:13px}"
        ".facts dd{margin:0;font-weight:600;font-size:17px;font-variant-numeric:tabular-nums}"
        "svg{width:100%;height:auto;display:block}svg text{fill:var(--text);font:13px system-ui,sans-serif}"
        "svg .faint{fill:var(--faint)}.rule{stroke:var(--rule)}.limit{stroke:var(--limit);stroke-width:1.5}"
        "svg .limit-text{fill:var(--limit)}.legend{display:flex;flex-wrap:wrap;gap:6px 16px;margin:10px 0 0;padding:0;"
        "list-style:none;font-size:13px}.legend i{display:inline-block;width:11px;height:11px;margin-right:6px;"
        "border-radius:2px;vertical-align:-1px}table{border-collapse:collapse;width:100%;margin-top:16px;font-size:14px}"
        "th,td{text-align:left;padding:5px 10px 5px 0;border-bottom:1px solid var(--rule);vertical-align:top}"
        "th{font-weight:600;color:var(--faint)}.number{text-align:right!important}td.number{text-align:right;font-variant-numeric:tabular-nums;"
        "white-space:nowrap}.notes{font-size:13px;color:var(--faint);padding-left:18px}.scroll{overflow-x:auto}"
        "@media print{main{padding:0;max-width:none}h2{break-after:avoid}svg,table{break-inside:avoid}"
        "body,i,rect{-webkit-print-color-adjust:exact;print-color-adjust:exact}"
        ":root{--page:#fff!important;--text:#000!important;--faint:#444!important;--rule:#ccc!important}}"
    )


def _headline(best: Candidate, cluster: Cluster) -> str:
    verdict = "" if best.fits else f"Does not fit: {best.reason}. "
    change = f" {best.remedy}." if not best.fits and best.remedy else ""
    return f"{verdict}{setup_in_words(best)}.{change}"


def _facts(best: Candidate, cluster: Cluster) -> str:
    time, memory = best.time, best.memory
    facts = [
        ("tokens a second", f"{time.tokens_per_second:,.0f}" if best.fits else "-"),
        ("seconds a step", f"{time.step:.1f}" if best.fits else "-"),
        ("tokens a step", f"{best.setup.step_tokens:,}"),
        ("MFU", f"{time.mfu:.1%}" if best.fits else "-"),
        ("GPU memory", f"{memory.total / GIB:.1f} of {cluster.gpu.memory / GIB:.1f} GiB"),
        ("host memory a node", f"{max(best.host.at_load, best.host.steady) / GIB:,.0f} GiB"),
        ("a checkpoint", f"{best.disk.checkpoint / 1e9:,.0f} GB"),
        ("out of a node a step", f"{best.network.per_step / 1e9:,.0f} GB" if best.setup.nodes > 1 else "0"),
        ("bound by", best.binding or "-"),
    ]
    if best.days is not None:
        facts.append(("days", f"{best.days:,.1f}"))
    if best.cost is not None:
        facts.append(("cost", f"{best.cost:,.0f} {cluster.currency}"))
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f"<dl class=facts>{cells}</dl>"


def _legend(parts: Sequence[str], table: dict[str, tuple[str, str, str]]) -> str:
    prefix = "m" if table is PARTS else "t"
    items = [f'<li><i style="background:var(--{prefix}-{part})"></i>{escape(table[part][0])}</li>' for part in parts]
    return f"<ul class=legend>{''.join(items)}</ul>"


def _memory_bars(candidates: Sequence[Candidate], cluster: Cluster) -> str:
    limit = cluster.gpu.memory / GIB
    scale = max(limit * 1.12, *(min(item.memory.total / GIB, 3 * limit) for item in candidates))
    width, height, row = 880, 30 + 54 * len(candidates), 54
    out = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="GPU memory of each candidate by part">']
    for index, item in enumerate(candidates):
        top, at = 26 + index * row, 0.0
        total = item.memory.total / GIB
        words = f"{setup_in_words(item)}: {total:.1f} GiB" + ("" if item.fits else ", does not fit")
        out.append(f'<text x="0" y="{top - 6}">{escape(words)}</text>')
        for part in PARTS:
            size = item.memory.parts[part] / GIB
            shown = min(size, scale - at)
            if shown > 0:
                out.append(
                    f'<rect x="{at / scale * width:.1f}" y="{top}" width="{shown / scale * width:.1f}" height="22" '
                    f'fill="var(--m-{part})"><title>{escape(PARTS[part][0])}: {size:.2f} GiB</title></rect>'
                )
            at += size
    x = limit / scale * width
    for index in range(len(candidates)):
        top = 26 + index * row
        out.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 2}" y2="{top + 24}"/>')
    words = f"{limit:.1f} GiB in a GPU"
    out.append(f'<text class="limit-text" x="{min(x + 4, width - 100):.1f}" y="{height - 6}">{words}</text></svg>')
    return "".join(out)


def _memory_table(best: Candidate) -> str:
    rows = "".join(
        f"<tr><td>{escape(PARTS[part][0])}</td><td class=number>{size / GIB:.2f}</td>"
        f"<td>{escape(best.memory.why.get(part, ''))}</td></tr>"
        for part, size in sorted(best.memory.parts.items(), key=lambda item: -item[1])
        if size
    )
    peak = escape(best.memory.moment)
    total = f"<tr><th>in all</th><td class=number>{best.memory.total / GIB:.2f}</td><td>peak: {peak}</td></tr>"
    head = "<tr><th>part</th><th class=number>GiB</th><th>of what</th></tr>"
    return f"<div class=scroll><table>{head}{rows}{total}</table></div>"


def _time_bar(best: Candidate) -> str:
    width, step, at = 880, max(best.time.step, 1e-9), 0.0
    out = [f'<svg viewBox="0 0 {width} 30" role="img" aria-label="parts of a step">']
    for part, (name, _, _) in TIMES.items():
        seconds = getattr(best.time, part)
        if seconds > 0:
            out.append(
                f'<rect x="{at / step * width:.1f}" y="2" width="{seconds / step * width:.1f}" height="24" '
                f'fill="var(--t-{part})"><title>{escape(name)}: {seconds:.2f} s</title></rect>'
            )
            at += seconds
    hidden = best.time.communication_total - best.time.communication_exposed
    words = (
        f"{best.time.step:.2f} s; communication takes {best.time.communication_total:.2f} s, "
        f"{hidden:.2f} s of it behind computation"
    )
    return f"{''.join(out)}</svg><p class=notes style='padding:0;margin:6px 0 0'>{escape(words)}</p>"


def _trade_off(points: Sequence[Point], positions: int) -> str:
    width, height, left, bottom, top, right = 880, 340, 70, 56, 14, 96
    blocks = sorted({point.block_size for point in points})
    low, high = math.log2(blocks[0]), math.log2(blocks[-1])
    most = max((point.tokens_per_second for point in points if point.fits), default=1.0) * 1.04 or 1.0
    unit = 10 ** math.floor(math.log10(most))
    tick = next(size * unit for size in (0.25, 0.5, 1, 2, 2.5) if most / (size * unit) <= 5)
    most = math.ceil(most / tick) * tick

    def x_of(block: int) -> float:
        share = (math.log2(block) - low) / (high - low) if high > low else 0.5
        return left + share * (width - left - right)

    def y_of(rate: float) -> float:
        return top + (1 - rate / most) * (height - top - bottom)

    out = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="tokens a second by block_size and GPUs">']
    for rate in (number * tick for number in range(round(most / tick) + 1)):
        out.append(f'<line class="rule" x1="{left}" x2="{width - right}" y1="{y_of(rate):.1f}" y2="{y_of(rate):.1f}"/>')
        out.append(
            f'<text class="faint" x="{left - 8}" y="{y_of(rate) + 4:.1f}" text-anchor="end">{short(rate)}</text>'
        )
    for block in blocks:
        place = f'x="{x_of(block):.1f}" y="{height - bottom + 22}"'
        out.append(f'<text class="faint" {place} text-anchor="middle">{block:,}</text>')
    out.append(f'<text class="faint" x="{left}" y="{height - 8}">block_size; up: tokens a second of all GPUs</text>')
    labels: list[float] = []
    for index, gpus in enumerate(sorted({point.gpus for point in points}, reverse=True)):
        own = sorted((point for point in points if point.gpus == gpus), key=lambda point: point.block_size)
        colour = f"var(--line-{index % len(LINES)})"
        fitting = [point for point in own if point.fits]
        path = " ".join(f"{x_of(point.block_size):.1f},{y_of(point.tokens_per_second):.1f}" for point in fitting)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in own:
            aside = 0 if point.fits else 9 * index  # hollow ones of several series lie beside each other
            y = y_of(point.tokens_per_second) if point.fits else height - bottom
            fill = colour if point.fits else "var(--page)"
            said = f"{gpus} GPUs, {point.block_size:,}: " + (
                f"{point.tokens_per_second:,.0f} tokens/s" if point.fits else "does not fit"
            )
            out.append(
                f'<circle cx="{x_of(point.block_size) + aside:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{colour}" '
                f'stroke-width="2"><title>{escape(f"{said} {point.label}".strip())}</title></circle>'
            )
        if fitting:
            at = y_of(fitting[-1].tokens_per_second) + 4
            while any(abs(at - other) < 14 for other in labels):
                at += 4
            labels.append(at)
            place = f'x="{x_of(fitting[-1].block_size) + 9:.1f}" y="{at:.1f}"'
            out.append(f'<text {place} style="fill:{colour}">{gpus} GPUs</text>')
    counts = sorted({point.gpus for point in points})
    nowhere = [str(gpus) for gpus in counts if not any(point.fits for point in points if point.gpus == gpus)]
    hollow = " Hollow: does not fit." if any(not point.fits for point in points) else ""
    if nowhere:
        hollow += f" It fits at no block_size on {' or '.join(nowhere)} GPUs."
    if positions and blocks[-1] > positions:
        hollow += f" Documents longer than the model's {positions:,} positions need --rope_scaling or --rope_theta."
    caption = f"Each point is the fastest setup that fits at that block_size.{hollow}"
    return f"{''.join(out)}</svg><p class=notes style='padding:0;margin:0'>{caption}</p>"


def _losers(candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return "<p class=notes style='padding:0'>There is no other candidate: everything was given by flags.</p>"
    rows = "".join(
        f"<tr><td>{escape(setup_in_words(item))}</td>"
        f"<td class=number>{f'{item.time.tokens_per_second:,.0f}' if item.fits else '-'}</td>"
        f"<td class=number>{item.memory.total / GIB:.1f}</td><td>{escape(item.reason)}</td></tr>"
        for item in candidates
    )
    head = "<tr><th>setup</th><th class=number>tokens/s</th><th class=number>GiB</th><th>why</th></tr>"
    return f"<div class=scroll><table>{head}{rows}</table></div>"
