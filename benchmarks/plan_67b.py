"""The 67B page: which GPUs, links and block sizes carry all parameters of a 67B model, how fast, and what binds.

    python benchmarks/plan_67b.py                   writes docs/plan-67b.md, plan-67b.zh.md, excerpts in the READMEs
    python benchmarks/plan_67b.py --excerpt_only    the excerpts anew, from the pages that are there

Every cell is a plan (`medscroll.planning.search.plan_training`) of the preset deepseek-67b with as many positions as
the block has, one document a block: the dearest case of attention. Nothing is measured here; what the
planner's figures are worth stands in docs/planning.md. Cost: minutes on a laptop.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from medscroll.config.arguments import ModelArguments
from medscroll.engine.plan_question import ranked
from medscroll.model.load import load_config
from medscroll.planning.candidate import Candidate, Constraints
from medscroll.planning.cluster import parse_cluster
from medscroll.planning.page import setup_in_words
from medscroll.planning.search import plan_training

ROOT = Path(__file__).resolve().parent.parent
MODEL = "deepseek-67b"
GPUS = ("A100-80G", "H100-80G")
LINKS = ("1x200G", "1x400G", "8xNDR")
NODES = (2, 4, 8, 16)
BLOCKS = (4096, 8192, 16384, 32768, 65536, 131072)
TOKENS = 10_000_000_000
EXCERPT = ("4,096", "32,768")  # block sizes of the excerpt
BEGIN, END = "<!-- begin plan-67b -->", "<!-- end plan-67b -->"
GIB = 2**30

ENGLISH = {
    "title": "A 67B model: how many GPUs, which network, which block size",
    "head": "All parameters of DeepSeek-67B (67.43 billion) trained on {tokens} tokens with the engine of this "
    "project, "
    "one document a block (attention over the whole row, the dearest case), from 4,096 to 131,072 tokens. Nodes hold "
    "eight GPUs. Links are those of one node: one port of 200 or 400 Gbit/s RDMA, or eight NDR ports. Each cell is the "
    "fastest plan that fits: tokens a second of all GPUs, and days.\n\n"
    "**Bold**: the network binds, that is, computing waits for it. Predicted, not measured; docs/planning.md says how "
    "and how exactly. Made by `python benchmarks/plan_67b.py` with version {version}.",
    "columns": ("GPUs", "block_size", *LINKS, "setup at 8xNDR", "GiB a GPU"),
    "none": "does not fit",
    "reads": "What can be read off",
    "day": "d",
    "least": "- **Least GPUs, {gpu}**: {list}.",
    "fits_at": "{gpus} GPUs to a block_size of {block:,}",
    "nothing": "none of these sizes",
    "binds": "- **Network, {gpu}**: {list}.",
    "binds_at": "{link} binds in {count} of {all} fastest plans and costs at most {loss:.0%} against 8xNDR",
    "hides": "- **Hidden behind computing, {gpu}**: with ZeRO-3 a GPU must hold at least so many tokens a "
    "micro step (GPUs at half of their peak, links at line rate, without hpZ): {list}.",
    "small": "- **Where nothing fits**: {list}.",
}
CHINESE = {
    "title": "67B 模型：需要多少 GPU、什么网络、多大的 block_size",
    "head": "用本项目的引擎全参数训练 DeepSeek-67B（674.3 亿参数），共 {tokens} token；"
    "每个 block 一篇文档（注意力覆盖整行，最贵的情形），block_size 从 4,096 到 131,072。每个节点 8 张 GPU；"
    "网络指每个节点的上行：一个 200 或 400 Gbit/s 的 RDMA 口，或八个 NDR 口。"
    "每格是能装下的最快方案：全部 GPU 每秒的 token 数，以及天数。\n\n"
    "**粗体**：网络是瓶颈，即计算在等网络。以上为预测，不是实测；方法与精度见 docs/planning.zh.md。"
    "由 `python benchmarks/plan_67b.py` 生成，版本 {version}。",
    "columns": ("GPU 数", "block_size", *LINKS, "8xNDR 时的方案", "每卡 GiB"),
    "none": "装不下",
    "reads": "从表中可以读出",
    "day": "天",
    "least": "- **最少的 GPU，{gpu}**：{list}。",
    "fits_at": "{gpus} 张可到 block_size {block:,}",
    "nothing": "这些规模都不行",
    "binds": "- **网络，{gpu}**：{list}。",
    "binds_at": "{link} 在 {all} 个最快方案中有 {count} 个成为瓶颈，比 8xNDR 最多慢 {loss:.0%}",
    "hides": "- **被计算掩盖，{gpu}**：用 ZeRO-3 时每卡每个 micro step 至少要有这么多 token"
    "（GPU 为峰值的一半，网络为线速，不用 hpZ）：{list}。",
    "small": "- **装不下时**：{list}。",
}


def plans(gpu: str, nodes: int, link: str, block_size: int, configs: dict[int, Any]) -> list[Candidate]:
    """The candidates of one cell, best first."""
    if block_size not in configs:
        arguments = ModelArguments(model_name_or_path=MODEL, from_scratch=True, max_position_embeddings=block_size)
        configs[block_size] = load_config(arguments)
    cluster = parse_cluster(f"{nodes}x8x{gpu}@{link}")
    found = plan_training(
        configs[block_size],
        cluster,
        block_size=block_size,
        model_name=MODEL,
        tokens=TOKENS,
        constraints=Constraints(fewer_nodes=False),
    )
    return ranked(found)


def table(cells: dict[tuple[str, int, int, str], Candidate], gpu: str, words: dict[str, Any]) -> list[str]:
    """The table of one kind of GPU, Markdown."""
    lines = [f"## {gpu}", "", f"| {' | '.join(words['columns'])} |", "|---|---|---|---|---|---|---|"]
    for nodes in NODES:
        for block in BLOCKS:
            row = [f"{nodes * 8}", f"{block:,}"]
            for link in LINKS:
                item = cells[gpu, nodes, block, link]
                text = (
                    f"{item.time.tokens_per_second:,.0f}; {item.days or 0:,.1f} {words['day']}"
                    if item.fits
                    else words["none"]
                )
                row.append(f"**{text}**" if item.fits and item.binding == "network" else text)
            best = cells[gpu, nodes, block, LINKS[-1]]
            row += [
                setup_in_words(best).partition(", ")[2] if best.fits else best.reason,
                f"{best.memory.total / GIB:.1f}",
            ]
            lines.append(f"| {' | '.join(row)} |")
    return [*lines, ""]


def summary(cells: dict[tuple[str, int, int, str], Candidate], words: dict[str, Any]) -> list[str]:
    """What the tables say, counted from them."""
    lines = [f"## {words['reads']}", ""]
    comma = "，" if words is CHINESE else "; "
    for gpu in GPUS:
        sizes = []
        for nodes in NODES:
            fitting = [block for block in BLOCKS if cells[gpu, nodes, block, LINKS[-1]].fits]
            if fitting:
                sizes.append(words["fits_at"].format(gpus=nodes * 8, block=max(fitting)))
        lines.append(words["least"].format(gpu=gpu, list=comma.join(sizes) or words["nothing"]))
        bound = []
        for link in LINKS:
            own = [cells[gpu, nodes, block, link] for nodes in NODES for block in BLOCKS]
            own = [item for item in own if item.fits]
            count = sum(item.binding == "network" for item in own)
            pairs = [(cells[gpu, n, b, link], cells[gpu, n, b, LINKS[-1]]) for n in NODES for b in BLOCKS]
            losses = [1 - a.time.tokens_per_second / b.time.tokens_per_second for a, b in pairs if a.fits and b.fits]
            bound.append(words["binds_at"].format(link=link, count=count, all=len(own), loss=max(losses, default=0.0)))
        lines.append(words["binds"].format(gpu=gpu, list=comma.join(bound)))
        hiding = []
        for link in LINKS:
            found = [cells[gpu, nodes, BLOCKS[0], link] for nodes in NODES[::-1]]
            networks = [item.network for item in found if item.fits]
            tokens = [each.hiding_without_hpz or each.hiding_at_half_peak or 0.0 for each in networks]
            if tokens:
                hiding.append(f"{link} {tokens[0]:,.0f}")
        if hiding:
            lines.append(words["hides"].format(gpu=gpu, list=comma.join(hiding)))
    missing = [
        (f"{nodes * 8} x {gpu}, {block:,}", cells[gpu, nodes, block, LINKS[-1]].remedy)
        for gpu in GPUS
        for nodes in NODES
        for block in BLOCKS
        if not cells[gpu, nodes, block, LINKS[-1]].fits and cells[gpu, nodes, block, LINKS[-1]].remedy
    ]
    if missing:
        lines.append(words["small"].format(list=comma.join(f"{place}: {remedy}" for place, remedy in missing[:6])))
    return [*lines, ""]


def excerpt(page: Path, readme: Path) -> None:
    """Put the rows of two block sizes of a page between the marks of a README."""
    gpu, rows = "", []
    head = next(line for line in page.read_text("utf-8").splitlines() if line.startswith("| "))
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("## "):
            gpu = line[3:]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if gpu in GPUS and len(cells) == 7 and cells[1] in EXCERPT:
            rows.append(f"| {gpu} | {' | '.join(cells[:5])} |")
    names = [cell.strip() for cell in head.strip("|").split("|")][:5]
    table_lines = [f"| GPU | {' | '.join(names)} |", "|---|---|---|---|---|---|", *rows]
    before, mark, rest = readme.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    if not mark or len(rows) != len(GPUS) * len(NODES) * len(EXCERPT):
        raise SystemExit(f"{readme}: no {BEGIN}, or {page} has not the rows that it should have ({len(rows)})")
    readme.write_text("\n".join([before + BEGIN, *table_lines, END + after]), encoding="utf-8")


def main() -> None:
    """Plan every cell, write both pages and both excerpts, print how long it took."""
    from medscroll import __version__

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=ROOT / "docs")
    parser.add_argument("--excerpt_only", action="store_true", help="leave the pages as they are")
    options = parser.parse_args()
    if options.excerpt_only:
        excerpt(options.output_dir / "plan-67b.md", ROOT / "README.md")
        excerpt(options.output_dir / "plan-67b.zh.md", ROOT / "README.zh.md")
        return
    began, configs = time.perf_counter(), {}
    cells: dict[tuple[str, int, int, str], Candidate] = {}
    for gpu in GPUS:
        for nodes in NODES:
            for block in BLOCKS:
                for link in LINKS:
                    cells[gpu, nodes, block, link] = plans(gpu, nodes, link, block, configs)[0]
    for name, words in (("plan-67b.md", ENGLISH), ("plan-67b.zh.md", CHINESE)):
        tokens = "10 B" if words is ENGLISH else "100 亿"
        head = words["head"].format(tokens=tokens, version=__version__)
        lines = [f"# {words['title']}", "", head, ""]
        for gpu in GPUS:
            lines += table(cells, gpu, words)
        lines += summary(cells, words)
        (options.output_dir / name).write_text("\n".join(lines), encoding="utf-8")
        excerpt(options.output_dir / name, ROOT / name.replace("plan-67b", "README"))
    print(json.dumps({"plans": len(cells), "seconds": round(time.perf_counter() - began, 1)}))


if __name__ == "__main__":
    main()
