"""The proof that an attention backend keeps the documents of a packed row apart, for the model class that will train.

How: a small model of the same class (same head_dim, same ratio of query to key-value heads, every layer type of a
hybrid) runs two documents in one row, in train mode without dropout, with the batch keys that training gives:
(1) every token of the first document is changed: the second's logits must not move; (2) the logits must equal those of
each document alone under transformers' eager attention; (3) the gradient of the summed loss must equal the sum of the
documents' gradients. It builds the class directly, so that DeepSpeed's zero.Init does not shard it, and leaves the
global random state as it was. Every rank may run it alone: no collective is entered.

Cost: about a second on a CPU, tens of MB; flash_attention_4 also compiles its kernels here (seconds).
"""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from medscroll.model import kernels
from medscroll.model.borders import is_hybrid, sequence_index

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

logger = logging.getLogger(__name__)

DOCUMENT_LENGTHS = (37, 26)
VOCABULARY = 96
SHORT_WINDOW = 11
# Largest allowed relative difference by dtype: of the second document's logits when the first changes, of logits
# against documents alone, of gradients. Different kernels round differently; a leak is of the order of 1e-2 to 1.
TOLERANCES = {
    torch.float32: (1e-5, 1e-4, 1e-3),
    torch.float16: (2e-3, 2e-2, 4e-2),
    torch.bfloat16: (5e-3, 5e-2, 1e-1),
}


@dataclass(frozen=True)
class Proof:
    """What the proof found; differences are relative to the largest logit and to a gradient's norm.

    Attributes:
        passed: all three within tolerance.
        max_logit_difference: packed logits against each document alone.
        leak: how far the second document's logits moved when the first was changed.
        gradient_difference: gradient of the packed row against the sum of the documents' gradients, worst parameter.
        reason: one line for people.
        seconds: how long it took.
    """

    passed: bool
    max_logit_difference: float
    leak: float
    gradient_difference: float
    reason: str
    seconds: float = 0.0


