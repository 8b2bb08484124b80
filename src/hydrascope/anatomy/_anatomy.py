"""What is known about a model once it has been taken apart: its writers, its units, its way to the logits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy._sites import Place, Site
from hydrascope.components import UNIT_KINDS as WRITER_OF
from hydrascope.components import Component, Inventory


@dataclass(frozen=True)
class Writer:
    """What is added to the residual stream under one address: as a rule the output of one module.

    Attributes:
        component: its address.
        modules: paths of the modules whose first output tensors are the write (after any post-norm); several where a
            block adds, say, routed and shared experts one after the other.
        gains: for each, what the block multiplies its output by, times what later blocks multiply the stream by.
    """

    component: Component
    modules: tuple[str, ...]
    gains: tuple[float, ...]


@dataclass(frozen=True)
class HeadSite:
    """Where the heads of an attention writer lie side by side: the input of its output projection.

    Attributes:
        layer: block index.
        module: path of the output projection.
        n_heads: number of query heads.
        n_kv: number of key-value groups.
        head_dim: width of a head's slice.
    """

    layer: int
    module: str
    n_heads: int
    n_kv: int
    head_dim: int

    @property
    def site(self) -> Site:
        """The projection's input."""
        return Site(self.module, "input", self.n_heads * self.head_dim)


@dataclass(frozen=True)
class NeuronSite:
    """Where the neurons of an MLP writer lie side by side: the input of its down projection.

    Attributes:
        layer: block index.
        module: path of the down projection.
        n_neurons: number of neurons.
    """

    layer: int
    module: str
    n_neurons: int

    @property
    def site(self) -> Site:
        """The projection's input."""
        return Site(self.module, "input", self.n_neurons)


@dataclass(frozen=True)
class Link:
    """How what routed experts return enters their MLP's write: times a number.

    Attributes:
        module: path of the writing module.
        side: whether it is added to that module's output, or to its input (a post-norm stands between).
        gain: the number.
    """

    module: str
    side: Literal["input", "output"]
    gain: float


@dataclass(frozen=True)
class ExpertSite:
    """A module that holds all routed experts of an MLP writer, and how it is told whom to ask.

    Attributes:
        layer: block index.
        module: path of the module.
        n_experts: number of experts.
        top_k: how many of them a token asks.
        width: size of what they write.
        hidden: position or name of the argument that the experts read.
        index: of the one that says which experts each token asks.
        weight: of the one that weighs their answers.
        link: the way to the MLP's write; None where it is none of the known ones.
    """

    layer: int
    module: str
    n_experts: int
    top_k: int
    width: int
    hidden: int | str
    index: int | str
    weight: int | str
    link: Link | None = None

    def with_link(self, link: Link | None) -> ExpertSite:
        """The same site, its link known."""
        return replace(self, link=link)

    def site(self, expert: int) -> Site:
        """One expert's share of the module's output."""
        return Site(self.module, "output", self.width, expert)


