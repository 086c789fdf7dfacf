"""The schema of what a run says about itself while it runs; docs/monitor-events.md explains every field.

    events/rank-00000.jsonl     one JSON object a line, appended by that rank alone; types below
    heartbeat/rank-00000        one JSON object, rewritten in place every second or so (`Heartbeat`)
    stacks/rank-00000.txt       Python stacks of the last stall of that rank, and its last collectives
    windows/step-00000020/rank-00000.json    collectives of a profiler window, for `medscroll.monitor.skew`
    arrivals/rank-00000.json    without GPUs: when the rank came to its last collectives (`medscroll.monitor.arrivals`)

Rules for readers: unknown types and unknown fields are skipped silently, lines that are no JSON object with a count;
a field that is absent was not measured at that step and keeps its last value, one that is null cannot be measured
here. Times are Unix seconds of the writing host's clock, and clocks of hosts may be seconds apart: compare times of
one rank only; `heartbeat` files carry the file server's time as their mtime. Sizes are bytes, durations seconds
unless the name ends in `_us`. A file may be replaced by a thinned one (`thinned` event): a reader that tails it
starts anew when its inode changes or it shrinks. A rank that is started anew appends a new `run` event; steps repeated
after a resume appear twice, the last counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

SCHEMA_VERSION = 1

# Order in which a step passes through them. `other` is the rest of the step's wall time.
PHASES = ("data", "forward", "backward", "optimizer", "checkpoint", "evaluation", "other")
EVENT_TYPES = (
    "run",
    "step",
    "comm_window",
    "checkpoint",
    "evaluation",
    "alert",
    "stall",
    "thinned",
    "end",
)

AlertKind = Literal[
    "loss_not_finite",
    "loss_zero",
    "loss_spike",
    "no_progress",
    "memory_full",
    "memory_growing",
    "throughput_drop",
    "communication_exposed",
    "gpu_hot",
    "gpu_throttled",
    "gpu_ecc",
    "straggler",
    "telemetry_lost",
]


def events_path(run_folder: Path, rank: int) -> Path:
    """The event file of a rank."""
    return run_folder / "events" / f"rank-{rank:05d}.jsonl"


def heartbeat_path(run_folder: Path, rank: int) -> Path:
    """The heartbeat file of a rank."""
    return run_folder / "heartbeat" / f"rank-{rank:05d}"


def stacks_path(run_folder: Path, rank: int) -> Path:
    """The stacks that a rank wrote when it, or another, stalled."""
    return run_folder / "stacks" / f"rank-{rank:05d}.txt"


def arrivals_path(run_folder: Path, rank: int) -> Path:
    """When a rank came to the collectives of its last steps."""
    return run_folder / "arrivals" / f"rank-{rank:05d}.json"


def window_folder(run_folder: Path, step: int) -> Path:
    """The folder of the profiler windows of all ranks that began at `step`."""
    return run_folder / "windows" / f"step-{step:08d}"


def window_path(run_folder: Path, step: int, rank: int) -> Path:
    """The collectives of one rank in the window that began at `step`."""
    return window_folder(run_folder, step) / f"rank-{rank:05d}.json"


class Event(TypedDict):
    """What every event has."""

    type: str
    time: float  # Unix seconds, the writing host's clock


class Device(TypedDict):
    """The device a rank computes on."""

    type: str  # cuda | cpu
    index: int | None
    name: str
    memory: int | None  # bytes of the GPU


class RunEvent(Event):
    """The first line of every start of a rank."""

    schema: int
    host: str
    rank: int
    local_rank: int
    world_size: int
    local_world_size: int
    node: int
    pid: int
    versions: dict[str, str | None]
    device: Device
    started: float
    first_step: int  # steps done before this start; above 0 after a resume
    max_steps: int
    steps_per_epoch: int
    planned_memory: int | None  # bytes of a GPU's allocator at the peak, where a plan was made
    planned_traffic: dict[str, float] | None  # collective -> bytes of its tensors in a step, where a plan was made
    peak_flops: float | None  # of one GPU; None: MFU is not computed
    stall_factor: float  # a stall: this many median steps and some seconds without progress
    window_every: int


class Memory(TypedDict):
    """GPU memory of a rank in bytes."""

    allocated: int
    reserved: int
    peak: int  # allocated, since the start
    device_used: int  # all processes of the device
    device_total: int
    fragmentation: float  # share of the reserved memory that is free but inside segments partly in use
    alloc_retries: int  # since the start
    ooms: int  # since the start


class Host(TypedDict):
    """Host memory in bytes: of this process, and of the node."""

    rss: int
    used: int
    total: int
    swap_used: int
    cpu_percent: float  # of this process; 100 is one core


class Gpu(TypedDict):
    """NVML's view of the rank's GPU; a value that the driver does not give is null."""

    utilisation: float | None  # percent of time with a kernel
    power: float | None  # watt
    power_limit: float | None  # watt
    temperature: float | None  # degree Celsius
    temperature_limit: float | None  # where the GPU slows down
    clock: float | None  # MHz of the SMs
    throttle: list[str]  # active reasons: power_cap, thermal, hardware, power_brake
    ecc_uncorrected: int | None  # since the driver was loaded
    ecc_corrected: int | None


class Io(TypedDict):
    """Bytes per second of the node since the last sample; InfiniBand ports included."""

    nic_in: float
    nic_out: float
    disk_read: float
    disk_write: float


class Traffic(TypedDict):
    """One kind of collective in one group, over the steps that the entry covers."""

    group: str  # name of the process group
    ranks: int  # size of the group
    op: str  # all_reduce, all_gather, reduce_scatter, broadcast, send, ...
    calls: int  # exact where the entry's coverage is 1, else extrapolated; so are the bytes
    bytes: int  # full message: the larger of input and output
    sent_bytes: int  # what this rank sends in a ring of `ranks`


class Communication(TypedDict):
    """Counted communication since the last such entry, and the estimate of what compute does not hide."""

    steps: int  # the entry covers this many steps, up to one or two before the event's
    coverage: float  # share of the calls that were read; below 1, `traffic` is extrapolated (already, by 1 / coverage)
    traffic: list[Traffic]
    estimate: Literal[True]  # the two below are estimates from the last window
    total_us: float | None  # per step
    exposed_us: float | None  # per step


class Pieces(TypedDict):
    """Lengths in tokens of the pieces in a rank's blocks of the step."""

    count: int
    min: int
    median: float
    max: int


