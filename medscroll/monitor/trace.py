"""Reading a Kineto trace (what `torch.profiler` exports) into kernels and collectives, whatever wrote it.

Known dialects: NVIDIA (ncclKernel_*, ncclDevKernel_*), AMD (rccl*, ncclDevKernel_Generic), old categories in capitals,
traces with and without `distributedInfo` and collective metadata, CPU-only traces (gloo annotations or c10d
operators), a bare list of events, gzip or plain whatever the name says.

Price: the JSON is parsed as a whole: about 1 s and ten times the file's size of memory a 100 MB of JSON.
"""

from __future__ import annotations

import bisect
import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medscroll.errors import DataError

COMMUNICATION_KERNEL = re.compile(r"(?:void )?(?:\w+::)*(?:nccl|rccl|msccl|nvshmem)", re.IGNORECASE)
HOST_ANNOTATION = re.compile(r"(?:gloo|mpi|ucc|xccl|hccl):\w+")
HOST_OPERATOR = re.compile(r"c10d::|c10d_functional::|_c10d_functional::|record_param_comms$")
CONTAINER = re.compile(r"autograd::|torch::autograd::|ProfilerStep|Optimizer\.|DistributedDataParallel")
# Element sizes by the names that Kineto writes ("Float", "BFloat16") and by those of c10d.
ELEMENT_BYTES = {
    "double": 8, "long": 8, "complexfloat": 8, "int64": 8, "float64": 8,
    "float": 4, "int": 4, "float32": 4, "int32": 4,
    "half": 2, "bfloat16": 2, "short": 2, "float16": 2, "int16": 2,
    "char": 1, "byte": 1, "bool": 1, "int8": 1, "uint8": 1,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1,
}  # fmt: skip
UNKNOWN_GROUP = "unknown"
PHASE_ANNOTATION = "medscroll.phase:"  # the engine names phases so in its windows
OPERATIONS = (
    ("allreduce", "all_reduce"),
    ("reducescatter", "reduce_scatter"),
    ("allgather", "all_gather"),
    ("alltoall", "all_to_all"),
    ("sendrecv", "send_recv"),
    ("broadcast", "broadcast"),
    ("barrier", "barrier"),
    ("gather", "gather"),
    ("scatter", "scatter"),
    ("reduce", "reduce"),
    ("send", "send"),
    ("recv", "recv"),
)


@dataclass(frozen=True)
class Collective:
    """One collective as it ran: times in microseconds; `bytes` is the larger of input and output, None if unknown.

    `phase` is the phase of the step it began in, where the trace names phases as medscroll's windows do.
    """

    device: str
    group: str
    op: str
    start: float
    end: float
    bytes: int | None = None
    sequence: int | None = None
    phase: str | None = None


@dataclass
class Trace:
    """What of a trace matters here.

    Attributes:
        basis: "gpu" (kernels) or "host" (no GPU events: gloo annotations or c10d operators against CPU operators).
        compute: device -> list of (start, end) of kernels that are no communication, microseconds.
        collectives: in order of start.
        descriptions, sizes: process group -> its description, and number of ranks.
        rank, world_size: of `distributedInfo`; None without it.
        skipped: events that have no usable time.
    """

    basis: str = "gpu"
    compute: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    collectives: list[Collective] = field(default_factory=list)
    descriptions: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    rank: int | None = None
    world_size: int | None = None
    skipped: int = 0


def read_trace(path: Path) -> Trace:
    """Read a trace.

    Raises:
        DataError: no file, empty, truncated, no JSON, or no Kineto trace.
    """
    document = _load(path)
    events = document.get("traceEvents") if isinstance(document, dict) else document
    if not isinstance(events, list):
        raise DataError(
            "no Kineto trace: it has no list of traceEvents",
            where=str(path),
            remedy="give a file that torch.profiler's export_chrome_trace (or tensorboard_trace_handler) wrote",
        )
    trace = Trace()
    info = document.get("distributedInfo") if isinstance(document, dict) else None
    if isinstance(info, dict):
        _groups(trace, info)
    timed = list(_timed(trace, events))
    kernels = [event for event in timed if str(event.get("cat", "")).lower() == "kernel"]
    if kernels:
        _gpu(trace, kernels)
    elif not any(str(event.get("cat", "")).lower() in ("gpu_memcpy", "gpu_memset") for event in timed):
        _host(trace, timed)
    trace.collectives.sort(key=lambda collective: (collective.start, collective.end))
    _name_phases(trace, timed)
    return trace


def _name_phases(trace: Trace, timed: list[dict[str, Any]]) -> None:
    """Give each collective the phase that was under way when it began, on the device where the trace says that."""
    spans: dict[str, list[tuple[float, float, str]]] = {"gpu_user_annotation": [], "user_annotation": []}
    for event in timed:
        category, name = str(event.get("cat", "")).lower(), str(event.get("name", ""))
        if name.startswith(PHASE_ANNOTATION) and category in spans:
            phase = name.removeprefix(PHASE_ANNOTATION)
            spans[category].append((event["ts"], event["ts"] + event["dur"], phase))
    named = sorted(spans["gpu_user_annotation"] if trace.basis == "gpu" else spans["user_annotation"])
    if not named:
        return
    starts = [start for start, _, _ in named]
    for index, collective in enumerate(trace.collectives):
        at = bisect.bisect_right(starts, collective.start) - 1
        # On a GPU an annotation spans its own kernels only, and communication runs on another stream: the last begun.
        if at >= 0 and (trace.basis == "gpu" or collective.start < named[at][1]):
            trace.collectives[index] = replace(collective, phase=named[at][2])


