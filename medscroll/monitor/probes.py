"""What the operating system, the network and NVML say about this rank and its node.

Sampled by a thread every few seconds, never by the training step. Price: about 1 ms a sample for the host, 2 ms for
NVML. What a machine does not offer is null; why NVML is silent is in `Probes.notes`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

INFINIBAND = Path("/sys/class/infiniband")
IB_UNIT = 4  # port_rcv_data and port_xmit_data count words of 4 bytes
# NVML's clock event reasons: bit -> name (nvml.h, nvmlClocksEventReasons)
THROTTLE = {0x4: "power_cap", 0x8: "hardware", 0x20: "thermal", 0x40: "thermal", 0x80: "power_brake"}


class Probes:
    """Samples of this process's node.

    Args:
        gpu_uuid: UUID of the rank's GPU as torch gives it; None on a CPU.
    """

    def __init__(self, gpu_uuid: str | None = None) -> None:
        self.notes: list[str] = []
        self._process = psutil.Process()
        self._process.cpu_percent()
        self._counters: tuple[float, dict[str, float]] | None = None
        self._nvml: Any
        self._gpu: Any
        self._nvml, self._gpu = self._open_gpu(gpu_uuid) if gpu_uuid else (None, None)
        self.io()

    def sample(self) -> dict[str, Any]:
        """`host`, `io` and, on a GPU, `gpu`, as `medscroll.monitor.schema` has them."""
        found: dict[str, Any] = {"host": self.host()}
        io = self.io()
        if io is not None:
            found["io"] = io
        if self._gpu is not None:
            found["gpu"] = self.gpu()
        return found

    def host(self) -> dict[str, Any]:
        """Memory of this process and node in bytes, and this process's load in percent of a core."""
        memory = psutil.virtual_memory()
        swap = 0
        with contextlib.suppress(OSError, RuntimeError):
            swap = psutil.swap_memory().used
        return {
            "rss": self._process.memory_info().rss,
            "used": memory.total - memory.available,
            "total": memory.total,
            "swap_used": swap,
            "cpu_percent": self._process.cpu_percent(),
        }

    def io(self) -> dict[str, float] | None:
        """Bytes per second since the last call; None at the first."""
        now, counters = time.monotonic(), _counters()
        last, self._counters = self._counters, (now, counters)
        if last is None or now <= last[0]:
            return None
        return {name: max(0.0, (counters[name] - last[1][name]) / (now - last[0])) for name in counters}

    def _open_gpu(self, uuid: str) -> tuple[Any, Any]:
        try:
            import pynvml
        except ImportError:
            self.notes.append("no GPU figures: pip install nvidia-ml-py")
            return None, None
        named = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        try:
            pynvml.nvmlInit()
            return pynvml, pynvml.nvmlDeviceGetHandleByUUID(named)
        except pynvml.NVMLError as error:
            self.notes.append(f"no GPU figures: NVML says {error}")
            return None, None

    def gpu(self) -> dict[str, Any]:
        """NVML's figures of the rank's GPU."""
        nvml, gpu = self._nvml, self._gpu

        def ask(call: Callable[[], Any]) -> Any:
            try:
                return call()
            except (nvml.NVMLError, AttributeError):
                return None

        def scaled(call: Callable[[], Any], unit: float) -> float | None:
            found = ask(call)
            return None if found is None else found / unit

        reasons = ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)) or 0
        volatile = 0  # NVML_VOLATILE_ECC
        return {
            "utilisation": ask(lambda: float(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu)),
            "power": scaled(lambda: nvml.nvmlDeviceGetPowerUsage(gpu), 1000),
            "power_limit": scaled(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu), 1000),
            "temperature": ask(lambda: float(nvml.nvmlDeviceGetTemperature(gpu, 0))),
            "temperature_limit": ask(lambda: float(nvml.nvmlDeviceGetTemperatureThreshold(gpu, 1))),
            "clock": ask(lambda: float(nvml.nvmlDeviceGetClockInfo(gpu, 1))),
            "throttle": sorted({name for bit, name in THROTTLE.items() if reasons & bit}),
            "ecc_uncorrected": ask(lambda: nvml.nvmlDeviceGetTotalEccErrors(gpu, 1, volatile)),
            "ecc_corrected": ask(lambda: nvml.nvmlDeviceGetTotalEccErrors(gpu, 0, volatile)),
        }


def _counters() -> dict[str, float]:
    """Bytes of the node so far: all interfaces but the loopback, InfiniBand ports, all disks."""
    found = dict.fromkeys(("nic_in", "nic_out", "disk_read", "disk_write"), 0.0)
    with contextlib.suppress(OSError, RuntimeError):
        for name, counts in psutil.net_io_counters(pernic=True).items():
            if name != "lo":
                found["nic_in"] += counts.bytes_recv
                found["nic_out"] += counts.bytes_sent
    for port in INFINIBAND.glob("*/ports/*/counters"):
        with contextlib.suppress(OSError, ValueError):
            found["nic_in"] += IB_UNIT * int((port / "port_rcv_data").read_text("ascii"))
            found["nic_out"] += IB_UNIT * int((port / "port_xmit_data").read_text("ascii"))
    with contextlib.suppress(OSError, RuntimeError):
        disk = psutil.disk_io_counters()
        if disk is not None:
            found["disk_read"], found["disk_write"] = float(disk.read_bytes), float(disk.write_bytes)
    return found
