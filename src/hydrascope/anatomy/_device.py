"""Chooses the device of a model, or spreads it over several, memory and disk."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

from hydrascope.errors import ModelError

SPREAD = "map"
"""Device name that spreads a model over GPUs, then main memory, then disk."""

UNTESTED = ("mps", "xpu")
"""Kinds of devices on which this package was never run; the proof made there decides, as everywhere."""

_WRITE = f"write cpu, cuda, cuda:1, mps, xpu or {SPREAD}"

_SEEN: dict[str, tuple[str, Callable[[], bool]]] = {
    "cuda": ("CUDA GPU", torch.cuda.is_available),
    "mps": ("Apple GPU", torch.backends.mps.is_available),
    "xpu": ("Intel GPU", torch.xpu.is_available),
}
"""What each kind of device is, and whether torch sees one."""


def destination(name: str, quantised: bool) -> tuple[dict[str, Any], torch.device | None]:
    """How to bring a model to the device that the user named.

    Args:
        name: `auto`, `map`, or a device of torch.
        quantised: whether the weights are quantised; such weights have to be read straight onto their device.

    Returns:
        Arguments for the library that reads the weights, and the device to move the model to afterwards, if any.

    Raises:
        ModelError: there is no such device, or spreading is not installed.
    """
    if name == SPREAD:
        if find_spec("accelerate") is None:
            raise ModelError(
                f"the device '{SPREAD}' spreads a model with accelerate, which is not installed; "
                "run pip install 'hydrascope[large]' or name one device"
            )
        return {"device_map": "auto"}, None
    device = _device(name)
    return ({"device_map": {"": device}}, None) if quantised and device.type != "cpu" else ({}, device)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"no device '{name}'; {_WRITE}") from error
    if device.type == "meta":
        raise ModelError(f"device 'meta' holds no numbers; {_WRITE}")
    what, seen = _SEEN.get(device.type, ("", lambda: True))
    if not seen():
        raise ModelError(f"device '{name}' was asked for, but torch sees no {what}; use the cpu (--device cpu)")
    return device
