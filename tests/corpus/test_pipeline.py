"""The whole of `prepare` with every step on: the same bytes however the work is divided or killed, nothing lost,
nothing quoted, nothing stale."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import stat
import time
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medscroll.corpus import shards, sources, worker
from medscroll.corpus.document import Document
from medscroll.corpus.files import read_jsonl_zst
from medscroll.corpus.stage import document_shards, read_shard
from medscroll.corpus.synthetic import generate_documents
from medscroll.packing.prepare import prepare
from tests.corpus.deid_generator import record
from tests.packing.byte_tokenizer import make_byte_tokenizer

QUESTION = "which of the following findings most strongly suggests an acute aortic dissection in this elderly patient"
CONFIG = """
preset: clinical
deidentify: replace
quality: {least_characters: 20}
decontaminate: {enabled: true, benchmarks: [%s], fields: [question]}
deduplicate: {enabled: true, threshold: 0.7, sections: true, least_section: 200}
"""


def text_of(number: int, seed: int = 0) -> str:
    """A synthetic document as Markdown."""
    made = next(iter(list(generate_documents(number + 1, seed=seed, max_characters=4000))[-1:]))
    return made.title + "\n" + "".join(f"\n## {head}\n\n" + "\n\n".join(texts) + "\n" for head, texts in made.sections)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records with identifiers, documents, exact and near copies far apart, a shared section, rubbish, a question."""
    root = tmp_path_factory.mktemp("corpus") / "raw"
    root.mkdir()
    rng = random.Random(1)
    notes = [record(seed, ("zh", "en")[seed % 2])[0] for seed in range(60)]
    texts = [text_of(number) for number in range(24)]
    shared = "\n## Shared methods\n\n" + " ".join(f"step {n} of the protocol measures item {n * 7}." for n in range(12))
    texts[3] += shared + "\n\n## After\n\nown end of three\n"
    texts[17] += shared + "\n\n## After\n\nown end of seventeen\n"
    for number, text in enumerate(texts):
        (root / f"doc{number:02d}.md").write_text(text, "utf-8")
    (root / "zz_copy.md").write_text(texts[0], "utf-8")
    (root / "aa_near.md").write_text(texts[5].replace("患者", "病人", 1)[: len(texts[5]) - 9], "utf-8")
    (root / "contaminated.txt").write_text(f"Own words before it. {QUESTION}? Own words after it, kept.", "utf-8")
    (root / "rubbish.txt").write_text("=-=-+*/#@!~^" * 40, "utf-8")
    (root / "blank.txt").write_text(" \n", "utf-8")
    (root / "binary.txt").write_bytes(bytes(range(256)) * 8)
    lines = [{"text": text, "patient_name": f"name {n}", "seen": n} for n, text in enumerate(notes)]
    lines += [{"text": notes[place]} for place in (4, 9, 31)]
    rng.shuffle(lines)
    (root / "notes.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    return root


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("config")
    (folder / "exam.jsonl").write_text(json.dumps({"question": QUESTION}) + "\n", "utf-8")
    (folder / "audit.yaml").write_text("preset: default\n", "utf-8")
    (folder / "corpus.yaml").write_text(CONFIG % (folder / "exam.jsonl"), "utf-8")
    return folder / "corpus.yaml"


@dataclass(frozen=True)
class Setup:
    """The sources, and how `prepare` is called on them."""

    raw: Path
    tokenizer: Path
    config: Path

    def call(self, out: Path, config: Path | None = None, **changes: Any) -> Any:
        """The arguments of `prepare`."""
        values = {
            "sources": [str(self.raw)], "output_dir": str(out), "tokenizer_name_or_path": str(self.tokenizer),
            "corpus_config": str(config or self.config), "validation_fraction": 0.2, "num_workers": 1,
            "trust_remote_code": False, "cache_dir": None,
        }  # fmt: skip
        return SimpleNamespace(**{**values, **changes})

    def run(self, out: Path, config: Path | None = None, **changes: Any) -> Path:
        """Runs it."""
        return prepare(self.call(out, config, **changes), quiet=True)


@pytest.fixture(scope="module")
def setup(raw: Path, tokenizer: Path, config: Path) -> Setup:
    return Setup(raw, tokenizer, config)


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tasks and shards out of a small corpus."""
    monkeypatch.setattr(shards, "TASK_BYTES_LEAST", 14_000)
    monkeypatch.setattr(shards, "TASK_BYTES", 14_000)
    monkeypatch.setattr(sources, "RANGE_BYTES", 12_000)
    monkeypatch.setattr(worker, "SHARD_CHARACTERS", 8_000)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


@pytest.fixture(scope="module")
def whole_dir(setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus prepared in one go."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        return setup.run(tmp_path_factory.mktemp("whole") / "out")


@pytest.fixture(scope="module")
def whole(whole_dir: Path) -> dict[str, bytes]:
    return content(whole_dir)


def content(folder: Path) -> dict[str, bytes]:
    """All that a user reads of a prepared folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith((".", "staged/", "documents/.state/", "tokenizer/")):
            found[name] = path.read_bytes()
    return found


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.rglob("*.jsonl.zst")) for line in read_jsonl_zst(path)]


