"""Which PyTorch build tools/install and tools/bundle take, for machines that are not this one."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script of tools/ as a module."""
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = TOOLS / name
    module_name = f"tools_{path.stem}"
    loader = importlib.machinery.SourceFileLoader(module_name, str(path))
    spec = importlib.util.spec_from_loader(module_name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, module_name, module)
    loader.exec_module(module)
    return module


@pytest.fixture
def platforms(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("platforms.py", monkeypatch)


CASES = [
    (None, (), "cpu"),
    ("580.65.06", (("H100", "9.0"),), "13.0"),
    ("595.10", (("B200", "10.0"), ("B200", "10.0")), "13.0"),
    ("550.54.15", (("H100", "9.0"),), "12.6"),
    ("535.104.05", (("A100", "8.0"), ("L40S", "8.9")), "12.6"),
    ("570.86.10", (("B200", "10.0"),), "12.8"),
    ("580.65.06", (("V100", "7.0"),), "12.6"),
    ("550.54.15", (), "12.6"),
]


@pytest.mark.parametrize(("driver", "gpus", "cuda"), CASES)
def test_build_follows_driver_and_gpu(
    platforms: ModuleType, driver: str | None, gpus: tuple[tuple[str, str], ...], cuda: str
) -> None:
    machine = platforms.Machine("Linux", "2.35", driver, gpus)
    build, reason = platforms.choose_build(platforms.read_builds(), machine)
    assert build.cuda == cuda
    assert reason


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (("Linux", "2.35", "470.82.01", ()), "470.82.01 is too old"),
        (("Linux", "2.17", None, ()), "glibc 2.17 is too old"),
        (("Linux", "2.35", "580.65.06", (("K80", "3.7"),)), "K80 (3.7)"),
    ],
)
def test_what_does_not_fit_is_named(platforms: ModuleType, machine: tuple[object, ...], said: str) -> None:
    with pytest.raises(platforms.ToolError, match=said.replace("(", r"\(").replace(")", r"\)")):
        platforms.choose_build(platforms.read_builds(), platforms.Machine(*machine))


def test_cpu_requirement_excludes_cuda_builds(platforms: ModuleType) -> None:
    """Without the label pip would take PyPI's wheel, which brings CUDA."""
    cpu = next(build for build in platforms.read_builds() if build.cuda == "cpu")
    assert platforms.requirement(cpu, "Linux") == f"torch=={cpu.torch}+cpu"
    assert platforms.requirement(cpu, "Darwin") == f"torch=={cpu.torch}"


def test_unknown_cuda_lists_the_table(platforms: ModuleType) -> None:
    with pytest.raises(platforms.ToolError, match=r"12\.6"):
        platforms.choose_build(platforms.read_builds(), platforms.Machine("Linux", "2.35", None), "11.8")


def test_table_and_project_agree(platforms: ModuleType) -> None:
    """Every build is in the range that pyproject.toml admits, and every wheel index is PyTorch's own."""
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((TOOLS.parent / "pyproject.toml").read_text("utf-8"))["project"]
    torch = next(r for r in map(Requirement, project["dependencies"]) if r.name == "torch")
    builds = platforms.read_builds()
    assert len(builds) >= 4
    for build in builds:
        assert build.torch in torch.specifier
        assert build.wheel_index.startswith("https://download.pytorch.org/whl/")
        assert build.wheel_index.endswith(build.label.lstrip("+"))


def test_lock_line_holds_name_version_and_hash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import hashlib
    import zipfile

    bundle = load("bundle", monkeypatch)
    wheel = tmp_path / "some_name-1.2+cpu-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        metadata = "Metadata-Version: 2.1\nName: Some-Name\nVersion: 1.2+cpu\n"
        archive.writestr("some_name-1.2+cpu.dist-info/METADATA", metadata)
    line = bundle.lock_lines([wheel], "dev").splitlines()[-1]
    assert line == f"Some-Name==1.2+cpu --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def test_wheelhouse_that_is_none_is_named(tmp_path: Path) -> None:
    import subprocess

    command = [sys.executable, str(TOOLS / "install"), "--venv", str(tmp_path / "env"), "--wheelhouse", str(tmp_path)]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert found.returncode == 2
    assert "is no bundle" in found.stderr
    assert "Traceback" not in found.stderr
