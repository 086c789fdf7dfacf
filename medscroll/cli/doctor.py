"""`medscroll doctor`: what this machine has, what is missing, and what to do about it.

Exit code 0 when a run is possible, 1 when a problem was found. Under `torchrun` every rank looks at its own node and
prints only its problems, rank 0 everything; with `--collectives` the ranks test the path between them, with `--cluster`
every pair of nodes is measured (docs/doctor-cluster.md).
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medscroll.errors import ConfigError

if TYPE_CHECKING:
    from medscroll.planning.environment import Finding

SUMMARY = "the environment: versions, GPUs, attention backends, collectives, disk"
MARKS = {"ok": "ok", "note": "note", "absent": "-", "problem": "PROBLEM"}


@dataclass
class DoctorArguments:
    """What to look at."""

    collectives: bool = field(
        default=False, metadata={"help": "Also test communication: two processes here, or the ranks of torchrun."}
    )
    cluster: bool = field(
        default=False,
        metadata={"help": "Under torchrun or srun: measure all links between the nodes, compare the nodes."},
    )
    shared_dir: Path | None = field(
        default=None, metadata={"help": "With --cluster: a folder that all nodes should see, such as --output_dir."}
    )
    json: bool = field(default=False, metadata={"help": "Print the findings as JSON."})


def main(argv: list[str]) -> int:
    """Look, print, and return 1 when something must be repaired."""
    from medscroll.config.parse import parse_arguments

    (arguments,) = parse_arguments(argv, (DoctorArguments,), verb="doctor")
    if arguments.cluster:
        return examine_cluster(arguments)
    if arguments.shared_dir is not None:
        raise ConfigError("--shared_dir does nothing without --cluster", remedy="add --cluster")
    findings = examine(arguments.collectives)
    problems = [finding for finding in findings if finding.status == "problem"]
    rank = os.environ.get("RANK", "0")
    if arguments.json and (rank == "0" or problems):
        listed = [dataclasses.asdict(finding) for finding in (findings if rank == "0" else problems)]
        print(json.dumps({"ok": not problems, "rank": int(rank), "findings": listed}))
    elif not arguments.json:
        _print(findings if rank == "0" else problems, rank)
    return 1 if problems else 0


def examine(collectives: bool) -> list[Finding]:
    """Every finding about this machine."""
    from medscroll.planning import environment, machine

    findings = environment.system() + environment.packages()
    findings += environment.accelerators(environment.torch_build(), environment.gpus_of_driver())
    findings += environment.attention() + machine.host() + machine.disk() + machine.network()
    if collectives:
        from medscroll.planning.collectives import check_collectives

        findings += check_collectives()
    return findings


def examine_cluster(arguments: DoctorArguments) -> int:
    """Measure between the nodes, all ranks; rank 0 prints. Every rank returns 1 when a problem was found.

    Raises:
        UserError: these are not the ranks of a launcher, or they cannot reach each other.
    """
    from medscroll.planning.cluster_probe import Probe, find_launch
    from medscroll.planning.cluster_report import in_words, judge

    if arguments.collectives:
        raise ConfigError(
            "--cluster and --collectives exclude each other", remedy="--cluster tests more; give it alone"
        )
    launch = find_launch()
    report = judge(Probe(launch, arguments.shared_dir).run())
    if launch.rank == 0:
        print(json.dumps(report) if arguments.json else in_words(report), flush=True)
    return 0 if report["ok"] else 1


def _print(findings: list[Finding], rank: str) -> None:
    width = max((len(finding.name) for finding in findings), default=0)
    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            print(f"\n{group}" if rank == "0" else f"\nrank {rank}, {group}")
        print(f"  {MARKS[finding.status]:<8}{finding.name:<{width}}  {finding.value}")
        if finding.remedy and finding.status != "absent":
            print(f"  {'':<8}{'':<{width}}  -> {finding.remedy}")
    problems = [finding for finding in findings if finding.status == "problem"]
    if problems:
        print(f"\n{len(problems)} problem(s): {', '.join(finding.name for finding in problems)}")
    elif rank == "0":
        print("\nNo problem found: a run is possible here.")