def prove_backend(
    config: PretrainedConfig,
    backend: str,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    borders: str = "cu_seq_lens",
    trust_remote_code: bool = False,
) -> Proof:
    """Runs the proof of `backend` for the class of `config`.

    Args:
        config: the configuration of the model that will train; not modified.
        backend: any attention name that transformers knows, or a backend of `medscroll.model.kernels`.
        dtype, device: those of training.
        borders: "cu_seq_lens" gives the model what `collate_blocks` gives; "position_ids" restarts of positions alone
            (what sequence parallelism leaves of them).

    Returns:
        a Proof; a backend that raises has not passed, and its message is the reason.
    """
    kernels.register()
    began = time.monotonic()
    device = torch.device(device)
    try:
        with torch.random.fork_rng(devices=_cuda_index(device)), torch.enable_grad():
            model = small_model(config, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
            logits, leak, gradient = _differences(model, backend, borders)
    except Exception as error:  # whatever a kernel raises is its answer
        nan = float("nan")
        return Proof(False, nan, nan, nan, _one_line(error), time.monotonic() - began)
    seconds = time.monotonic() - began
    limits = TOLERANCES.get(dtype, TOLERANCES[torch.float32])
    found = f"leak {leak:.1e}, logits {logits:.1e}, gradients {gradient:.1e}"
    if not leak <= limits[0]:
        return Proof(False, logits, leak, gradient, f"documents of a row see each other ({found})", seconds)
    if not (logits <= limits[1] and gradient <= limits[2]):
        return Proof(False, logits, leak, gradient, f"differs from documents alone ({found})", seconds)
    return Proof(True, logits, leak, gradient, f"documents kept apart ({found})", seconds)


def small_model(
    config: PretrainedConfig, *, dtype: torch.dtype, device: torch.device, trust_remote_code: bool = False
) -> PreTrainedModel:
    """A model of the class of `config`, small, random (seed 0), in train mode without dropout, never sharded."""
    from transformers import AutoModelForCausalLM
    from transformers.modeling_utils import set_zero3_state

    small = shrink(config)
    torch.manual_seed(0)
    # set_zero3_state says "already inside zero.Init" to transformers: the model is built whole, on this rank alone.
    with set_zero3_state():
        model = AutoModelForCausalLM.from_config(
            small, dtype=dtype, attn_implementation="eager", trust_remote_code=trust_remote_code
        )
    return model.to(device).train()


def shrink(config: PretrainedConfig) -> PretrainedConfig:
    """A copy of `config` with few and narrow layers; head_dim, head ratio, positions and layer types stay."""
    small = copy.deepcopy(config)
    text = small.get_text_config()
    heads, kv_heads = text.num_attention_heads, getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    ratio = max(heads // kv_heads, 1)
    kv_small = 2 if ratio <= 2 else 1
    # every expert takes every token: a choice among near ties would turn rounding into large differences
    _shorten(text)
    wanted = {
        "vocab_size": VOCABULARY, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
        "num_attention_heads": kv_small * ratio, "num_key_value_heads": kv_small,
        "hidden_size": kv_small * ratio * head_dim, "head_dim": getattr(text, "head_dim", None) and head_dim,
        "intermediate_size": 64, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
        "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 4,
        "n_group": 1, "topk_group": 1, "vocab_size_per_layer_input": VOCABULARY,
    }  # fmt: skip
    for name, value in wanted.items():
        if getattr(text, name, None) is not None and not _is_derived(text, name):
            setattr(text, name, value)
    if getattr(text, "linear_num_key_heads", None):  # gated delta net: keep the ratio and the head sizes
        values = max(text.linear_num_value_heads // text.linear_num_key_heads, 1)
        text.linear_num_key_heads, text.linear_num_value_heads = 2, 2 * values
    for name, value in list(vars(text).items()):
        if ("dropout" in name or name.endswith("pdrop")) and isinstance(value, float):
            setattr(text, name, 0.0)
    if getattr(text, "sliding_window", None):
        text.sliding_window = min(text.sliding_window, SHORT_WINDOW)  # shorter than the proof's documents
    text.use_cache = False
    return small


def _is_derived(text: PretrainedConfig, name: str) -> bool:
    """Whether a configuration class computes `name` from other values and takes no own one."""
    attribute = getattr(type(text), name, None)
    return isinstance(attribute, property) and attribute.fset is None


def _shorten(text: PretrainedConfig) -> None:
    """Keeps the first layers: at least 2, and as many as it takes to meet every layer type of a hybrid."""
    depth = text.num_hidden_layers
    types = getattr(text, "layer_types", None) or getattr(text, "layers_block_type", None) or []
    keep = max([2] + [types.index(kind) + 1 for kind in set(types)]) if types else 2
    dense_first = getattr(text, "first_k_dense_replace", None)
    if dense_first:
        text.first_k_dense_replace = 1
    keep = min(keep, depth)
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == depth:
            setattr(text, name, value[:keep])
    text.num_hidden_layers = keep


def _differences(model: PreTrainedModel, backend: str, borders: str) -> tuple[float, float, float]:
    """Relative (logit, leak, gradient) differences of `backend` on two documents in one row."""
    device, generator = model.device, torch.Generator().manual_seed(1)
    first, second = (torch.randint(0, VOCABULARY, (1, length), generator=generator) for length in DOCUMENT_LENGTHS)
    other = (first + torch.randint(1, VOCABULARY, first.shape, generator=generator)) % VOCABULARY  # no token the same
    first, second, other = (tensor.to(device) for tensor in (first, second, other))  # [1, L]

    alone = [_run(model, [document], borders) for document in (first, second)]  # eager
    expected = torch.cat([logits for logits, _ in alone], dim=1)  # [1, L0 + L1, V]
    gradients = [left + right for left, right in zip(alone[0][1], alone[1][1], strict=True)]

    _use_backend(model, backend)
    logits, packed_gradients = _run(model, [first, second], borders)
    moved, _ = _run(model, [other, second], borders)
    begin, scale = DOCUMENT_LENGTHS[0], expected.abs().max().item()
    leak = (logits - moved)[:, begin:].abs().max().item() / scale
    difference = (logits - expected).abs().max().item() / scale
    return difference, leak, _worst_gradient(packed_gradients, gradients)


def _worst_gradient(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest relative error of a parameter's gradient; gradients that are next to nothing count in proportion."""
    norms = torch.stack([gradient.norm() for gradient in expected])
    errors = torch.stack([(a - b).norm() for a, b in zip(found, expected, strict=True)])
    return float((errors / (norms + 1e-3 * norms.norm())).max())


def _use_backend(model: PreTrainedModel, backend: str) -> None:
    wanted = kernels.implementation_of(backend)
    model.set_attn_implementation(wanted)
    used = model.config.get_text_config()._attn_implementation
    if used != wanted:
        raise ValueError(f"{type(model).__name__} runs {used} when asked for {backend}")


def _run(
    model: PreTrainedModel, documents: list[torch.Tensor], borders: str
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits [1, T, V] and the gradients of the summed loss, both float32, of `documents` in one row."""
    lengths = [document.shape[1] for document in documents]
    device = documents[0].device
    input_ids = torch.cat(documents, dim=1)  # [1, T]
    positions = torch.cat([torch.arange(length, device=device) for length in lengths])[None]  # [1, T]
    batch: dict[str, Any] = {"input_ids": input_ids, "position_ids": positions}
    if borders == "cu_seq_lens":
        offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32, device=device)
        batch |= {"cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets}
        batch |= {"max_length_q": max(lengths), "max_length_k": max(lengths)}
        if is_hybrid(model.config):
            batch["seq_idx"] = sequence_index(offsets)
    labels = input_ids.masked_fill(positions == 0, -100)
    model.zero_grad(set_to_none=True)
    logits = model(**batch, use_cache=False).logits.float()
    # labels[t] is predicted from t - 1
    loss = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=-100, reduction="sum")
    loss.backward()
    gradients = [
        torch.zeros_like(p, dtype=torch.float32) if p.grad is None else p.grad.float().clone()
        for p in model.parameters()
    ]
    return logits.detach(), gradients


def _cuda_index(device: torch.device) -> list[int]:
    if device.type != "cuda":
        return []
    return [device.index if device.index is not None else torch.cuda.current_device()]


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__
