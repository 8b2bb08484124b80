"""Attention of one token per row to its prompt's shared prefix and to itself.

Rows are ordered variant-major (row = variant * prompts + prompt). Keys and values of the prefix exist once per prompt;
all rows of a prompt read them in one matrix product. Rotary embeddings, grouped queries, query-key norms and scaling
have been applied by the model's own attention module before it calls this function.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import DynamicCache

from hydrascope.engine.watching import Crossed, attending, watch_now

NAME = "hydrascope_shared_prefix"

KeysValues = tuple[Float[Tensor, "prompts _ prefix _"], Float[Tensor, "prompts _ prefix _"]]
"""One block's keys and values; groups and widths differ between the blocks of some models."""

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
        **ignored: what else the module hands over; the engine's proof shows whether it matters.
        s_aux: one sink logit per head, which takes weight and gives no value.

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
        return _differentiable(q, *own, keys, values, softcap, s_aux).view(rows, 1, heads, dv), None
    # Rows are brought into prompt-major order while they are scaled, and back while the own value is added: each
    # tensor is passed over once.
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
    if (watch := watch_now()) is not None:
        watch.tell(module, _crossed(weights, seen.view(prompts, kv, n, g, dv), own_value, tokens))
    return out.view(rows, 1, heads, dv), None


def _crossed(
    weights: Float[Tensor, "prompts kv n group _"],
    seen: Float[Tensor, "prompts kv n group dv"],
    own_value: Float[Tensor, "prompts kv n _ dv"],
    tokens: int,
) -> Crossed:
    """Weights and values of the rows and of the clean row crossed; of all values only a row's own can differ."""
    w, seen, value = weights.float(), seen.float(), own_value.float()
    own = w[..., tokens : tokens + 1]

    def by_row(tensor: Float[Tensor, "prompts kv _ group *dv"]) -> Float[Tensor, "_ prompts heads *dv"]:
        return tensor.movedim(2, 0).flatten(2, 3)

    clean_seen, clean_own, clean_value = seen[:, :, :1], own[:, :, :1], value[:, :, :1]
    return Crossed(
        clean=by_row(clean_seen + clean_own * clean_value),
        looked=by_row(seen + own * clean_value),
        valued=by_row(clean_seen + clean_own * value),
        own=by_row(seen + own * value),
        moved=by_row((w - w[:, :, :1]).abs().sum(-1) / 2),
    )


def _differentiable(
    q: Float[Tensor, "prompts kv n group dk"],
    own_key: Float[Tensor, "prompts kv n _ dk"],
    own_value: Float[Tensor, "prompts kv n _ dv"],
    keys: Float[Tensor, "prompts kv prefix dk"],
    values: Float[Tensor, "prompts kv prefix dv"],
    softcap: float | None,
    s_aux: Float[Tensor, " heads"] | None,
) -> Float[Tensor, "n prompts kv group dv"]:
    """The same with every step kept, for gradients; scores and sums in buffers of their own know none."""
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
    weights = scores.softmax(-1, dtype=torch.float32).to(values.dtype)
    seen = (weights.flatten(2, 3)[..., :tokens] @ values).view(*q.shape[:-1], -1)
    return (seen + weights[..., tokens : tokens + 1] * own_value).permute(2, 0, 1, 3, 4).contiguous()


def _by_prompt(
    rows: Float[Tensor, "rows heads 1 d"], n: int, prompts: int, kv: int
) -> Float[Tensor, "prompts kv n group d"]:
    return rows.view(n, prompts, kv, -1, rows.shape[-1]).permute(1, 2, 0, 3, 4)


AttentionInterface.register(NAME, shared_prefix_attention)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)


class OwnOnly(DynamicCache):  # type: ignore[misc]  # the library is not typed
    """A cache that hands a token's own key and value straight back; the prefix is fetched by the attention function."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The new key and value, alone."""
        return key_states, value_states

    def get_seq_length(self, *args: Any, **kwargs: Any) -> int:
        """Nothing is kept."""
        return 0


def shared_prefix(network: Any, prefix: Sequence[KeysValues]) -> AbstractContextManager[None]:
    """Let the model attend to `prefix`."""
    return attending(network, NAME, _PREFIX, prefix)
