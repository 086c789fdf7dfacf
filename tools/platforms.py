"""Which PyTorch build fits this machine: shared by tools/install and tools/bundle, standard library only.

The table is medscroll/config/data/platforms.json (in a bundle: platforms.json beside this file). Rows are in order of
preference; the first whose driver, glibc and GPU architectures fit is taken.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
DRIVER_FILE = Path("/proc/driver/nvidia/version")


class ToolError(Exception):
    """A mistake of the user or a lack of the machine: printed without a traceback, exit code 2."""


@dataclass(frozen=True)
class Build:
    """A row of the table: one build of PyTorch.

    Attributes:
        torch: version.
        cuda: "13.0", "12.6", ... or "cpu".
        driver_min: oldest NVIDIA driver, None for the CPU build.
        glibc_min: oldest glibc of the wheel.
        wheel_index: PyTorch's own index of this build.
        label: local version label of the wheels there.
        on_pypi: whether PyPI's wheel of this version, which has no label, is this build.
        architectures: compute capabilities the binary holds.
        source: where the row is from.
    """

    torch: str
    cuda: str
    driver_min: str | None
    glibc_min: str
    wheel_index: str
    label: str = ""
    on_pypi: bool = False
    architectures: list[str] = field(default_factory=list)
    source: str = ""


@dataclass(frozen=True)
class Machine:
    """What the choice depends on.

    Attributes:
        system: "Linux", "Darwin", ...
        glibc: version, None where there is none (macOS, musl).
        driver: NVIDIA driver version, None without a driver.
        gpus: name and compute capability of each GPU that the driver shows.
    """

    system: str
    glibc: str | None
    driver: str | None
    gpus: tuple[tuple[str, str], ...] = ()


def version(text: str) -> tuple[int, ...]:
    """The numbers of a dotted version, for comparison."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def read_builds() -> list[Build]:
    """The table.

    Raises:
        ToolError: it is not where it belongs.
    """
    for path in (HERE / "platforms.json", HERE.parent / "medscroll" / "config" / "data" / "platforms.json"):
        if path.is_file():
            rows = json.loads(path.read_text("utf-8"))
            known = set(Build.__dataclass_fields__)
            return [Build(**{name: value for name, value in row.items() if name in known}) for row in rows]
    raise ToolError(f"platforms.json is neither beside {HERE} nor in medscroll/config/data: the checkout is incomplete")


def this_machine() -> Machine:
    """Look at this machine: nvidia-smi, the driver's own file, libc."""
    name, libc = platform.libc_ver()
    driver, gpus = _nvidia_smi()
    if driver is None and DRIVER_FILE.is_file():
        found = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", DRIVER_FILE.read_text(errors="replace"))
        driver = found.group(1) if found else None
    return Machine(platform.system(), libc if name == "glibc" else None, driver, gpus)


def _nvidia_smi() -> tuple[str | None, tuple[tuple[str, str], ...]]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return None, ()
    query = [command, "--query-gpu=driver_version,name,compute_cap", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None, ()
    rows = [[cell.strip() for cell in line.split(",")] for line in found.stdout.splitlines()]
    rows = [row for row in rows if len(row) == 3 and re.fullmatch(r"[\d.]+", row[0])]
    if found.returncode != 0 or not rows:
        return None, ()
    return rows[0][0], tuple((name, capability) for _, name, capability in rows)


def runs_on(build: Build, capability: str) -> bool:
    """Whether a GPU of this compute capability runs the build: same major version, not an older minor one."""
    wanted = version(capability)
    return any(version(held)[0] == wanted[0] and version(held) <= wanted for held in build.architectures)


def choose_build(builds: list[Build], machine: Machine, cuda: str = "auto") -> tuple[Build, str]:
    """The build for a machine and the reason, one clause.

    Args:
        builds: the table, in order of preference.
        machine: where it shall run.
        cuda: "auto", "cpu", or a CUDA version of the table.

    Raises:
        ToolError: none fits; says what to change.
    """
    known = [build.cuda for build in builds]
    if cuda not in ("auto", *known):
        raise ToolError(f"--cuda {cuda} is not in the table; choose one of: auto, {', '.join(known)}")
    if cuda == "auto" and machine.driver is None:
        build, reason = next(build for build in builds if build.cuda == "cpu"), "no NVIDIA driver is present"
    elif cuda == "auto":
        build, reason = _for_driver(builds, machine)
    else:
        build, reason = next(build for build in builds if build.cuda == cuda), f"--cuda {cuda}"
    old = machine.glibc is not None and version(machine.glibc) < version(build.glibc_min)
    if machine.system == "Linux" and old:
        raise ToolError(
            f"glibc {machine.glibc} is too old for PyTorch {build.torch} (needs {build.glibc_min}): "
            "use a container (tools/medscroll.def) or a newer system"
        )
    return build, reason


def _for_driver(builds: list[Build], machine: Machine) -> tuple[Build, str]:
    driver = machine.driver or "0"
    gpus = [build for build in builds if build.driver_min is not None]
    by_driver = [build for build in gpus if version(driver) >= version(str(build.driver_min))]
    if not by_driver:
        least = min(gpus, key=lambda build: version(str(build.driver_min)))
        raise ToolError(
            f"NVIDIA driver {driver} is too old: CUDA {least.cuda} needs {least.driver_min} or newer. "
            "Update the driver, or install the CPU build with --cuda cpu"
        )
    for build in by_driver:
        if all(runs_on(build, capability) for _, capability in machine.gpus):
            return build, f"driver {driver} is at least {build.driver_min}"
    names = ", ".join(sorted({f"{name} ({capability})" for name, capability in machine.gpus}))
    raise ToolError(f"no build in the table runs on all of: {names}, with driver {driver}; see docs/install.md")


def requirement(build: Build, system: str) -> str:
    """The pip requirement that only this build satisfies; macOS wheels carry no label."""
    return f"torch=={build.torch}" if system == "Darwin" else f"torch=={build.torch}{build.label}"


def find_python(minor: str) -> str:
    """The interpreter of a version like "3.11".

    Raises:
        ToolError: there is none on PATH.
    """
    if f"{sys.version_info.major}.{sys.version_info.minor}" == minor:
        return sys.executable
    found = shutil.which(f"python{minor}")
    if found is None:
        raise ToolError(f"python{minor} is not on PATH: install it, or name another version with --python")
    return found
