"""Published training runs beside what the planner says of them: tokens a second and GPU, the error of each.

    python benchmarks/planner/published.py            writes docs/planning-published.md and .zh.md

The runs, their configurations and sources are in published_runs.json; nothing of the planner was fitted on them.
Cost: seconds on a laptop.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medscroll.planning.candidate import TrainingSetup
from medscroll.planning.cluster import parse_cluster
from medscroll.planning.compute import count_parameters
from medscroll.planning.parameters import config_text
from medscroll.planning.search import zero_options
from medscroll.planning.step_time import time_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Row:
    """One published run and its prediction, tokens a second and GPU; `exposed` is a share of the step."""

    run: dict[str, Any]
    parameters: int
    predicted: float
    mfu: float
    exposed: float

    @property
    def error(self) -> float:
        """Predicted time against published time, relative."""
        return float(self.run["tokens_per_second"]) / self.predicted - 1


def published() -> dict[str, Any]:
    """The data file."""
    content: dict[str, Any] = json.loads((HERE / "published_runs.json").read_text("utf-8"))
    return content


def predict_run(run: dict[str, Any], shapes: dict[str, Any]) -> Row:
    """The prediction for one entry of the data file."""
    from transformers import CONFIG_MAPPING

    values = {"max_position_embeddings": 8192, "tie_word_embeddings": False, **shapes[run["model"]]}
    config = CONFIG_MAPPING[values.pop("model_type")](**values)
    cluster = parse_cluster(run["cluster"])
    parameters = count_parameters(config)
    setup = TrainingSetup(
        config=config,
        model_name=run["model"],
        parameters=parameters,
        nodes=cluster.nodes,
        gpus_per_node=cluster.gpus_per_node,
        zero_stage=3,
        zero_options=zero_options(3, config.hidden_size),
        micro_batch=run["micro_batch"],
        accumulation=run["accumulation"],
        block_size=run["block_size"],
        document_length=float(run["block_size"]),
        activation_memory=run["level"],
        hpz_group=run.get("hpz_group", 1),
        attn_backend="flash_attention_2",
        liger=False,
    )
    time, _ = time_of(setup, cluster, parameters, config_text(setup))
    rate = time.tokens_per_second / setup.ranks
    if "every" in run:  # every k-th layer is recomputed, the others are not
        free, _ = time_of(setup.replace(activation_memory="none"), cluster, parameters, config_text(setup))
        step = time.step / run["every"] + free.step * (1 - 1 / run["every"])
        rate = setup.step_tokens / step / setup.ranks
    return Row(run, parameters, rate, time.mfu, time.communication_exposed / time.step)


def rows(kind: str) -> list[Row]:
    """The rows of a kind, "compared" or "others"."""
    content = published()
    return [predict_run(run, content["shapes"]) for run in content[kind]]


ENGLISH = {
    "title": "Published runs beside the planner",
    "head": "What others published about sharded data-parallel training, and what `medscroll plan` says of the same "
    "model, GPUs, network, rows and recomputation, taken as this project's engine would run it, with FlashAttention-2 "
    "and without fused kernels. Tokens a second and GPU; the error is that of the time: positive where the planner "
    "is too slow. Nothing was fitted on them. Made by `python benchmarks/planner/published.py`.",
    "columns": "model | GPUs | row | micro batch x accumulation | recomputation | published | planned | error | "
    "exposed network | source",
    "sum": "{count} runs: median error {median:.1%}, worst {worst:.1%}, mean with sign {mean:+.1%}.",
    "others": "Not held to a bound",
    "other_columns": "model | GPUs | published | planned | error | what differs | source",
    "misses": "Where it misses",
    "reasons": """\
- The planner is too fast more often than too slow: it knows no stragglers, no slow nodes, no waiting for data, and its
  rates are those of a GPU that holds its clocks.
- MPT-70B on 64 A100-40G: 70 B parameters leave 1 to 2 GiB of 39 free. The same source makes 376 tokens/s where twice
  the GPUs leave room; an allocator that must free and retry is not in the model.
- Llama-2 on 96 H100: the kind of H100 is not stated, and the software is of early 2024, whose attention reached a third
  of the peak; the same table has both models at 25 to 33 % of it.
