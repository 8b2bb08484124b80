"""A model in memory without some parts, which shares all other weights with the whole one."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Collection
from itertools import chain
from typing import Any

import torch
from torch import nn

from hydrascope.anatomy import Model
from hydrascope.components import Component
from hydrascope.errors import ExportRefused
from hydrascope.exporting._config import shorten


def smaller(model: Model, missing: Collection[Component]) -> Any:
    """Copy a model without some parts: without blocks, and with zeros where smaller parts write.

    Args:
        model: the model.
        missing: its parts that go.

    Raises:
        ExportRefused: it cannot be saved without them.
    """
    _require_plain(model)
    blocks = {part.layer for part in missing if part.kind == "layer"}
    kept = [i for i in range(model.anatomy.n_layers) if i not in blocks]
    if not kept:
        raise ExportRefused("a model without any block is none; keep at least one")
    # tensors stay the model's own, all else is copied
    shared = {id(one): one for one in chain(model.network.parameters(), model.network.buffers())}
    network = copy.deepcopy(model.network, shared)
    for module, columns in _columns(model, missing, blocks).items():
        _zero(network.get_submodule(module), columns)
    if blocks:
        _shorten(network, model.anatomy.layers, kept)
    return network


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
    places = {path.rpartition(".")[0] for path in layers}
    container = network.get_submodule(next(iter(places)))
    if len(places) > 1 or not isinstance(container, nn.ModuleList) or len(container) != len(layers):
        raise ExportRefused(f"the blocks of '{type(network).__name__}' are in no single list, so none can be removed")
    blocks = [container[i] for i in kept]
    del container[len(kept) :]
    for number, block in enumerate(blocks):
        container[number] = block
    shorten(network.config.get_text_config(), len(layers), kept)


_All = slice(None)


def _columns(model: Model, missing: Collection[Component], blocks: Collection[int]) -> dict[str, list[slice]]:
    """Inputs of each output projection that must no longer count; all of them for a whole writer."""
    found: dict[str, list[slice]] = defaultdict(list)
    for part in missing:
        if part.layer in blocks:
            continue
        if part.kind in ("attn", "mlp", "mixer"):
            found[_projection(model, part)].append(_All)
        else:
            for place in model.anatomy.places(part):
                if place.site.side != "input":
                    raise ExportRefused(f"{part} is no column of a projection; remove its whole {part.kind} or block")
                found[place.site.module].append(place.span)
    return found


def _projection(model: Model, part: Component) -> str:
    """The projection through which all that a writer writes goes."""
    sites = [*model.anatomy.heads] if part.kind == "attn" else [*model.anatomy.neurons]
    path = next((site.module for site in sites if site.layer == part.layer), None)
    if path is None:
        raise ExportRefused(f"{part} has no single output projection to be zeroed; remove its whole block")
    return path


def _zero(module: Any, columns: list[slice]) -> None:
    """Zero columns of a projection, on a weight of its own; with all of them its bias goes too."""
    weight = module.weight.detach().clone()
    inputs = weight if isinstance(module, nn.Linear) else weight.T  # GPT-2 keeps its projections transposed
    for span in columns:
        inputs[:, span] = 0
    module.weight = nn.Parameter(weight, requires_grad=module.weight.requires_grad)
    if _All in columns and getattr(module, "bias", None) is not None:
        module.bias = nn.Parameter(torch.zeros_like(module.bias), requires_grad=module.bias.requires_grad)
