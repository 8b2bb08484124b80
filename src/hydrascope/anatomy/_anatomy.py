"""The anatomy of a model: its writers, their units, and its tail.

A writer adds its output to the residual stream; heads, neurons and experts are units of a writer; the tail leads from
the last residual state to the logits. All of it is data: `_discover` finds it, `_proof` proves it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hydrascope.anatomy._sites import Place, Site
from hydrascope.components import UNIT_KINDS, Component, Inventory


@dataclass(frozen=True)
class Writer:
    """One summand of the residual stream, as a rule the output of one module.

    Attributes:
        component: its address.
        modules: paths of the modules whose first output tensors are the write (after any post-norm); several where a
            block adds, say, routed and shared experts one after the other.
        gains: factor of each module's output in the last residual state: the block's own multiplier times those by
            which later blocks multiply the stream.
    """

    component: Component
    modules: tuple[str, ...]
    gains: tuple[float, ...]


@dataclass(frozen=True)
class HeadSite:
    """The heads of a block: slices of the attention output projection's input.

    Attributes:
        layer: block index, from 0.
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
    """The neurons of a block: entries of the MLP down projection's input.

    Attributes:
        layer: block index, from 0.
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
    """How the output of routed experts enters their MLP's write: times a number.

    Attributes:
        module: path of the module that writes.
        side: whether the experts' output is added to that module's output, or to its input (before a post-norm).
        gain: the number by which the experts' output is multiplied.
    """

    module: str
    side: Literal["input", "output"]
    gain: float


@dataclass(frozen=True)
class ExpertSite:
    """The routed experts of a block: one module that is given the router's choice.

    Attributes:
        layer: block index, from 0.
        module: path of the module that holds all experts.
        n_experts: number of experts.
        top_k: number of experts that each token is routed to.
        width: size of the last dimension of what an expert writes.
        hidden: position or name of the argument with the hidden states that the experts read.
        index: position or name of the argument with the experts chosen for each token.
        weight: position or name of the argument with the routing weights.
        link: how the module's output enters the MLP's write; None where it is neither added to it nor to its input.
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
        """A copy with the given link."""
        return replace(self, link=link)

    def site(self, expert: int) -> Site:
        """The share of one expert in the module's output."""
        return Site(self.module, "output", self.width, expert)


@dataclass(frozen=True)
class Tail:
    """The map from the last residual state to the logits.

    From a state z, the logits are softcap(scale * head(pre_gain * norm(z))), where
    norm(z) = gain * center(z) / sigma(z) + bias and sigma(z) = sqrt(mean(center(z)^2) + eps). All numbers are found by
    experiment on the modules and proved on real states.

    Attributes:
        norm: path of the final norm; None when the head reads the residual itself.
        head: path of the unembedding.
        norm_calls: how often a forward pass calls the norm; the last call is the final norm's.
        centred: whether the norm subtracts the mean (LayerNorm) or not (RMSNorm).
        eps: constant under the root of sigma.
        gain: the norm's gain per channel.
        bias: the norm's bias per channel.
        pre_gain: multiplier between norm and head.
        scale: multiplier after the head.
        softcap: c of the soft-cap c * tanh(y / c); None where there is none.
        mean_row: mean of the unembedding's rows over the vocabulary.
        mean_head_bias: mean of the head's bias over the vocabulary; 0 without a bias.
        averaged: the rows that those means, and every mean over the vocabulary, are of: tokens that the tokenizer can
            produce, not rows that pad the matrix to a round size; None where all are.
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
    averaged: Bool[Tensor, " vocab"] | None = None

    def of_tokens(self, logits: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*rows tokens"]:
        """Logits of the tokens that the tokenizer can produce."""
        return logits if self.averaged is None else logits[..., self.averaged.to(logits.device)]

    def sigma(self, resid: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows"]:
        """The norm's scale in float32; 1 without a norm (McGrath et al. 2023, eq. 8)."""
        if self.norm is None:
            return torch.ones(resid.shape[:-1], device=resid.device)
        x = resid.float()
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        return (x.pow(2).mean(-1) + self.eps).sqrt()

    def cap(self, logits: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*rows vocab"]:
        """Apply the model's soft-cap to logits."""
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


@dataclass(frozen=True)
class Anatomy:
    """The parts of a model and how they connect.

    Attributes:
        layers: paths of the blocks, in order.
        writers: every writer inside a block, in the order in which they write.
        heads: one site per attention writer that has heads.
        neurons: one site per MLP writer whose neurons lie at a single down projection.
        experts: one site per MLP writer that routes tokens to experts.
        reads: pairs (earlier, later) of writers of one block in which the later one reads what the earlier wrote.
        embed_gain: factor of the embedding in the last residual state.
        tail: the map from the last residual state to the logits.
        d_model: width of the residual stream.
        n_vocab: number of logits.
        additivity_error: largest relative error with which a block's writes sum to what it adds, over all blocks.
        tolerance: relative error allowed in the model's dtype.
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
        """Whether no writer reads another one of its block."""
        return not self.reads

    @property
    def routes(self) -> bool:
        """Whether the model has routed experts, each with a known link."""
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
        """Where a part's value is read and replaced.

        Args:
            part: a component that the model has.

        Returns:
            Slices of module inputs or outputs; concatenated, they are the part's value.
        """
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
        """The writers that contain `part`: its own, or all of a layer's."""
        kind = UNIT_KINDS.get(part.kind, part.kind)
        return tuple(
            writer.component
            for writer in self.writers
            if writer.component.layer == part.layer and kind in ("layer", writer.component.kind)
        )

    def is_downstream(self, writer: Component, part: Component) -> bool:
        """Whether `writer` reads a change of `part` and does not contain it."""
        own = self.written_by(part)
        if writer in own:
            return False
        return writer.layer > part.layer or any((source, writer) in self.reads for source in own)


def _unit(site: Site, part: Component, width: int) -> Place:
    assert part.unit is not None
    return Place(site, part.unit * width, (part.unit + 1) * width)
