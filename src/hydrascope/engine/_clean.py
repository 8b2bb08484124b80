"""The clean run: what the untouched model does, and what later forwards need of it.

It costs one forward pass. Values are kept at chosen modules. Interventions at the last token also need the keys and
values of the tokens before it; interventions at many positions need the residual stream between the blocks, which is
kept in the machine's memory, not on a GPU. Ask for the least with `keep`; `CleanCache` spares making a run again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from hydrascope.anatomy import HeadSite, Hooks, Model, Site, first_tensor, hooked, replace_first_tensor
from hydrascope.engine._attention import KeysValues
from hydrascope.engine._positions import Layout
from hydrascope.engine._routing import keep_experts
from hydrascope.errors import AnatomyRefused, NonFinite

Keep = Literal["nothing", "prefix", "streams"]
"""What a clean run keeps: keys and values of the prefix, or the stream between blocks."""


@dataclass(frozen=True)
class Entrance:
    """The output projection of a block's attention, where a forward can enter the block.

    Attributes:
        attention: path of the module that calls the projection.
        projection: path of the projection.
        inside: clean input of the projection.
        returned: clean output of the attention module.
    """

    attention: str
    projection: str
    inside: Float[Tensor, "prompts tokens _"]
    returned: Any


@dataclass(frozen=True)
class Streams:
    """What a forward needs to begin at any block.

    Attributes:
        blocks: paths of the blocks.
        returned: output of each block but the last; its first tensor enters the next block.
        entrances: by block, where its attention can be entered.
    """

    blocks: tuple[str, ...]
    returned: tuple[Any, ...]
    entrances: Mapping[int, Entrance]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        entered = [side for one in self.entrances.values() for side in (one.inside, one.returned)]
        kept = [first_tensor(one) for one in (*self.returned, *entered)]
        return sum(tensor.nbytes for tensor in kept if tensor is not None)


@dataclass(frozen=True)
class CleanRun:
    """What the untouched model did on a batch.

    Attributes:
        ids: token ids.
        layout: positions that later forwards replace and read.
        logits: the model's logits at the read positions.
        values: by site, inputs or outputs at the replaced positions.
        prefix: keys and values of all tokens but the last, one pair per block; empty when not kept.
        streams: the stream between blocks; None when not kept.
    """

    ids: Int[Tensor, "prompts tokens"]
    layout: Layout
    logits: Float[Tensor, "items vocab"]
    values: dict[Site, Float[Tensor, "prompts edited _"]]
    prefix: tuple[KeysValues, ...] = field(default=(), repr=False)
    streams: Streams | None = field(default=None, repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of what later forwards need."""
        prefix = sum(side.nbytes for pair in self.prefix for side in pair)
        return self.logits.nbytes + prefix + (0 if self.streams is None else self.streams.nbytes)

    def without_values(self) -> CleanRun:
        """The run without its values, as later forwards need it."""
        return replace(self, values={})

    def one_by_one(self) -> list[CleanRun]:
        """Each prompt of a last-token run by itself, as views, without values."""
        layout, found = replace(self.layout, prompts=1), []
        for i in range(len(self.ids)):
            one = slice(i, i + 1)
            prefix = tuple((keys[one], values[one]) for keys, values in self.prefix)
            found.append(CleanRun(self.ids[one], layout, self.logits[one], {}, prefix))
        return found

    @classmethod
    def together(cls, runs: Sequence[CleanRun]) -> CleanRun:
        """Join last-token runs of one length into a batch, without values."""
        prefix = tuple(
            (torch.cat([keys for keys, _ in pairs]), torch.cat([values for _, values in pairs]))
            for pairs in zip(*(run.prefix for run in runs), strict=True)
        )
        ids = torch.cat([run.ids for run in runs])
        return cls(ids, replace(runs[0].layout, prompts=len(ids)), torch.cat([run.logits for run in runs]), {}, prefix)


