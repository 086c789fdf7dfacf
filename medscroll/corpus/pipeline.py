"""What is done to a corpus: how it is read, the steps its documents pass through, and the fingerprint of all that.

A `Pipeline` is plain and picklable, so that it can be sent to any process or machine that works on a shard. `Passage`
is one shard's way through the steps: it holds a log for each step, and makes the private examples safe to look at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import xxhash

from medscroll.corpus.deidentify import find_identifiers, placeholders
from medscroll.corpus.document import Document
from medscroll.corpus.options import ReadOptions
from medscroll.corpus.step import CorpusStep, Example, Step, StepLog, edit_text, run_step

READ = "read"  # the name under which the ledger counts what comes before the first step
_CONTEXT = 2_000_000  # characters of a text that are looked at for identifiers in its examples
SECTIONS = "sections"  # the step that finds headings; without it they are looked for in the text as read


@dataclass(frozen=True)
class Pipeline:
    """How sources become documents.

    Attributes:
        options: how files are read.
        steps: what every document passes through, in order.
        corpus_steps: what needs the whole corpus, in order, after the steps.
        examples: whether before/after examples are kept in private files.
    """

    options: ReadOptions = field(default_factory=ReadOptions)
    steps: Sequence[Step] = ()
    corpus_steps: Sequence[CorpusStep] = ()
    examples: bool = True

    @property
    def names(self) -> list[str]:
        """The steps of the ledger, in order."""
        return [READ, *(step.name for step in self.steps), *(step.name for step in self.corpus_steps)]

    def fingerprint(self) -> str:
        """Changes with all that decides what the steps before the corpus steps make of a source."""
        steps = [(step.name, step.version, step.fingerprint()) for step in self.steps]
        return digest(json.dumps([asdict(self.options), steps, self.examples], sort_keys=True))

    def corpus_fingerprint(self) -> str:
        """Changes with all that decides what the corpus steps do to given documents."""
        return digest(json.dumps([(step.name, step.version, step.fingerprint()) for step in self.corpus_steps]))


def digest(text: str) -> str:
    """xxh3_128 of a text, 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))


class Passage:
    """The way of one shard's documents through the steps.

    Attributes:
        logs: step -> its log.
        last: the step that saw the last document last.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._steps = pipeline.steps
        self._examples = pipeline.examples
        self.last = READ
        self.logs = {step.name: StepLog() for step in pipeline.steps}

    def run(self, document: Document) -> tuple[Document | None, str, str]:
        """(the document, "", ""), or (None, reason, detail) where a step rejects it."""
        for step in self._steps:
            log = self.logs[step.name]
            self.last = step.name
            before, known = document.text, len(log.examples)
            result = run_step(step, document, log)
            if len(log.examples) > known:
                log.examples[known:] = deidentified(log.examples[known:], before) if self._examples else []
            if result is None:
                return None, log.reason, log.detail
            document = result
        return document, "", ""

    def examples(self) -> list[dict[str, str]]:
        """The examples of all steps, de-identified whether a step of the chain does that or not."""
        return [{**asdict(example), "step": name} for name, log in self.logs.items() for example in log.examples]


def deidentified(examples: Sequence[Example], text: str) -> list[Example]:
    """Examples cut out of a text, without what identifies persons in that text or, looked at alone, in them.

    An identifier that the edge of an example cuts off goes too, where three of its characters are left. At most
    `_CONTEXT` characters of the text are looked at.
    """
    whole = text[:_CONTEXT]
    spans = find_identifiers(whole, dates="year")
    found = {whole[span.start : span.stop]: f"[{span.kind}]" for span in spans}
    return [replace(each, before=_cleaned(each.before, found), after=_cleaned(each.after, found)) for each in examples]


def _cleaned(text: str, found: dict[str, str]) -> str:
    made = Document("example", text, "example")
    edit_text(made, placeholders(text, find_identifiers(text, dates="year")))
    text = made.text
    for known in sorted(found, key=len, reverse=True):
        text = text.replace(known, found[known])
        for length in range(min(len(known), len(text)), 2, -1):
            if text.startswith(known[-length:]):
                text = found[known] + text[length:]
            if text.endswith(known[:length]):
                text = text[:-length] + found[known]
    return text
