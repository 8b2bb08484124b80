"""One knock-out at a time by a full forward pass in float64, for models whose writers were found and not written down.

Where things are is taken from the anatomy; everything else is plain: no cache, no batch, no prefix, one hook a place.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from reference import DoubleEverywhere
from torch import Tensor, nn

from hydrascope.anatomy import Anatomy, Place


@dataclass(frozen=True)
class Account:
    """What one forward pass says about one target.

    Attributes:
        writes: what every writer adds to the residual stream at the last token.
        logit: the target's logit minus the mean, before a soft-cap.
        values: what each watched module took or returned there.
    """

    writes: Tensor
    logit: float
    values: dict[str, Tensor]


def slow_copy(network: Any) -> Any:
    """A copy in float64, or in float32 where the family's code insists on it (its rounding is then some 1e-6)."""
    copied = copy.deepcopy(network).double().eval()
    if hasattr(copied.config, "_experts_implementation"):
        copied.config._experts_implementation = "eager"
    try:
        with torch.no_grad(), DoubleEverywhere():
            copied(input_ids=torch.tensor([[1, 2, 3]]), use_cache=False)
    except RuntimeError:
        return copied.float()
    return copied


@torch.no_grad()
def account(
    network: Any, anatomy: Anatomy, ids: Sequence[int], target: int, edits: Sequence[tuple[Place, Tensor]] = ()
) -> Account:
    """Run one prompt with some places replaced at its last token.

    Args:
        network: made by `slow_copy`.
        anatomy: where its writers are.
        ids: the prompt.
        target: the token whose logit is read.
        edits: what is put where.
    """
    seen: dict[str, Tensor] = {}
    handles = []

    def last(tensor: Tensor) -> Tensor:
        return tensor.reshape(len(ids), -1)[-1]

    def replaced(tensor: Tensor, name: str) -> Tensor:
        tensor = tensor.clone(memory_format=torch.contiguous_format)
        for place, value in edits:
            if str(place.site) == name:
                tensor.view(len(ids), -1)[-1, place.span] = value.to(tensor)
        seen[name] = last(tensor).clone()
        return tensor

    def watch(path: str, side: str) -> None:
        name, module = f"{path}@{side}", network.get_submodule(path)

        def before(_: nn.Module, args: tuple[Any, ...]) -> Any:
            return (replaced(args[0], name), *args[1:])

        def after(_: nn.Module, __: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (replaced(output[0], name), *output[1:])
            return replaced(output, name)

        hook = module.register_forward_pre_hook(before) if side == "input" else module.register_forward_hook(after)
        handles.append(hook)

    for path in {module for writer in anatomy.writers for module in writer.modules}:
        watch(path, "output")
    for path in {place.site.module for place, _ in edits if place.site.side == "input"}:
        watch(path, "input")
    handles.append(
        network.get_submodule(anatomy.tail.head).register_forward_hook(
            lambda _, __, logits: seen.__setitem__("logits", logits[0, -1].clone())
        )
    )
    in_double = next(network.parameters()).dtype is torch.float64
    try:
        with DoubleEverywhere() if in_double else nullcontext():
            network(input_ids=torch.tensor([list(ids)]), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    writes = [
        sum(gain * seen[f"{path}@output"].double() for path, gain in zip(writer.modules, writer.gains, strict=True))
        for writer in anatomy.writers
    ]
    logits = seen["logits"].double() * anatomy.tail.scale
    return Account(torch.stack(writes), float(logits[target] - logits.mean()), seen)
