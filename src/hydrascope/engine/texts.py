"""Whole texts: the clean pass that keeps every position, and pushes that begin at any block.

A variant that is replaced at many positions differs from the clean run in all tokens from its first edited block on,
and in nothing before. So the stream that enters each block is kept from the clean pass, and a push starts at the first
block in which one of its variants differs: the blocks below hand on what they are given, and the last of them hands on
the kept stream. Masks, positions and caches stay the model's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hydrascope.anatomy import Model, Site
from hydrascope.anatomy.hooks import first_tensor, hidden_argument, hooked, replace_first_tensor
from hydrascope.engine.capture import Clean
from hydrascope.engine.experts import keep_experts
from hydrascope.engine.layout import Layout
from hydrascope.errors import NonFinite


@dataclass(frozen=True)
class Recorded(Clean):
    """What the untouched model did on a batch of texts of one length, at every position.

    Attributes:
        ids: the texts.
        logits: the model's logits at the read positions, one row per text and position.
        values: what each asked-for module took or returned, `[texts, tokens, width]`.
        prefix: empty.
        layout: edited and read positions.
        blocks: paths of the blocks.
        returned: what each block but the last returned; the first tensor in it is the stream that enters the next
            block, and is kept in the machine's memory, not on a GPU.
    """

    logits: Float[Tensor, "items vocab"]
    values: dict[Site, Float[Tensor, "prompts tokens _"]]
    layout: Layout = field(kw_only=True)
    blocks: tuple[str, ...] = field(kw_only=True, repr=False)
    returned: tuple[Any, ...] = field(kw_only=True, repr=False)


def record_texts(
    model: Model,
    ids: Int[Tensor, "texts tokens"],
    edited: Sequence[int],
    read: Sequence[int],
    sites: Sequence[Site] = (),
    *,
    embedding_noise: Float[Tensor, "texts tokens d"] | None = None,
    keep_streams: bool = True,
) -> Recorded:
    """Run texts of one length once.

    Args:
        model: the model.
        ids: the texts, without padding.
        edited: positions that will be replaced.
        read: positions that will be read.
        sites: module inputs and outputs whose values are kept.
        embedding_noise: added to the stream where it enters the first block, in units of the standard deviation of
            each text's own entries there.
        keep_streams: keep what enters each block.

    Returns:
        The clean pass.

    Raises:
        HookDidNotFire: a site was not passed exactly once.
        NonFinite: the model returns NaN or infinite logits.
    """
    ids = ids.to(model.device)
    layout = Layout(ids.shape[0], ids.shape[1], tuple(edited), tuple(read))
    values: dict[Site, Tensor] = {}
    returned: list[Any] = []
    module = model.network.get_submodule
    with hooked() as hooks, torch.no_grad():
        if embedding_noise is not None:
            noise = embedding_noise.to(model.device)

            def disturb(stream: Tensor) -> Tensor:
                return stream + noise.to(stream) * stream.float().std((1, 2), keepdim=True).to(stream)

            hooks.on_input(module(model.anatomy.layers[0]), "embed", disturb)
        if keep_streams:
            for path in model.anatomy.layers[:-1]:
                hooks.on_return(module(path), path, lambda output: returned.append(_off_device(output)))
        keep_experts(model, hooks, sites, values, slice(None), tuple(ids.shape))
        for site in (site for site in sites if site.expert < 0):

            def keep(tensor: Tensor, site: Site = site) -> None:
                values[site] = layout.by_row(tensor.contiguous())[0].detach().to(ids.device, copy=True)

            watch = hooks.on_input if site.side == "input" else hooks.on_output
            watch(module(site.module), str(site), keep)
        arguments: dict[str, Any] = {}
        if "logits_to_keep" in signature(model.network.forward).parameters:
            arguments["logits_to_keep"] = 0
        logits = model.network(input_ids=ids, use_cache=False, **arguments).logits
    hooks.require_fired()
    kept = layout.items_of(logits)[0].to(ids.device, copy=True)
    if not torch.isfinite(kept).all():
        raise NonFinite("the untouched model returns NaN or infinite logits on these texts; try another --dtype")
    return Recorded(ids, kept, values, (), layout=layout, blocks=model.anatomy.layers, returned=tuple(returned))


def _off_device(output: Any) -> Any:
    stream = first_tensor(output)
    assert stream is not None
    return replace_first_tensor(output, stream.detach().cpu())


@dataclass(frozen=True)
class Resumed:
    """Every row is the whole text again, from the first block that differs on.

    Attributes:
        skips: blocks below the first are left out; otherwise every push passes through all of them.
        first_block: where the push begins.
    """

    skips: bool = True
    first_block: int = 0
    staircase: bool = False
    needs_prefix: bool = False

    @property
    def name(self) -> str:
        """As it is stored with a run."""
        return "whole texts, from the first block that differs" if self.skips else "whole texts, from the first block"

    def at(self, block: int) -> Resumed:
        """The same, beginning at a block."""
        return replace(self, first_block=block if self.skips else 0)

    def layout(self, clean: Clean) -> Layout:
        """The one that the clean pass was recorded for."""
        assert isinstance(clean, Recorded)
        return clean.layout

    def push(self, network: Any, clean: Clean, variants: int) -> None:
        """All rows go in with all tokens; the blocks below the first pass the kept stream on."""
        assert isinstance(clean, Recorded)
        with _resuming(network, clean, self.first_block, variants):
            network(input_ids=clean.ids.repeat(variants, 1), use_cache=False)


@contextmanager
def _resuming(network: nn.Module, clean: Recorded, first_block: int, variants: int) -> Iterator[None]:
    """Blocks below the first pass on what they get, the last of them the kept stream; afterwards all are themselves."""
    blocks: list[Any] = [network.get_submodule(path) for path in clean.blocks[:first_block]]
    own = [block.__dict__.get("forward") for block in blocks]

    def instead(output: Any, injects: bool) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden, stream = hidden_argument(args, kwargs), first_tensor(output)
            assert hidden is not None and stream is not None
            return replace_first_tensor(output, stream.to(hidden).repeat(variants, 1, 1) if injects else hidden)

        return forward

    try:
        for block, output in zip(blocks, clean.returned, strict=False):
            block.forward = instead(output, injects=block is blocks[-1])
        yield
    finally:
        for block, forward in zip(blocks, own, strict=True):
            block.__dict__.pop("forward", None)
            if forward is not None:
                block.forward = forward
