"""A tokenizer that the tests make themselves: one token a byte, special tokens as asked."""

from __future__ import annotations

from pathlib import Path


def make_byte_tokenizer(
    folder: Path, *, bos: bool = False, adds_eos: bool = False, eos: bool = True, extra: int = 0
) -> Path:
    """Saves a fast byte-level tokenizer (256 bytes, `<s>` 256, `</s>` 257, then `extra` added tokens) in `folder`.

    Args:
        bos, adds_eos: the tokenizer itself puts them around each text.
        eos: an EOS is defined.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.add_tokens([f"<extra{i}>" for i in range(extra)])
    template = " ".join(["<s>"] * bos + ["$A"] + ["</s>"] * adds_eos)
    if bos or adds_eos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("<s>", 256), ("</s>", 257)]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>" if eos else None, model_max_length=8
    )
    fast.save_pretrained(folder)
    return folder
