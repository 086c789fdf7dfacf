"""Identifiers outside of the text: title, titles of sections, and text fields of the metadata.

A column `姓名` or `patient_name` of a record holds what the text may not: each field is looked at as if it stood in the
text behind its name as a label, and what was found in the text is replaced wherever it stands in a field. The same
name has the same number as in the text. Cost: about 50 microseconds a field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from medscroll.corpus.deid_spans import Span
from medscroll.corpus.document import Document

LONGEST = 20_000  # characters of a field that are looked at; a longer one is searched for what the text had
_HAN = re.compile(r"[\u4e00-\u9fff]")
_LABELS = {  # what fields are often called -> the label that rules for Chinese text know
    "name": "姓名", "patient": "姓名", "patient_name": "姓名", "full_name": "姓名", "contact": "联系人",
    "contact_name": "联系人", "doctor": "医师", "physician": "医师", "attending": "主治医师", "nurse": "护士",
    "address": "住址", "home_address": "住址",
}  # fmt: skip
Find = Callable[[str], list[Span]]


class Fields:
    """Replaces identifiers in the fields of one document.

    Args:
        find: all identifiers of a text.
        replaced: what stood in the text -> its placeholder.
        last: kind -> the last number that the text uses.
    """

    def __init__(self, find: Find, replaced: Mapping[str, str], last: dict[str, int]) -> None:
        self._find, self._last = find, last
        self._known = dict(replaced)
        self.changed = 0

    def clean(self, document: Document, keep: Collection[str]) -> None:
        """Changes title, titles of sections and metadata in place; fields named in `keep` stay."""
        document.title = self._text("", document.title) if document.title else document.title
        for section in document.sections:
            section.title = self._text("", section.title)
        for name, value in document.metadata.items():
            if name not in keep:
                document.metadata[name] = self._value(name, value)

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(name, value)
        if isinstance(value, list):
            return [self._value(name, each) for each in value]
        if isinstance(value, dict):
            return {key: self._value(str(key), each) for key, each in value.items()}
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**4:
            text = self._text(name, str(value))
            return value if text == str(value) else text
        return value

    def _text(self, name: str, text: str) -> str:
        if not text or len(text) > LONGEST:
            return self._with_known(text)
        chinese = _LABELS.get(name.lower()) if _HAN.search(text) else None
        label = f"{chinese or name.replace('_', ' ')}：" if name else ""
        spans = [span for span in self._find(label + text) if span.start >= len(label)]
        parts, position = [], 0
        for span in spans:
            start, stop = span.start - len(label), span.stop - len(label)
            parts += [text[position:start], self._placeholder(span.kind, text[start:stop])]
            position = stop
        self.changed += len(spans)
        return self._with_known("".join([*parts, text[position:]]))

    def _placeholder(self, kind: str, found: str) -> str:
        if found not in self._known:
            self._last[kind] = self._last.get(kind, 0) + 1
            self._known[found] = f"[{kind}{self._last[kind]}]"
        return self._known[found]

    def _with_known(self, text: str) -> str:
        there = [found for found in self._known if len(found) > 1 and found in text]
        if not there:
            return text
        pattern = "|".join(_whole(found) for found in sorted(there, key=len, reverse=True))
        text, number = re.subn(pattern, lambda match: self._known[match[0]], text)
        self.changed += number
        return text


def _whole(found: str) -> str:
    """A pattern of the text that does not begin or end inside a word of Latin letters or a number."""
    before = r"(?<![A-Za-z0-9])" if re.match(r"[A-Za-z0-9]", found) else ""
    after = r"(?![A-Za-z0-9])" if re.search(r"[A-Za-z0-9]$", found) else ""
    return before + re.escape(found) + after
