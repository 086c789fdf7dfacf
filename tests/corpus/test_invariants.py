"""What every preset keeps: each number with its unit, each document of the real corpora; and a second passage over
clean text changes nothing."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscroll.corpus.configuration import load_corpus_config, preset_names
from medscroll.corpus.document import Document, detect_language
from medscroll.corpus.pipeline import Passage, Pipeline
from medscroll.corpus.readers_records import SPLIT_KEY
from medscroll.corpus.request import CorpusRequest
from medscroll.corpus.stage import document_shards, read_shard, write_documents
from tests.corpus.deid_generator import record

_UNITS = (
    "mmol/L|μmol/L|µmol/L|umol/L|nmol/L|pmol/L|mg/dL|mg/dl|g/L|mg/L|ng/mL|ng/ml|pg/mL|U/L|IU/L|IU|mEq|mmHg|kPa|kg/m2|kg/m²"
    "|mg/kg|mg|μg|µg|ug|kg|mL|ml|mm|cm|bpm|°C|℃|%|％|min|hours?|days?|weeks?|months?|years?|岁|天|日|次|周|月|年|小时|分钟"
    "|毫克|毫升|克|升|g|L|h|钱|两|分|斤|枚|升|合|铢|寸|粒|丸|片|支|/L|/min"
)
_NUMBER = r"[0-9０-９]+(?:[.,．][0-9０-９]+)*(?:\s?[×x*]\s?10[⁰¹²³⁴⁵⁶⁷⁸⁹⁻^−-]+\d*)?|[一二三四五六七八九十百半]+"
QUANTITY = re.compile(rf"([<>≤≥＜＞~±]?)\s?({_NUMBER})\s?({_UNITS})")
FRAGMENTS = [
    *(
        "WBC 12.3×10⁹/L，",
        "体温38.5℃。",
        "BP 120/80 mmHg\n",
        "阿司匹林 100 mg qd；",
        "p<0.05, n=120 (95% CI 1.2-3.4).\n",
    ),
    *("## 主诉\n", "Chief Complaint: cough for 3 days\n\n", "[**2151-7-16**] ", "___ ", "①低热 ", "PaO₂ 60 mmHg "),
    *("½ tablet ", "患者姓名：王建国 ", "电话13812345678\n", "住院号：1234567 ", "Dr. Mary Falzon ", "NCT01234567 "),
    *(
        "国药准字H20051234 ",
        "３８．５℃ １２０／８０ ",
        "12.5 μg/mL, 3.2 µg ",
        "\n\n",
        " ",
        "\t",
        "。",
        "a",
        "病",
        "□□ ",
    ),
    *("\u3000", "甘草三钱，生姜二两∶"),
]
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=12), min_size=1, max_size=25).map("".join)


def quantities(text: str) -> Counter[tuple[str, str, str]]:
    """(comparator, number, unit) of a text. Where a line is broken or a character is lost inside of a quantity must not
    matter, so blanks, line ends and □ are taken out of both texts that are compared; so are headings, marked or
    emphasised (numbers of volumes are no quantities), and marks of emphasis; addresses of the net hold none."""
    lines = ["|" if re.match(r"[<#]|\\x[^\\]*\\x\s*$", line) else line for line in text.split("\n")]
    text = re.sub(r"(?:https?://|www\.)[^\s)）]+|\[URL\d+\]", "|", "\n".join(lines))
    text = re.sub(r"[\s□]|\\x", "", text)
    return Counter((a, re.sub(r"\s", "", b), c) for a, b, c in QUANTITY.findall(text))


def passed(preset: str, text: str, language: str | None = None) -> Document | None:
    """A text through the steps of a preset that look at one document; its language is told once, when it is read."""
    steps, _ = load_corpus_config(preset).build()
    document = Document("d", text, "d", language or detect_language(text))
    return Passage(Pipeline(steps=steps, examples=False)).run(document)[0]


@settings(max_examples=60, deadline=None)
@given(text=texts, preset=st.sampled_from(preset_names()))
def test_a_second_passage_changes_nothing(text: str, preset: str) -> None:
    text = text.replace("\r", "\n").replace("\0", "").encode("utf-8", "replace").decode()
    first = passed(preset, text)
    if first is None:
        return
    once = first.text
    second = passed(preset, once, first.lang)
    assert second is not None
    assert second.text == once


@pytest.mark.parametrize("preset", ["books", "clinical"])
@pytest.mark.parametrize(
    "text", ["\u00c3\x1f\x80", "\u00c3\u200b\u00a9t\u00c3\u00a9", "\u00ad\u00c2\x9a x", "\u00c3\x1f\u00a9 \u00c3\u00ad"]
)
def test_characters_taken_out_reveal_no_mojibake(text: str, preset: str) -> None:
    """What stands between the bytes of a sequence goes in the same passage in which the sequence is read."""
    first = passed(preset, f"caf\u00e9 was here, {text} and more of it.")
    assert first is not None
    second = passed(preset, first.text)
    assert second is not None
    assert second.text == first.text


@pytest.mark.parametrize("language", ["zh", "en"])
def test_records_pass_a_second_time_unchanged_and_keep_quantities(language: str) -> None:
    seen = 0
    for seed in range(40):
        text, planted = record(1000 + seed, language)
        first = passed("clinical", text)
        assert first is not None
        once = first.text
        second = passed("clinical", once)
        assert second is not None
        # a placeholder changes the width of its line, by which wrapped lines are told: only joins may be new
        assert "".join(second.text.split()) == "".join(once.split())
        without = text
        for each in sorted(planted, key=lambda each: -len(each.text)):
            without = without.replace(each.text, " ")
        lost = quantities(without) - quantities(once)
        assert not lost, (seed, lost)
        seen += quantities(without).total()
    assert seen > 50


def prepared(folders: list[Path], out: Path, pipeline: Pipeline | None) -> dict[str, str]:
    write_documents(folders, out, pipeline=pipeline, num_workers=1)
    return {document.id: document.text for path in document_shards(out) for document in read_shard(path)}


def sources(shared_dir: Path, out: Path, count: int | None) -> list[Path]:
    """Folders of links to the real corpora; a random choice of `count` of each."""
    folders = []
    for name in ("pmc_articles_en", "tcm_classics_zh"):
        paths = sorted((shared_dir / "corpora" / name).iterdir())
        small = [path for path in paths if path.stat().st_size < 120_000]
        chosen = paths if count is None else random.Random(3).sample(small, count)
        folder = out / name
        folder.mkdir(parents=True)
        for path in chosen:
            (folder / path.name).symlink_to(path)
        folders.append(folder)
    return folders


SLOW = pytest.mark.slow


@pytest.mark.corpora
@pytest.mark.parametrize(
    ("count", "preset"),
    [(5, "default"), (5, "clinical"), *(pytest.param(None, name, marks=SLOW) for name in preset_names())],
)
def test_real_texts_keep_every_document_and_quantity(
    shared_dir: Path, tmp_path: Path, count: int | None, preset: str
) -> None:
    folders = sources(shared_dir, tmp_path / "sources", count)
    raw = prepared(folders, tmp_path / "raw", None)
    assert len(raw) == (283 if count is None else 2 * count)
    kept = prepared(folders, tmp_path / preset, CorpusRequest(corpus_config=preset).pipeline())
    assert kept.keys() == raw.keys()
    if preset == "web":  # keeps repeated paragraphs once: that is its purpose
        return
    total = 0
    for identifier, text in raw.items():
        before = quantities(text)
        total += before.total()
        lost = before - quantities(kept[identifier])
        assert not lost, (identifier, sorted(lost)[:10])
    assert total > 500


def test_documents_in_are_documents_out_and_rejects(tmp_path: Path) -> None:
    rng = random.Random(7)
    (tmp_path / "raw").mkdir()
    for trial in range(6):
        notes = [record(seed, "zh")[0] for seed in range(trial * 10, trial * 10 + rng.randint(1, 9))]
        lines = [
            *notes,
            *rng.choices(notes, k=rng.randint(0, 9)),
            *[""] * rng.randint(0, 3),
            "!!!!!!!!" * rng.randint(1, 9),
        ]
        rng.shuffle(lines)
        rows = [json.dumps({"text": line, "patient": n % 3}, ensure_ascii=False) for n, line in enumerate(lines)]
        (tmp_path / "raw" / f"{trial}.jsonl").write_text("\n".join(rows), "utf-8")
    request = CorpusRequest(corpus_config="clinical", split_by=("patient",))
    summary = write_documents([tmp_path / "raw"], tmp_path / "out", pipeline=request.pipeline())
    total = sum(len(path.read_text("utf-8").split("\n")) for path in (tmp_path / "raw").iterdir())
    assert summary.documents + sum(summary.rejects.values()) == total > 40
    assert {"exact_duplicate", "empty"} <= summary.rejects.keys()
    names = list(summary.steps)
    for before, after in pairwise(names):
        assert summary.steps[before]["documents"]["out"] == summary.steps[after]["documents"]["in"]
    kept = [document for path in document_shards(tmp_path / "out") for document in read_shard(path)]
    assert all(len(document.metadata[SPLIT_KEY]) == 32 for document in kept)
