"""What this machine has and whether medscroll can run on it: one `Finding` a fact, with a remedy where it is wrong.

Read by `medscroll doctor`. A probe never raises for what it finds: a missing tool is a finding. Which driver, glibc,
CUDA and torch go together is the data file `medscroll/config/data/platforms.json`.

Price: seconds, most of them the import of torch and transformers; nothing is downloaded, nothing is written.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from medscroll import __version__

Status = Literal["ok", "note", "absent", "problem"]

# What the packages beyond the required ones are for; extras of pyproject.toml plus the attention kernels.
OPTIONAL = {
    "deepspeed": "--deepspeed zero1, zero2, zero3",
    "peft": "--use_peft (LoRA)",
    "bitsandbytes": "--qlora, --load_in_4bit, --load_in_8bit (GPU)",
    "liger-kernel": "faster training kernels (GPU)",
    "nvidia-ml-py": "GPU figures in the run's events",
    "flash-attn-4": "flash_attention_4 (Hopper, Blackwell)",
    "flash-attn-3": "flash_attention_3 (Hopper)",
    "flash-attn": "flash_attention_2 (Ampere and later)",
    "tensorboard": "--report_to tensorboard",
    "wandb": "--report_to wandb",
    "swanlab": "--report_to swanlab",
}


@dataclass(frozen=True)
class Finding:
    """One fact about the environment.

    Attributes:
        group: the heading it stands under.
        name: what was looked at.
        value: what was found, in words.
        status: ok; note (works, but worth knowing); absent (optional and not there); problem (must be repaired).
        remedy: what to do; empty where nothing needs doing.
    """

    group: str
    name: str
    value: str
    status: Status = "ok"
    remedy: str = ""


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver reports it; memory in bytes, compute capability such as `9.0`."""

    name: str
    memory: int
    driver: str
    capability: str = ""


