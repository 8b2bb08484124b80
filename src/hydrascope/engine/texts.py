"""Whole texts: the clean pass that keeps every position, and pushes that begin at any block.

A variant that is replaced at many positions differs from the clean run in all tokens from its first edited block on,
and in nothing before. So the stream that enters each block is kept from the clean pass, and a push starts at the first
block in which one of its variants differs: the blocks below hand on what they are given, and the last of them hands on
the kept stream. In that first block nothing can differ before the output projection of attention, so its input is kept
too, and attention is entered there. Masks, positions and caches stay the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hydrascope.anatomy import HeadSite, Hooks, Model, Site, first_tensor, hidden_argument, hooked, replace_first_tensor
from hydrascope.engine.capture import Clean
from hydrascope.engine.experts import keep_experts
from hydrascope.engine.layout import Layout
from hydrascope.errors import NonFinite


@dataclass(frozen=True)
class Entrance:
    """The output projection of a block's attention, at which a push can enter the block.

    Attributes:
        attention: path of the module that it is called in.
        projection: its path.
        inside: its input in the clean pass, in the machine's memory.
        returned: what the attention returned.
    """

    attention: str
    projection: str
    inside: Float[Tensor, "texts tokens _"]
    returned: Any


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
        entrances: by block, where its attention can be entered.
    """

    logits: Float[Tensor, "items vocab"]
    values: dict[Site, Float[Tensor, "prompts tokens _"]]
    layout: Layout = field(kw_only=True)
    blocks: tuple[str, ...] = field(kw_only=True, repr=False)
    returned: tuple[Any, ...] = field(kw_only=True, repr=False)
    entrances: Mapping[int, Entrance] = field(kw_only=True, repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of what later pushes need."""
        entered = [side for one in self.entrances.values() for side in (one.inside, one.returned)]
        kept = [first_tensor(one) for one in (*self.returned, *entered)]
        return self.logits.nbytes + sum(tensor.nbytes for tensor in kept if tensor is not None)


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
        keep_streams: keep what enters each block and the output projection of its attention.

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
    entrances: dict[int, Entrance] = {}
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
            for head in model.anatomy.heads:
                _keep_entrance(model, hooks, head, entrances)
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
    blocks = model.anatomy.layers
    return Recorded(ids, kept, values, (), layout=layout, blocks=blocks, returned=tuple(returned), entrances=entrances)


def _keep_entrance(model: Model, hooks: Hooks, head: HeadSite, entrances: dict[int, Entrance]) -> None:
    """Keep what is needed to enter a block at its attention's output projection, if other modules are called before."""
    block = model.anatomy.layers[head.layer]
    attention = f"{block}.{head.module.removeprefix(f'{block}.').split('.')[0]}"
    if attention == head.module:
        return
    inside: list[Tensor] = []

    def enter(tensor: Tensor) -> None:
        inside.append(tensor.detach().cpu())

    def leave(output: Any) -> None:
        entrances[head.layer] = Entrance(attention, head.module, inside.pop(), _off_device(output))

    hooks.on_input(model.network.get_submodule(head.module), f"entrance of block {head.layer}", enter)
    hooks.on_return(model.network.get_submodule(attention), f"attention of block {head.layer}", leave)


def _off_device(output: Any) -> Any:
    stream = first_tensor(output)
    assert stream is not None
    return replace_first_tensor(output, stream.detach().cpu())


@dataclass(frozen=True)
class Resumed:
    """Every row is the whole text again, from the first block that differs on.

    Attributes:
        skips: blocks below the first are left out; otherwise every push passes through all of them.
        enters: the first block may be entered at the output projection of its attention.
        first_block: where the push begins.
        inside: it does begin there, since nothing differs before.
    """

    skips: bool = True
    enters: bool = True
    first_block: int = 0
    inside: bool = False
    staircase: bool = False
    needs_prefix: bool = False

    @property
    def name(self) -> str:
        """As it is stored with a run."""
        if not self.skips:
            return "whole texts, from the first block"
        return f"whole texts, from the first {'projection' if self.enters else 'block'} that differs"

    def at(self, block: int, *, watched: bool = False) -> Resumed:
        """The same, beginning at a block in which nothing differs before its writers.

        Args:
            block: its index.
            watched: whether its attention is to be seen, so that it cannot be left out.
        """
        return replace(self, first_block=block, inside=self.enters and not watched) if self.skips else self

    @property
    def whole(self) -> Resumed:
        """The same through everything from the first block on."""
        return replace(self, first_block=0, inside=False)

    def layout(self, clean: Clean) -> Layout:
        """The one that the clean pass was recorded for."""
        assert isinstance(clean, Recorded)
        return clean.layout

    def push(self, network: Any, clean: Clean, variants: int) -> None:
        """All rows go in with all tokens; the blocks below the first pass the kept stream on."""
        assert isinstance(clean, Recorded)
        entrance = clean.entrances.get(self.first_block) if self.inside else None
        with _resuming(network, clean, self.first_block, variants), _entering(network, entrance, variants):
            network(input_ids=clean.ids.repeat(variants, 1), use_cache=False)


@contextmanager
def _resuming(network: nn.Module, clean: Recorded, first_block: int, variants: int) -> Iterator[None]:
    """Blocks below the first pass on what they get, the last of them the kept stream; afterwards all are themselves."""
    blocks = [network.get_submodule(path) for path in clean.blocks[:first_block]]

    def instead(output: Any, injects: bool) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden, stream = hidden_argument(args, kwargs), first_tensor(output)
            assert hidden is not None and stream is not None
            return replace_first_tensor(output, stream.to(hidden).repeat(variants, 1, 1) if injects else hidden)

        return forward

    given = {block: instead(output, block is blocks[-1]) for block, output in zip(blocks, clean.returned, strict=False)}
    with _forwards(given):
        yield


@contextmanager
def _entering(network: nn.Module, entrance: Entrance | None, variants: int) -> Iterator[None]:
    """Attention is its output projection of the kept input."""
    if entrance is None:
        yield
        return
    projection = network.get_submodule(entrance.projection)

    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden = hidden_argument(args, kwargs)
        assert hidden is not None
        inside = entrance.inside.to(hidden.device)
        inside = inside.repeat(variants, *(1,) * (inside.ndim - 1))
        return replace_first_tensor(entrance.returned, projection(inside))

    with _forwards({network.get_submodule(entrance.attention): forward}):
        yield


@contextmanager
def _forwards(given: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Modules called with other forwards; afterwards they are themselves."""
    modules: list[Any] = list(given)
    own = [module.__dict__.get("forward") for module in modules]
    try:
        for module in modules:
            module.forward = given[module]
        yield
    finally:
        for module, forward in zip(modules, own, strict=True):
            module.__dict__.pop("forward", None)
            if forward is not None:
                module.forward = forward
