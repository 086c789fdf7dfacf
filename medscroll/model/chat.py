"""Talking to a trained model: a chat where the tokenizer has a chat template, plain continuation where it has none.

How: transformers' `generate` with SDPA attention and a KV cache; adapters are merged at load. Cost: one copy of the
model on the device, one forward pass a token.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medscroll.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Speaker:
    """A loaded model that answers.

    Args:
        source: run folder, checkpoint, adapter or exported model.
        dtype: auto, bfloat16, float16 or float32.
        device: where it runs; default: the GPU where there is one.

    Raises:
        CheckpointError: no model or no tokenizer in `source`, or a partitioned DeepSpeed checkpoint.
    """

    def __init__(self, source: str | Path, *, dtype: str = "auto", device: str | None = None) -> None:
        import torch

        from medscroll.model.export import find_model, kind_of, load_model

        folder = find_model(Path(source))
        if kind_of(folder) == "deepspeed":
            raise CheckpointError("partitioned weights", where=str(folder), remedy=f"medscroll export {folder} first")
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer: Any = _tokenizer(folder)
        self.model: Any = load_model(folder, dtype, device=self.device)
        self.turns: list[dict[str, str]] = []

    @property
    def chats(self) -> bool:
        """Whether turns are kept and formatted by a chat template."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    def answer(self, prompt: str, *, max_new_tokens: int = 256, temperature: float = 0.7, stream: bool = False) -> str:
        """The model's answer or continuation; `temperature` 0 takes the likeliest token; `stream` prints on the way."""
        import torch
        from transformers import TextStreamer

        inputs: Any
        if self.chats:
            self.turns.append({"role": "user", "content": prompt})
            inputs = self.tokenizer.apply_chat_template(
                self.turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        else:
            inputs = self.tokenizer(prompt, return_tensors="pt")
        inputs = {key: inputs[key].to(self.device) for key in ("input_ids", "attention_mask")}
        sampling: dict[str, Any] = {"do_sample": temperature > 0}
        if temperature > 0:
            sampling["temperature"] = temperature
        if stream:
            sampling["streamer"] = TextStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        eos = self.tokenizer.eos_token_id
        with torch.inference_mode():
            ids = self.model.generate(
                **inputs, max_new_tokens=max_new_tokens, use_cache=True, eos_token_id=eos, pad_token_id=eos, **sampling
            )
        text = self.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        if self.chats:
            self.turns.append({"role": "assistant", "content": text})
        return str(text)


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from medscroll.model.load import load_tokenizer

    for place in (folder, folder.parent):
        if any(place.glob("tokenizer*")):
            return load_tokenizer(str(place))
    raise CheckpointError("no tokenizer beside the model", where=str(folder), remedy="copy the tokenizer's files there")
