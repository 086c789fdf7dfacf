"""Characters a second and core of each repair step and of `sections`, on the real corpora; ftfy over the same texts.

    python benchmarks/corpus/repair.py --corpora ../shared/corpora --runs 3

One process, and its CPU time, so that other load matters little. Each step gets the documents as the steps before it
left them, as in `medscroll prepare`; every run starts from the raw texts again. The peer, in the same run:
`ftfy.fix_text` with its defaults and with the same safe
configuration that the step `mojibake` uses. With `--hostile` texts made to be slow are passed through instead, at two
sizes: the ratio of the times says whether a step is linear. With `--wrapped` the paragraphs of 60 articles are wrapped
at three widths, and it is counted how many line ends `unwrap` takes out again, and how many others. One JSON object a
line; the median of the runs.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import re
import statistics
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from medscroll.corpus.configuration import STEPS, config_class
from medscroll.corpus.document import Document
from medscroll.corpus.jats import read_xml
from medscroll.corpus.repair import repair_text
from medscroll.corpus.step import Step, StepLog, run_step

HOSTILE = (" ", "\n", "字", "a-\n", "- 1 -\n", "（", "\\x", "<目录>\n\n", "字 ", "Ã©", "∶", " \n", "\x0c", "12\n")


def documents(folder: Path) -> Iterator[Document]:
    """All documents of a folder as the reader gives them: GB18030 text, JATS articles."""
    for path in sorted(folder.iterdir()):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if ".nxml" in path.name:
            for record in read_xml(data, path.name):
                yield Document(path.name, repair_text(record.text)[0], path.name, "en", sections=record.sections or [])
        elif ".txt" in path.name:
            yield Document(path.name, repair_text(data.decode("gb18030"))[0], path.name, "zh")


def copies(found: list[Document]) -> list[Document]:
    """The documents again, to be changed."""
    return [Document(each.id, each.text, each.source, each.lang, sections=list(each.sections)) for each in found]


def steps() -> dict[str, Step]:
    """All repair steps, those that are off by default included, and `sections`."""
    names = list(STEPS)[: list(STEPS).index("sections") + 1]
    built = {}
    for name in names:
        values = {"enabled": True, **({"images": "caption"} if name == "marks" else {})}
        try:
            built[name] = config_class(name)(**values).build()
        except ImportError:
            continue
    return built


def real(folder: Path, runs: int) -> dict[str, object]:
    """Rates of all steps, and what each counted."""
    found = list(documents(folder))
    rates: dict[str, list[float]] = {}
    chain: list[float] = []
    counts: dict[str, dict[str, int]] = {}
    default = {name for name in STEPS if config_class(name)().enabled}
    for _ in range(runs):
        current = copies(found)
        total = 0.0
        for name, step in steps().items():
            log = StepLog()
            characters = sum(len(document.text) for document in current)
            start = time.process_time()
            for document in current:
                run_step(step, document, log)
            seconds = time.process_time() - start
            rates.setdefault(name, []).append(characters / seconds)
            total += seconds if name in default else 0.0
            counts[name] = dict(sorted(log.counts.items()))
        chain.append(sum(len(document.text) for document in found) / total)
        for name, function in peers().items():
            start = time.process_time()
            for document in found:
                function(document.text)
            seconds = time.process_time() - start
            rates.setdefault(name, []).append(sum(len(document.text) for document in found) / seconds)
    shown = {name: round(statistics.median(values) / 1e6, 2) for name, values in rates.items()}
    return {
        "corpus": folder.name,
        "documents": len(found),
        "characters": sum(len(document.text) for document in found),
        "millions_of_characters_a_second": shown,
        "default_chain": round(statistics.median(chain) / 1e6, 2),
        "counts": counts,
    }


def peers() -> dict[str, Callable[[str], object]]:
    """ftfy over whole texts."""
    import ftfy

    safe = ftfy.TextFixerConfig(
        unescape_html=False, fix_latin_ligatures=False, fix_character_width=False, uncurl_quotes=False,
        normalization=None, explain=False,
    )  # fmt: skip
    return {"ftfy.fix_text": ftfy.fix_text, "ftfy.fix_text, safe": lambda text: ftfy.fix_text(text, safe)}


def hostile(size: int) -> Iterator[dict[str, object]]:
    """Seconds of each step on its slowest hostile text, at a size and at four times the size."""
    for name, step in steps().items():
        worst: tuple[float, float, str] = (0.0, 0.0, "")
        for piece in HOSTILE:
            seconds = []
            for characters in (size, 4 * size):
                document = Document("d", piece * (characters // len(piece)), "d", "zh")
                start = time.process_time()
                run_step(step, document, StepLog())
                seconds.append(time.process_time() - start)
            if seconds[1] > worst[1]:
                worst = (seconds[0], seconds[1], re.sub(r"\s", "_", piece))
        ratio = round(worst[1] / worst[0], 1)
        yield {"step": name, "piece": worst[2], "characters": 4 * size, "seconds": round(worst[1], 2), "ratio": ratio}


def wrapped(folder: Path, width: int) -> dict[str, object]:
    """Line ends that wrapping at a width puts into 60 articles, those that are left, and those lost that were there."""
    step = steps()["unwrap"]
    put = left = lost = 0
    for document in itertools.islice(documents(folder), 60):
        lines = [" ".join(line.split()) for line in document.text.split("\n")]
        broken = "\n".join(
            "\n".join(textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False))
            if len(line) > width and not line.startswith("#") and " — " not in line
            else line
            for line in lines
        )
        result = run_step(step, Document(document.id, broken, document.id, "en"), StepLog())
        assert result is not None
        before, after, now = (line_ends(text) for text in ("\n".join(lines), broken, result.text))
        put += len(after - before)
        left += len(now - before)
        lost += len(before - now)
    return {"width": width, "put_in": put, "left": left, "joined": round(1 - left / put, 4), "falsely_joined": lost}


def line_ends(text: str) -> set[int]:
    """The places of line ends, in characters that are no blanks."""
    places, seen = set(), 0
    for character in text:
        if character == "\n":
            places.add(seen)
        elif character != " ":
            seen += 1
    return places


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=Path("../shared/corpora"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--hostile", action="store_true")
    parser.add_argument("--wrapped", action="store_true")
    options = parser.parse_args()
    if options.wrapped:
        for width in (64, 78, 100):
            print(json.dumps(wrapped(options.corpora / "pmc_articles_en", width)), flush=True)
        return
    if options.hostile:
        for row in hostile(500_000):
            print(json.dumps(row, ensure_ascii=False), flush=True)
        return
    for name in ("tcm_classics_zh", "pmc_articles_en"):
        print(json.dumps(real(options.corpora / name, options.runs), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
