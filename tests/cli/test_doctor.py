"""doctor: what is found is named with a remedy; drivers, builds and packages that do not fit are problems."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medscroll.cli import doctor
from medscroll.planning import environment, machine
from medscroll.planning.environment import Finding, Gpu, TorchBuild, accelerators, best_build, least_driver, platforms
from tests.launch import ROOT
from tests.launch import environment as job_environment

H100 = "NVIDIA H100 80GB HBM3"


def gpu(driver: str, capability: str = "9.0") -> Gpu:
    return Gpu(H100, 80 * 2**30, driver, capability)


def cuda_build(cuda: str | None = "13.0", available: bool = True, **changes: object) -> TorchBuild:
    devices = ((H100, (9, 0)),) if available else ()
    values: dict = {"version": "2.13.0", "cuda": cuda, "available": available, "devices": devices, **changes}
    return TorchBuild(**values)


def only_problem(findings: list[Finding]) -> Finding:
    (problem,) = [finding for finding in findings if finding.status == "problem"]
    assert problem.remedy
    return problem


def test_a_gpu_that_fits_is_no_problem() -> None:
    findings = accelerators(cuda_build(architectures=("sm_80", "sm_90")), [gpu("580.159.04"), gpu("580.159.04")])
    assert all(finding.status == "ok" for finding in findings)
    values = [finding.value for finding in findings]
    assert f"{H100}, 80 GiB" in values
    assert len(values) == 5


def test_a_driver_too_old_is_named_with_the_least_one_and_a_build_that_it_runs() -> None:
    problem = only_problem(accelerators(cuda_build("13.0", available=False), [gpu("550.54.15")]))
    assert "550.54.15 is too old" in problem.value
    assert "580.65.06" in problem.value
    assert "https://download.pytorch.org/whl/cu126" in problem.remedy
    ancient = only_problem(accelerators(cuda_build("12.6", available=False), [gpu("470.1")]))
    assert "525.60.13" in ancient.value
    assert "pip install" not in ancient.remedy


def test_minor_version_compatibility_is_a_note() -> None:
    findings = accelerators(cuda_build("12.6"), [gpu("535.104.05")])
    (note,) = [finding for finding in findings if finding.status != "ok"]
    assert note.status == "note"
    assert "560.28.03" in note.remedy


def test_a_cpu_build_beside_a_gpu_is_a_problem_with_the_command_that_repairs_it() -> None:
    problem = only_problem(accelerators(cuda_build(None, available=False), [gpu("580.159.04")]))
    assert "CPU build" in problem.value
    assert problem.remedy == "pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cu130"


def test_a_gpu_without_kernels_in_the_build_is_a_problem() -> None:
    blackwell = (("NVIDIA B200", (10, 0)),)
    build = cuda_build("12.6", devices=blackwell, architectures=("sm_80", "sm_86", "sm_90"))
    assert "10.0" in only_problem(accelerators(build, [gpu("580.159.04", "10.0")])).value
    row = best_build("575.1", "10.0")
    assert row is not None
    assert row["cuda"] == "12.8"


def test_a_hidden_or_broken_gpu_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    build = cuda_build("13.0", available=False, failure="CUDA initialization: out of luck")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert [finding.status for finding in accelerators(build, [gpu("580.159.04")])].count("problem") == 0
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert "out of luck" in only_problem(accelerators(build, [gpu("580.159.04")])).value


def test_no_gpu_is_a_note_and_no_torch_a_problem() -> None:
    findings = accelerators(cuda_build(None, available=False), [])
    assert [finding.status for finding in findings] == ["ok", "note"]
    assert "cannot be imported" in only_problem(accelerators(None, None)).value


def test_the_table_of_platforms_is_whole() -> None:
    rows = platforms()
    assert {row["cuda"] for row in rows} >= {"cpu", "12.6", "12.8", "13.0"}
    for row in rows:
        assert {"torch", "cuda", "driver_min", "driver_recommended", "glibc_min", "wheel_index"} <= set(row)
        assert (row["driver_min"] is None) == (row["cuda"] == "cpu")
        assert row["wheel_index"].endswith("cpu" if row["cuda"] == "cpu" else "cu" + row["cuda"].replace(".", ""))
    assert least_driver("13.2")[0] == "580.65.06"
    assert least_driver("11.8") == ("", "")


def test_a_missing_or_foreign_package_is_a_problem_where_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy>=999", "no-such-package>=1", "PyYAML>=6", "deepspeed<0.1; extra == 'deepspeed'"]
    monkeypatch.setattr(environment, "requirements", lambda: wanted)
    found = {finding.name: finding for finding in environment.packages()}
    assert (found["numpy"].status, found["numpy"].remedy) == ("problem", 'pip install "numpy>=999"')
    assert found["no-such-package"].status == "problem"
    assert found["PyYAML"].status == "ok"
    assert found["deepspeed"].status in ("note", "absent")
    assert set(environment.OPTIONAL) <= set(found)


def test_secrets_of_the_environment_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_TOKEN", "hf_secret")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = {finding.name: finding.value for finding in machine.network()}
    assert found["NCCL_DEBUG"] == "INFO"
    assert "offline" in found["hub"]
    assert not any("hf_secret" in value for value in found.values())


def test_the_exit_code_says_whether_a_run_is_possible(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = Finding("a", "b", "c"), Finding("d", "e", "f", "problem", "g")
    monkeypatch.setattr(doctor, "examine", lambda collectives: [good])
    assert doctor.main([]) == 0
    assert "a run is possible here" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "examine", lambda collectives: [good, bad])
    assert doctor.main([]) == 1
    assert "-> g" in capsys.readouterr().out
    assert doctor.main(["--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert report["findings"][1]["remedy"] == "g"


@pytest.mark.distributed
def test_this_machine_is_examined_with_collectives(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "medscroll", "doctor", "--json", "--collectives"],
        cwd=tmp_path, env=job_environment(), capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    report = json.loads(finished.stdout)
    assert finished.returncode == (0 if report["ok"] else 1), finished.stderr
    findings = {(finding["group"], finding["name"]): finding for finding in report["findings"]}
    assert findings["collectives", "gloo"]["status"] == "ok"
    assert "2 ranks" in findings["collectives", "gloo"]["value"]
    assert findings["attention", "per_document"]["status"] == "ok"
    assert {group for group, _ in findings} >= {"system", "packages", "accelerator", "host", "disk", "network"}
    assert not list(tmp_path.iterdir()), "doctor wrote into the current folder"


@pytest.mark.distributed
def test_under_torchrun_the_ranks_test_their_own_path() -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    finished = subprocess.run(
        [*launcher, "-m", "medscroll", "doctor", "--collectives"],
        cwd=ROOT, env=job_environment(), capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert finished.stdout.count("gloo ") == 1, finished.stdout + finished.stderr
    assert "2 ranks: sum of 16 MiB right" in finished.stdout