def documents_of(folder: Path) -> dict[str, Document]:
    return {document.id: document for path in document_shards(folder) for document in read_shard(path)}


def test_every_step_does_its_work_and_every_document_is_accounted_for(raw: Path, whole_dir: Path) -> None:
    out = whole_dir
    ledger = json.loads((out / "ledger.json").read_text("utf-8"))
    assert next(iter(ledger["steps"])) == "read"
    assert [name for name in ledger["steps"] if name in ("deidentify", "quality", "decontaminate", "deduplicate")] == [
        "deidentify", "quality", "decontaminate", "deduplicate",
    ]  # fmt: skip
    assert all(ledger["identity"].values())
    assert len(ledger["identity"]) == 6
    kept, rejects = documents_of(out), lines_of(out / "rejects")
    reasons = {reject["id"]: reject["reason"] for reject in rejects}
    assert len(reasons) == len(rejects)
    assert not kept.keys() & reasons.keys()
    notes = sum(1 for _ in (raw / "notes.jsonl").open())
    assert len(kept) + len(rejects) == ledger["documents"]["read"] == notes + len(list(raw.iterdir())) - 1
    assert len(kept) == ledger["documents"]["kept"]
    assert reasons["zz_copy.md"] == "exact_duplicate"
    assert reasons["aa_near.md"] == "near_duplicate"
    assert reasons["blank.txt"] == "empty"
    assert sum(reason == "exact_duplicate" for reason in reasons.values()) >= 4
    assert "rubbish.txt" in reasons
    assert "binary.txt" in reasons
    listed = {entry["id"]: entry["detail"] for entry in ledger["copies"]["listed"]}
    assert listed["zz_copy.md"] == "copy of doc00.md"
    assert listed["aa_near.md"].startswith("copy of doc05.md (similarity 0.")
    assert ledger["copies"]["sections"] == 1
    assert sum("Shared methods" in document.text for document in kept.values()) == 1
    assert "own end of three" in kept["doc03.md"].text
    assert "own end of seventeen" in kept["doc17.md"].text
    assert QUESTION not in kept["contaminated.txt"].text
    assert kept["contaminated.txt"].text.startswith("Own words before it. ")
    assert kept["contaminated.txt"].text.endswith("Own words after it, kept.")
    assert ledger["steps"]["decontaminate"]["histograms"]["documents_with_matches"] == {"exam.jsonl": 1}
    assert ledger["steps"]["deidentify"]["counts"]["name"] > 30


def test_audit_says_where_and_nothing_shared_quotes_text(
    setup: Setup, whole_dir: Path, tmp_path: Path, small: None, capfd: pytest.CaptureFixture[str]
) -> None:
    out = whole_dir
    plain = prepare(setup.call(tmp_path / "plain", setup.config.with_name("audit.yaml"), deidentify="audit"))
    said = capfd.readouterr()
    planted = [each.text for seed in range(60) for each in record(seed, ("zh", "en")[seed % 2])[1]]
    assert len(planted) > 200
    shared = ["ledger.json", "report.md", "report.html", "manifest.json"]
    for folder in (out, plain):
        for text in [*((folder / name).read_text("utf-8") for name in shared), said.out, said.err]:
            for what in planted:
                assert len(what) < 4 or what not in text
            assert QUESTION not in text
    audits = lines_of(plain / "audit" / "deidentify")
    texts = documents_of(plain)
    checked = 0
    for audit in audits:
        assert audit.keys() == {"id", "entries"}
        for entry in audit["entries"]:
            assert entry.keys() == {"kind", "rule", "start", "stop"}
            if audit["id"] in texts:
                checked += texts[audit["id"]].text[entry["start"] : entry["stop"]].strip() != ""
    assert checked > 100
    written = "\n".join(document.text for document in documents_of(out).values())
    found = [what for what in planted if len(what) > 5 and what not in written]  # the others rules do not find
    assert len(found) > 150
    examples = lines_of(out / "examples")
    assert examples
    for example in examples:
        assert not any(what in example["before"] + example["after"] for what in found)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in out.rglob("*") if path.is_file()}
    private = {path: mode for path, mode in modes.items() if "tokenizer" not in path.parts}
    assert len(private) > 20
    assert set(private.values()) == {0o600}


