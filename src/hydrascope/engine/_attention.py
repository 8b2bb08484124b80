"""Instrumented attention, for models on the attention interface.

`shared_prefix` lets rows of a single token attend to the one copy of their prompt's keys and values, in one matrix
product for all rows of a prompt. `recording` is plain attention of whole rows. A head returns sum_j a_j v_j, weights a
over keys j and their values v; both functions can record that for clean and new weights on clean and new values. The
four products are kept, never the weights. Rotary embeddings, grouped queries, query-key norms and scaling are the
work of the model's own attention module, before it calls these functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import DynamicCache
from transformers.masking_utils import eager_mask

from hydrascope.engine._positions import Layout

RECORDED = "hydrascope_recorded"

T = TypeVar("T")


@dataclass(frozen=True)
class PatternValueProducts:
    """What the heads of one block return at every read position; intervention 0 is the clean run.

    Attributes:
        clean: clean weights on clean values.
        looked: each intervention's weights on clean values.
        valued: clean weights on each intervention's values.
        own: each intervention's weights on its own values, which is what its heads return.
        moved: share of the weight that lies on other keys (a sink is one) than in the clean run.
    """

    clean: Float[Tensor, "1 items heads dv"]
    looked: Float[Tensor, "interventions items heads dv"]
    valued: Float[Tensor, "interventions items heads dv"]
    own: Float[Tensor, "interventions items heads dv"]
    moved: Float[Tensor, "interventions items heads"]


@dataclass(frozen=True)
class Recorder:
    """Takes each attention module that is called in a forward, and its heads' products."""

    layout: Layout
    record: Callable[[nn.Module, PatternValueProducts], None]


_RECORDER: ContextVar[Recorder | None] = ContextVar("hydrascope_recorder", default=None)


def current_recorder() -> Recorder | None:
    """The recorder of the attention that is being computed, if any."""
    return _RECORDER.get()


@contextmanager
def attending(network: Any, name: str, variable: ContextVar[T], value: T) -> Iterator[None]:
    """Let a registered function, which reads `value`, compute the model's attention."""
    before = network.config._attn_implementation
    token = variable.set(value)
    try:
        network.set_attn_implementation(name)
        yield
    finally:
        variable.reset(token)
        network.set_attn_implementation(before)


def recording(network: Any, recorder: Recorder) -> AbstractContextManager[None]:
    """Compute the model's attention by a function that records it."""
    return attending(network, RECORDED, _RECORDER, recorder)


_WATCHER: ContextVar[Callable[[nn.Module, Tensor], Tensor] | None] = ContextVar("hydrascope_watcher", default=None)


@contextmanager
def watching(
    network: Any, see: Callable[[nn.Module, Tensor], Tensor], prefix: Sequence[KeysValues] = ()
) -> Iterator[None]:
    """Let `see` take the weights of each attention module, before values are summed with them.

    It gets them by row, head, query and key, or, of single tokens with a shared prefix, by prompt, key-value group,
    intervention, head of the group and key, and returns what goes on. This holds while gradients are enabled.

    Args:
        network: the model, on the attention interface.
        see: takes the module and its weights.
        prefix: keys and values that single tokens attend to; none for whole rows.
    """
    token = _WATCHER.set(see)
    try:
        with shared_prefix(network, prefix) if prefix else attending(network, RECORDED, _RECORDER, None):
            yield
    finally:
        _WATCHER.reset(token)


def _watched(module: nn.Module, weights: Tensor) -> Tensor:
    see = _WATCHER.get()
    return weights if see is None else see(module, weights)


