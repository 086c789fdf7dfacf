"""prepare: nothing lost, nothing done twice, killed at any moment and gone on to the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from medscroll.corpus import shards
from medscroll.corpus.stage import document_shards, read_shard
from medscroll.errors import CapacityError, ConfigError, DataError, UserError
from medscroll.packing import TokenStore, job, parts, tokenize
from medscroll.packing import prepare as prepare_module
from medscroll.packing.prepare import prepare, prepare_once, prepared_dir_for, raw_input_bytes, read_manifest
from tests.packing.byte_tokenizer import make_byte_tokenizer

STORE_FILES = [
    f"tokens/{split}{suffix}" for split in ("train", "validation") for suffix in (".bin", ".idx", ".cuts.npz")
]
ALL_FILES = [*STORE_FILES, "tokens/index.json", "manifest.json", "ledger.json", "report.md"]


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_byte_tokenizer(tmp_path_factory.mktemp("tokenizer"), bos=True)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Forty short documents in a folder of files and in a file of records."""
    folder = tmp_path / "raw"
    (folder / "notes").mkdir(parents=True)
    for index in range(25):
        (folder / "notes" / f"{index:02}.txt").write_text(make_text(index), "utf-8")
    with (folder / "records.jsonl").open("w", encoding="utf-8") as handle:
        for index in range(25, 40):
            handle.write(json.dumps({"text": make_text(index)}, ensure_ascii=False) + "\n")
    return folder


def make_text(index: int) -> str:
    words = random.Random(index).sample(range(1000), 12)  # no document is a copy of another
    own = "".join(f"指标{word:03d}升高，" for word in words)
    paragraph = f"# 病例 {index}\n患者{index}岁。{own}查体：正常！\n\nHe came at {index}:00. She left.\n"
    return paragraph * (1 + index % 5) + "end"


@pytest.fixture
def arguments(tmp_path: Path, raw: Path, tokenizer_dir: Path) -> Callable[..., SimpleNamespace]:
    def make(**changes: object) -> SimpleNamespace:
        values = {
            "sources": [str(raw)],
            "output_dir": str(tmp_path / "data"),
            "tokenizer_name_or_path": str(tokenizer_dir),
            "text_field": None,
            "validation_fraction": 0.2,
            "num_workers": 1,
            "trust_remote_code": False,
            "cache_dir": None,
            "json": False,
        }
        return SimpleNamespace(**{**values, **changes})

    return make


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ALL_FILES}


def documents_of(folder: Path) -> dict[str, str]:
    return {d.id: d.text for shard in document_shards(folder) for d in read_shard(shard)}


def test_every_document_is_in_the_store_once(arguments: Callable[..., SimpleNamespace]) -> None:
    folder = prepare(arguments(), quiet=True)
    texts = documents_of(folder)
    assert len(texts) == 40
    stores = {split: TokenStore.open(folder / "tokens" / split) for split in ("train", "validation")}
    seen: dict[str, bytes] = {}
    for store in stores.values():
        assert store.adds_bos
        assert store.eos_token_id == 257
        assert store.dtype == np.uint16
        for index, name in enumerate(store.ids):
            ids = store[index]
            assert (ids[0], ids[-1]) == (256, 257)
            assert store.document_bytes[index] == len(ids) - 2
            assert len(store.cuts[index][0]) >= 3
            assert name not in seen
            seen[name] = texts[name].encode()
            assert len(seen[name]) == len(ids) - 2
    assert seen.keys() == texts.keys()
    assert 2 <= len(stores["validation"]) <= 20

    manifest, ledger = read_manifest(folder), json.loads((folder / "ledger.json").read_text("utf-8"))
    assert ledger["documents"]["kept"] == 40 == ledger["documents"]["train"] + ledger["documents"]["validation"]
    assert all(ledger["identity"].values())
    assert len(ledger["identity"]) == 6
    assert manifest["tokens"]["train"] == stores["train"].num_tokens > 0
    assert manifest["tokenizer"]["vocab_size"] == 258
    report = (folder / "report.md").read_text("utf-8")
    assert "| documents | 40 |" in report
    assert "records.jsonl" in report
    assert "患者" not in report
    for name in ALL_FILES:
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name