- ZeRO-3 of 2021 (GPT-175B): not predicted at all. Its collectives ran at a tenth of the ports. Whoever sees that today
  should measure with `medscroll doctor --cluster` and give `plan` the file: measured bandwidths go before listed
  ones.""",
    "sources": "Sources",
}
CHINESE = {
    "title": "已发表的训练与规划器的预测",
    "head": "他人发表的分片数据并行训练的速度，以及 `medscroll plan` 对同样的模型、GPU、网络、行长与重算给出的预测"
    "（按本项目的引擎，FlashAttention-2，不用融合核）。单位：每卡每秒 token 数；误差指时间，正值表示规划器偏慢。"
    "没有任何常数是用这些数据拟合的。由 `python benchmarks/planner/published.py` 生成。",
    "columns": "模型 | GPU | 行长 | micro batch x 累积 | 重算 | 已发表 | 预测 | 误差 | 暴露的通信 | 来源",
    "sum": "{count} 个训练：误差中位数 {median:.1%}，最大 {worst:.1%}，带符号平均 {mean:+.1%}。",
    "others": "不设误差上限的",
    "other_columns": "模型 | GPU | 已发表 | 预测 | 误差 | 差异 | 来源",
    "misses": "偏差较大的",
    "reasons": """\
- 规划器偏快的时候多：它不知道掉队的卡、慢节点和等数据，并假定 GPU 能保持频率。
- 64 张 A100-40G 上的 MPT-70B：每卡只剩 1 到 2 GiB，显存分配器反复释放重试，模型里没有这一项。
- 96 张 H100 上的 Llama-2：H100 的型号未说明，软件是 2024 年初的。
- 2021 年的 ZeRO-3（GPT-175B）：完全没有预测到，当时的集合通信只达到网口的十分之一。今天遇到这种情况，请用
  `medscroll doctor --cluster` 实测，并把结果文件交给 `plan`：实测带宽优先于表中带宽。""",
    "sources": "来源",
}


def page(words: dict[str, str], compared: list[Row], others: list[Row]) -> str:
    """The page in one language, Markdown."""
    errors = [row.error for row in compared]
    lines = [f"# {words['title']}", "", words["head"], "", f"| {words['columns']} |", "|---" * 10 + "|"]
    for row in compared:
        run = row.run
        level = run["level"] + (f", 1/{run['every']}" if run.get("every") else "")
        lines.append(
            f"| {run['model']} | {run['cluster']} | {run['block_size']:,} | {run['micro_batch']} x "
            f"{run['accumulation']} | {level} | {run['tokens_per_second']:,} | {row.predicted:,.0f} | "
            f"{row.error:+.1%} | {row.exposed:.0%} | {run['source']} |"
        )
    summary = words["sum"].format(
        count=len(errors),
        median=statistics.median(map(abs, errors)),
        worst=max(map(abs, errors)),
        mean=statistics.mean(errors),
    )
    lines += ["", summary, "", f"## {words['others']}", "", f"| {words['other_columns']} |", "|---" * 7 + "|"]
    for row in others:
        run = row.run
        lines.append(
            f"| {run['model']} | {run['cluster']} | {run['tokens_per_second']:,} | {row.predicted:,.0f} | "
            f"{row.error:+.1%} | {run['differs']} | {run['source']} |"
        )
    lines += ["", f"## {words['misses']}", "", *words["reasons"].splitlines()]
    lines += ["", f"## {words['sources']}", ""]
    lines += [f"- {name}: {text}" for name, text in published()["sources"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both pages and print the errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    compared, others = rows("compared"), rows("others")
    for name, words in (("planning-published.md", ENGLISH), ("planning-published.zh.md", CHINESE)):
        (options.output_dir / name).write_text(page(words, compared, others), encoding="utf-8")
    for row in compared + others:
        run = row.run
        print(
            f"{run['model']:12} {run['cluster']:24} {run['block_size']:6} {run['level']:9} "
            f"{run['tokens_per_second']:7,} {row.predicted:9,.0f} {row.error:+7.1%} exposed {row.exposed:.0%}"
        )


if __name__ == "__main__":
    main()
