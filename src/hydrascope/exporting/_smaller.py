"""A model in memory without some parts, which shares all other weights with the whole one.

What a part leaves in its place goes into the bias of the projection that wrote it, if there is one.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from hydrascope.anatomy import Model
from hydrascope.components import Component
from hydrascope.engine import Constants
from hydrascope.errors import ExportRefused
from hydrascope.exporting._config import shorten


def smaller(model: Model, missing: Collection[Component], constants: Mapping[Component, Constants]) -> Any:
    """Copy a model without some parts: without blocks, and with zeros where smaller parts write.

    Args:
        model: the model.
        missing: its parts that go.
        constants: what they leave in their places; a part that is not among them leaves nothing.

    Raises:
        ExportRefused: it cannot be saved without them.
    """
    _require_plain(model)
    constants = {part: some for part, some in constants.items() if any(value.any() for value in some)}
    blocks = {part.layer for part in missing if part.kind == "layer"}
    kept = [i for i in range(model.anatomy.n_layers) if i not in blocks]
    if not kept:
        raise ExportRefused("a model without any block is none; keep at least one")
    # tensors stay the model's own, all else is copied
    shared = {id(one): one for one in chain(model.network.parameters(), model.network.buffers())}
    network = copy.deepcopy(model.network, shared)
    for module, cuts in _cuts(model, missing, blocks, constants).items():
        _cut(network.get_submodule(module), cuts, module)
    if blocks:
        _shorten(network, model.anatomy.layers, kept)
    return network


def require_savable(model: Model, parts: Sequence[Component], count: int, *, constant: bool) -> None:
    """Refuse, before anything is computed, parts of which too few can go for a smaller model to be saved.

    Args:
        model: the model.
        parts: the parts that can be chosen.
        count: how many of them are to go.
        constant: whether they leave something in their places, which a bias must hold.

    Raises:
        ExportRefused: of the first part that cannot go.
    """
    _require_plain(model)
    if any(part.kind == "layer" for part in parts):
        _require_list(model.network, model.anatomy.layers)
    refused: list[ExportRefused] = []
    for number, part in enumerate(parts):
        if number - len(refused) >= count:
            return
        blocks = {part.layer} if part.kind == "layer" else ()
        left = {part: tuple(torch.ones(place.width) for place in model.anatomy.places(part))} if constant else {}
        try:
            for module, cuts in _cuts(model, [part], blocks, left).items():
                _require_bias(model.network.get_submodule(module), cuts, module)
        except ExportRefused as error:
            refused.append(error)
    if len(parts) - len(refused) < count:
        raise refused[0]


def _require_plain(model: Model) -> None:
    source = model.source
    if source.packing or (source.adapter and not source.merged):
        what = f"are packed ({source.packing})" if source.packing else "have an adapter beside them"
        raise ExportRefused(f"the weights of '{source.label}' {what}; open it without to save it without parts")
    if len(model.devices) > 1 or any(weight.is_meta for weight in model.network.parameters()):
        raise ExportRefused(f"'{source.label}' is spread over devices; open it with --device cpu to save it")
    if not type(model.network).__module__.startswith("transformers."):
        raise ExportRefused(
            f"'{source.label}' needs code of its own, which cannot be saved with it; choose a model of the library"
        )


def _shorten(network: Any, layers: tuple[str, ...], kept: list[int]) -> None:
    """Drop blocks from the list that holds them, and from the config."""
    container = _require_list(network, layers)
    blocks = [container[i] for i in kept]
    del container[len(kept) :]
    for number, block in enumerate(blocks):
        container[number] = block
    shorten(network.config.get_text_config(), len(layers), kept)


def _require_list(network: Any, layers: tuple[str, ...]) -> nn.ModuleList:
    """The one list that holds all blocks."""
    places = {path.rpartition(".")[0] for path in layers}
    container = network.get_submodule(next(iter(places)))
    if len(places) > 1 or not isinstance(container, nn.ModuleList) or len(container) != len(layers):
        raise ExportRefused(f"the blocks of '{type(network).__name__}' are in no single list, so none can be removed")
    return container


_All = slice(None)


@dataclass(frozen=True)
class _Cut:
    """Inputs of an output projection that no longer count.

    Attributes:
        span: which; all of them for a whole writer.
        left: what stands in their place, for a whole writer what it writes; None for nothing.
    """

    span: slice
    left: Tensor | None


def _cuts(
    model: Model,
    missing: Collection[Component],
    blocks: Collection[int],
    constants: Mapping[Component, Constants],
) -> dict[str, list[_Cut]]:
    """What is cut at each output projection."""
    found: dict[str, list[_Cut]] = defaultdict(list)
    for part in missing:
        left = constants.get(part)
        if part.kind == "layer" and left is not None:
            raise ExportRefused(
                f"a block that is gone has no bias for the constant that {part} was replaced by; choose --replace "
                "removal, or smaller units"
            )
        if part.layer in blocks:
            continue
        if part.kind in ("attn", "mlp", "mixer"):
            if left is not None and len(left) > 1:
                raise ExportRefused(f"{part} writes by several modules, none of which has its constant's place")
            found[_projection(model, part)].append(_Cut(_All, None if left is None else left[0]))
        else:
            for number, place in enumerate(model.anatomy.places(part)):
                if place.site.side != "input":
                    raise ExportRefused(f"{part} is no column of a projection; remove its whole {part.kind} or block")
                found[place.site.module].append(_Cut(place.span, None if left is None else left[number]))
    return found


def _projection(model: Model, part: Component) -> str:
    """The projection through which all that a writer writes goes."""
    sites = [*model.anatomy.heads] if part.kind == "attn" else [*model.anatomy.neurons]
    path = next((site.module for site in sites if site.layer == part.layer), None)
    if path is None:
        raise ExportRefused(f"{part} has no single output projection to be zeroed; remove its whole block")
    return path


def _cut(module: Any, cuts: list[_Cut], path: str) -> None:
    """Zero columns of a projection, on a weight of its own; what is left in their place goes into its bias."""
    weight = module.weight.detach().clone()
    inputs = weight if isinstance(module, nn.Linear) else weight.T  # GPT-2 keeps its projections transposed
    _require_bias(module, cuts, path)
    bias = getattr(module, "bias", None)
    added = torch.zeros(()) if bias is None else bias.detach().double()
    for cut in sorted(cuts, key=lambda cut: cut.span != _All):
        if cut.span == _All:
            added = torch.zeros_like(added) if cut.left is None else cut.left.to(added)
        elif cut.left is not None:
            added = added + inputs[:, cut.span].double() @ cut.left.to(added)
        inputs[:, cut.span] = 0
    module.weight = nn.Parameter(weight, requires_grad=module.weight.requires_grad)
    if bias is not None:
        module.bias = nn.Parameter(added.to(bias), requires_grad=bias.requires_grad)


def _require_bias(module: Any, cuts: Collection[_Cut], path: str) -> None:
    if getattr(module, "bias", None) is None and any(cut.left is not None for cut in cuts):
        raise ExportRefused(
            f"'{path}' has no bias for the constant that takes the place of what it wrote; choose --replace removal"
        )
