"""One document to token ids: `tokenizer(whole text)` plus exactly one EOS, with the characters of each token.

Whatever the tokenizer adds by itself (a BOS for Llama; nothing for Yi) stays; where it adds an EOS already, none is
added. The tokenizer's `model_max_length` is no limit here. Documents are never tokenized in chunks, because ids
would differ at the seams. Cost, measured with Yi's tokenizer: 1 to 2 MB of text a second and core, and 100
(English) to 500 bytes (Chinese) of memory a character while one document is tokenized: a 2 MB book takes 0.2 GB.
Importing this module does not import transformers; making a `DocumentEncoder` does (some seconds).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import xxhash

from medscroll.errors import CapacityError, ConfigError, DataError
from medscroll.packing.token_characters import TokenCharacters

BYTES_PER_CHARACTER = 600  # of memory while a document is tokenized; 500 measured (Yi, 3 million characters)
LARGE_DOCUMENT = 4_000_000  # characters; from here on documents are tokenized one at a time over all processes
_TOKENIZER_FILES = ("tokenizer*", "*.model", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt")


class Encoded(NamedTuple):
    """Ids int64 [tokens] with the final EOS; offsets int64 [tokens without the added EOS, 2], None without a fast
    tokenizer; specials: how many ids are special tokens that the text itself spells out; unknown: ids of `unk`."""

    ids: np.ndarray
    offsets: np.ndarray | None
    specials: int
    unknown: int


class DocumentEncoder:
    """A tokenizer made ready for whole documents.

    Args:
        name: a local folder or a hub id.
        trust_remote_code, cache_dir: as in transformers.

    Attributes:
        eos_token_id, bos_token_id; adds_bos, adds_eos: what the tokenizer puts around a text by itself.
        vocab_size: highest id + 1, added tokens included.
        has_offsets: false for tokenizers without a fast version; their documents get no cuts.
        fingerprint: hash of everything that decides the ids.

    Raises:
        ConfigError: it cannot be loaded, or has no EOS.
    """

    def __init__(self, name: str, *, trust_remote_code: bool = False, cache_dir: str | None = None) -> None:
        self.name = name
        self.tokenizer = _load(name, trust_remote_code, cache_dir)
        tokenizer = self.tokenizer
        if tokenizer.eos_token_id is None or _made_up(tokenizer.eos_token, Path(name)):
            raise ConfigError(
                "the tokenizer has no EOS token, so the ends of documents cannot be marked",
                f"--tokenizer_name_or_path {name}",
                'name one in its tokenizer_config.json, such as "eos_token": "<|endoftext|>", or take the '
                "tokenizer of the model that you will train",
            )
        self.eos_token_id = int(tokenizer.eos_token_id)
        self.bos_token_id = None if tokenizer.bos_token_id is None else int(tokenizer.bos_token_id)
        self.unk_token_id = None if tokenizer.unk_token_id is None else int(tokenizer.unk_token_id)
        self.vocab_size = max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)
        self.has_offsets = bool(tokenizer.is_fast)
        probe = tokenizer("A", verbose=False)["input_ids"]
        bare = tokenizer("A", verbose=False, add_special_tokens=False)["input_ids"]
        self.adds_bos = len(probe) > len(bare) and probe[0] == self.bos_token_id
        self.adds_eos = len(probe) > len(bare) and probe[-1] == self.eos_token_id
        self._added = len(probe) - len(bare)
        self._special_ids = np.asarray(sorted(set(tokenizer.all_special_ids) - {self.unk_token_id}), np.int64)
        # counted from the ids where that is exact, which costs a third of what the tokenizer's own offsets do
        self._characters = TokenCharacters.of(tokenizer) if self._added == 0 else None
        self.fingerprint = self._hash()

    def _hash(self) -> str:
        tokenizer = self.tokenizer
        if self.has_offsets:
            content = tokenizer.backend_tokenizer.to_str()
        else:
            content = json.dumps(sorted(tokenizer.get_vocab().items(), key=lambda pair: (pair[1], pair[0])))
            content += json.dumps(tokenizer.init_kwargs, sort_keys=True, default=str)
        rest = [type(tokenizer).__name__, self.eos_token_id, self.adds_bos, self.adds_eos, self.vocab_size]
        return xxhash.xxh3_128_hexdigest((content + json.dumps(rest)).encode("utf-8", "surrogatepass"))

    def encode(self, text: str, document_id: str = "") -> Encoded:
        """The ids of one document, see the module.

        Raises:
            CapacityError: the document is too long for the memory that is free.
            DataError: the tokenizer fails on it.
        """
        needed = BYTES_PER_CHARACTER * len(text)
        if len(text) >= LARGE_DOCUMENT and needed > psutil.virtual_memory().available:
            raise CapacityError(
                f"a document of {len(text):,} characters needs about {needed / 2**30:.0f} GiB of memory to tokenize",
                document_id,
                "divide it into several documents (chapters, volumes), or prepare it on a machine with more memory",
            )
        try:
            counted = self._characters.encode(text) if self._characters is not None else None
            found, offsets = counted if counted is not None else self._ask(text)
        except (TypeError, ValueError, UnicodeError) as error:
            raise DataError(
                f"the tokenizer {self.name} fails on a document ({type(error).__name__})",
                document_id,
                "remove the document from the sources, or choose another tokenizer",
            ) from error
        count = len(found)
        ids = np.empty(count + (not self.adds_eos), np.int64)  # [tokens]
        ids[:count] = found
        ids[-1] = self.eos_token_id
        specials = int(np.isin(ids[:count], self._special_ids).sum()) - self._added
        unknown = 0 if self.unk_token_id is None else int((ids == self.unk_token_id).sum())
        return Encoded(ids, offsets, max(specials, 0), unknown)

    def _ask(self, text: str) -> tuple[np.ndarray, np.ndarray | None]:
        """(ids, offsets) by the tokenizer itself."""
        result = self.tokenizer(
            text,
            truncation=False,
            verbose=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_offsets_mapping=self.has_offsets,
        )
        ids = np.asarray(result["input_ids"], np.int64)  # [tokens]
        if not self.has_offsets:
            return ids, None
        flat = chain.from_iterable(result["offset_mapping"])
        return ids, np.fromiter(flat, np.int64, count=2 * len(ids)).reshape(-1, 2)


def _load(name: str, trust_remote_code: bool, cache_dir: str | None) -> Any:
    with quiet_transformers():
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code, cache_dir=cache_dir)
        except Exception as error:  # transformers raises OSError, ValueError, KeyError, ImportError and its own
            reason = str(error).strip().splitlines()
            raise ConfigError(
                f"the tokenizer cannot be loaded: {type(error).__name__}: {reason[0] if reason else 'no reason given'}",
                f"--tokenizer_name_or_path {name}",
                "give a folder that holds tokenizer.json (or tokenizer.model), or a model id of the Hugging Face hub; "
                "without network set HF_HUB_OFFLINE=1 and download it before; a tokenizer with code of its own "
                "needs --trust_remote_code",
            ) from error


def _made_up(token: str, folder: Path) -> bool:
    """Whether no file of a local tokenizer holds the token: its class then adds its own default, an id of no model."""
    patterns = (*_TOKENIZER_FILES, "config.json", "*.tiktoken", "*.py")
    files = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()} if folder.is_dir() else ()
    spellings = {token.encode(), json.dumps(token)[1:-1].encode()}
    return bool(files) and not any(spelling in path.read_bytes() for path in files for spelling in spellings)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps transformers' advice off the terminal (no PyTorch found, class mismatch) while a tokenizer is loaded."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def tokenizer_stamp(name: str) -> str | None:
    """A hash of a local tokenizer's files and of the library versions, without importing transformers.

    None for a hub id: its files are known only after loading. Equal stamps mean equal ids; different ones need not
    mean different ids (then `DocumentEncoder.fingerprint` decides).
    """
    folder = Path(name)
    if not folder.is_dir():
        return None
    digest = hashlib.sha256(library_versions().encode())
    files = {path for pattern in (*_TOKENIZER_FILES, "config.json", "*.py") for path in folder.glob(pattern)}
    for path in sorted(files):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:32]


def library_versions() -> str:
    """Versions of the libraries that turn text into ids; a new one may give other ids."""
    return f"transformers {version('transformers')}, tokenizers {version('tokenizers')}"