def _load(path: Path) -> Any:
    remedy = "export the trace again; a run that was killed while it wrote leaves a truncated file"
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read the trace: {error.strerror}", where=str(path), remedy="give a trace file"
        ) from error
    try:
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"the compressed trace is truncated or damaged: {error}", str(path), remedy) from error
    if not raw.strip():
        raise DataError("the trace is empty", where=str(path), remedy=remedy)
    try:
        return json.loads(raw.decode("utf-8", errors="replace"), strict=False)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the trace is truncated, or no JSON: {error}", where=str(path), remedy=remedy) from error


def _groups(trace: Trace, info: dict[str, Any]) -> None:
    trace.rank, trace.world_size = _integer(info.get("rank")), _integer(info.get("world_size"))
    config = info.get("pg_config")
    for entry in config if isinstance(config, list) else []:
        if isinstance(entry, dict) and "pg_name" in entry:
            name = str(entry["pg_name"])
            trace.descriptions[name] = str(entry.get("pg_desc", ""))
            size = _integer(entry.get("pg_size"))
            if size is not None:
                trace.sizes[name] = size


def _timed(trace: Trace, events: list[Any]) -> Iterator[dict[str, Any]]:
    """Complete events with finite times and a duration that is not negative; others of that phase are counted."""
    for event in events:
        if not isinstance(event, dict) or event.get("ph") != "X":
            continue
        try:
            start, duration = float(event["ts"]), float(event["dur"])
        except (KeyError, TypeError, ValueError):
            trace.skipped += 1
            continue
        if not (math.isfinite(start) and math.isfinite(duration)) or duration < 0:
            trace.skipped += 1
            continue
        event["ts"], event["dur"] = start, duration
        if not isinstance(event.get("args"), dict):
            event["args"] = {}
        yield event


def _gpu(trace: Trace, kernels: list[dict[str, Any]]) -> None:
    for event in kernels:
        args, name = event["args"], str(event.get("name", ""))
        # Traces of several ranks may be merged into one file: their processes tell them apart.
        device = f"{event.get('pid', '')}/{args.get('device', '')}"
        span = (event["ts"], event["ts"] + event["dur"])
        if COMMUNICATION_KERNEL.match(name):
            trace.collectives.append(_collective(trace, device, name, span, args))
        else:
            trace.compute.setdefault(device, []).append(span)


def _host(trace: Trace, timed: list[dict[str, Any]]) -> None:
    """Communication and compute of a trace without a GPU: what the backend's threads report, against operators."""
    trace.basis = "host"
    device = "host"
    named = [event for event in timed if HOST_ANNOTATION.match(str(event.get("name", "")))]
    details = [event for event in timed if str(event.get("name", "")) == "record_param_comms"]
    operators = [event for event in timed if HOST_OPERATOR.match(str(event.get("name", "")))]
    for event in named or details or operators:
        span = (event["ts"], event["ts"] + event["dur"])
        trace.collectives.append(_collective(trace, device, str(event["name"]), span, event["args"]))
    for event in timed:
        name = str(event.get("name", ""))
        aside = HOST_OPERATOR.match(name) or CONTAINER.match(name) or HOST_ANNOTATION.match(name)
        if str(event.get("cat", "")).lower() in ("cpu_op", "operator") and "::" in name and not aside:
            trace.compute.setdefault(device, []).append((event["ts"], event["ts"] + event["dur"]))


def _collective(trace: Trace, device: str, name: str, span: tuple[float, float], args: dict[str, Any]) -> Collective:
    group = str(args.get("Process Group Name") or UNKNOWN_GROUP)
    if args.get("Process Group Description"):
        trace.descriptions.setdefault(group, str(args["Process Group Description"]))
    size = _integer(args.get("Group size"))
    if size:
        trace.sizes.setdefault(group, size)
    elements = [_integer(args.get(key)) for key in ("In msg nelems", "Out msg nelems")]
    known = [count for count in elements if count is not None]
    width = ELEMENT_BYTES.get(str(args.get("dtype", "")).lower())
    return Collective(
        device=device,
        group=group,
        op=operation(str(args.get("Collective name") or name)),
        start=span[0],
        end=span[1],
        bytes=max(known) * width if known and width else None,
        sequence=_integer(args.get("Seq")),
    )


def operation(name: str) -> str:
    """The collective that a kernel, operator or annotation name stands for: all_reduce, ...; `other` if none."""
    plain = re.sub(r"[^a-z]", "", name.lower().split("(")[0])
    return next((label for part, label in OPERATIONS if part in plain), "other")


def _integer(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None
