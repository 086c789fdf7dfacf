"""Work on many shards in spawned processes of this machine; the first error ends the rest.

Nothing in the steps knows of this module: another scheduler calls the same functions with the same arguments.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from medscroll.corpus.worker import start_worker
from medscroll.errors import CapacityError

_POLL_SECONDS = 0.3
Result = TypeVar("Result")


def run_parallel(
    function: Callable[..., Result],
    jobs: Sequence[tuple[Any, ...]],
    num_workers: int,
    output_dir: Path,
    on_total: Callable[[int], None] = lambda total: None,
) -> list[Result]:
    """`function(*job)` for every job, in their order.

    Args:
        function: importable by name; its jobs are picklable.
        num_workers: processes; with 1, or one job, the work is done in this one.
        output_dir: named in errors.
        on_total: called now and then with the sum of what workers have counted (`worker.count_bytes`).

    Raises:
        CapacityError: a process was killed. UserError: as it was raised in the process.
    """
    if num_workers <= 1 or len(jobs) <= 1:
        return [function(*job) for job in jobs]
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    stop = context.Event()
    pool = ProcessPoolExecutor(
        min(num_workers, len(jobs)),
        mp_context=context,
        initializer=start_worker,
        initargs=(counter, stop, os.getpid()),
    )
    try:
        futures: list[Future[Result]] = [pool.submit(function, *job) for job in jobs]
        pending: set[Future[Result]] = set(futures)
        while pending:
            finished, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
            on_total(counter.value)
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise CapacityError(
            "a process that worked on documents was killed, most likely for memory",
            str(output_dir),
            "take fewer with --num_workers, or divide the largest files; what is finished is kept",
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