@dataclass(frozen=True)
class Tail:
    """From the last residual state z to the logits: y = scale * head(pre_gain * norm(z)), then the soft-cap.

    norm(z) = gain * center(z) / sigma(z) + bias with sigma(z) = sqrt(mean(center(z)^2) + eps); all of it found by
    experiment on the module and proved on real states.

    Attributes:
        norm: path of the final norm; None when the head reads the residual itself.
        head: path of the unembedding.
        norm_calls: how often a forward pass calls the norm; the last call is the final norm's.
        centred: whether the norm subtracts the mean (LayerNorm) or not (RMSNorm).
        eps: the constant under the root.
        gain: per-channel gain.
        bias: per-channel bias.
        pre_gain: multiplier between norm and head.
        scale: multiplier behind the head.
        softcap: c of c * tanh(y / c), or None.
        mean_row: mean over the vocabulary of the unembedding's rows.
        mean_head_bias: mean of the head's bias.
    """

    norm: str | None
    head: str
    norm_calls: int
    centred: bool
    eps: float
    gain: Float[Tensor, " d"]
    bias: Float[Tensor, " d"]
    pre_gain: float
    scale: float
    softcap: float | None
    mean_row: Float[Tensor, " d"]
    mean_head_bias: float

    def sigma(self, resid: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows"]:
        """The norm's scale, in float32 (McGrath et al. 2023, eq. 8). One where there is no norm."""
        if self.norm is None:
            return torch.ones(resid.shape[:-1], device=resid.device)
        x = resid.float()
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        return (x.pow(2).mean(-1) + self.eps).sqrt()

    def cap(self, logits: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*rows vocab"]:
        """The model's logits from the logits before the soft-cap."""
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


@dataclass(frozen=True)
class Anatomy:
    """A model taken apart.

    Attributes:
        layers: paths of the blocks, in order.
        writers: every writer inside a block, in the order in which they write.
        heads: one site per attention writer that has heads.
        neurons: one site per MLP writer whose neurons lie at a single down projection.
        experts: one site per MLP writer that routes tokens to experts.
        reads: pairs (earlier, later) of writers of one block in which the later one reads what the earlier wrote.
        embed_gain: what is left of the embedding in the last residual state.
        tail: the way from the last residual state to the logits.
        d_model: width of the residual stream.
        n_vocab: number of logits.
        additivity_error: largest relative error of "the writes sum to what the block adds".
        tolerance: relative error allowed in this dtype.
    """

    layers: tuple[str, ...]
    writers: tuple[Writer, ...]
    heads: tuple[HeadSite, ...]
    neurons: tuple[NeuronSite, ...]
    experts: tuple[ExpertSite, ...]
    reads: frozenset[tuple[Component, Component]]
    embed_gain: float
    tail: Tail
    d_model: int
    n_vocab: int
    additivity_error: float
    tolerance: float

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.layers)

    @property
    def parallel(self) -> bool:
        """Whether no writer reads another one of its own block."""
        return not self.reads

    @property
    def routes(self) -> bool:
        """Whether there are routed MLPs, and the way from the experts to the write is known for all of them."""
        return bool(self.experts) and all(site.link is not None for site in self.experts)

    @property
    def inventory(self) -> Inventory:
        """The components that can be knocked out."""
        units: dict[str, dict[int, int]] = {"layer": {}}
        for writer in self.writers:
            units.setdefault(writer.component.kind, {})[writer.component.layer] = 1
            units["layer"][writer.component.layer] = 1
        units["head"] = {site.layer: site.n_heads for site in self.heads}
        units["kv"] = {site.layer: site.n_kv for site in self.heads if site.n_kv < site.n_heads}
        units["neuron"] = {site.layer: site.n_neurons for site in self.neurons}
        units["expert"] = {site.layer: site.n_experts for site in self.experts}
        return Inventory({kind: counts for kind, counts in units.items() if counts}, self.reads)

    def writer(self, component: Component) -> Writer:
        """The writer at an address."""
        return next(writer for writer in self.writers if writer.component == component)

    def head_site(self, layer: int) -> HeadSite:
        """The head site of a block."""
        return next(site for site in self.heads if site.layer == layer)

    def neuron_site(self, layer: int) -> NeuronSite:
        """The neuron site of a block."""
        return next(site for site in self.neurons if site.layer == layer)

    def expert_site(self, layer: int) -> ExpertSite:
        """The expert site of a block."""
        return next(site for site in self.experts if site.layer == layer)

    def places(self, part: Component) -> tuple[Place, ...]:
        """Where a part's value is read and replaced; its value is these stretches one after the other."""
        if part.kind == "embed":
            return (Place(Site(self.layers[0], "input", self.d_model), 0, self.d_model),)
        if part.kind == "layer":
            return tuple(place for writer in self.written_by(part) for place in self.places(writer))
        if part.kind in ("head", "kv"):
            heads = self.head_site(part.layer)
            width = heads.head_dim * (1 if part.kind == "head" else heads.n_heads // heads.n_kv)
            return (_unit(heads.site, part, width),)
        if part.kind == "neuron":
            return (_unit(self.neuron_site(part.layer).site, part, 1),)
        if part.kind == "expert":
            assert part.unit is not None
            experts = self.expert_site(part.layer)
            return (Place(experts.site(part.unit), 0, experts.width),)
        modules = self.writer(part).modules
        return tuple(Place(Site(module, "output", self.d_model), 0, self.d_model) for module in modules)

    def written_by(self, part: Component) -> tuple[Component, ...]:
        """The writers whose write changes at once when `part` is replaced: its own writer, or all of a layer's."""
        kind = WRITER_OF.get(part.kind, part.kind)
        return tuple(
            writer.component
            for writer in self.writers
            if writer.component.layer == part.layer and kind in ("layer", writer.component.kind)
        )

    def is_downstream(self, writer: Component, part: Component) -> bool:
        """Whether `writer` can see a change of `part` (not counting the part's own writers)."""
        own = self.written_by(part)
        if writer in own:
            return False
        return writer.layer > part.layer or any((source, writer) in self.reads for source in own)


def _unit(site: Site, part: Component, width: int) -> Place:
    assert part.unit is not None
    return Place(site, part.unit * width, (part.unit + 1) * width)
