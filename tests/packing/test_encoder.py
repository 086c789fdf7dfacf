"""Ids are exactly tokenizer(whole text) and one EOS, and offsets put cuts between characters."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medscroll.errors import ConfigError
from medscroll.packing.cuts import find_cuts
from medscroll.packing.encoder import DocumentEncoder, tokenizer_stamp
from tests.packing.byte_tokenizer import make_byte_tokenizer

TEXT = "患者男，58岁。体温38.5℃！\n\nHe came. She left 😀. 𠮷𡘙。好"


@pytest.fixture
def encoder(tmp_path: Path) -> Callable[..., DocumentEncoder]:
    return lambda **kind: DocumentEncoder(str(make_byte_tokenizer(tmp_path / str(sorted(kind.items())), **kind)))


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("adds_eos", [False, True])
def test_ids_are_the_tokenizers_and_one_eos(encoder: Callable[..., DocumentEncoder], bos: bool, adds_eos: bool) -> None:
    enc = encoder(bos=bos, adds_eos=adds_eos)
    assert (enc.adds_bos, enc.adds_eos, enc.eos_token_id) == (bos, adds_eos, 257)
    encoded = enc.encode(TEXT)
    alone = enc.tokenizer(TEXT)["input_ids"]
    assert encoded.ids.tolist() == (alone if adds_eos else [*alone, 257])
    assert encoded.ids.tolist().count(257) == 1
    assert encoded.ids.tolist().count(256) == int(bos)
    assert len(encoded.ids) == len(TEXT.encode()) + 1 + bos
    assert encoded.specials == 0
    assert encoded.offsets is not None
    assert len(encoded.offsets) == len(alone)


def test_the_tokenizers_length_is_no_limit_and_no_warning(encoder: Callable[..., DocumentEncoder]) -> None:
    enc = encoder()
    assert enc.tokenizer.model_max_length == 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(enc.encode("药" * 1_000).ids) == 3_001


def test_special_tokens_that_the_text_spells_out_are_counted(encoder: Callable[..., DocumentEncoder]) -> None:
    enc = encoder(bos=True)
    encoded = enc.encode("a</s>b<s>")
    assert encoded.specials == 2
    assert encoded.ids[-1] == 257
    ending = enc.encode("a</s>")
    assert ending.ids.tolist()[-2:] == [257, 257]  # the text's own and the document's


def test_no_eos_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    folder = make_byte_tokenizer(tmp_path, eos=False)
    with pytest.raises(ConfigError, match="no EOS") as caught:
        DocumentEncoder(str(folder))
    assert "tokenizer_config.json" in str(caught.value.remedy)


def test_an_eos_that_only_the_class_brings_is_no_eos(tmp_path: Path) -> None:
    """Llama's class adds `</s>` as a new id beyond the vocabulary where the files name no EOS."""
    folder = make_byte_tokenizer(tmp_path, eos=False)
    for path in folder.glob("*.json"):
        path.write_text(path.read_text("utf-8").replace("</s>", "</end>"), "utf-8")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text("utf-8")) | {"tokenizer_class": "LlamaTokenizer"}
    path.write_text(json.dumps(settings), "utf-8")
    with pytest.raises(ConfigError, match="no EOS"):
        DocumentEncoder(str(folder))


def test_a_tokenizer_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="cannot be loaded") as caught:
        DocumentEncoder(str(tmp_path / "empty"))
    assert "tokenizer.json" in str(caught.value.remedy)


def test_vocabulary_counts_added_tokens_and_fingerprint_sees_them(encoder: Callable[..., DocumentEncoder]) -> None:
    plain, extended = encoder(), encoder(extra=3)
    assert (plain.vocab_size, extended.vocab_size) == (258, 261)
    assert len({plain.fingerprint, extended.fingerprint, encoder(bos=True).fingerprint}) == 3
    assert plain.fingerprint == DocumentEncoder(plain.name).fingerprint
    assert tokenizer_stamp(plain.name) == tokenizer_stamp(plain.name) != tokenizer_stamp(extended.name)
    assert tokenizer_stamp("some/hub-id") is None


def test_cuts_never_fall_inside_a_character(encoder: Callable[..., DocumentEncoder]) -> None:
    for kind in ({}, {"bos": True}):
        enc = encoder(**kind)
        encoded = enc.encode(TEXT)
        positions, _ = find_cuts(TEXT, [], encoded.offsets)
        assert len(positions) >= 5
        for p in positions:
            left = bytes(enc.tokenizer.decode(encoded.ids[:p], skip_special_tokens=True), "utf-8")
            right = bytes(enc.tokenizer.decode(encoded.ids[p:], skip_special_tokens=True), "utf-8")
            assert (left + right).decode() == TEXT


@pytest.mark.corpora
def test_yi_offsets_and_byte_fallback(yi_tokenizer_dir: Path) -> None:
    enc = DocumentEncoder(str(yi_tokenizer_dir))
    assert (enc.vocab_size, enc.eos_token_id, enc.adds_bos, enc.adds_eos) == (64_000, 2, False, False)
    encoded = enc.encode(TEXT)
    assert encoded.ids.tolist() == [*enc.tokenizer(TEXT)["input_ids"], 2]
    fallback = [i for i, (a, b) in enumerate(encoded.offsets) if (TEXT[a:b], b - a) == ("𠮷", 1)]
    assert len(fallback) == 4  # four byte tokens of one character
    positions, _ = find_cuts(TEXT, [], encoded.offsets)
    assert len(positions) >= 5
    assert not set(positions.tolist()) & set(fallback[1:])
    for p in positions:
        pieces = (enc.tokenizer.decode(encoded.ids[:p]), enc.tokenizer.decode(encoded.ids[p:-1]))
        assert "\ufffd" not in "".join(pieces)
        assert encoded.offsets[p - 1][1] <= encoded.offsets[p][0]
    assert np.all(np.diff([a for a, _ in encoded.offsets]) >= 0)
