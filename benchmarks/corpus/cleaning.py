"""Characters a second and core of the cleaning steps, on the real corpora beside the checkout or on generated records.

    python benchmarks/corpus/cleaning.py --corpora ../shared/corpora --runs 3

One process; `fix_text` of ftfy (if installed) over the same texts in the same run is the peer. Prints one JSON object a
corpus; the median of the runs. Results: benchmarks/results/corpus_cleaning.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lxml import etree

from medscroll.corpus.decontaminate import DecontaminateConfig
from medscroll.corpus.deidentify import DeidentifyConfig
from medscroll.corpus.document import Document
from medscroll.corpus.minhash import signatures
from medscroll.corpus.quality import QualityConfig
from medscroll.corpus.step import Step, StepLog


def texts(folder: Path) -> list[str]:
    """Plain text of all files of a folder: GB18030 text as it is, XML as the text of its elements."""
    found = []
    for path in sorted(folder.iterdir()):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if path.suffix == ".txt":
            found.append(data.decode("gb18030", "replace"))
        elif ".nxml" in path.name:
            root = etree.fromstring(data, etree.XMLParser(recover=True, load_dtd=False, no_network=True))
            found.append("\n".join("".join(each.itertext()) for each in root.iter("p", "title", "td", "aff")))
    return found


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=Path("../shared/corpora"))
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        questions = Path(folder) / "questions.jsonl"
        questions.write_text(json.dumps({"question": "which of the following is the most likely diagnosis here"}))
        for name, language in (("tcm_classics_zh", "zh"), ("pmc_articles_en", "en")):
            documents = texts(options.corpora / name)
            characters = sum(map(len, documents))
            steps: dict[str, Step] = {
                "deidentify": DeidentifyConfig(enabled=True).build(),
                "quality": QualityConfig().build(),
                "decontaminate": DecontaminateConfig(
                    enabled=True, benchmarks=[str(questions)], fields=["question"]
                ).build(),
            }
            rates: dict[str, float] = {}
            for step_name, step in steps.items():
                rates[step_name] = rate(partial(apply, step, language), documents, options.runs)
            rates["minhash"] = rate(partial(sign, language == "zh"), documents, options.runs)
            try:
                from ftfy import fix_text
            except ImportError:
                pass
            else:
                rates["ftfy.fix_text"] = rate(fix_text, documents, options.runs)
            shown = {step_name: round(value / 1e6, 2) for step_name, value in rates.items()}
            print(json.dumps({"corpus": name, "characters": characters, "millions_of_characters_a_second": shown}))


def apply(step: Step, language: str, text: str) -> None:
    """One document through one step."""
    step.apply(Document("d", text, "d", language), StepLog())


def sign(chinese: bool, text: str) -> None:
    """The signature of one document."""
    list(signatures([(text, chinese)]))


def rate(function: Callable[[str], object], documents: list[str], runs: int) -> float:
    """Median characters a second over all documents."""
    results = []
    for _ in range(runs):
        start = time.perf_counter()
        for text in documents:
            function(text)
        results.append(sum(map(len, documents)) / (time.perf_counter() - start))
    return statistics.median(results)


if __name__ == "__main__":
    main()
