"""What `medscroll watch` costs on a long run of many ranks: time to open, memory, share of a core.

    python benchmarks/watch_scale.py [--ranks 64] [--steps 100000] [--folder DIR] [--output FILE.json]

Writes a simulated run (3.5 GB at the defaults) unless DIR holds it, drops the page cache of its files where the system
lets it, then in a process of its own serves the page, as `watch --web` does, while one step a second is appended on all
ranks. Reported: seconds until the first page is answered (imports aside and included), the largest resident memory, the
share of a core over a minute with a client that polls every two seconds, and the time until all bytes were read.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.monitor.simulated_run import Simulated  # noqa: E402


def write_rank(simulated: Simulated, folder: Path, rank: int) -> None:
    """Write one rank's file."""
    path = folder / "events" / f"rank-{rank:05d}.jsonl"
    with path.open("w", encoding="utf-8") as handle:
        handle.write(json.dumps(simulated.run_event(rank)) + "\n")
        for first in range(1, simulated.steps + 1, 1000):
            handle.writelines(simulated.lines(rank, first, min(first + 999, simulated.steps)))
    simulated.beat(folder, rank)


def drop_cache(folder: Path) -> None:
    """Ask the system to forget the files' pages, so that opening reads the disk."""
    for path in (folder / "events").iterdir():
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def append(simulated: Simulated, folder: Path, step: int) -> None:
    """One more step on every rank."""
    for rank in range(simulated.ranks):
        with (folder / "events" / f"rank-{rank:05d}.jsonl").open("a", encoding="utf-8") as handle:
            handle.writelines(simulated.lines(rank, step, step))
        simulated.beat(folder, rank, step)


def serve(folder: Path) -> None:
    """In the process of its own: open, serve, report on what was used."""
    began = time.perf_counter()
    from medscroll.monitor.follow import Follower
    from medscroll.monitor.run_reader import RunReader
    from medscroll.monitor.web import make_server

    imported = time.perf_counter()
    follower = Follower([RunReader(folder)])
    server = make_server(follower, "127.0.0.1", 0)
    print(json.dumps({"port": server.server_port, "import": imported - began, "open": time.perf_counter() - imported}))
    sys.stdout.flush()
    follower.start()
    server.serve_forever()


def get(port: int, path: str) -> tuple[float, int, bytes]:
    """Seconds, status and body of a request."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=60) as answer:
        body = answer.read()
        return time.perf_counter() - began, answer.status, body


def usage(pid: int) -> tuple[float, float]:
    """CPU seconds and resident MB of a process."""
    import psutil

    process = psutil.Process(pid)
    times = process.cpu_times()
    return times.user + times.system, process.memory_info().rss / 1e6


def measure(simulated: Simulated, folder: Path, seconds: int, step: int) -> dict[str, float]:
    """One run of the server, cold, with a client."""
    drop_cache(folder)
    began = time.perf_counter()
    job = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert job.stdout is not None
        ready = json.loads(job.stdout.readline())
        page_seconds, _, body = get(ready["port"], "")
        first_page = time.perf_counter() - began
        cpu, rss = usage(job.pid)
        most, caught_up, polls = 0.0, None, 0
        start, serial, began_at = time.perf_counter(), 0, step
        while time.perf_counter() - start < seconds:
            step += 1
            append(simulated, folder, step)
            if (step - began_at) % 2:
                _, status, data = get(ready["port"], f"data?after={serial}")
                if status == 200:
                    view = json.loads(data)
                    serial, polls = view["serial"], polls + 1
                    if caught_up is None and view["runs"][0]["reading"]["share"] >= 1:
                        caught_up = time.perf_counter() - start
            most = max(most, usage(job.pid)[1])
            time.sleep(max(0.0, start + (step - began_at) - time.perf_counter()))
        spent = (usage(job.pid)[0] - cpu) / (time.perf_counter() - start)
        assert view["runs"][0]["step"] >= step - 4, "the view did not follow the run"
        return {
            "import_seconds": ready["import"],
            "open_seconds": ready["open"],
            "page_seconds": page_seconds,
            "open_and_page_seconds": ready["open"] + page_seconds,
            "process_start_to_page_seconds": first_page,
            "page_bytes": len(body),
            "rss_mb": max(most, rss),
            "core_share": spent,
            "seconds_until_all_read": caught_up if caught_up is not None else float("inf"),
            "polls": polls,
        }
    finally:
        job.kill()
        job.wait()


def main() -> None:
    """Write the run, measure several times, print and store the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="medscroll-watch-"))
    simulated = Simulated(
        ranks=arguments.ranks,
        nodes=max(1, arguments.ranks // 8),
        steps=arguments.steps,
        max_steps=arguments.steps * 2,
        logging_steps=10,
        seconds=1.0,
        slow_rank=min(17, arguments.ranks - 1),
    )
    if not (folder / "events").is_dir():
        (folder / "events").mkdir(parents=True)
        with ProcessPoolExecutor(2) as pool:
            list(
                pool.map(write_rank, *zip(*[(simulated, folder, rank) for rank in range(simulated.ranks)], strict=True))
            )
    size = sum(path.stat().st_size for path in (folder / "events").iterdir())
    runs, step = [], simulated.steps
    for _ in range(arguments.repeats):
        runs.append(measure(simulated, folder, arguments.seconds, step))
        step += arguments.seconds + 5
        print(json.dumps(runs[-1]), flush=True)
    median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    result = {
        "command": f"python benchmarks/watch_scale.py --ranks {arguments.ranks} --steps {arguments.steps} "
        f"--repeats {arguments.repeats} --seconds {arguments.seconds}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "run_bytes": size,
        "median": median,
        "runs": runs,
        "generator_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }
    print(json.dumps(result["median"]))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
