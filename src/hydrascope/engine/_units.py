"""Heads and neurons as writers: what each unit, and what none of them, adds to a write.

Units lie side by side at the input of a writer's last projection, a head head_dim wide and a neuron one. The projection
is linear, so with x_u a unit's stretch of its input, b its bias and w a read-out direction,

    <write, w> = sum_u <x_u, W_u^T w> + <b, w>

and W^T w is one vector per prompt and block, however many rows are read with it: no unit's write is ever made. Where a
post-norm with gain g and bias c follows the projection, its scale s of the row is measured, and with w' = center(g * w)

    <write, w> = sum_u <x_u, W_u^T w'> / s + <b, w'> / s + <c, w>

Where a knock-out replaces the whole write, no unit wrote it: its units read as zero and its bias as all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hydrascope.anatomy import FLOAT_DTYPES, Model, Site, device_of, input_dtype, probe_norm, random_ids, weights_loaded
from hydrascope.components import Component
from hydrascope.engine._clean import record
from hydrascope.errors import AnatomyRefused


def check_name(kind: str) -> str:
    """Name of the check that a model must pass for units of a kind to be writers."""
    return f"{kind}s as writers"


_ROWS = 512
"""Rows of the identity that go together through a projection that cannot be differentiated."""


@dataclass(frozen=True)
class PostNorm:
    """A norm between an output projection and the residual stream, in the form of `hydrascope.anatomy.Tail`."""

    gain: Float[Tensor, " d"]
    bias: Float[Tensor, " d"]
    eps: float
    centred: bool

    def scale(self, state: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows"]:
        """The number that the norm divides each row by."""
        x = state.float()
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        return (x.pow(2).mean(-1) + self.eps).sqrt()


@dataclass(frozen=True)
class UnitDecomposition:
    """A writer that is read unit by unit.

    Attributes:
        writer: address of the writer.
        kind: kind of its units, `head` or `neuron`.
        site: module input where the units lie side by side.
        units: number of units.
        groups: number of key-value heads, for heads; number of units otherwise.
        module: path of the module whose output is the write.
        gain: multiplier of that output.
        norm: norm between projection and write, if any.
        bias_moves: a post-norm scales the projection's bias, so that it can change without being knocked out.
    """

    writer: Component
    kind: str
    site: Site
    units: int
    groups: int
    module: str
    gain: float
    norm: PostNorm | None
    bias_moves: bool

    @property
    def width(self) -> int:
        """Columns in an account: the units, and their bias behind them."""
        return self.units + 1

    def within(self, part: Component) -> slice | None:
        """Units that a part of this writer consists of; None where it is not made of them."""
        if part.unit is None:
            return None
        if part.kind == self.kind:
            return slice(part.unit, part.unit + 1)
        if part.kind == "kv" and self.kind == "head":
            size = self.units // self.groups
            return slice(part.unit * size, (part.unit + 1) * size)
        return None


@dataclass(frozen=True)
class UnitReadout:
    """A writer's read-out by unit, for the targets of one batch.

    Attributes:
        split: the writer's decomposition.
        vectors: W^T w' of each prompt, float32.
        scaled: part of the bias's read-out that a post-norm divides by its scale; zero without one.
        fixed: rest of the bias's read-out.
    """

    split: UnitDecomposition
    vectors: Float[Tensor, "prompts width"]
    scaled: Float[Tensor, " prompts"]
    fixed: Float[Tensor, " prompts"]

    def by_unit(
        self, inside: Float[Tensor, "interventions prompts width"]
    ) -> Float[Tensor, "interventions prompts units"]:
        """<x_u, W_u^T w'> of every row."""
        units, width = self.split.units, self.vectors.shape[-1]
        if units == width:
            return inside.float() * self.vectors
        shape = (units, width // units)
        return torch.einsum("vphe,phe->vph", inside.float().unflatten(-1, shape), self.vectors.unflatten(-1, shape))


def decompose_writers(model: Model, wanted: Mapping[Component, str]) -> tuple[UnitDecomposition, ...]:
    """Make writers ready to be read unit by unit.

    Args:
        model: the model.
        wanted: kind of units by writer; see `hydrascope.components.parse_writers`.

    Raises:
        AnatomyRefused: a write is not one projection, normed or not.
    """
    return tuple(_split(model, writer, kind) for writer, kind in wanted.items())


def readout(network: nn.Module, split: UnitDecomposition, vectors: Float[Tensor, "prompts d"]) -> UnitReadout:
    """Pull one read-out direction per prompt back through a writer's output projection, in float32."""
    projection = network.get_submodule(split.site.module)
    inside, fixed = vectors * split.gain, vectors.new_zeros(len(vectors))
    if split.norm is not None:
        fixed = inside @ split.norm.bias.to(inside)
        inside = inside * split.norm.gain.to(inside)
        if split.norm.centred:
            inside = inside - inside.mean(-1, keepdim=True)
    pulled, bias = _pull_back(projection, split.site.width, inside)
    if split.norm is None:
        return UnitReadout(split, pulled, torch.zeros_like(bias), bias)
    return UnitReadout(split, pulled, bias, fixed)


def readouts(
    model: Model, decompositions: Sequence[UnitDecomposition], vectors: Float[Tensor, "prompts d"]
) -> dict[Component, UnitReadout]:
    """The read-out of every decomposed writer."""
    return {split.writer: readout(model.network, split, vectors) for split in decompositions}


def _pull_back(
    projection: nn.Module, width: int, vectors: Float[Tensor, "prompts d"]
) -> tuple[Float[Tensor, "prompts width"], Float[Tensor, " prompts"]]:
    """W^T v and <b, v> by differentiating <W x + b, v> at x = 0, whichever way round the module stores W.

    Half formats would round the result, so there the weights are read and multiplied in float32.
    """
    here = device_of(projection) or vectors.device
    x = torch.zeros(len(vectors), 1, width, device=here, dtype=input_dtype(projection, torch.float32))
    if x.dtype in (torch.float16, torch.bfloat16) and (matrix := _matrix(projection, width)) is not None:
        weight, bias = matrix
        pulled = vectors.to(weight) @ weight.T
        return pulled.to(vectors), (vectors.to(weight) @ bias).to(vectors)
    try:
        with torch.enable_grad():
            x.requires_grad_()
            written = projection(x)[:, 0].float()
            read = (written * vectors.to(written)).sum(-1)
            (slope,) = torch.autograd.grad(read.sum(), x)
    except (RuntimeError, NotImplementedError):  # some quantised modules cannot be differentiated
        return _pull_back_by_rows(projection, x.detach(), vectors)
    return slope[:, 0].to(vectors), read.detach().to(vectors)


def _pull_back_by_rows(
    projection: nn.Module, zeros: Float[Tensor, "prompts 1 width"], vectors: Float[Tensor, "prompts d"]
) -> tuple[Float[Tensor, "prompts width"], Float[Tensor, " prompts"]]:
    """W^T v and <b, v> from the module's outputs on rows of the identity and on zeros."""
    pulled = []
    with torch.no_grad():
        silent = projection(zeros[:1])[:, 0].float()
        for rows in torch.eye(zeros.shape[-1], dtype=zeros.dtype, device=zeros.device).split(_ROWS):
            written = projection(rows[:, None])[:, 0].float() - silent
            pulled.append(vectors.to(written) @ written.T)
        bias = (vectors.to(silent) @ silent.T)[:, 0]
    return torch.cat(pulled, 1).to(vectors), bias.to(vectors)


def _matrix(projection: Any, width: int) -> tuple[Float[Tensor, "width d"], Float[Tensor, " d"]] | None:
    """W and b of a projection that writes x W + b, in float32; None where it computes something else."""
    x = torch.randn(4, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), weights_loaded(projection):
        weight, bias = getattr(projection, "weight", None), getattr(projection, "bias", None)
        if weight is None or weight.ndim != 2 or width not in weight.shape or weight.dtype not in FLOAT_DTYPES:
            return None
        weight = weight.detach().float()
        x = x.to(weight.device, projection.weight.dtype)
        fixed = weight.new_zeros(()) if bias is None else bias.detach().to(weight)
        written = projection(x[:, None])[:, 0].to(weight)
        for turned in (weight.T, weight):
            if turned.shape == (width, written.shape[1]):
                missed = (x.float() @ turned + fixed - written).norm()
                if missed <= 4 * torch.finfo(x.dtype).eps * written.norm():
                    return turned, fixed.expand(written.shape[1])
    return None


def _split(model: Model, component: Component, kind: str) -> UnitDecomposition:
    writer, network = model.anatomy.writer(component), model.network
    if len(writer.modules) > 1:
        raise AnatomyRefused(check_name(kind), f"{component} is written by several modules; leave it whole")
    if kind == "head":
        heads = model.anatomy.head_site(component.layer)
        site, units, groups = heads.site, heads.n_heads, heads.n_kv
    else:
        neurons = model.anatomy.neuron_site(component.layer)
        site, units, groups = neurons.site, neurons.n_neurons, neurons.n_neurons
    projection: Any = network.get_submodule(site.module)
    norm = None
    ids = random_ids(network, batch=2, tokens=3, seed=3)
    inside = record(model, ids, [site]).values[site]
    if writer.modules[0] != site.module:
        with torch.no_grad():
            state = projection(inside)
        gain, bias, eps, centred = probe_norm(network.get_submodule(writer.modules[0]), state)
        norm = PostNorm(gain, bias, eps, centred)
    with torch.no_grad():
        silent = projection(torch.zeros_like(inside[:1]))
    moves = norm is not None and bool(silent.abs().max() > 0)
    return UnitDecomposition(component, kind, site, units, groups, writer.modules[0], writer.gains[0], norm, moves)
