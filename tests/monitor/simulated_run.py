"""Run folders as real ranks write them, without the run: any number of ranks and steps, slow or dead ranks."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medscroll.monitor.schema import SCHEMA_VERSION, events_path, heartbeat_path

GIB = 2**30


@dataclass
class Simulated:
    """What the run is like; see `write`."""

    ranks: int = 4
    nodes: int = 2
    steps: int = 100
    max_steps: int = 1000
    logging_steps: int = 1
    seconds: float = 2.0
    gpu: bool = True
    slow_rank: int | None = None
    planned_memory: int | None = 70 * GIB
    memory: int = 80 * GIB
    first_step: int = 0
    window_every: int = 50
    end: dict[int, dict[str, Any]] = field(default_factory=dict)  # rank -> status and reason
    silent: dict[int, float] = field(default_factory=dict)  # rank -> seconds since its last heartbeat
    clock: dict[int, float] = field(default_factory=dict)  # node -> its clock minus ours
    extra: dict[int, list[dict[str, Any]]] = field(default_factory=dict)  # rank -> further events

    def host(self, rank: int) -> str:
        """Name of a rank's node."""
        return f"node-{self.node(rank):02d}"

    def node(self, rank: int) -> int:
        """Index of a rank's node."""
        return rank * self.nodes // self.ranks

    def started(self) -> float:
        """When the run began, by our clock, if its last step has just ended."""
        return time.time() - self.steps * self.seconds

    def run_event(self, rank: int) -> dict[str, Any]:
        """The first line of a rank."""
        started = self.started() + self.clock.get(self.node(rank), 0.0)
        device: dict[str, Any] = {"type": "cpu", "index": None, "name": "cpu", "memory": None}
        if self.gpu:
            device = {"type": "cuda", "index": 0, "name": "NVIDIA H100 80GB HBM3", "memory": self.memory}
        return {
            "type": "run",
            "time": started,
            "schema": SCHEMA_VERSION,
            "host": self.host(rank),
            "rank": rank,
            "local_rank": rank % max(1, self.ranks // self.nodes),
            "world_size": self.ranks,
            "local_world_size": max(1, self.ranks // self.nodes),
            "node": self.node(rank),
            "pid": 1000 + rank,
            "versions": {"torch": "2.13.0", "deepspeed": "0.19.8"},
            "device": device,
            "started": started,
            "first_step": self.first_step,
            "max_steps": self.max_steps,
            "steps_per_epoch": 500,
            "planned_memory": self.planned_memory,
            "peak_flops": 989e12,
            "stall_factor": 2.0,
            "window_every": self.window_every,
        }

    def step_line(self, rank: int, step: int, began: float) -> str:
        """A step event as it stands in the file."""
        late = 0.3 if rank == self.slow_rank else 0.0
        jitter = 1 + 0.02 * math.sin(step * 0.7 + rank)
        total = self.seconds * jitter
        forward = total * (0.25 + 0.25 * late)
        head = (
            f'{{"type": "step", "time": {began + step * self.seconds:.3f}, "step": {step}, "epoch": {step / 500:.4f}, '
            f'"seconds": {total:.5f}, "phases": {{"data": {total * 0.01:.5f}, "forward": {forward:.5f}, '
            f'"backward": {total * 0.6 - forward * 0.2:.5f}, "optimizer": {total * 0.08:.5f}, "checkpoint": 0.0, '
            f'"evaluation": 0.0, "other": {total * 0.01:.5f}}}, "blocks": [{step * 7 + rank}], "fillers": 0, '
            f'"tokens": 8192, "targets": 8180, "pieces": {{"count": 5, "min": 90, "median": 1400.0, "max": 4000}}'
        )
        if step % self.logging_steps:
            return head + "}\n"
        loss = 2.0 + 8.0 / math.sqrt(step + 1) + 0.03 * math.sin(step * 1.3)
        peak = int(self.memory * (0.78 + 0.06 * math.sin(rank * 1.7) + 0.02 * math.sin(step / 40)))
        throttle = '["thermal"]' if rank == self.slow_rank else "[]"
        body = (
            f', "loss": {loss:.5f}, "grad_norm": {0.8 + 0.2 * math.sin(step / 5):.4f}, '
            f'"learning_rate": {2e-5 * (1 - step / (self.max_steps + 1)):.4e}, '
            f'"tokens_per_second": {8192 * self.ranks / total:.1f}, "mfu": {0.46 / jitter:.4f}, '
            f'"hfu": {0.58 / jitter:.4f}, "peak_memory_gib": {peak / GIB:.3f}'
        )
        if self.gpu:
            body += (
                f', "memory": {{"allocated": {peak - 5 * GIB}, "reserved": {peak + 2 * GIB}, "peak": {peak}, '
                f'"device_used": {peak + 3 * GIB}, "device_total": {self.memory}, "fragmentation": 0.03, '
                f'"alloc_retries": 0, "ooms": 0}}, "gpu": {{"utilisation": 98.0, "power": 640.5, "power_limit": 700.0, '
                f'"temperature": {62 + rank % 9}, "temperature_limit": 87, "clock": 1755, "throttle": {throttle}, '
                f'"ecc_uncorrected": 0, "ecc_corrected": 0}}'
            )
        sent = 13_000_000_000 // max(1, self.ranks // self.nodes)
        body += (
            f', "host": {{"rss": {9 * GIB + rank * 10**7}, "used": {300 * GIB}, "total": {1024 * GIB}, '
            f'"swap_used": 0, "cpu_percent": 104.0}}, "io": {{"nic_in": 2.1e10, "nic_out": 2.2e10, '
            f'"disk_read": 1.2e7, "disk_write": 3e5}}, '
            f'"communication": {{"steps": {self.logging_steps}, "coverage": 1.0, "traffic": [{{"group": "default", '
            f'"ranks": {self.ranks}, "op": "all_reduce", "calls": {40 * self.logging_steps}, '
            f'"bytes": {sent * self.logging_steps // 2}, "sent_bytes": {sent * self.logging_steps}}}], '
            f'"estimate": true, "total_us": {total * (0.3 + 0.02 * self.node(rank)) * 1e6:.0f}, '
            f'"exposed_us": {total * (0.05 + 0.01 * self.node(rank)) * 1e6:.0f}}}'
        )
        return head + body + "}\n"

    def window_line(self, rank: int, step: int, began: float) -> str:
        """A profiler window that ends at `step`."""
        total, exposed = self.seconds * 0.3e6 * 2, self.seconds * 0.055e6 * 2
        group = {"group": "0", "description": "default_pg", "ranks": self.ranks, "calls": 80, "bytes": 26 * 10**9}
        event = {
            "type": "comm_window",
            "time": began + step * self.seconds,
            "step": step,
            "first_step": step - 1,
            "steps": 2,
            "seconds": 2 * self.seconds,
            "total_us": total,
            "exposed_us": exposed,
            "overlapped_us": total - exposed,
            "compute_us": self.seconds * 1.8e6,
            "groups": [{**group, "total_us": total, "exposed_us": exposed, "overlapped_us": total - exposed}],
            "skew_us": 0.0 if rank == self.slow_rank else self.seconds * 0.04e6,
            "skew_groups": {"0": self.seconds * 0.04e6},
            "skew_step": max(step - self.window_every, 0),
        }
        return json.dumps(event) + "\n"

    def lines(self, rank: int, first: int, last: int) -> list[str]:
        """Lines of steps `first` to `last` of a rank."""
        began = self.started() + self.clock.get(self.node(rank), 0.0)
        found = []
        for step in range(first, last + 1):
            found.append(self.step_line(rank, step, began))
            if self.window_every and step % self.window_every == 0:
                found.append(self.window_line(rank, step, began))
            if step % 500 == 0:
                event = {"type": "evaluation", "time": began, "step": step, "eval_loss": 2.3, "eval_perplexity": 9.97}
                found.append(json.dumps(event) + "\n")
        return found

    def beat(self, folder: Path, rank: int, step: int | None = None, status: str = "running") -> None:
        """Write the heartbeat of a rank."""
        path = heartbeat_path(folder, rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        step = self.steps if step is None else step
        ago = self.silent.get(rank, 0.0)
        now = time.time() - ago
        clock = now + self.clock.get(self.node(rank), 0.0)
        content = {
            "rank": rank,
            "host": self.host(rank),
            "pid": 1000 + rank,
            "time": clock,
            "step": step,
            "phase": "forward",
            "progress": clock,
            "median_step": self.seconds,
            "stall_after": 2 * self.seconds + 5,
            "status": status,
            "collectives": {},
        }
        path.write_text(json.dumps(content).ljust(1024), encoding="ascii")
        os.utime(path, (now, now))

    def write(self, folder: Path) -> Path:
        """Write the whole run folder; returns it."""
        for rank in range(self.ranks):
            path = events_path(folder, rank)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8") as handle:
                handle.write(json.dumps(self.run_event(rank)) + "\n")
                for first in range(self.first_step + 1, self.steps + 1, 1000):
                    handle.writelines(self.lines(rank, first, min(first + 999, self.steps)))
                for event in self.extra.get(rank, []):
                    handle.write(json.dumps({"time": time.time(), **event}) + "\n")
                if rank in self.end:
                    handle.write(
                        json.dumps({"type": "end", "time": time.time(), "step": self.steps, **self.end[rank]}) + "\n"
                    )
            self.beat(folder, rank, status=self.end.get(rank, {}).get("status", "running"))
        return folder