def test_again_does_nothing_and_says_so(
    arguments: Callable[..., SimpleNamespace], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepare(arguments(), quiet=True)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    monkeypatch.setattr(prepare_module, "DocumentEncoder", None)  # would fail if it were used
    assert prepare(arguments()) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert "nothing to do" in capsys.readouterr().err


@pytest.fixture
def tokenized(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the documents that are tokenized from now on."""
    seen: list[str] = []
    original = parts._add_document

    def spy(document, *rest):  # type: ignore[no-untyped-def]
        seen.append(document.id)
        original(document, *rest)

    monkeypatch.setattr(parts, "_add_document", spy)
    return seen


def test_adding_a_source_keeps_the_split_and_the_shards(
    arguments: Callable[..., SimpleNamespace],
    raw: Path,
    tmp_path: Path,
    tokenized: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shards, "TASK_BYTES_LEAST", 2_000)  # several documents shards
    folder = prepare(arguments(), quiet=True)
    assert len(tokenized) == 40
    before = {split: list(TokenStore.open(folder / "tokens" / split).ids) for split in ("train", "validation")}
    more = tmp_path / "more"
    more.mkdir()
    with (more / "zzz.jsonl").open("w", encoding="utf-8") as handle:
        for index in range(100, 120):
            handle.write(json.dumps({"text": make_text(index)}) + "\n")
    tokenized.clear()
    prepare(arguments(sources=[str(raw), str(more)]), quiet=True)
    assert len(tokenized) < 60
    assert len(set(tokenized)) == len(tokenized) >= 20
    after = {split: list(TokenStore.open(folder / "tokens" / split).ids) for split in ("train", "validation")}
    assert sum(map(len, after.values())) == 60
    for split, ids in before.items():
        assert set(ids) <= set(after[split])
    fresh = prepare(arguments(sources=[str(raw), str(more)], output_dir=str(tmp_path / "fresh")), quiet=True)
    for name in STORE_FILES:
        assert (fresh / name).read_bytes() == (folder / name).read_bytes(), name


def test_another_tokenizer_or_fraction_is_noticed(
    arguments: Callable[..., SimpleNamespace], tmp_path: Path, tokenized: list[str]
) -> None:
    folder = prepare(arguments(), quiet=True)
    other = make_byte_tokenizer(tmp_path / "other", bos=False)
    tokenized.clear()
    prepare(arguments(tokenizer_name_or_path=str(other)), quiet=True)
    assert len(tokenized) == 40
    store = TokenStore.open(folder / "tokens" / "train")
    assert not store.adds_bos
    assert store[0][0] != 256
    prepare(arguments(tokenizer_name_or_path=str(other), validation_fraction=0), quiet=True)
    assert len(TokenStore.open(folder / "tokens" / "validation")) == 0
    assert any("validation" in warning for warning in read_manifest(folder)["warnings"])


def test_a_changed_document_is_noticed(arguments: Callable[..., SimpleNamespace], raw: Path) -> None:
    folder = prepare(arguments(), quiet=True)
    digest = read_manifest(folder)["digest"]
    (raw / "notes" / "03.txt").write_text("changed. Text", "utf-8")
    prepare(arguments(), quiet=True)
    assert read_manifest(folder)["digest"] != digest
    assert "changed. Text" in documents_of(folder).values()


def test_the_split_goes_by_text_alone() -> None:
    hashes = [f"{np.random.default_rng(i).integers(1 << 62):032x}"[::-1] for i in range(2_000)]
    small = {h for h in hashes if parts.split_of(h, 0.01) == "validation"}
    large = {h for h in hashes if parts.split_of(h, 0.1) == "validation"}
    assert 5 <= len(small) < len(large) <= 300
    assert small < large
    assert not any(parts.split_of(h, 0) == "validation" for h in hashes)


@pytest.mark.parametrize("slice_characters", [300, 1_000_000])
def test_the_result_does_not_depend_on_slices_or_processes(
    arguments: Callable[..., SimpleNamespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slice_characters: int
) -> None:
    reference = content(prepare(arguments(output_dir=str(tmp_path / "one")), quiet=True))
    for module in (parts, tokenize):
        monkeypatch.setattr(module, "SLICE_CHARACTERS", slice_characters)
    workers = 2 if slice_characters == 300 else 1
    found = content(prepare(arguments(output_dir=str(tmp_path / "two"), num_workers=workers), quiet=True))
    assert found == reference


def run_until_killed(arguments: SimpleNamespace, at: int) -> bool:
    """Runs prepare in a forked child that kills itself at its `at`-th rename; whether it was killed."""
    child = os.fork()
    if child == 0:
        count = 0
        renames = {name: getattr(os, name) for name in ("rename", "replace")}

        def counted(name: str) -> Callable[..., None]:
            def rename(*args: object, **kwargs: object) -> None:
                nonlocal count
                count += 1
                if count == at:
                    if at % 2:  # half of them just after it happened
                        renames[name](*args, **kwargs)
                    os.kill(os.getpid(), signal.SIGKILL)
                renames[name](*args, **kwargs)

            return rename

        for name in renames:
            setattr(os, name, counted(name))
        try:
            prepare(arguments, quiet=True)
            os._exit(0)
        except BaseException:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    arguments: Callable[..., SimpleNamespace], raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(tokenize, "SLICE_CHARACTERS", 1_000)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    first = prepare(arguments(output_dir=str(tmp_path / "first")), quiet=True)
    reference_before = content(first)
    (raw / "late.txt").write_text(make_text(77), "utf-8")
    reference_after = content(prepare(arguments(output_dir=str(tmp_path / "reference")), quiet=True))
    killed = 0
    for at in range(1, 400, step):
        target = tmp_path / f"target{at}"
        (raw / "late.txt").unlink()
        was_killed = run_until_killed(arguments(output_dir=str(target)), at)
        prepare(arguments(output_dir=str(target)), quiet=True)
        assert content(target) == reference_before, at
        (raw / "late.txt").write_text(make_text(77), "utf-8")
        killed_again = run_until_killed(arguments(output_dir=str(target)), at)
        prepare(arguments(output_dir=str(target)), quiet=True)
        assert {k: v for k, v in content(target).items() if k in STORE_FILES} == {
            k: v for k, v in reference_after.items() if k in STORE_FILES
        }, at
        assert not [path for path in target.iterdir() if path.name.startswith("tokens.")]
        if not was_killed and not killed_again:
            break
        killed += was_killed + killed_again
    else:
        pytest.fail("it never came to an end")
    assert killed > 50 // step


def test_finished_parts_are_kept_after_a_kill(
    arguments: Callable[..., SimpleNamespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenized: list[str]
) -> None:
    monkeypatch.setattr(tokenize, "SLICE_CHARACTERS", 1_000)
    original, calls = parts.tokenize_slice, []

    def fails_later(*args: object) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        original(*args)

    monkeypatch.setattr(parts, "tokenize_slice", fails_later)
    with pytest.raises(KeyboardInterrupt):
        prepare(arguments(), quiet=True)
    first = list(tokenized)
    assert 0 < len(first) < 40
    with pytest.raises(DataError, match="no finished prepared data"):
        read_manifest(tmp_path / "data")
    prepare(arguments(), quiet=True)
    assert len(tokenized) == 40
    assert set(first) < set(tokenized)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sources": []}, "no sources"),
        ({"sources": ["nowhere"]}, "no such file or folder"),
        ({"output_dir": ""}, "--output_dir"),
        ({"validation_fraction": 1.0}, "validation fraction"),
        ({"num_workers": 0}, "processes"),
        ({"tokenizer_name_or_path": ""}, "no tokenizer"),
    ],
)
def test_mistakes_are_named(arguments: Callable[..., SimpleNamespace], changes: dict[str, object], says: str) -> None:
    with pytest.raises(UserError) as caught:
        prepare(arguments(**changes), quiet=True)
    assert says in str(caught.value)
    assert caught.value.remedy


def test_all_mistakes_come_at_once(arguments: Callable[..., SimpleNamespace]) -> None:
    with pytest.raises(ConfigError, match="3 mistakes"):
        prepare(arguments(sources=["nowhere"], num_workers=-1, validation_fraction=7), quiet=True)


def test_a_foreign_folder_and_one_inside_the_sources_are_refused(
    arguments: Callable[..., SimpleNamespace], raw: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="did not write"):
        prepare(arguments(output_dir=str(foreign)), quiet=True)
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]
    with pytest.raises(ConfigError, match="inside a source"):
        prepare(arguments(output_dir=str(raw / "data")), quiet=True)


def test_too_little_disk_is_an_error_before_the_work(
    arguments: Callable[..., SimpleNamespace], monkeypatch: pytest.MonkeyPatch, tokenized: list[str]
) -> None:
    monkeypatch.setattr(job.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000))
    with pytest.raises(CapacityError, match="disk"):
        prepare(arguments(), quiet=True)
    assert tokenized == []


def test_two_at_once_in_one_folder_are_refused(arguments: Callable[..., SimpleNamespace], tmp_path: Path) -> None:
    from medscroll.packing.files import file_lock

    prepare(arguments(), quiet=True)
    with file_lock(tmp_path / "data" / ".prepare.lock", wait=False), pytest.raises(ConfigError, match="at work"):
        prepare(arguments(validation_fraction=0.5), quiet=True)


def test_a_damaged_store_is_made_again(arguments: Callable[..., SimpleNamespace]) -> None:
    folder = prepare(arguments(), quiet=True)
    reference = content(folder)
    (folder / "tokens" / "train.bin").write_bytes(b"12")
    prepare(arguments(), quiet=True)
    assert content(folder) == reference


# ---- prepare_once ------------------------------------------------------------------------------------------------


def test_prepared_once_and_found_again_by_content(
    raw: Path, tmp_path: Path, tokenizer_dir: Path, tokenized: list[str]
) -> None:
    settings = {"tokenizer_name_or_path": str(tokenizer_dir), "prepared_dir": tmp_path / "cache"}
    folder = prepare_once(raw, quiet=True, num_workers=1, **settings)
    assert folder == prepared_dir_for(raw, **settings)
    assert len(tokenized) == 40
    moved = tmp_path / "elsewhere"
    raw.rename(moved)
    for path in moved.rglob("*"):
        os.utime(path, (time.time(), time.time()))
    assert prepare_once(moved, quiet=True, num_workers=1, **settings) == folder
    assert len(tokenized) == 40
    assert prepared_dir_for(moved, validation_fraction=0.5, **settings) != folder
    (moved / "notes" / "01.txt").write_text("other", "utf-8")
    assert prepared_dir_for(moved, **settings) != folder


def test_a_validation_folder_becomes_the_validation_split_whole(raw: Path, tmp_path: Path, tokenizer_dir: Path) -> None:
    held_out = tmp_path / "held_out"
    held_out.mkdir()
    for index in range(3):
        (held_out / f"v{index}.txt").write_text(f"held out {index}", "utf-8")
    folder = prepare_once(
        raw,
        validation_file_dir=held_out,
        validation_fraction=0.5,
        tokenizer_name_or_path=str(tokenizer_dir),
        prepared_dir=tmp_path / "cache",
        num_workers=1,
        quiet=True,
    )
    manifest = read_manifest(folder)
    assert manifest["documents"] == {"train": 40, "validation": 3}
    assert all("v" in name for name in TokenStore.open(folder / "tokens" / "validation").ids)


def test_several_processes_prepare_once(raw: Path, tmp_path: Path, tokenizer_dir: Path) -> None:
    cache = tmp_path / "cache"
    children = []
    for index in range(3):
        child = os.fork()
        if child == 0:
            code = 3
            try:
                folder = prepare_once(
                    raw, tokenizer_name_or_path=str(tokenizer_dir), prepared_dir=cache, num_workers=1, quiet=True
                )
                (tmp_path / f"folder{index}").write_text(str(folder))
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    folders = {(tmp_path / f"folder{index}").read_text() for index in range(3)}
    assert len(folders) == 1
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_raw_input_bytes(raw: Path, tmp_path: Path) -> None:
    expected = sum(path.stat().st_size for path in raw.rglob("*") if path.is_file())
    assert raw_input_bytes(raw, None) == expected > 1_000
    assert raw_input_bytes(raw, raw / "records.jsonl") == expected  # a file that is reached twice counts once
    with pytest.raises(DataError):
        raw_input_bytes(tmp_path / "nowhere")
