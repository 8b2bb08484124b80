"""Attention with fewer key-value groups, where every block loses the same number of them.

The library has one width for all blocks, so that nothing else can become narrower. Whether the model is what it was
taken for here, the comparison of the written folder tells; if not, the groups stay as zeroed columns.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from hydrascope.anatomy import HeadSite, Model
from hydrascope.components import Component

_HEADS, _GROUPS, _WIDTH = "num_attention_heads", "num_key_value_heads", "head_dim"
"""What a config calls them, where its attention has the four projections by their usual names."""


def narrower(model: Model, network: Any, missing: Collection[Component]) -> tuple[Any, int]:
    """Copy a model whose missing parts are zeroed, without the key-value groups that are.

    Args:
        model: the whole model.
        network: from `smaller`; tensors that stay as they are are shared.
        missing: the parts that went.

    Returns:
        The copy, and how many groups every block has lost; the model itself and 0 where nothing can become narrower.
    """
    blocks = {part.layer for part in missing if part.kind == "layer"}
    sites = [site for site in model.anatomy.heads if site.layer not in blocks]
    gone = {site.layer: _groups(site, missing) for site in sites}
    shapes = {(site.n_heads, site.n_kv, len(gone[site.layer])) for site in sites}
    config = network.config.get_text_config()
    if len(shapes) != 1 or getattr(config, _HEADS, None) is None or getattr(config, _GROUPS, None) is None:
        return network, 0
    ((n_heads, n_kv, count),) = shapes
    if not 0 < count < n_kv or (config.num_attention_heads, config.num_key_value_heads) != (n_heads, n_kv):
        return network, 0
    found = copy.deepcopy(network, {id(one): one for one in (*network.parameters(), *network.buffers())})
    kept = [i for i in range(model.anatomy.n_layers) if i not in blocks]
    for site in sites:
        old = model.anatomy.layers[site.layer]
        path = site.module.replace(old, model.anatomy.layers[kept.index(site.layer)], 1)
        if (width := _narrow(found.get_submodule(path.rpartition(".")[0]), site, gone[site.layer])) is None:
            return network, 0
        setattr(found.config.get_text_config(), _WIDTH, width)
    setattr(found.config.get_text_config(), _HEADS, n_heads // n_kv * (n_kv - count))
    setattr(found.config.get_text_config(), _GROUPS, n_kv - count)
    return found, count


def _groups(site: HeadSite, missing: Collection[Component]) -> frozenset[int]:
    """Key-value groups of a block that are missing, as such or head by head."""
    here: Mapping[str, set[int]] = defaultdict(set)
    for part in missing:
        if part.layer == site.layer and part.unit is not None:
            here[part.kind].add(part.unit)
    each = site.n_heads // site.n_kv
    return frozenset(
        group
        for group in range(site.n_kv)
        if group in here["kv"] or set(range(group * each, (group + 1) * each)) <= here["head"]
    )


def _narrow(attention: Any, site: HeadSite, gone: Collection[int]) -> int | None:
    """Take groups out of an attention's four projections; the width of a head, None if it has others."""
    projections: list[Any] = [getattr(attention, f"{name}_proj", None) for name in "qkvo"]
    if not all(isinstance(one, nn.Linear) for one in projections):
        return None
    query, key, value, output = projections
    width = int(query.weight.shape[0]) // site.n_heads
    if (key.weight.shape[0], value.weight.shape[0]) != (site.n_kv * width,) * 2 or site.head_dim != width:
        return None
    groups = [group for group in range(site.n_kv) if group not in gone]
    each = site.n_heads // site.n_kv
    heads = [group * each + head for group in groups for head in range(each)]
    for projection, units in ((query, heads), (key, groups), (value, groups)):
        rows = _rows(units, width)
        projection.weight = _parameter(projection.weight, projection.weight.detach()[rows])
        if projection.bias is not None:
            projection.bias = _parameter(projection.bias, projection.bias.detach()[rows])
    output.weight = _parameter(output.weight, output.weight.detach()[:, _rows(heads, width)])
    return width


def _rows(units: Sequence[int], width: int) -> Int[Tensor, " rows"]:
    return (torch.tensor(units)[:, None] * width + torch.arange(width)).flatten()


def _parameter(old: nn.Parameter, new: Tensor) -> nn.Parameter:
    return nn.Parameter(new.clone(), requires_grad=old.requires_grad)
