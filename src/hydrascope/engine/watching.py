"""Attention that is watched: what its heads return with the weights and with the values of either run.

A head returns sum_j a_j v_j, weights a over keys j and their values v. Under a knock-out both change. What each
change does is told from four products, of clean and new weights with clean and new values; no weights are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from hydrascope.engine.layout import Layout

NAME = "hydrascope_watched"

T = TypeVar("T")


@dataclass(frozen=True)
class Crossed:
    """What the heads of one block return at every read position; variant 0 is the clean run.

    Attributes:
        clean: clean weights on clean values.
        looked: each variant's weights on clean values.
        valued: clean weights on each variant's values.
        own: each variant's weights on its own values, which is what its heads really return.
        moved: share of the weight that lies on other keys than in the clean run, a sink among the keys.
    """

    clean: Float[Tensor, "1 items heads dv"]
    looked: Float[Tensor, "variants items heads dv"]
    valued: Float[Tensor, "variants items heads dv"]
    own: Float[Tensor, "variants items heads dv"]
    moved: Float[Tensor, "variants items heads"]


@dataclass(frozen=True)
class Watch:
    """Who is told what attention does.

    Attributes:
        layout: of the push.
        tell: takes the attention module that was called, and what its heads return.
    """

    layout: Layout
    tell: Callable[[nn.Module, Crossed], None]


_WATCH: ContextVar[Watch | None] = ContextVar("hydrascope_watch", default=None)


def watch_now() -> Watch | None:
    """Whoever is to be told about the attention that is being computed."""
    return _WATCH.get()


@contextmanager
def attending(network: Any, name: str, variable: ContextVar[T], value: T) -> Iterator[None]:
    """Compute the model's attention by another function; its own comes back afterwards, whatever happens.

    Args:
        network: the model.
        name: under which the function is registered.
        variable: where the function finds what it needs.
        value: what that is.
    """
    before = network.config._attn_implementation
    token = variable.set(value)
    try:
        network.set_attn_implementation(name)
        yield
    finally:
        variable.reset(token)
        network.set_attn_implementation(before)


def watching(network: Any, watch: Watch) -> AbstractContextManager[None]:
    """Compute the model's attention where it can be watched."""
    return attending(network, NAME, _WATCH, watch)


def watched_attention(
    module: nn.Module,
    query: Float[Tensor, "rows heads tokens dk"],
    key: Float[Tensor, "rows kv keys dk"],
    value: Float[Tensor, "rows kv keys dv"],
    attention_mask: Float[Tensor, "_ _ _ _"] | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Float[Tensor, " heads"] | None = None,
    **ignored: Any,
) -> tuple[Float[Tensor, "rows tokens heads dv"], None]:
    """Plain attention of every row to keys of its own, told to the watch.

    Args:
        module: the model's attention module.
        query: of every token.
        key: one for each group of heads.
        value: likewise.
        attention_mask: added to the scores; sliding windows are in it.
        scaling: multiplier of the scores; 1/sqrt(dk) if not given.
        dropout: ignored; the model is in eval mode.
        softcap: c of c * tanh(scores / c).
        s_aux: one sink logit per head, which takes weight and gives no value.
        **ignored: what else the module hands over; proofs and accounts show whether it matters.

    Returns:
        The heads' outputs, and no weights.
    """
    rows, heads, tokens, dk = query.shape
    kv, keys = value.shape[1:3]
    scaled = query * (dk**-0.5 if scaling is None else scaling)
    scores = (scaled.reshape(rows, kv, -1, dk) @ key.transpose(-1, -2)).view(rows, heads, tokens, keys)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is not None:
        scores = scores + attention_mask[..., :keys]
    if s_aux is not None:
        scores = torch.cat([scores, s_aux.to(scores).view(1, -1, 1, 1).expand(rows, -1, tokens, 1)], -1)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    returned = weights[..., :keys].reshape(rows, kv, -1, keys) @ value
    if (watch := watch_now()) is not None:
        watch.tell(module, crossed(watch.layout, weights, value))
    return returned.view(rows, heads, tokens, -1).transpose(1, 2).contiguous(), None


def crossed(
    layout: Layout, weights: Float[Tensor, "rows heads tokens _"], value: Float[Tensor, "rows kv keys dv"]
) -> Crossed:
    """The four products at the read positions.

    Args:
        layout: of the push.
        weights: of every row, those of a sink behind those of the keys.
        value: of every row.
    """
    kv, keys, dv = value.shape[1:]
    heads, read = weights.shape[1], len(layout.read)
    shape = (-1, layout.prompts, kv, heads // kv * read)
    w = weights[:, :, list(layout.read)].float().reshape(*shape, weights.shape[-1])
    v = value.float().reshape(-1, layout.prompts, kv, keys, dv)

    def by_item(tensor: Float[Tensor, "variants prompts kv _ *dv"]) -> Float[Tensor, "variants items heads *dv"]:
        rows: Tensor = tensor.unflatten(3, (heads // kv, read))
        return rows.movedim(4, 2).flatten(3, 4).flatten(1, 2)

    def on(some: Tensor, values: Tensor) -> Tensor:
        return by_item(some[..., :keys] @ values)

    moved = by_item((w - w[:1]).abs().sum(-1) / 2)
    return Crossed(on(w[:1], v[:1]), on(w, v[:1]), on(w[:1], v), on(w, v), moved)


AttentionInterface.register(NAME, watched_attention)
AttentionMaskInterface.register(NAME, eager_mask)
