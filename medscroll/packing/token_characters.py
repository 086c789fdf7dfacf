"""Which characters each token stands for, counted from the ids: offsets without asking the tokenizer for them.

Tokenizers of the SentencePiece kind (BPE with byte fallback over the whole text, a blank written as U+2581, one put
before the text: Llama, Yi, Mistral) lose nothing, so the characters of the tokens, one after another, are the text. A
token of the vocabulary stands for as many characters as it is long; of a character that is spelt out in bytes, the
first byte stands for one and the others for none. The tokenizer's own offsets cost three times what its ids do for
Chinese; these cost a cumulated sum. Where a tokenizer is of another kind, or a text spells out one of its added tokens,
there is no count (None) and the tokenizer has to be asked. Cost: about 100 million tokens a second.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

_BLANK = "\u2581"
# all that a count could go wrong on: blanks in all places, bytes, line ends, signs of several bytes, both widths
_PROBES = (
    "", " ", "  a", "a", "a  b ", "\n\n a\tb", "血压 120/80 mmHg，体温３８．５℃。", "\U0001f600\U00020000x\u0007",
    "▁a ▁", "é\u0301\r\n", "10⁹/L µg ± 0.3", "\ufeff\u200b\u00a0 ", "𝛼 𠮷 野家", "aaaa" * 40, " " * 70 + "x",
)  # fmt: skip


class TokenCharacters:
    """The count for one tokenizer.

    Use `of`, which says None where there is none.
    """

    def __init__(self, backend: Any, characters: np.ndarray, inner: np.ndarray, added: list[str]) -> None:
        self._backend, self._characters, self._inner, self._added = backend, characters, inner, added

    @classmethod
    def of(cls, tokenizer: Any) -> TokenCharacters | None:
        """The count for a tokenizer of transformers; None where it is of another kind or fails the probes."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None or not hasattr(backend, "encode_batch_fast"):
            return None
        state = json.loads(backend.to_str())
        model, before = state["model"], state.get("pre_tokenizer") or {}
        bytes_of = {f"<0x{value:02X}>": value for value in range(256)}
        lossless = (
            model.get("type") == "BPE" and model.get("byte_fallback") and not model.get("dropout")
            and not model.get("continuing_subword_prefix") and not model.get("end_of_word_suffix")
            and not state.get("normalizer") and not state.get("truncation") and not state.get("padding")
            and before.get("type") == "Metaspace" and before.get("replacement") == _BLANK
            and before.get("prepend_scheme") == "always" and before.get("split") is False
            and bytes_of.keys() <= model["vocab"].keys()
        )  # fmt: skip
        if not lossless or not all(token["content"] for token in state["added_tokens"]):
            return None
        size = 1 + max([*model["vocab"].values(), *(token["id"] for token in state["added_tokens"])])
        characters, inner = np.zeros(size, np.int64), np.zeros(size, bool)
        for token, number in model["vocab"].items():
            value = bytes_of.get(token)
            inner[number] = value is not None and 0x80 <= value < 0xC0
            characters[number] = len(token) if value is None else int(not inner[number])
        found = cls(backend, characters, inner, [token["content"] for token in state["added_tokens"]])
        return found if all(found._agrees(tokenizer, probe) for probe in _PROBES) else None

    def _agrees(self, tokenizer: Any, text: str) -> bool:
        asked = tokenizer(text, return_offsets_mapping=True, verbose=False)
        counted = self.encode(text)
        return (
            counted is not None
            and counted[0].tolist() == asked["input_ids"]
            and counted[1].tolist() == [list(span) for span in asked["offset_mapping"]]
        )

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray] | None:
        """(ids int64 [tokens], offsets int64 [tokens, 2]) as the tokenizer gives them; None where it must be asked."""
        if any(token in text for token in self._added):
            return None
        ids = np.asarray(self._backend.encode_batch_fast([text])[0].ids, np.int64)  # [tokens]
        characters = self._characters[ids]
        put_before = 0 if text[:1] in ("", " ", _BLANK) else 1
        ends = np.cumsum(characters) - put_before  # [tokens]
        if len(ids) == 0 or int(ends[-1]) != len(text):
            return (ids, np.zeros((0, 2), np.int64)) if not text and len(ids) == 0 else None
        starts = np.where(self._inner[ids], ends - 1, ends - characters)
        offsets = np.maximum(np.stack([starts, ends], axis=1), 0)
        if put_before:  # a blank that stands alone before the text counts as its first character
            offsets[0, 1] = max(1, offsets[0, 1])
        return ids, offsets