class StepEvent(Event):
    """One optimizer step of one rank. Fields that are NotRequired stand only where they were measured."""

    step: int  # 1 is the first
    epoch: float
    seconds: float  # wall time of the step, host clock
    phases: dict[str, float]  # seconds a phase; GPU time where the rank has a GPU
    blocks: list[int]
    fillers: int
    tokens: int  # of this rank
    targets: int  # of this rank
    pieces: NotRequired[Pieces | None]
    waits: NotRequired[dict[str, float]]  # seconds a phase that this rank waited for others; other writers may know it
    loss: NotRequired[float]  # logged steps: mean over all ranks since the last logged step
    grad_norm: NotRequired[float | None]
    learning_rate: NotRequired[float | None]
    tokens_per_second: NotRequired[float]  # all ranks
    mfu: NotRequired[float | None]  # document-masked model FLOPs, all ranks
    hfu: NotRequired[float | None]  # with the recomputation of gradient checkpointing
    peak_memory_gib: NotRequired[float]  # GPU allocated, or resident on the host
    memory: NotRequired[Memory]
    host: NotRequired[Host]
    gpu: NotRequired[Gpu]
    io: NotRequired[Io]
    communication: NotRequired[Communication]


class WindowGroup(TypedDict):
    """Communication of one process group inside a window; microseconds, unions of intervals."""

    group: str
    description: str
    ranks: int | None
    calls: int
    bytes: int | None
    total_us: float
    exposed_us: float
    overlapped_us: float


class CommWindowEvent(Event):
    """A profiler window of one rank. Exact; sums over the window, not per step."""

    step: int  # last step of the window
    first_step: int
    steps: int
    seconds: float
    total_us: float
    exposed_us: float
    overlapped_us: float
    compute_us: float
    groups: list[WindowGroup]
    basis: str  # gpu: kernels; host: gloo against CPU operators
    phases: dict[str, float]  # phase -> microseconds of the collectives that began in it
    skew_us: NotRequired[float | None]  # time this rank waited for the last one; None: some rank's window is missing
    skew_groups: NotRequired[dict[str, float]]
    skew_phases: NotRequired[dict[str, float]]
    skew_step: NotRequired[int]  # first step of the window that the skew belongs to
    came_last: NotRequired[int]  # collectives to which this rank came last, of `compared`
    compared: NotRequired[int]


class CheckpointEvent(Event):
    """A checkpoint that this rank has finished."""

    step: int
    seconds: float
    path: str  # relative to the run folder


class EvaluationEvent(Event):
    """An evaluation; `eval_*` fields of the metrics stand beside it."""

    step: int
    eval_loss: float
    eval_perplexity: float


class AlertEvent(Event):
    """Something to look at; once while the condition lasts. `rank` and `host` name whom it concerns."""

    kind: str  # AlertKind
    severity: Literal["warning", "critical"]
    step: int
    rank: int
    host: str
    message: str  # one English sentence with the numbers
    value: NotRequired[float | None]
    limit: NotRequired[float | None]
    phase: NotRequired[str]  # of a straggler


class Missing(TypedDict):
    """A rank that the others wait for."""

    rank: int
    host: str
    phase: str
    step: int
    since: float  # seconds without progress when it was noticed
    frozen: bool  # its heartbeat has stopped too: the process is gone, stopped, or its node is


class StallEvent(Event):
    """Written by the lowest rank that is alive, when the ranks have waited too long."""

    step: int
    waited: float
    limit: float
    missing: list[Missing]
    action: Literal["report", "abort"]
    message: str


class ThinnedEvent(Event):
    """The file was thinned: older `step` events are kept only where step is a multiple of `every`."""

    every: int
    removed: int  # step events removed by this thinning
    before_step: int


class EndEvent(Event):
    """The last line of a rank that could still write one."""

    step: int
    status: Literal["finished", "crashed", "stopped"]
    reason: str | None  # type of the error and its first line, never corpus text
    communication: NotRequired[Communication | None]  # counted after the last step event that carried any


class Heartbeat(TypedDict):
    """Content of `heartbeat/rank-N`."""

    rank: int
    host: str
    pid: int
    time: float
    step: int  # steps finished
    phase: str  # under way; "start" before the first step, "end" after the last
    progress: float  # time of the last change of step or phase
    median_step: float | None  # seconds
    stall_after: float | None  # seconds without progress that count as a stall now; None until a median step is known
    status: Literal["running", "finished", "crashed", "stopped"]
    phases: dict[str, float]  # median seconds a phase over the last steps, those right after the start left out
    scatter: dict[str, float]  # standard errors of these
    measured: int  # steps that these are over
    collectives: dict[str, Any]  # group -> number of the last collective issued; filled when a stall is suspected
