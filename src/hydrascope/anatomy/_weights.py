"""Reads a model's weights on several devices, in main memory or on disk.

An offloaded weight is an empty tensor on the device `meta`; accelerate, which offloads it, puts a hook on the module
that loads it for the forward pass. Calling a module therefore needs no care, but code that reads a weight itself has to
do so inside `weights_loaded`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

FLOAT_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""Dtypes that can be computed in, the most precise first; range does not count."""


@contextmanager
def weights_loaded(module: nn.Module) -> Iterator[None]:
    """Load a module's own weights, not those of submodules, onto its device."""
    hook: Any = getattr(module, "_hf_hook", None)
    if hook is None or not any(tensor.is_meta for tensor in _own(module).values()):
        yield
        return
    hook.pre_forward(module)
    try:
        yield
    finally:
        hook.post_forward(module, None)


def device_of(module: nn.Module) -> torch.device | None:
    """The device on which a module computes; None if neither hook nor weight tells."""
    hook: Any = getattr(module, "_hf_hook", None)
    for one in getattr(hook, "hooks", (hook,))[::-1]:  # several hooks in one
        if (device := getattr(one, "execution_device", None)) is not None and str(device) != "meta":
            return torch.device(device)
    return next((tensor.device for tensor in _own(module).values() if not tensor.is_meta), None)


def devices(network: nn.Module) -> tuple[torch.device, ...]:
    """Every device on which a part of the model computes, the embedding's first."""
    entry: Any = network
    first = device_of(entry.get_input_embeddings())
    found = [first, *(device_of(module) for module in network.modules())]
    return tuple(dict.fromkeys(device for device in found if device is not None)) or (torch.device("cpu"),)


def model_dtype(network: nn.Module) -> torch.dtype:
    """The least precise dtype among weights that are not quantised."""
    present = {tensor.dtype for tensor in network.parameters()}
    return next((dtype for dtype in reversed(FLOAT_DTYPES) if dtype in present), torch.float32)


def input_dtype(module: nn.Module, otherwise: torch.dtype) -> torch.dtype:
    """The dtype in which a module takes its input, or `otherwise` if no weight tells."""
    return next((tensor.dtype for tensor in module.parameters() if tensor.dtype in FLOAT_DTYPES), otherwise)


def quantization(network: Any) -> str:
    """How the weights are quantised, such as `bitsandbytes 4-bit`, or empty."""
    settings = getattr(network.config, "quantization_config", None)
    if settings is None:
        return ""
    values: dict[str, Any] = settings if isinstance(settings, dict) else settings.to_dict()
    method = getattr(values.get("quant_method"), "value", values.get("quant_method")) or "unknown"
    eight, four = values.get("load_in_8bit"), values.get("load_in_4bit")
    bits = values.get("bits") or (8 if eight else 4 if four else None)
    return f"{method} {bits}-bit" if bits else str(method)


def describe_devices(network: Any) -> str:
    """Where the weights are, such as `cuda:0` or `cuda:0, cpu until used`."""
    held = dict.fromkeys(str(tensor.device) for tensor in network.parameters() if not tensor.is_meta)
    if not any(tensor.is_meta for tensor in network.parameters()):
        return ", ".join(held) or "cpu"
    shelves = {str(place) for place in getattr(network, "hf_device_map", {}).values()} & {"cpu", "disk"} - held.keys()
    return ", ".join([*held, *(f"{shelf} until used" for shelf in sorted(shelves) or ["put away"])])


def parameters(network: Any) -> int:
    """Number of weights before any quantisation."""
    return int(network.num_parameters())


def weight_digest(network: nn.Module, samples: int = 4096) -> str:
    """A fingerprint of all weights, about as quick as a forward pass.

    Every bit counts, by sums that are the same on every device, and the order counts by evenly spaced values.

    Args:
        network: the model.
        samples: least number of evenly spaced values read of each tensor, if it has as many.

    Returns:
        The first 16 hexadecimal digits of a sha256; it does not depend on where the weights are.
    """
    digest = hashlib.sha256()
    named = sorted((name, value) for name, value in network.state_dict().items() if isinstance(value, Tensor))
    for path, group in groupby(named, lambda pair: pair[0].rpartition(".")[0] if pair[1].is_meta else ""):
        module = network.get_submodule(path)
        with weights_loaded(module):
            own = _own(module) if path else {}
            for name, value in group:
                tensor = own.get(name.rpartition(".")[2], value).detach()
                digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
                flat = tensor.flatten()
                step = max(1, flat.numel() // samples)
                digest.update(flat[::step].double().cpu().numpy().tobytes())
                digest.update(f"{_sum_of_bits(flat)}".encode())
    return digest.hexdigest()[:16]


def _sum_of_bits(flat: Tensor) -> int:
    """The sum of all values, read as whole numbers, which no rounding can hide a change from."""
    kind = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
    return int(flat.contiguous().view(kind).sum(dtype=torch.int64))


def _own(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
