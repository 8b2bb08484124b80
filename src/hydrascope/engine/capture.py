"""The clean pass: whole prompts through the untouched model, keeping the prefix and the last token's activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from hydrascope.anatomy import Model, Site, hooked
from hydrascope.engine.attention import KeysValues
from hydrascope.engine.experts import keep_experts
from hydrascope.errors import AnatomyRefused, NonFinite


@dataclass(frozen=True)
class Clean:
    """What the untouched model did on a batch of prompts of one length.

    Attributes:
        ids: the prompts.
        logits: the model's logits behind the last token, before any soft-cap is undone.
        values: what each asked-for module took or returned at the last token.
        prefix: keys and values of all tokens but the last, one pair per block; empty when not asked for.
    """

    ids: Int[Tensor, "prompts tokens"]
    logits: Float[Tensor, "prompts vocab"]
    values: dict[Site, Float[Tensor, "prompts _"]]
    prefix: tuple[KeysValues, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of what later pushes need."""
        return self.logits.nbytes + sum(side.nbytes for pair in self.prefix for side in pair)


def capture(
    model: Model,
    ids: Int[Tensor, "prompts tokens"],
    sites: Sequence[Site] = (),
    *,
    keep_prefix: bool = True,
    embedding_noise: Float[Tensor, "prompts tokens d"] | None = None,
) -> Clean:
    """Run whole prompts once.

    Args:
        model: the model.
        ids: prompts of one length, without padding.
        sites: module inputs and outputs whose value at the last token is kept.
        keep_prefix: keep keys and values for a later sweep.
        embedding_noise: added to the residual stream where it enters the first block, in units of the standard
            deviation of each prompt's own entries there.

    Returns:
        The clean pass.

    Raises:
        HookDidNotFire: a site was not passed exactly once.
        NonFinite: the model returns NaN or infinite logits.
        AnatomyRefused: it does not keep keys and values in the library's plain cache.
    """
    ids = ids.to(model.device)
    values: dict[Site, Tensor] = {}
    cache = DynamicCache()
    with hooked() as hooks, torch.no_grad():
        if embedding_noise is not None:
            noise = embedding_noise.to(model.device)

            def disturb(resid: Tensor) -> Tensor:
                return resid + noise.to(resid) * resid.float().std((1, 2), keepdim=True).to(resid)

            hooks.on_input(model.network.get_submodule(model.anatomy.layers[0]), "embed", disturb)
        last = torch.arange(1, ids.shape[0] + 1, device=ids.device) * ids.shape[1] - 1
        keep_experts(model, hooks, sites, values, last, (len(ids),))
        for site in (site for site in sites if site.expert < 0):

            def keep(tensor: Tensor, site: Site = site) -> None:
                values[site] = tensor.reshape(*ids.shape, -1)[:, -1].detach().to(ids.device, copy=True)

            watch = hooks.on_input if site.side == "input" else hooks.on_output
            watch(model.network.get_submodule(site.module), str(site), keep)
        arguments: dict[str, Any] = {"past_key_values": cache} if keep_prefix else {}
        if "logits_to_keep" in signature(model.network.forward).parameters:
            arguments["logits_to_keep"] = 1
        logits = model.network(input_ids=ids, use_cache=keep_prefix, **arguments).logits[:, -1]
        logits = logits.to(ids.device, copy=True)
    hooks.require_fired()
    if not torch.isfinite(logits).all():
        raise NonFinite("the untouched model returns NaN or infinite logits on these prompts; try another --dtype")
    return Clean(ids, logits, values, _prefix(cache, ids.shape[1]) if keep_prefix else ())


def _prefix(cache: DynamicCache, tokens: int) -> tuple[KeysValues, ...]:
    prefix = []
    for layer in cache.layers:
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if keys is None or values is None or keys.ndim != 4 or keys.shape[2] != tokens:
            raise AnatomyRefused(
                "shared prefix", "the model does not keep one key and one value per token, so no prefix can be shared"
            )
        prefix.append((keys[:, :, :-1], values[:, :, :-1]))
    return tuple(prefix)
