"""Random weights: the same for a seed on any number of ranks and at any ZeRO stage, made where they will lie.

How: the model is built without initialisation (on the device, or partitioned inside `deepspeed.zero.Init`). Then each
parameter is drawn by the model's own `_init_weights`, with a seed derived from (seed, parameter name) and every other
parameter marked as done, so that what it draws does not depend on what was drawn before. Which module draws which
parameter is read off a copy on the meta device, by the version counters that in-place writes advance: some models
initialise grandchildren. Under ZeRO-3 a parameter is gathered for its draw and partitioned again: all ranks enter, rank
0's values count.

Cost: one copy of the weights on the device (ZeRO-3: a share, and the largest parameter once); the time of the draws.
Numbers drawn on a GPU differ from those drawn on a CPU.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PretrainedConfig, PreTrainedModel

_DONE = "_is_hf_initialized"  # transformers' own mark: its init functions leave a parameter alone that carries it


def build_random(
    config: PretrainedConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    attn_backend: str,
    seed: int,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """A model of `config` with random weights; the global random state is left as it was.

    Under ZeRO-3 all ranks must call this together; the dtype is then DeepSpeed's.
    """
    from transformers.integrations import is_deepspeed_zero3_enabled

    sharded = is_deepspeed_zero3_enabled()
    options = {"dtype": dtype, "attn_implementation": attn_backend, "trust_remote_code": trust_remote_code}
    with _building(sharded, device):
        model = _construct(config, options)
    restore_rope_buffers(model)
    model.tie_weights()
    indices = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=indices):
        _draw(model, _drawn_parameters(config, options), seed, sharded)
    return model


def restore_rope_buffers(model: PreTrainedModel) -> None:
    """Recomputes RoPE frequencies in float32 where zero.Init made them bfloat16 or float16 (transformers 5.17 does).

    Half-precision frequencies turn positions beyond a few hundred into noise. Buffers only; no collective.
    """
    from transformers.initialization import guard_torch_init_functions

    for _, module, owner in _children_first(model):
        halves = [n for n, b in module.named_buffers(recurse=False) if "inv_freq" in n and b.dtype != torch.float32]
        for name in halves:
            module._buffers[name] = module._buffers[name].float()  # type: ignore[union-attr]
        if halves:
            with torch.no_grad(), guard_torch_init_functions():
                owner._init_weights(module)


def _construct(config: PretrainedConfig, options: dict[str, Any]) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(config, **options)


@contextlib.contextmanager
def _building(sharded: bool, device: torch.device) -> Iterator[None]:
    """No initialisation; on `device`, or partitioned as each module is made (all ranks take part)."""
    from transformers.initialization import no_init_weights

    with contextlib.ExitStack() as stack:
        stack.enter_context(no_init_weights())
        if sharded:
            import deepspeed
            from transformers.integrations import deepspeed as integration
            from transformers.modeling_utils import set_zero3_state

            # 5.2x keeps RoPE buffers out of zero.Init's dtype change with this; 5.17 has nothing of the kind
            keep = getattr(integration, "prevent_arange_dtype_change", None)
            if keep is not None:
                stack.enter_context(keep())
            stack.enter_context(deepspeed.zero.Init(config_dict_or_path=integration.deepspeed_config()))
            stack.enter_context(set_zero3_state())  # from_config must not enter zero.Init a second time
        else:
            stack.enter_context(torch.device(device))
        yield


def _drawn_parameters(config: PretrainedConfig, options: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """For each module in the order of initialisation: its name and the names of the parameters that it draws."""
    from transformers.initialization import no_init_weights
    from transformers.modeling_utils import set_zero3_state

    with set_zero3_state(), torch.device("meta"), no_init_weights():
        skeleton = _construct(config, options)
    skeleton.tie_weights()
    names = {id(parameter): name for name, parameter in skeleton.named_parameters()}  # a tied one has its first name
    versions = {id(parameter): parameter._version for parameter in skeleton.parameters()}
    order = []
    for name, module, owner in _children_first(skeleton):
        with torch.no_grad():
            owner._init_weights(module)
        drawn = []
        for parameter in module.parameters():
            if parameter._version != versions[id(parameter)]:
                versions[id(parameter)] = parameter._version
                drawn.append(names[id(parameter)])
        order.append((name, drawn))
    return order


def _children_first(root: PreTrainedModel) -> Iterator[tuple[str, torch.nn.Module, PreTrainedModel]]:
    """(name, module, the PreTrainedModel whose `_init_weights` is in charge), in the order transformers initialises."""
    from transformers import PreTrainedModel

    def walk(module: torch.nn.Module, name: str, owner: Any) -> Iterator[tuple[str, torch.nn.Module, Any]]:
        owner = module if isinstance(module, PreTrainedModel) else owner
        for child_name, child in module.named_children():
            yield from walk(child, f"{name}.{child_name}" if name else child_name, owner)
        yield name, module, owner

    yield from walk(root, "", root)


def _draw(model: PreTrainedModel, order: list[tuple[str, list[str]]], seed: int, sharded: bool) -> None:
    """Initialises every parameter and buffer of `model` in `order`; under ZeRO-3 all ranks take part."""
    from transformers.initialization import guard_torch_init_functions

    parameters = dict(model.named_parameters())
    draws = not sharded or torch.distributed.get_rank() == 0  # the others only enter the gathers and fill buffers
    modules = {name: (module, owner) for name, module, owner in _children_first(model)}
    for parameter in parameters.values():
        setattr(parameter, _DONE, True)
    with torch.no_grad(), guard_torch_init_functions():
        for name, drawn in order:
            module, owner = modules[name]
            if not drawn:
                owner._init_weights(module)  # buffers, such as RoPE's frequencies: no parameter is open
            for parameter_name in drawn:
                parameter = parameters[parameter_name]
                with _whole(parameter, sharded):
                    setattr(parameter, _DONE, not draws)
                    torch.manual_seed(_seed_of(seed, parameter_name))
                    owner._init_weights(module)
                    setattr(parameter, _DONE, True)
    for parameter in parameters.values():
        delattr(parameter, _DONE)


@contextlib.contextmanager
def _whole(parameter: torch.nn.Parameter, sharded: bool) -> Iterator[None]:
    """The full parameter; under ZeRO-3 gathered on all ranks, and rank 0's values kept."""
    if not sharded:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
        yield


def _seed_of(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest(), "big") >> 1
