"""The newest numbers of the ranks in Prometheus' text format, under the names of `medscroll.monitor.numbers`.

`memory/peak` becomes `medscroll_memory_peak{run="...",host="...",rank="3"}`. One endpoint a node shows that node's
ranks; the figures come from the run folder, so training itself opens no port. Format: text exposition format 0.0.4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from medscroll.monitor.numbers import NAMES
from medscroll.monitor.run_reader import RunReader
from medscroll.monitor.status import rank_state

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATES = ("running", "finished", "crashed", "stopped", "dead", "silent")


def metric_name(name: str) -> str:
    """The Prometheus name of one of `NAMES`."""
    return "medscroll_" + re.sub(r"[^a-zA-Z0-9_]", "_", name)


def exposition(runs: Iterable[RunReader], host: str | None = None) -> str:
    """All metrics of the ranks on `host`, or on all hosts where it is None."""
    rows: dict[str, list[str]] = {}
    for run in runs:
        for reader in run.current():
            here = reader.host
            if host is not None and here != host:
                continue
            labels = {"run": run.name, "host": here, "rank": str(reader.rank)}
            for name in NAMES:
                if name in reader.state.latest:
                    _add(rows, metric_name(name), labels, reader.state.latest[name])
            _add(rows, "medscroll_step", labels, float(reader.state.step))
            _add(rows, "medscroll_alerts", labels, float(len(reader.state.alerts)))
            quiet = run.silence(reader)
            if quiet is not None:
                _add(rows, "medscroll_heartbeat_age_seconds", labels, quiet)
            state = rank_state(run, reader)
            for one in STATES:
                _add(rows, "medscroll_state", {**labels, "state": one}, float(one == state))
    text = []
    for name, lines in rows.items():
        text += [f"# TYPE {name} gauge", *lines]
    return "\n".join(text) + "\n"


def _add(rows: dict[str, list[str]], name: str, labels: Mapping[str, str], value: float) -> None:
    shown = repr(value) if math.isfinite(value) else "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    listed = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    rows.setdefault(name, []).append(f"{name}{{{listed}}} {shown}")


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