def version_key(text: str) -> tuple[int, ...]:
    """The leading numbers of a version, comparable: `580.65.06` -> (580, 65, 6)."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def platforms() -> list[dict[str, Any]]:
    """The rows of the support table, in the order in which an installation prefers them.

    Each has `torch`, `cuda` ("cpu" or a version), `driver_min` (the least that runs the build at all, by CUDA's minor
    version compatibility), `driver_recommended` (that of its CUDA toolkit), `glibc_min`, `wheel_index`,
    `architectures` (compute capabilities with kernels) and `source`; the drivers are null in the CPU build.
    """
    text = resources.files("medscroll.config").joinpath("data/platforms.json").read_text("utf-8")
    rows: list[dict[str, Any]] = json.loads(text)
    return rows


def least_driver(cuda: str) -> tuple[str, str]:
    """The least driver that runs a CUDA build of torch at all, and the one of its toolkit; "" where unknown."""
    rows = [row for row in platforms() if row["cuda"] != "cpu"]
    same = [row for row in rows if row["cuda"] == cuda]
    major = [row for row in rows if version_key(row["cuda"])[0] == version_key(cuda)[0]]
    if same:
        return same[0]["driver_min"], same[0]["driver_recommended"]
    return (major[0]["driver_min"], "") if major else ("", "")


def best_build(driver: str, capability: str = "") -> dict[str, Any] | None:
    """The first row of the support table that this driver and this GPU run, None where none does."""
    for row in platforms():
        fits = row["cuda"] != "cpu" and version_key(row["driver_min"]) <= version_key(driver)
        if fits and (not capability or has_kernels(row["architectures"], capability)):
            return row
    return None


def has_kernels(architectures: Sequence[str], capability: str) -> bool:
    """Whether kernels of these compute capabilities run on a GPU: same major version, not an older minor one."""
    own = version_key(capability)
    return any(version_key(held)[0] == own[0] and version_key(held) <= own for held in architectures)


def system() -> list[Finding]:
    """Python, operating system, C library."""
    group = "system"
    libc, libc_version = platform.libc_ver()
    least = min((row["glibc_min"] for row in platforms()), key=version_key)
    findings = [
        Finding(group, "medscroll", __version__),
        Finding(group, "python", f"{platform.python_version()} ({sys.executable})"),
        Finding(group, "system", f"{platform.system()} {platform.release()} {platform.machine()}"),
    ]
    if libc != "glibc":
        remedy = f"a Linux with glibc {least} or later, or the container of tools/"
        findings.append(Finding(group, "glibc", "none: wheels of PyTorch need it", "problem", remedy))
    elif version_key(libc_version) < version_key(least):
        remedy = f"glibc {least} or later (RHEL 8, Ubuntu 20.04, Debian 11), or the container of tools/"
        findings.append(Finding(group, "glibc", f"{libc_version}, wheels of PyTorch need {least}", "problem", remedy))
    else:
        findings.append(Finding(group, "glibc", f"{libc_version} (at least {least})"))
    return findings


def requirements() -> list[str]:
    """The requirement strings of this distribution, extras included; from the checkout where it is not installed."""
    try:
        return importlib.metadata.requires("medscroll") or []
    except importlib.metadata.PackageNotFoundError:
        project = Path(__file__).resolve().parents[2] / "pyproject.toml"
        if not project.is_file():
            return []
        table = tomllib.loads(project.read_text("utf-8"))["project"]
        extras = table.get("optional-dependencies", {})
        return [
            *table["dependencies"],
            *(f"{need}; extra == '{extra}'" for extra, needs in extras.items() if extra != "dev" for need in needs),
        ]


def packages() -> list[Finding]:
    """Every required and optional package: its version and whether that is in the supported range."""
    from packaging.requirements import Requirement

    wanted = [Requirement(text) for text in requirements()]
    required = [need for need in wanted if need.marker is None or need.marker.evaluate({"extra": ""})]
    ranges = {need.name: need for need in wanted}
    findings = [_package("packages", need.name, need) for need in required]
    names = {need.name for need in required}
    return findings + [_package("packages", name, ranges.get(name)) for name in OPTIONAL if name not in names]


def _package(group: str, name: str, need: Any) -> Finding:
    optional = OPTIONAL.get(name)
    limits = str(need.specifier) if need is not None else ""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        if optional:
            return Finding(group, name, f"not installed; for {optional}", "absent", f"pip install {name}")
        return Finding(group, name, "not installed", "problem", f'pip install "{name}{limits}"')
    if need is not None and not need.specifier.contains(version, prereleases=True):
        status: Status = "note" if optional else "problem"
        return Finding(group, name, f"{version}, supported is {limits}", status, f'pip install "{name}{limits}"')
    return Finding(group, name, f"{version}{f'  ({limits})' if limits else ''}")


def gpus_of_driver() -> list[Gpu] | None:
    """The GPUs that nvidia-smi lists; None where there is no nvidia-smi or it fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [[part.strip() for part in line.split(",")] for line in listed.splitlines() if line.count(",") == 3]
    return [
        Gpu(name, int(memory) * 2**20 if memory.isdigit() else 0, driver, capability)
        for name, memory, driver, capability in rows
    ]


@dataclass(frozen=True)
class TorchBuild:
    """What torch says about itself: `cuda` is None in a CPU build; devices as (name, compute capability)."""

    version: str
    cuda: str | None
    available: bool
    devices: tuple[tuple[str, tuple[int, int]], ...] = ()
    architectures: tuple[str, ...] = ()
    failure: str = ""


def torch_build() -> TorchBuild | None:
    """The installed torch, or None where it cannot be imported."""
    import warnings

    try:
        import torch
    except (ImportError, OSError):
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = bool(torch.cuda.is_available())
    failure = "; ".join(str(warning.message).splitlines()[0] for warning in caught)
    devices = tuple(
        (torch.cuda.get_device_name(at), torch.cuda.get_device_capability(at))
        for at in range(torch.cuda.device_count() if available else 0)
    )
    architectures = tuple(torch.cuda.get_arch_list()) if available else ()
    return TorchBuild(str(torch.__version__), torch.version.cuda, available, devices, architectures, failure)