def record(
    model: Model,
    ids: Int[Tensor, "prompts tokens"],
    sites: Sequence[Site] = (),
    layout: Layout | None = None,
    *,
    keep: Keep = "nothing",
    embedding_noise: Float[Tensor, "prompts tokens d"] | None = None,
) -> CleanRun:
    """Run the untouched model once.

    Args:
        model: the model.
        ids: prompts of one length, without padding.
        sites: module inputs and outputs whose values are kept.
        layout: positions at which values and logits are kept; the last one if None.
        keep: what later forwards need.
        embedding_noise: added to the residual stream that enters the first block, in units of the standard deviation
            of each prompt's own entries there.

    Returns:
        The clean run.

    Raises:
        HookDidNotFire: a site was not passed exactly once.
        NonFinite: the model returns NaN or infinite logits.
        AnatomyRefused: the model does not keep keys and values in the library's plain cache.
    """
    ids = ids.to(model.device)
    layout = Layout.last(*ids.shape) if layout is None else layout
    values: dict[Site, Tensor] = {}
    cache = DynamicCache()
    returned: list[Any] = []
    entrances: dict[int, Entrance] = {}
    module = model.network.get_submodule
    with hooked() as hooks, torch.no_grad():
        if embedding_noise is not None:
            noise = embedding_noise.to(model.device)

            def disturb(stream: Tensor) -> Tensor:
                return stream + noise.to(stream) * stream.float().std((1, 2), keepdim=True).to(stream)

            hooks.on_input(module(model.anatomy.layers[0]), "embed", disturb)
        if keep == "streams":
            for path in model.anatomy.layers[:-1]:
                hooks.on_return(module(path), path, lambda output: returned.append(off_device(output)))
            for head in model.anatomy.heads:
                _keep_entrance(model, hooks, head, entrances)
        keep_experts(model, hooks, sites, values, layout)
        for site in (site for site in sites if site.expert < 0):

            def take(tensor: Tensor, site: Site = site) -> None:
                values[site] = layout.edited_of(tensor.contiguous())[0].detach().to(ids.device, copy=True)

            watch = hooks.on_input if site.side == "input" else hooks.on_output
            watch(module(site.module), str(site), take)
        arguments: dict[str, Any] = {"past_key_values": cache} if keep == "prefix" else {}
        if "logits_to_keep" in signature(model.network.forward).parameters:
            arguments["logits_to_keep"] = 1 if layout.reads_last else 0
        logits = model.network(input_ids=ids, use_cache=keep == "prefix", **arguments).logits
        logits = logits[:, -1] if layout.reads_last else layout.items_of(logits)[0]
        logits = logits.to(ids.device, copy=True)
    hooks.require_fired()
    if not torch.isfinite(logits).all():
        raise NonFinite(
            "the untouched model returns NaN or infinite logits on these prompts; try another number format (--dtype)"
        )
    prefix = _prefix(cache, ids.shape[1]) if keep == "prefix" else ()
    streams = Streams(model.anatomy.layers, tuple(returned), entrances) if keep == "streams" else None
    return CleanRun(ids, layout, logits, values, prefix, streams)


def _keep_entrance(model: Model, hooks: Hooks, head: HeadSite, entrances: dict[int, Entrance]) -> None:
    """Keep what entering a block at its attention's output projection takes, if that skips any module."""
    block = model.anatomy.layers[head.layer]
    attention = f"{block}.{head.module.removeprefix(f'{block}.').split('.')[0]}"
    if attention == head.module:
        return
    inside: list[Tensor] = []

    def enter(tensor: Tensor) -> None:
        inside.append(tensor.detach().cpu())

    def leave(output: Any) -> None:
        entrances[head.layer] = Entrance(attention, head.module, inside.pop(), off_device(output))

    hooks.on_input(model.network.get_submodule(head.module), f"entrance of block {head.layer}", enter)
    hooks.on_return(model.network.get_submodule(attention), f"attention of block {head.layer}", leave)


def off_device(output: Any) -> Any:
    """What a block returned, with its stream in the machine's memory."""
    stream = first_tensor(output)
    assert stream is not None
    return replace_first_tensor(output, stream.detach().cpu())


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
