"""Characters of tokens, counted from the ids, are those that the tokenizer itself says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscroll.packing.token_characters import TokenCharacters

pytest.importorskip("transformers")
PIECES = st.sampled_from(
    [" ", "  ", "▁", "\n", "a", "dose", "患者", "\U0001f600", "é", "\u0301", "⁹", "\x07", "\ufeff", "\t", "３", "𠮷"]
)


def tokenizer(**changes: Any) -> Any:
    """A small tokenizer of the SentencePiece kind, with all bytes and some words."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = ["▁", *"adose\n", "患", "者", "３"]
    merges = [("d", "o"), ("do", "s"), ("dos", "e"), ("▁", "▁"), ("患", "者"), ("▁", "dose")]
    words = ["<unk>", *(f"<0x{value:02X}>" for value in range(256)), *letters, *("".join(pair) for pair in merges)]
    model = models.BPE({word: n for n, word in enumerate(words)}, merges, unk_token="<unk>", byte_fallback=True)
    backend = Tokenizer(model)
    scheme = changes.get("prepend_scheme", "always")
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=changes.get("split", False))
    backend.add_special_tokens([AddedToken("<eos>", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", unk_token="<unk>")


FAST = tokenizer()


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join))
def test_the_same_ids_and_offsets(text: str) -> None:
    count = TokenCharacters.of(FAST)
    assert count is not None
    asked = FAST(text, return_offsets_mapping=True)
    counted = count.encode(text)
    assert counted is not None
    assert counted[0].tolist() == asked["input_ids"]
    assert counted[1].tolist() == [list(span) for span in asked["offset_mapping"]]


def test_a_text_that_spells_out_an_added_token_is_left_to_the_tokenizer() -> None:
    count = TokenCharacters.of(FAST)
    assert count is not None
    assert count.encode("a<eos>a") is None


@pytest.mark.parametrize("changes", [{"split": True}, {"prepend_scheme": "never"}])
def test_other_kinds_are_left_to_the_tokenizer(changes: dict[str, Any]) -> None:
    assert TokenCharacters.of(tokenizer(**changes)) is None


def test_a_vocabulary_without_all_bytes_is_left_to_the_tokenizer(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    state = json.loads(FAST.backend_tokenizer.to_str())
    state["model"]["vocab"] = {"<0xE2x>" if key == "<0xE2>" else key: n for key, n in state["model"]["vocab"].items()}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    assert TokenCharacters.of(PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))) is None
