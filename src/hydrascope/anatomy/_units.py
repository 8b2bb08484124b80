"""Finds the units of a writer, at the input of its last projection.

Heads are counted by the key-value cache, or by the config where the cache tells nothing; neurons by the width of the
down projection's input. For routed experts see `_experts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hydrascope.anatomy._anatomy import HeadSite, NeuronSite
from hydrascope.anatomy._blocks import BlockWriter
from hydrascope.anatomy._precision import relative_error
from hydrascope.anatomy._trace import Trace

_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
_GROUPS = ("num_key_value_heads", "num_kv_heads", "multi_query_group_num")


@dataclass(frozen=True)
class KVGroups:
    """The key-value groups in a block's cache; only attention has some.

    Attributes:
        n_kv: number of key-value groups.
        width: size of a value vector.
    """

    n_kv: int
    width: int


def cached_groups(model: Any, ids: Tensor, n_layers: int) -> list[KVGroups | None]:
    """Read the key-value groups of each block off the model's own cache.

    Args:
        model: the model.
        ids: a few tokens, `[batch, tokens]`.
        n_layers: number of blocks.

    Returns:
        One entry for each block: None where it caches no keys and values, everywhere if the cache cannot be read.
    """
    nothing: list[KVGroups | None] = [None] * n_layers
    try:
        with torch.no_grad():
            cache = getattr(model(input_ids=ids, use_cache=True), "past_key_values", None)
        layers = list(cache.layers)  # type: ignore[union-attr]
    except Exception:  # the model's own code may fail here in any way; then its cache says nothing
        return nothing
    return [_groups(layer, ids) for layer in layers] if len(layers) == n_layers else nothing


def _groups(layer: Any, ids: Tensor) -> KVGroups | None:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    if not isinstance(keys, Tensor) or not isinstance(values, Tensor) or values.ndim != 4 or not keys.numel():
        return None
    return KVGroups(values.shape[1], values.shape[3]) if values.shape[0] == ids.shape[0] else None


def find_head_site(
    model: Any, trace: Trace, layer: int, found: BlockWriter, groups: KVGroups | None
) -> HeadSite | None:
    """Find the output projection of an attention writer and its heads.

    Args:
        model: the model.
        trace: a recorded forward pass of it.
        layer: block index, from 0.
        found: the attention writer; from a post-norm, the search goes back to the projection before it.
        groups: the block's cached key-value groups; where unknown, the config gives the number of heads.

    Returns:
        The site, or None if the writer has no projection whose input divides into heads.
    """
    path = _projection(model, trace, found)
    if path is None:
        return None
    width = _input(trace, path).shape[-1]
    config = model.config.get_text_config()
    n_heads = next((int(getattr(config, name)) for name in _HEADS if getattr(config, name, None)), 0)
    if groups is not None and width % groups.width == 0 and (width // groups.width) % groups.n_kv == 0:
        return HeadSite(layer, path, width // groups.width, groups.n_kv, groups.width)
    if not n_heads or width % n_heads:
        return None
    n_kv = next((int(getattr(config, name)) for name in _GROUPS if getattr(config, name, None)), n_heads)
    return HeadSite(layer, path, n_heads, n_kv if n_heads % n_kv == 0 else n_heads, width // n_heads)


def find_neuron_site(model: Any, trace: Trace, layer: int, found: BlockWriter) -> NeuronSite | None:
    """Find the down projection of an MLP writer.

    Returns:
        The site, or None if there is no single projection, as with routed experts.
    """
    path = _projection(model, trace, found)
    if path is None or _input(trace, path).numel() != trace.ids.numel() * _input(trace, path).shape[-1]:
        return None
    return NeuronSite(layer, path, _input(trace, path).shape[-1])


def splitting_error(model: Any, trace: Trace, path: str) -> float:
    """Relative error of "the writes of a projection's input halves sum to its write".

    Returns:
        The norm of the misfit over the norm of the write.
    """
    projection, call = model.get_submodule(path), trace.of(path)[0]
    assert call.input is not None
    assert call.output is not None
    left, right = call.input.clone(), call.input.clone()
    half = call.input.shape[-1] // 2
    left[..., half:], right[..., :half] = 0, 0
    with torch.no_grad():
        silent = projection(torch.zeros_like(left)).to(call.output).double()
        halves = projection(left).to(call.output).double() + projection(right).to(call.output).double()
    return relative_error(halves - silent, call.output)


def _projection(model: Any, trace: Trace, found: BlockWriter) -> str | None:
    """Path of the weight matrix that writes, or whose output the post-norm takes."""

    def is_projection(path: str) -> bool:
        weight = getattr(model.get_submodule(path), "weight", None)
        return weight is not None and weight.ndim == 2 and trace.of(path)[0].input is not None

    if is_projection(found.module):
        return found.module
    fed = trace.of(found.module)[0].input
    for call in trace.calls:
        same = call.output is not None and fed is not None and call.output.shape == fed.shape
        if same and is_projection(call.path) and torch.equal(call.output, fed):  # type: ignore[arg-type]
            return call.path
    return None


def _input(trace: Trace, path: str) -> Tensor:
    state = trace.of(path)[0].input
    assert state is not None
    return state
