"""The few repairs that every text needs so that it can be stored and tokenized; each is counted.

Line ends become `\\n` (also the doubled `\\r\\r\\n` of files that were converted twice); a lone surrogate, which is no
character (JSON escapes such as `\\ud83d` alone make them), becomes U+FFFD; NUL is removed. Nothing else is touched:
no width folding, no NFKC, no quotes, since `10⁹/L` or `３８．５℃` must stay as they are.
"""

from __future__ import annotations

import re

_LINE_ENDS = re.compile(r"\r+\n|\r")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


def repair_text(text: str) -> tuple[str, dict[str, int]]:
    """(the text, how many characters were replaced or removed by reason: "lone_surrogate", "nul")."""
    counts: dict[str, int] = {}
    if "\r" in text:
        text = _LINE_ENDS.sub("\n", text)
    if "\0" in text:
        counts["nul"] = text.count("\0")
        text = text.replace("\0", "")
    if not text.isascii():
        text, surrogates = _LONE_SURROGATE.subn("\ufffd", text)
        if surrogates:
            counts["lone_surrogate"] = surrogates
    return text, counts