def accelerators(build: TorchBuild | None, found: Sequence[Gpu] | None) -> list[Finding]:
    """GPUs, driver and the torch build, and whether they fit each other."""
    group = "accelerator"
    if build is None:
        return [Finding(group, "torch", "cannot be imported", "problem", "tools/install, or pip install torch")]
    kind = f"CUDA {build.cuda}" if build.cuda else "CPU build"
    findings = [Finding(group, "torch", f"{build.version} ({kind})")]
    for at, gpu in enumerate(found or ()):
        findings.append(Finding(group, f"GPU {at}", f"{gpu.name}, {gpu.memory / 2**30:.0f} GiB"))
    if not found:
        return [*findings, _without_gpu(build, found)]
    findings.append(_driver(build, found[0]))
    if build.cuda and findings[-1].status != "problem":
        findings += _usable(build)
    return findings


def _without_gpu(build: TorchBuild, found: Sequence[Gpu] | None) -> Finding:
    group = "accelerator"
    if build.available:
        return Finding(group, "driver", "torch sees a GPU, nvidia-smi is not there", "note")
    if found is None and shutil.which("nvidia-smi"):
        remedy = "ask the administrator: the driver is not loaded, or its version differs from its library's"
        return Finding(group, "driver", "nvidia-smi fails", "problem", remedy)
    extra = "; this CUDA build of torch then runs on the CPU" if build.cuda else ""
    return Finding(group, "GPU", f"none: training runs on the CPU (small models){extra}", "note")


def _driver(build: TorchBuild, gpu: Gpu) -> Finding:
    """Whether the driver can run the build, and which build it could run."""
    group, driver, fitting = "accelerator", gpu.driver, best_build(gpu.driver, gpu.capability)
    advice = f"pip install torch=={fitting['torch']} --index-url {fitting['wheel_index']}" if fitting else ""
    if build.cuda is None:
        value = f"{driver}; torch is a CPU build and cannot use the GPU"
        return Finding(group, "driver", value, "problem", advice or "a newer driver, then tools/install")
    least, own = least_driver(build.cuda)
    if least and version_key(driver) < version_key(least):
        value = f"{driver} is too old for torch with CUDA {build.cuda}, which needs {least} or later"
        instead = f", or {advice}" if advice else ""
        return Finding(group, "driver", value, "problem", f"driver {own or least} or later{instead}")
    if own and version_key(driver) < version_key(own):
        value = f"{driver}; runs CUDA {build.cuda} by minor version compatibility"
        return Finding(group, "driver", value, "note", f"driver {own} or later has every feature")
    return Finding(group, "driver", f"{driver} (CUDA {build.cuda} needs {least or 'an unknown one'} or later)")


def _usable(build: TorchBuild) -> list[Finding]:
    """Whether torch can use the GPUs that the driver lists, and has kernels for them."""
    group = "accelerator"
    if not build.available:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        if hidden is not None and hidden.strip() in ("", "-1", "NoDevFiles"):
            remedy = "unset CUDA_VISIBLE_DEVICES"
            return [Finding(group, "CUDA", f"hidden by CUDA_VISIBLE_DEVICES={hidden!r}", "note", remedy)]
        value = f"torch cannot use the GPU: {build.failure or 'no reason given'}"
        return [Finding(group, "CUDA", value, "problem", "the driver's kernel module, or the container's --nv flag")]
    findings = [Finding(group, "CUDA", f"torch sees {len(build.devices)} GPU(s)")]
    compiled = [f"{arch[3:-1]}.{arch[-1]}" for arch in build.architectures if re.fullmatch(r"sm_\d+", arch)]
    from_source = any(arch.startswith("compute_") for arch in build.architectures)
    for name, (major, minor) in dict.fromkeys(build.devices):
        if compiled and not from_source and not has_kernels(compiled, f"{major}.{minor}"):
            value = f"{name}: compute capability {major}.{minor}, this build has kernels for {', '.join(compiled)}"
            findings.append(Finding(group, "CUDA", value, "problem", "tools/install takes a build that has them"))
    return findings


def attention() -> list[Finding]:
    """The attention backends in the order in which training tries them."""
    try:
        from medscroll.model.attention import available_backends

        backends = available_backends()
    except Exception as error:
        return [Finding("attention", "backends", f"cannot be listed: {type(error).__name__}: {error}", "problem")]
    return [
        Finding("attention", backend.name, backend.reason, "ok" if backend.present else "absent")
        for backend in backends
    ]
