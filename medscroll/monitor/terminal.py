"""The snapshot of runs in a terminal, by rich: state, figures, loss, nodes, slow ranks, alerts. Fits 80 columns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

BARS = "▁▂▃▄▅▆▇█"
STYLES = {
    **dict.fromkeys(("running", "finished"), "green"),
    **dict.fromkeys(("starting", "stopped", "degraded", "unknown", "silent", "empty"), "yellow"),
    **dict.fromkeys(("dead", "crashed", "stalled"), "bold red"),
}
ENGLISH = {
    "degraded": "some ranks are dead",
    "empty": "no events yet",
    "unknown": "no heartbeats",
    "silent": "no heartbeat",
}
CHINESE = {
    "running": "运行中",
    "starting": "正在启动",
    "finished": "已完成",
    "crashed": "已崩溃",
    "stopped": "已停止",
    "dead": "已失联",
    "stalled": "停滞",
    "degraded": "部分 rank 已失联",
    "empty": "还没有事件",
    "unknown": "没有心跳",
    "silent": "无心跳",
    "since": "自",
    "step": "步",
    "loss": "损失",
    "tokens/s": "token/秒",
    "a step": "每步",
    "remaining": "剩余",
    "a stall after": "判定停滞需",
    "ends": "预计结束",
    "node": "节点",
    "ranks": "rank",
    "GPU peak": "显存峰值",
    "host used": "主机内存",
    "comm": "通信",
    "exposed": "未掩盖",
    "net in / out": "网络 收 / 发",
    "slowest": "最慢",
    "longer than the median, of a step": "比中位数慢（占一步）",
    "plan": "计划",
    "alert": "告警",
    "lines could not be read and were skipped": "行无法读取，已跳过",
    "still reading": "仍在读取",
    "data": "数据",
    "forward": "前向",
    "backward": "反向",
    "optimizer": "优化器",
    "checkpoint": "检查点",
    "evaluation": "评估",
    "other": "其他",
}


class Words:
    """English words, or Chinese ones where there are."""

    def __init__(self, language: str) -> None:
        self.table = CHINESE if language == "zh" else ENGLISH

    def __call__(self, word: str) -> str:
        return self.table.get(word, word)


def duration(seconds: float | None) -> str:
    """`seconds` as 1d02h, 2h05m, 3m07s, 42s or 4.2s."""
    if seconds is None:
        return "–"
    whole = int(seconds)
    if whole >= 3600:
        days, hours = divmod(whole // 3600, 24)
        return f"{days}d{hours:02d}h" if days else f"{hours}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s" if whole >= 10 else f"{seconds:.2g}s"


def gib(value: float | None) -> str:
    """Bytes as GiB."""
    return "–" if value is None else f"{value / 2**30:.1f} GiB"


def rate(value: float | None) -> str:
    """Bytes a second."""
    if value is None:
        return "–"
    for size, unit in ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B/s"


def spark(values: Sequence[float | None], width: int = 56) -> str:
    """A line of block characters, the mean of neighbours where there are more values than places."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    chunk = max(1, -(-len(known) // width))
    means = [sum(known[at : at + chunk]) / len(known[at : at + chunk]) for at in range(0, len(known), chunk)]
    low, high = min(means), max(means)
    return "".join(BARS[int((value - low) / (high - low) * 7.999)] if high > low else BARS[3] for value in means)


def render(view: dict[str, Any], language: str = "en") -> RenderableType:
    """All runs of a snapshot; `language` is "en" or "zh"."""
    words = Words(language)
    return Group(*[_run(run, words) for run in view["runs"]])


def _run(run: dict[str, Any], words: Words) -> RenderableType:
    parts: list[RenderableType] = [_head(run, words)]
    if run["ranks"]:
        parts.append(Text(_figures(run, words)))
    loss = run["curves"].get("loss") or []
    if sum(value is not None for value in loss) > 1:
        parts.append(Text(f"{words('loss')} {spark(loss)}", style="cyan"))
    if run["nodes"]:
        parts.append(_nodes(run, words))
    for row in [row for row in run["slowest"] if row["excess"] > 0.01][:3]:
        text = f"{words('slowest')}: rank {row['rank']} ({row['host']}), {words(row['phase'])}, {row['excess']:.1%} "
        parts.append(Text(text + words("longer than the median, of a step"), style="yellow"))
    for alert in run["alerts"][:5]:
        style = "red" if alert.get("severity") == "critical" else "yellow"
        parts.append(Text(f"{words('alert')} {_clock(alert.get('time'))} {alert.get('message', '')}", style=style))
    parts += _reading(run, words)
    return Panel(Group(*parts), title=Text(run["name"]), subtitle=Text(run["path"], style="dim"), title_align="left")


