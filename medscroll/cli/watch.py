"""`medscroll watch RUN [RUN2 ...]`: a run as it goes on, in the terminal, as a page, a file, JSON or Prometheus.

It reads run folders and writes nothing into them, so it may run on any machine that sees them, for a run that goes on,
has ended or has died; several runs are compared. Imports neither torch nor transformers.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medscroll.errors import ConfigError, UserError

if TYPE_CHECKING:
    from medscroll.monitor.follow import Follower
    from medscroll.monitor.run_reader import RunReader
    from medscroll.monitor.web import Answer, Server

SUMMARY = "a live view of runs: terminal, page, file, JSON, Prometheus"
SECOND_LOOK = 3.0  # seconds; a heartbeat comes about once a second
OVER = ("finished", "crashed", "stopped")


@dataclass
class WatchArguments:
    """What to watch, and where it is shown."""

    runs: list[str] = field(default_factory=list, metadata={"help": "Run folders (--output_dir of training)."})
    once: bool = field(default=False, metadata={"help": "Print the state once and end."})
    web: bool = field(default=False, metadata={"help": "Serve a page, to this machine only unless --bind is given."})
    port: int | None = field(
        default=None,
        metadata={"help": "Port of the page; default: the first free one from 8765 on.", "least": 0, "most": 65535},
    )
    bind: str = field(
        default="127.0.0.1",
        metadata={"help": "Address to listen on; where others can reach it, a token is asked for."},
    )
    token: str | None = field(
        default=None, metadata={"help": "Token of the page and of Prometheus; default: made up where one is needed."}
    )
    html: Path | None = field(default=None, metadata={"help": "Write the page as one self-contained file and end."})
    json: bool = field(default=False, metadata={"help": "Print everything as JSON and end."})
    prometheus: int | None = field(
        default=None, metadata={"help": "Serve metrics for Prometheus on this port.", "least": 0, "most": 65535}
    )
    node: str = field(
        default="auto",
        metadata={"help": "Whose ranks --prometheus shows: a host name, all, or auto: this host if it has any."},
    )
    lang: Literal["auto", "en", "zh"] = field(
        default="auto", metadata={"help": "Language; auto: the locale's, for the page the browser's."}
    )
    interval: float = field(default=2.0, metadata={"help": "Seconds between looks.", "least": 0.2, "most": 3600.0})


def main(argv: list[str]) -> int:
    """Show the runs; returns 0, or 1 with --once and --json where a run has crashed, is dead or stalled."""
    from medscroll.config.parse import Positional, parse_arguments

    positional = Positional(field="runs", many=True, help="run folders")
    classes = (WatchArguments,)
    (arguments,) = parse_arguments(argv, classes, verb="watch", positional=positional, allow_config_file=False)
    check(arguments)
    runs = open_runs(arguments.runs)
    if arguments.json or arguments.html or arguments.once:
        return _at_once(arguments, runs)
    if arguments.web or arguments.prometheus is not None:
        return _serve(arguments, runs)
    return _terminal(arguments, runs)


def check(arguments: WatchArguments) -> None:
    """Refuse flags that contradict each other or would do nothing.

    Raises:
        ConfigError: with all such mistakes.
    """
    problems: list[UserError] = []
    if not arguments.runs:
        problems.append(ConfigError("no run folder is given", remedy="medscroll watch RUN"))
    ending = [f"--{name}" for name in ("once", "html", "json") if getattr(arguments, name)]
    serving = ["--web"] * arguments.web + ["--prometheus"] * (arguments.prometheus is not None)
    if (ending and serving) or len(ending) > 1:
        both = " and ".join(ending + serving)
        problems.append(ConfigError(f"{both} exclude each other", remedy="give one, or run the command twice"))
    for flag, given, present, needed in (
        ("--port", arguments.port is not None, arguments.web, "--web"),
        ("--bind", arguments.bind != "127.0.0.1", bool(serving), "--web or --prometheus"),
        ("--token", arguments.token is not None, bool(serving), "--web or --prometheus"),
        ("--node", arguments.node != "auto", arguments.prometheus is not None, "--prometheus"),
    ):
        if given and not present:
            problems.append(ConfigError(f"{flag} does nothing without {needed}", remedy=f"add {needed}"))
    if problems:
        raise ConfigError.collect(problems)


def open_runs(folders: list[str]) -> list[RunReader]:
    """A reader of each folder, named once each.

    Raises:
        ConfigError: with all folders that are none.
    """
    from medscroll.monitor.run_reader import RunReader

    runs: list[RunReader] = []
    problems: list[UserError] = []
    for folder in dict.fromkeys(folders):
        try:
            runs.append(RunReader(folder))
        except UserError as error:
            problems.append(error)
    if problems:
        raise ConfigError.collect(problems)
    return runs


def language(asked: str) -> str:
    """`zh` or `en`, for a terminal: what was asked for, else the locale's."""
    if asked != "auto":
        return asked
    names = (os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return "zh" if next((name for name in names if name), "").lower().startswith("zh") else "en"


def _at_once(arguments: WatchArguments, runs: list[RunReader]) -> int:
    from medscroll.monitor.snapshot import snapshot
    from medscroll.monitor.status import run_status

    for run in runs:
        run.finish()
    if any(run_status(run)["state"] in ("dead", "degraded") for run in runs):
        time.sleep(SECOND_LOOK)  # clocks may be apart: only a heartbeat that does not change is silent
        for run in runs:
            run.finish()
    view = snapshot(runs)
    if arguments.html:
        from medscroll.monitor.page_html import page

        asked = None if arguments.lang == "auto" else arguments.lang
        try:
            arguments.html.write_text(page({**view, "language": asked}, live=False), encoding="utf-8")
        except OSError as error:
            what = f"cannot write the page: {error.strerror or error}"
            raise ConfigError(
                what, where=f"--html {arguments.html}", remedy="name a file in a folder of yours"
            ) from None
        print(f"wrote {arguments.html} ({arguments.html.stat().st_size / 1e3:,.0f} kB)")
        return 0
    if arguments.json:
        print(json.dumps(view, allow_nan=False))
    else:
        from rich.console import Console

        from medscroll.monitor.terminal import render

        Console().print(render(view, language(arguments.lang)))
    return int(any(run["status"]["state"] in ("crashed", "dead", "stalled") for run in view["runs"]))


def _serve(arguments: WatchArguments, runs: list[RunReader]) -> int:
    import threading

    from medscroll.monitor.follow import Follower
    from medscroll.monitor.web import make_server

    asked = None if arguments.lang == "auto" else arguments.lang
    follower = Follower(runs, arguments.interval, asked)
    servers: list[Server] = []
    if arguments.web:
        servers.append(make_server(follower, arguments.bind, arguments.port, arguments.token))
        print(f"page: {servers[-1].url}   (Ctrl-C ends it; the run does not notice)", flush=True)
    if arguments.prometheus is not None:
        servers.append(_metrics(arguments, follower))
        print(f"metrics: {servers[-1].address('metrics')}", flush=True)
    follower.start()
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        servers[0].serve_forever()
    except KeyboardInterrupt:
        print("ended", file=sys.stderr)
    finally:
        follower.stop()
        for server in servers:
            server.server_close()
    return 0


def _metrics(arguments: WatchArguments, follower: Follower) -> Server:
    from medscroll.monitor.prometheus import CONTENT_TYPE, exposition
    from medscroll.monitor.web import listen

    here = socket.gethostname()
    hosts = {reader.host for run in follower.runs for reader in run.current()}
    host = None if arguments.node == "all" else arguments.node
    if arguments.node == "auto":
        host = here if here in hosts else None
        reason = "this host has ranks of the run" if host else f"this host ({here}) has no rank of the run"
        print(f"--node {host or 'all'}: {reason}", flush=True)
    elif host is not None and host not in hosts:
        raise ConfigError(f"no rank runs on {host!r}", where="--node", remedy=f"one of: {', '.join(sorted(hosts))}")

    def metrics(query: dict[str, list[str]]) -> Answer:
        with follower.locked():
            return 200, CONTENT_TYPE, exposition(follower.runs, host).encode()

    return listen(arguments.bind, arguments.prometheus, {"/metrics": metrics}, arguments.token, flag="--prometheus")


def _terminal(arguments: WatchArguments, runs: list[RunReader]) -> int:
    from rich.console import Console
    from rich.live import Live

    from medscroll.monitor.follow import BUDGET
    from medscroll.monitor.snapshot import snapshot
    from medscroll.monitor.terminal import render

    console = Console()
    if not console.is_terminal:
        print("this is no terminal: printing the state once (--once)", file=sys.stderr)
        return _at_once(arguments, runs)
    words = language(arguments.lang)
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                for run in runs:
                    run.refresh(BUDGET)
                view = snapshot(runs)
                live.update(render(view, words), refresh=True)
                done = all(run["status"]["state"] in OVER and run["reading"]["share"] >= 1 for run in view["runs"])
                if done:
                    return 0
                time.sleep(arguments.interval)
        except KeyboardInterrupt:
            return 0
