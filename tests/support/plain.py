"""One knock-out at a time by a full forward pass in float64, for models whose writers were found and not written down.

Where things are is taken from the anatomy; everything else is plain: no cache, no batch, no prefix, one hook a place.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hydrascope.anatomy import Anatomy, ExpertSite, Place
from tests.support.reference import DoubleEverywhere

Routing = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Account:
    """What one forward pass says about one target.

    Attributes:
        writes: what every writer adds to the residual stream at the last token.
        logit: the target's logit minus the mean, before a soft-cap.
        values: what each watched module took or returned there.
        routings: for each module that holds experts, whom the last token asks and at which weights.
    """

    writes: Tensor
    logit: float
    values: dict[str, Tensor]
    routings: dict[str, Routing]


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
    network: Any,
    anatomy: Anatomy,
    ids: Sequence[int],
    target: int,
    edits: Sequence[tuple[Place, Tensor]] = (),
    hold: Mapping[str, Routing] | None = None,
) -> Account:
    """Run one prompt with some places replaced at its last token.

    Args:
        network: made by `slow_copy`.
        anatomy: where its writers are.
        ids: the prompt.
        target: the token whose logit is read.
        edits: what is put where.
        hold: modules that hold experts whose last token is sent where these routings say.
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

    routings: dict[str, Routing] = {}
    for site in anatomy.experts:
        handles += _watch_experts(network, site, edits, (hold or {}).get(site.module), routings)

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
        torch.stack(
            [g * seen[f"{path}@output"].double() for path, g in zip(writer.modules, writer.gains, strict=True)]
        ).sum(0)
        for writer in anatomy.writers
    ]
    logits = seen["logits"].double() * anatomy.tail.scale
    return Account(torch.stack(writes), float(logits[target] - logits.mean()), seen, routings)


def _watch_experts(
    network: Any,
    site: ExpertSite,
    edits: Sequence[tuple[Place, Tensor]],
    held: Routing | None,
    routings: dict[str, Routing],
) -> list[Any]:
    """Hooks that hold a routing, and that make one expert of the last token silent and add what replaces it."""

    def called(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[Any, Any]:
        return {**dict[Any, Any](enumerate(args)), **kwargs}

    def split(given: dict[int | str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        by_name = {key: value for key, value in given.items() if isinstance(key, str)}
        return tuple(value for key, value in given.items() if isinstance(key, int)), by_name

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = called(args, kwargs)
        if held is not None:
            for key, value in zip((site.index, site.weight), held, strict=True):
                given[key] = torch.cat([given[key][:-1], value[None]])
        routings[site.module] = given[site.index][-1].clone(), given[site.weight][-1].clone()
        return split(given)

    def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        replaced = [(place.site.expert, value) for place, value in edits if place.site.module == site.module]
        replaced = [(expert, value) for expert, value in replaced if expert >= 0]
        if not replaced:
            return output
        given = called(args, kwargs)
        weight = given[site.weight].clone()
        for expert, _ in replaced:
            weight[-1][given[site.index][-1] == expert] = 0
        args, kwargs = split({**given, site.weight: weight})
        without = module.forward(*args, **kwargs).clone()
        without[-1] += sum(value.to(without) for _, value in replaced)
        return without

    module = network.get_submodule(site.module)
    return [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after, with_kwargs=True),
    ]
