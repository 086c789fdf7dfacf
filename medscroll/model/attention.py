"""Which attention backend a run uses: the ladder, what of it is present here, and the choice.

How: `flash_attention_4 > flash_attention_3 > flash_attention_2 > varlen > per_document`. Presence is read from
installed packages (transformers' own availability functions), torch and the GPU's compute capability. Nothing is
fetched from a hub: a flash attention that is not installed is never requested, as transformers would then download a
kernel. `auto` takes the first one that is present and passes `medscroll.model.proof`.

Cost: the proofs that are run, about a second each.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medscroll.errors import ConfigError, EnvironmentError_
from medscroll.model.borders import is_hybrid
from medscroll.model.kernels import PER_DOCUMENT, VARLEN, register

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

LADDER = ("flash_attention_4", "flash_attention_3", "flash_attention_2", VARLEN, PER_DOCUMENT)
# (package, least compute capability) of the backends for GPUs
_NEEDS = {
    "flash_attention_4": ("flash-attn-4", (9, 0)),
    "flash_attention_3": ("flash-attn-3", (9, 0)),
    "flash_attention_2": ("flash-attn", (8, 0)),
    VARLEN: ("torch", (8, 0)),
}

register()


@dataclass(frozen=True)
class Backend:
    """A rung of the ladder: whether it can run here, and why (not)."""

    name: str
    present: bool
    reason: str


@dataclass(frozen=True)
class Choice:
    """The backend that a run uses; `reason` also says, a line each, why better ones were not taken."""

    name: str
    reason: str


def available_backends() -> list[Backend]:
    """Every backend in ladder order with its presence in this environment."""
    import torch

    capability = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    return [_probe(name, capability) for name in LADDER]


def _probe(name: str, capability: tuple[int, int] | None) -> Backend:
    if name == PER_DOCUMENT:
        return Backend(name, True, "torch's SDPA once a document; runs everywhere")
    package, least = _NEEDS[name]
    absent = None
    if capability is None:
        absent = "needs an NVIDIA GPU"
    elif name == VARLEN and importlib.util.find_spec("torch.nn.attention.varlen") is None:
        absent = "needs torch 2.10 or later"
    elif name != VARLEN and not _flash_installed(name):
        absent = f"package {package} is not installed"
    elif capability < least:
        absent = f"needs compute capability {_dotted(least)}, this GPU has {_dotted(capability)}"
    return Backend(name, absent is None, absent or f"package {package}")


def _flash_installed(name: str) -> bool:
    from transformers import utils

    check = getattr(utils, f"is_{name.replace('flash_attention', 'flash_attn')}_available", None)
    return bool(check and check())


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def choose_backend(
    requested: str,
    config: PretrainedConfig,
    dtype: torch.dtype,
    device: torch.device | str,
    *,
    trust_remote_code: bool = False,
) -> Choice:
    """The attention backend for a model, proved for its class, dtype and device.

    Args:
        requested: "auto" or a name of the ladder.
        config: the configuration of the model that will train.
        dtype, device: those in which attention computes (bfloat16 under bf16 autocast).

    Raises:
        ConfigError: the name is unknown, or the named backend is absent or fails the proof.
        EnvironmentError_: `auto` found none that passes; every reason is listed.
    """
    import torch

    if requested not in ("auto", *LADDER):
        raise ConfigError(
            f"{requested!r} is no attention backend for packed documents",
            where="--attn_backend",
            remedy=f"auto, or one of {', '.join(LADDER)}",
        )
    present = {backend.name: backend for backend in available_backends()}
    names = LADDER if requested == "auto" else (requested,)
    passed_over: list[str] = []
    for name in names:
        reason = _unfit(present[name], config, dtype, torch.device(device))
        if reason is None:
            from medscroll.model.proof import prove_backend

            proof = prove_backend(config, name, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
            if proof.passed:
                return Choice(name, _explain(requested, proof.reason, passed_over))
            reason = f"failed the proof: {proof.reason}"
        passed_over.append(f"{name}: {reason}")
    _refuse(requested, config, passed_over)
    raise AssertionError("unreachable")


def _unfit(backend: Backend, config: PretrainedConfig, dtype: torch.dtype, device: torch.device) -> str | None:
    """Why a backend cannot serve this model, before any proof; None where it may."""
    import torch

    if not backend.present:
        return backend.reason
    text = config.get_text_config()
    if backend.name != PER_DOCUMENT:
        if device.type != "cuda":
            return f"runs on a GPU, this run is on {device.type}"
        if dtype not in (torch.bfloat16, torch.float16):
            return f"computes in bfloat16 or float16, not {str(dtype).removeprefix('torch.')}"
    types = getattr(text, "layer_types", None) or []
    if backend.name in (VARLEN, PER_DOCUMENT) and "chunked_attention" in types:
        return "does not compute chunked attention"
    return None


def _explain(requested: str, proof: str, passed_over: list[str]) -> str:
    head = "first of the ladder that is present and passes the proof" if requested == "auto" else "as asked"
    lines = [f"{head}: {proof}", *(f"not {line}" for line in passed_over)]
    return "\n".join(lines)


def _refuse(requested: str, config: PretrainedConfig, passed_over: list[str]) -> None:
    remedy = None
    if any("flash-linear-attention" in reason or "causal_conv1d" in reason for reason in passed_over):
        remedy = "its linear attention needs: pip install flash-linear-attention causal-conv1d (GPU)"
    elif is_hybrid(config):
        remedy = "its layers carry a state along the row, across documents; no attention backend changes that"
    if requested != "auto":
        raise ConfigError(
            f"a {config.model_type} model cannot train with attention backend {passed_over[0]}",
            where=f"--attn_backend {requested}",
            remedy=remedy or "--attn_backend auto takes the best one that passes",
        )
    raise EnvironmentError_(
        f"no attention backend keeps packed documents apart for a {config.model_type} model:\n  "
        + "\n  ".join(passed_over),
        remedy=remedy,
    )
