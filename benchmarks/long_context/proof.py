"""Packed rows equal unpacked documents on this device: forward and gradients, by model class and by bare kernel.

Classes: `medscroll.model.proof.prove_backend` in bfloat16, the proof that every run makes, for each backend that is
present here; a hybrid whose packages are absent must be refused. Kernels: each attention function on random tensors
against float32 attention of each document alone, with documents around a kernel's tile borders (1, 127, 128, 129, ...
tokens), grouped heads, and a sliding window; output and the gradients of query, key and value, relative to the largest
value. SDPA in bfloat16, document by document, is the yardstick of what rounding alone does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

from rows import ProofRow

LENGTHS = (1, 127, 128, 129, 300, 2, 1025, 64)
SHAPES = ((32, 4, 128, None), (8, 8, 128, None), (32, 4, 128, 200), (16, 2, 64, None))  # heads, kv, head_dim, window
LIMIT = 0.02  # of the largest value, in bfloat16; a leak is of the order of 1
LEAK_LIMIT = 0.0


def configuration(name: str) -> Any:
    """The configuration of a class to be proved: a preset, or one of the model types that have none."""
    from transformers import CONFIG_MAPPING

    from medscroll.config.presets import is_preset, load_preset

    if is_preset(name):
        values = dict(load_preset(name).config)
        return CONFIG_MAPPING[values.pop("model_type")](**values)
    common = {"hidden_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 2, "num_hidden_layers": 8}
    own: dict[str, dict[str, Any]] = {
        "qwen3": {"model_type": "qwen3", "head_dim": 128},
        "mixtral": {"model_type": "mixtral"},
        "mistral-window": {"model_type": "mistral", "sliding_window": 4096},
        "qwen3.5-hybrid": {"model_type": "qwen3_5_text", "head_dim": 128},
    }
    values = {**common, **own[name]}
    return CONFIG_MAPPING[values.pop("model_type")](**values)


def prove(row: ProofRow) -> Iterator[dict[str, Any]]:
    """One result for each class or shape and each backend that is present."""
    import torch

    from medscroll.model.attention import available_backends

    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    dtype = torch.bfloat16 if on_gpu else torch.float32
    backends = [backend.name for backend in available_backends() if backend.present]
    yield {"backends": {backend.name: backend.reason for backend in available_backends()}}
    if row.kernels:
        yield from _kernels(backends, device, dtype)
    for name in row.classes:
        yield from _class(name, backends, device, dtype)


def _class(name: str, backends: list[str], device: Any, dtype: Any) -> Iterator[dict[str, Any]]:
    from medscroll.errors import UserError
    from medscroll.model.attention import choose_backend
    from medscroll.model.proof import prove_backend

    config = configuration(name)
    for backend in backends:
        found = prove_backend(config, backend, dtype=dtype, device=device)
        numbers = (found.leak, found.max_logit_difference, found.gradient_difference)
        yield {
            "class": name,
            "backend": backend,
            "passed": found.passed,
            "leak_logits_gradients": [float(f"{number:.2e}") if math.isfinite(number) else None for number in numbers],
            "reason": found.reason,
            "seconds": round(found.seconds, 1),
        }
    if "hybrid" in name:
        try:
            choice = choose_backend("auto", config, dtype, device)
            yield {"class": name, "chosen": choice.name}
        except UserError as error:
            yield {"class": name, "refused": str(error)[:600]}


def _kernels(backends: list[str], device: Any, dtype: Any) -> Iterator[dict[str, Any]]:
    import torch
    from transformers import AttentionInterface

    from medscroll.model.kernels import implementation_of, register

    register()
    for heads, kv_heads, head_dim, window in SHAPES:
        generator = torch.Generator(device).manual_seed(0)
        total = sum(LENGTHS)
        query, key, value, gradient = (
            torch.randn(1, count, total, head_dim, device=device, dtype=dtype, generator=generator)
            for count in (heads, kv_heads, kv_heads, heads)
        )
        exact = _reference(query, key, value, gradient, window)
        rounded = _sdpa(query, key, value, gradient) if window is None else None
        for backend in backends:
            began = time.perf_counter()
            line = {"heads_kv_dim_window": [heads, kv_heads, head_dim, window], "backend": backend}
            try:
                function = AttentionInterface()[implementation_of(backend)]
                found = _run(function, (query, key, value), gradient, window)
                differences = _relative(found, exact)
                limit = LIMIT
                if rounded is not None:
                    line["sdpa_out_dq_dk_dv"] = _relative(rounded, exact)
                    limit = max(limit, 3 * max(line["sdpa_out_dq_dk_dv"]))
                line |= {"passed": max(differences) <= limit, "out_dq_dk_dv": differences}
                moved = _run(function, _first_changed(query, key, value), gradient, window)[0]
                begin = LENGTHS[0] + LENGTHS[1]
                leak = float((moved - found[0])[:, begin:].abs().max())
                line["leak"] = leak
                line["passed"] = bool(line["passed"]) and leak <= LEAK_LIMIT
            except Exception as error:
                line |= {"passed": False, "error": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}
            yield {**line, "seconds": round(time.perf_counter() - began, 1)}


def _borders(device: Any) -> dict[str, Any]:
    import torch

    ends = torch.tensor([0, *LENGTHS], device=device).cumsum(0).to(torch.int32)
    positions = torch.cat([torch.arange(length, device=device) for length in LENGTHS])[None]
    longest = max(LENGTHS)
    return {
        "position_ids": positions, "cu_seq_lens_q": ends, "cu_seq_lens_k": ends,
        "max_length_q": longest, "max_length_k": longest,
    }  # fmt: skip


def _run(function: Any, tensors: tuple[Any, Any, Any], gradient: Any, window: int | None) -> list[Any]:
    """Output [1, T, heads, d] and the gradients of query, key, value, float32."""
    import torch

    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    module = torch.nn.Module()
    module.is_causal = True
    module.layer_idx = 0
    module.train()
    scaling = gradient.shape[-1] ** -0.5
    options = {"scaling": scaling, "dropout": 0.0, "sliding_window": window, **_borders(gradient.device)}
    output, _ = function(module, *leaves, None, **options)
    output.backward(gradient.transpose(1, 2))
    return [output.detach().float(), *(leaf.grad.float() for leaf in leaves)]


def _reference(query: Any, key: Any, value: Any, gradient: Any, window: int | None) -> list[Any]:
    """The same in float32 with plain products, document by document."""
    import torch

    leaves = [tensor.detach().float().requires_grad_() for tensor in (query, key, value)]
    groups, pieces, start = query.shape[1] // key.shape[1], [], 0
    for length in LENGTHS:
        q, k, v = (leaf[:, :, start : start + length] for leaf in leaves)
        k, v = (tensor.repeat_interleave(groups, dim=1) for tensor in (k, v))
        behind = torch.arange(length, device=q.device)[:, None] - torch.arange(length, device=q.device)[None]
        hidden = (behind < 0) | (behind >= (window or length))
        scores = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).masked_fill(hidden, float("-inf"))
        pieces.append((scores.softmax(-1) @ v).transpose(1, 2))
        start += length
    output = torch.cat(pieces, dim=1)
    output.backward(gradient.float().transpose(1, 2))
    return [output.detach(), *(leaf.grad for leaf in leaves)]


def _sdpa(query: Any, key: Any, value: Any, gradient: Any) -> list[Any]:
    """torch's SDPA in the same dtype, document by document."""
    import torch

    leaves, pieces, start = [t.detach().clone().requires_grad_() for t in (query, key, value)], [], 0
    for length in LENGTHS:
        q, k, v = (leaf[:, :, start : start + length] for leaf in leaves)
        piece = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        pieces.append(piece.transpose(1, 2))
        start += length
    output = torch.cat(pieces, dim=1)
    output.backward(gradient.transpose(1, 2))
    return [output.detach().float(), *(leaf.grad.float() for leaf in leaves)]


def _relative(found: list[Any], exact: list[Any]) -> list[float]:
    return [float(f"{float((a - b).abs().max() / b.abs().max()):.2e}") for a, b in zip(found, exact, strict=True)]


def _first_changed(query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
    """The same with every token of the first two documents another."""
    import torch

    until = LENGTHS[0] + LENGTHS[1]
    changed = []
    for tensor in (query, key, value):
        other = tensor.clone()
        other[:, :, :until] = torch.randn_like(other[:, :, :until])
        changed.append(other)
    return changed[0], changed[1], changed[2]
