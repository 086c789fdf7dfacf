"""The step `simplified` (off unless asked for): traditional Chinese characters become simplified ones, by OpenCC.

Several traditional characters share one simplified form (乾 and 幹, 徵 and 征): the original cannot be told from the
result, so this is never done by itself, least of all to classical works. What is converted is marked in the metadata
(`script`), and counted (`traditional_character`, `converted_line`). Cost: about 40 million characters a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from medscroll.corpus.configuration import config_fingerprint
from medscroll.corpus.document import Document
from medscroll.corpus.repair_edits import Changes, change_titles
from medscroll.corpus.step import StepLog
from medscroll.errors import ConfigError, missing_package

_SOURCES = ("t2s", "tw2s", "hk2s", "tw2sp")


@dataclass
class SimplifiedConfig:
    """Keys of the step `simplified`."""

    enabled: bool = field(default=False, metadata={"help": "Write traditional Chinese characters as simplified ones."})
    conversion: str = field(default="t2s", metadata={"help": "Of OpenCC: t2s, tw2s, hk2s, or tw2sp (words too)."})

    def build(self) -> Simplified:
        """The step.

        Raises:
            ConfigError: an unknown conversion.
            EnvironmentError_: OpenCC is not installed.
        """
        if self.conversion not in _SOURCES:
            raise ConfigError(
                f"simplified.conversion is {self.conversion!r}", remedy=f"give one of {', '.join(_SOURCES)}"
            )
        _converter(self.conversion)
        return Simplified(self)


@lru_cache(maxsize=4)
def _converter(conversion: str) -> Any:
    try:
        from opencc import OpenCC
    except ImportError as error:
        raise missing_package("opencc", "chinese", "the step simplified") from error
    return OpenCC(conversion)


class Simplified:
    """Converts Chinese documents; see the module."""

    name = "simplified"
    version = 1

    def __init__(self, config: SimplifiedConfig) -> None:
        self._config = config

    def fingerprint(self) -> str:
        """The configuration."""
        return config_fingerprint(self._config)

    def apply(self, document: Document, log: StepLog) -> Document:
        """The document in simplified characters; titles likewise."""
        if document.lang != "zh":
            return document
        convert = _converter(self._config.conversion).convert
        before, after = document.text.split("\n"), convert(document.text).split("\n")
        changes = Changes()
        start = 0
        for old, new in zip(before, after, strict=True):
            if old != new:
                changes.add("converted_line", start, start + len(old), new)
                log.count("traditional_character", sum(a != b for a, b in zip(old, new, strict=False)))
            start += len(old) + 1
        if changes.apply(document, log):
            change_titles(document, convert)
            document.metadata["script"] = f"simplified by OpenCC ({self._config.conversion})"
        return document
