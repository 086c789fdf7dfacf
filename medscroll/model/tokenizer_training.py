"""Train a small byte-level BPE tokenizer on raw texts: for demos and tests, where no model's tokenizer is at hand.

    python -m medscroll.model.tokenizer_training SOURCE... OUTPUT_DIR --vocab_size 4000

How: the raw files are read as `medscroll prepare` reads them; numbers are split into digits and text into words and
runs of letters (GPT-2's pattern); BPE merges on UTF-8 bytes, so any text can be encoded and decoded without loss
(Sennrich et al., arXiv:1508.07909; byte level: GPT-2). Equal input gives an equal tokenizer.
Cost: about a second a megabyte on one core; memory: the counts of distinct words.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medscroll.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
SMALLEST = 257  # all bytes and the end of text


@dataclass
class TokenizerArguments:
    """Flags of this module as a program."""

    sources: list[str] = field(default_factory=list, metadata={"help": "Raw texts, then the folder to write into."})
    vocab_size: int = field(default=4000, metadata={"help": "Number of entries, the end of text included."})


def train_tokenizer(texts: Iterable[str], output_dir: Path, *, vocab_size: int = 4000) -> PreTrainedTokenizerFast:
    """Train on `texts` and save in Hugging Face layout; returns the tokenizer.

    Args:
        texts: documents; read once.
        output_dir: a folder, made if absent.
        vocab_size: most entries; fewer where the texts have no more pairs to merge.

    Raises:
        ConfigError: `vocab_size` cannot hold all bytes.
    """
    if vocab_size < SMALLEST:
        raise ConfigError(f"a byte-level tokenizer has at least {SMALLEST} entries", where=f"--vocab_size {vocab_size}")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT)
    fast.save_pretrained(str(output_dir))
    return fast


def read_texts(sources: Sequence[Path], work_dir: Path) -> Iterator[str]:
    """The texts of raw files of any format, one document at a time; `work_dir` holds them meanwhile.

    Raises:
        DataError: a file cannot be read, or there is no document.
    """
    from medscroll.corpus.stage import document_shards, read_shard, write_documents

    write_documents(sources, work_dir)
    for shard in document_shards(work_dir):
        for document in read_shard(shard):
            yield document.text


def main(argv: list[str]) -> int:
    """Train on the sources; the last word is the folder to write into."""
    from medscroll.config.parse import Positional, parse_arguments

    positional = Positional(field="sources", many=True, help="raw texts, then the folder to write into")
    (arguments,) = parse_arguments(argv, (TokenizerArguments,), verb="tokenizer", positional=positional)
    if len(arguments.sources) < 2:
        raise ConfigError("name the raw texts and, last, the folder to write into", where="SOURCE... OUTPUT_DIR")
    *sources, output_dir = map(Path, arguments.sources)
    with tempfile.TemporaryDirectory(prefix="medscroll-") as work_dir:
        texts = read_texts(sources, Path(work_dir))
        tokenizer = train_tokenizer(texts, output_dir, vocab_size=arguments.vocab_size)
    print(f"tokenizer with {len(tokenizer):,} entries: {output_dir}")
    return 0


if __name__ == "__main__":
    from medscroll.errors import UserError

    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as problem:
        print(f"medscroll: error: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