def test_the_page_stands_alone(whole_dir: Path) -> None:
    page = (whole_dir / "report.html").read_text("utf-8")
    opened: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert not {"src", "href"} & {name for name, _ in attrs}
            if tag not in ("meta", "input"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Balance().feed(page)
    assert not opened
    assert "http://" not in page
    assert "https://" not in page
    assert page.count('lang="zh"') == page.count('lang="en"') - 1 > 20
    for words in (
        "个人标识",
        "Identifiers of persons",
        "copy of doc00.md",
        "prefers-color-scheme: dark",
        "@media print",
    ):
        assert words in page


@pytest.mark.parametrize("portions", [2, 7])
def test_portions_and_a_merge_give_the_same_bytes(
    setup: Setup, tmp_path: Path, small: None, whole: dict[str, bytes], portions: int
) -> None:
    assert len([name for name in whole if name.startswith("documents/")]) > 10
    order = list(range(1, portions + 1))
    random.Random(portions).shuffle(order)
    for number in order:
        setup.run(tmp_path / "parts", shard=f"{number}/{portions}")
    divided = content(setup.run(tmp_path / "parts", merge=True))
    assert divided == whole


def test_processes_do_not_matter(setup: Setup, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for number in range(3):
        filler = "\n".join(f"{number}-{n} value {n * 37 % 9973} mg" for n in range(25_000))
        (more / f"long{number}.txt").write_text(filler, "utf-8")
    (more / "zcopy.txt").write_text(filler, "utf-8")
    found = []
    for workers in (1, 2):
        changes = {"sources": [str(setup.raw), str(more)], "num_workers": workers, "deidentify": "off"}
        found.append(content(setup.run(tmp_path / f"out{workers}", **changes)))
    assert len([name for name in found[0] if name.startswith("documents/")]) > 2
    assert found[0] == found[1]
    assert b'"id": "zcopy.txt"' in found[0]["ledger.json"]


def test_steps_switched_off_and_on_leave_nothing_behind(
    setup: Setup, tmp_path: Path, small: None, whole: dict[str, bytes]
) -> None:
    bare = tmp_path / "bare.yaml"
    bare.write_text("preset: default\nquality: false\ndeduplicate: false\n", "utf-8")
    fresh = {setup.config: whole, bare: content(setup.run(tmp_path / "bare", bare))}
    assert sorted(fresh[setup.config]) != sorted(fresh[bare])
    for name in (setup.config, bare, setup.config):
        again = content(setup.run(tmp_path / "out", name))
        assert sorted(again) == sorted(fresh[name])
        assert again == fresh[name]
        assert (tmp_path / "out" / "staged").exists() == (name == setup.config)


def killed_after(seconds: float, call: Any) -> bool:
    """Runs `prepare` in a child that gets SIGKILL after some time; whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            prepare(call, quiet=True)
            os._exit(0)
        except BaseException:
            os._exit(3)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_it_goes_on_to_the_same_bytes(
    setup: Setup, tmp_path: Path, small: None, whole: dict[str, bytes], kills: int
) -> None:
    start = time.monotonic()
    setup.run(tmp_path / "timed")
    took = time.monotonic() - start
    rng = random.Random(kills)
    killed = 0
    for attempt in range(3 * kills):
        call = setup.call(tmp_path / f"out{attempt}")
        if killed_after(rng.uniform(0.02, 0.9 * took), call):
            killed += 1
            for _ in range(rng.randrange(3)):  # and while it resumes
                killed += killed_after(rng.uniform(0.02, 0.5 * took), call)
        assert content(prepare(call, quiet=True)) == whole
        assert not list((tmp_path / f"out{attempt}").rglob("*.tmp"))
        if killed >= kills:
            break
    assert killed >= kills


def test_the_second_run_does_nothing(
    setup: Setup, tmp_path: Path, small: None, capfd: pytest.CaptureFixture[str]
) -> None:
    call = setup.call(tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in prepare(call, quiet=True).rglob("*")}
    out = prepare(call)
    assert re.search("nothing to do", "".join(capfd.readouterr()))
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