def _head(run: dict[str, Any], words: Words) -> Text:
    status = run["status"]
    since = f" {words('since')} {_clock(status['since'])}" if status["since"] else ""
    head = Text(words(status["state"]) + since, style=STYLES.get(status["state"], ""))
    if status["reason"]:
        head.append(f"\n{status['reason']}", style="red")
    bad = [rank for rank in run["ranks"] if rank["state"] in ("dead", "crashed", "silent")]
    for rank in bad[:8]:
        seen = f" {words('since')} {_clock(rank['last_seen'])}" if rank["last_seen"] else ""
        head.append(
            f"\nrank {rank['rank']} ({rank['host']}): {words(rank['state'])}{seen}", style=STYLES[rank["state"]]
        )
    if len(bad) > 8:
        head.append(f"\n… +{len(bad) - 8}", style="red")
    return head


def _figures(run: dict[str, Any], words: Words) -> str:
    of = f"/{run['max_steps']:,}" if run["max_steps"] else ""
    parts = [f"{words('step')} {run['step']:,}{of}"]
    if run["loss"] is not None:
        parts.append(f"{words('loss')} {run['loss']:.4f}")
    if run["tokens_per_second"] is not None:
        parts.append(f"{run['tokens_per_second']:,.0f} {words('tokens/s')}")
    if run["mfu"] is not None:
        parts.append(f"MFU {run['mfu']:.1%}")
    if run["seconds_per_step"] is not None:
        parts.append(f"{duration(run['seconds_per_step'])} {words('a step')}")
    if run["remaining_seconds"] is not None and run["status"]["state"] in ("running", "degraded"):
        ends = f"{words('ends')} {_clock(run['ends_at'])}"
        parts.append(f"{words('remaining')} {duration(run['remaining_seconds'])} ({ends})")
        if run["stall_after"] is not None:
            parts.append(f"{words('a stall after')} {duration(run['stall_after'])}")
    return "  ".join(parts)


def _nodes(run: dict[str, Any], words: Words) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1))
    for head in ("node", "ranks", "GPU peak", "host used", "comm", "exposed", "net in / out"):
        table.add_column(words(head), justify="left" if head == "node" else "right")
    planned, step = run["memory"]["planned"], run["seconds_per_step"]
    for node in run["nodes"]:
        peak = node["memory/peak"]
        share = f" {peak / node['memory/device_total']:.0%}" if peak and node["memory/device_total"] else ""
        total, exposed = (_share(node[f"communication/{name}"], step) for name in ("total_us", "exposed_us"))
        table.add_row(
            Text(node["host"], style="bold red" if node["bad"] else ""),
            f"{node['alive']}/{len(node['ranks'])}",
            Text(gib(peak) + share, style="red" if planned and peak and peak > planned else ""),
            gib(node["host/used"]),
            total,
            exposed,
            f"{rate(node['io/nic_in'])} / {rate(node['io/nic_out'])}",
        )
    if planned:
        table.caption, table.caption_justify = f"{words('plan')}: {gib(planned)}", "left"
    return table


def _share(us: float | None, step: float | None) -> str:
    if us is None:
        return "–"
    return f"{us / 1e6 / step:.1%}" if step else f"{us / 1e3:.3g} ms"


def _reading(run: dict[str, Any], words: Words) -> list[RenderableType]:
    reading, lines = run["reading"], []
    if reading["share"] < 1:
        lines.append(f"{words('still reading')}: {reading['share']:.0%}")
    if reading["bad_lines"]:
        lines.append(f"{reading['bad_lines']} {words('lines could not be read and were skipped')}")
    lines += [f"{name}: {problem}" for name, problem in reading["unreadable"].items()]
    lines += [note_in_words(note) for note in reading["notes"]]
    return [Text(line, style="dim") for line in lines]


def note_in_words(note: dict[str, Any]) -> str:
    """One of the snapshot's reading notes as a sentence."""
    kind = note["kind"]
    if kind == "foreign_schema":
        found = ", ".join(map(str, note["versions"]))
        return f"events of schema {found}, this version reads {note['ours']}: what they do not share is missing"
    if kind == "clocks_apart":
        return f"clocks of the hosts are {note['seconds']:.1f} s apart"
    if kind == "ranks_missing":
        return f"{note['count']} ranks have not written anything yet"
    if kind == "no_start":
        return "some ranks have events without a start: written by an older version"
    return "this folder does not look like a run folder"


def _clock(at: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else "–"