def recorded_attention(
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
    """Plain attention of every row to its own keys, recorded.

    Called as `shared_prefix_attention` is, but with all tokens; sliding windows are in the mask, which is added to the
    scores.
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
    weights = _watched(module, scores.softmax(-1, dtype=torch.float32).to(value.dtype))
    returned = weights[..., :keys].reshape(rows, kv, -1, keys) @ value
    if (recorder := current_recorder()) is not None:
        recorder.record(module, products(recorder.layout, weights, value))
    return returned.view(rows, heads, tokens, -1).transpose(1, 2).contiguous(), None


def products(
    layout: Layout, weights: Float[Tensor, "rows heads tokens _"], value: Float[Tensor, "rows kv keys dv"]
) -> PatternValueProducts:
    """The four products at the read positions; a sink's weight comes behind those of the keys."""
    kv, keys, dv = value.shape[1:]
    heads, read = weights.shape[1], len(layout.read)
    shape = (-1, layout.prompts, kv, heads // kv * read)
    w = weights[:, :, list(layout.read)].float().reshape(*shape, weights.shape[-1])
    v = value.float().reshape(-1, layout.prompts, kv, keys, dv)

    def by_item(
        tensor: Float[Tensor, "interventions prompts kv _ *dv"],
    ) -> Float[Tensor, "interventions items heads *dv"]:
        rows: Tensor = tensor.unflatten(3, (heads // kv, read))
        return rows.movedim(4, 2).flatten(3, 4).flatten(1, 2)

    def on(some: Tensor, values: Tensor) -> Tensor:
        return by_item(some[..., :keys] @ values)

    moved = by_item((w - w[:1]).abs().sum(-1) / 2)
    return PatternValueProducts(on(w[:1], v[:1]), on(w, v[:1]), on(w[:1], v), on(w, v), moved)


AttentionInterface.register(RECORDED, recorded_attention)
AttentionMaskInterface.register(RECORDED, eager_mask)


SHARED_PREFIX = "hydrascope_shared_prefix"

KeysValues = tuple[Float[Tensor, "prompts _ prefix _"], Float[Tensor, "prompts _ prefix _"]]
"""Keys and values of one block; groups and widths differ between the blocks of some models."""

_PREFIX: ContextVar[Sequence[KeysValues]] = ContextVar("hydrascope_prefix")


def shared_prefix_attention(
    module: nn.Module,
    query: Float[Tensor, "rows heads 1 dk"],
    key: Float[Tensor, "rows kv 1 dk"],
    value: Float[Tensor, "rows kv 1 dv"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Float[Tensor, " heads"] | None = None,
    **ignored: Any,
) -> tuple[Float[Tensor, "rows 1 heads dv"], None]:
    """softmax(scaling * q [K_prefix, k]^T) [V_prefix, v] for every row; with soft-cap, window and sinks where used.

    Args:
        module: the model's attention module; its `layer_idx` selects the prefix.
        query: one query per row.
        key: each row's own key.
        value: each row's own value.
        attention_mask: ignored; there is nothing to the right of the last token.
        scaling: multiplier of the scores; 1/sqrt(dk) if not given.
        dropout: ignored; the model is in eval mode.
        sliding_window: number of positions a query sees, itself included.
        softcap: c of c * tanh(scores / c).
        s_aux: one sink logit per head, which takes weight and gives no value.
        **ignored: anything else the module hands over; the engine's proof shows whether it matters.

    Returns:
        The heads' outputs, and no weights.
    """
    keys, values = _PREFIX.get()[cast(int, module.layer_idx)]
    if sliding_window is not None:
        first = max(0, keys.shape[2] - (sliding_window - 1))
        keys, values = keys[:, :, first:], values[:, :, first:]
    rows, heads, _, dk = query.shape
    prompts, kv, tokens, dv = values.shape
    n, g = rows // prompts, heads // kv
    scale = dk**-0.5 if scaling is None else scaling
    if torch.is_grad_enabled():
        q = _by_prompt(query, n, prompts, kv) * scale
        own = _by_prompt(key, n, prompts, kv), _by_prompt(value, n, prompts, kv)
        return _differentiable(module, q, *own, keys, values, softcap, s_aux).view(rows, 1, heads, dv), None
    # Rows are brought into prompt-major order while they are scaled, and back while the own value is added, so that
    # each tensor is passed over once.
    q = query.new_empty(prompts, kv, n, g, dk)
    torch.mul(_by_prompt(query, n, prompts, kv), scale, out=q)
    own_key, own_value = _by_prompt(key, n, prompts, kv), _by_prompt(value, n, prompts, kv)
    scores = query.new_empty(prompts, kv, n, g, tokens + 1 + (s_aux is not None))
    scores[..., :tokens] = (q.view(prompts, kv, n * g, dk) @ keys.transpose(-1, -2)).view(prompts, kv, n, g, tokens)
    torch.sum(q * own_key, -1, out=scores[..., tokens])
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if s_aux is not None:
        scores[..., -1] = s_aux.view(1, kv, 1, g)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    seen = weights.view(prompts, kv, n * g, -1)[..., :tokens] @ values
    out = query.new_empty(n, prompts, kv, g, dv)
    torch.addcmul(
        seen.view(prompts, kv, n, g, dv).permute(2, 0, 1, 3, 4),
        weights[..., tokens : tokens + 1].permute(2, 0, 1, 3, 4),
        own_value.permute(2, 0, 1, 3, 4),
        out=out,
    )
    if (recorder := current_recorder()) is not None:
        recorder.record(module, _products(weights, seen.view(prompts, kv, n, g, dv), own_value, tokens))
    return out.view(rows, 1, heads, dv), None


def _products(
    weights: Float[Tensor, "prompts kv n group _"],
    seen: Float[Tensor, "prompts kv n group dv"],
    own_value: Float[Tensor, "prompts kv n _ dv"],
    tokens: int,
) -> PatternValueProducts:
    """The four products of single-token rows; only a row's own value can differ."""
    w, seen, value = weights.float(), seen.float(), own_value.float()
    own = w[..., tokens : tokens + 1]

    def by_row(tensor: Float[Tensor, "prompts kv _ group *dv"]) -> Float[Tensor, "_ prompts heads *dv"]:
        return tensor.movedim(2, 0).flatten(2, 3)

    clean_seen, clean_own, clean_value = seen[:, :, :1], own[:, :, :1], value[:, :, :1]
    return PatternValueProducts(
        clean=by_row(clean_seen + clean_own * clean_value),
        looked=by_row(seen + own * clean_value),
        valued=by_row(clean_seen + clean_own * value),
        own=by_row(seen + own * value),
        moved=by_row((w - w[:, :, :1]).abs().sum(-1) / 2),
    )


def _differentiable(
    module: nn.Module,
    q: Float[Tensor, "prompts kv n group dk"],
    own_key: Float[Tensor, "prompts kv n _ dk"],
    own_value: Float[Tensor, "prompts kv n _ dv"],
    keys: Float[Tensor, "prompts kv prefix dk"],
    values: Float[Tensor, "prompts kv prefix dv"],
    softcap: float | None,
    s_aux: Float[Tensor, " heads"] | None,
) -> Float[Tensor, "n prompts kv group dv"]:
    """Shared-prefix attention that keeps every step for gradients, as buffers would not."""
    tokens = keys.shape[2]
    scores = torch.cat(
        [(q.flatten(2, 3) @ keys.transpose(-1, -2)).view(*q.shape[:-1], tokens), (q * own_key).sum(-1, keepdim=True)],
        -1,
    )
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if s_aux is not None:
        sinks = s_aux.to(scores).view(1, q.shape[1], 1, q.shape[3], 1)
        scores = torch.cat([scores, sinks.expand(*scores.shape[:-1], 1)], -1)
    weights = _watched(module, scores.softmax(-1, dtype=torch.float32).to(values.dtype))
    seen = (weights.flatten(2, 3)[..., :tokens] @ values).view(*q.shape[:-1], -1)
    return (seen + weights[..., tokens : tokens + 1] * own_value).permute(2, 0, 1, 3, 4).contiguous()


def _by_prompt(
    rows: Float[Tensor, "rows heads 1 d"], n: int, prompts: int, kv: int
) -> Float[Tensor, "prompts kv n group d"]:
    return rows.view(n, prompts, kv, -1, rows.shape[-1]).permute(1, 2, 0, 3, 4)


AttentionInterface.register(SHARED_PREFIX, shared_prefix_attention)
AttentionMaskInterface.register(SHARED_PREFIX, lambda *args, **kwargs: None)


class OwnOnly(DynamicCache):  # type: ignore[misc]  # the library is not typed
    """A cache that returns a token's own key and value; the attention function fetches the prefix."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Return the new key and value alone."""
        return key_states, value_states

    def get_seq_length(self, *args: Any, **kwargs: Any) -> int:
        """Zero: nothing is kept."""
        return 0


def shared_prefix(network: Any, prefix: Sequence[KeysValues]) -> AbstractContextManager[None]:
    """Let the model attend to `prefix`."""
    return attending(network, SHARED_PREFIX, _PREFIX, prefix)
