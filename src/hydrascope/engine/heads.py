"""Heads as writers: what each head, and what no head, adds to an attention write.

The output projection is linear, so with x_h a head's stretch of its input, b its bias and w a read-out direction,

    <write, w> = sum_h <x_h, W_h^T w> + <b, w>

and W^T w is one vector per prompt and block, however many rows are read with it. Where a post-norm with gain g and bias
c follows the projection, its scale s of the row is measured and the same holds with w' = center(g * w):

    <write, w> = sum_h <x_h, W_h^T w'> / s + <b, w'> / s + <c, w>

Where a knock-out replaces the whole write, no head wrote it: its heads read as zero and `bias.L` as all of it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hydrascope.anatomy import HeadSite, Model, Writer
from hydrascope.anatomy.discover import random_ids
from hydrascope.anatomy.tail import probe_norm
from hydrascope.components import Component
from hydrascope.engine.capture import capture
from hydrascope.errors import AnatomyRefused

CHECK = "heads as writers"
"""Name of the check that a model must pass."""


@dataclass(frozen=True)
class PostNorm:
    """A norm between an output projection and the residual stream; see `hydrascope.anatomy.Tail` for its form."""

    gain: Float[Tensor, " d"]
    bias: Float[Tensor, " d"]
    eps: float
    centred: bool

    def scale(self, state: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows"]:
        """What the norm divides a row by."""
        x = state.float()
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        return (x.pow(2).mean(-1) + self.eps).sqrt()


@dataclass(frozen=True)
class Split:
    """An attention writer that is read head by head.

    Attributes:
        writer: its address.
        site: where its heads lie.
        module: path of the module whose output is the write.
        gain: what that output is multiplied by.
        norm: between projection and write, if there is one.
        bias_moves: a post-norm scales the projection's bias, so that it can change without being knocked out.
    """

    writer: Component
    site: HeadSite
    module: str
    gain: float
    norm: PostNorm | None
    bias_moves: bool


@dataclass(frozen=True)
class Aim:
    """A split writer's read-out for the targets of one batch.

    Attributes:
        split: the writer.
        vectors: W^T w' of each prompt, float32.
        scaled: what of the bias a post-norm divides by its scale; all zero without one.
        fixed: the rest of the bias.
    """

    split: Split
    vectors: Float[Tensor, "prompts width"]
    scaled: Float[Tensor, " prompts"]
    fixed: Float[Tensor, " prompts"]

    def by_head(self, mixed: Float[Tensor, "variants prompts width"]) -> Float[Tensor, "variants prompts heads"]:
        """<x_h, W_h^T w'> of every row."""
        shape = (self.split.site.n_heads, self.split.site.head_dim)
        return torch.einsum("vphe,phe->vph", mixed.float().unflatten(-1, shape), self.vectors.unflatten(-1, shape))


def split_writers(model: Model) -> tuple[Split, ...]:
    """Every attention writer whose heads lie side by side, ready to be read head by head.

    Raises:
        AnatomyRefused: the model has none, or one whose write is not one projection, normed or not.
    """
    if not model.anatomy.heads:
        raise AnatomyRefused(CHECK, "no attention writer of this model has heads side by side; use --writers layers")
    return tuple(_split(model, site, _attention(model, site)) for site in model.anatomy.heads)


def aim(network: nn.Module, split: Split, vectors: Float[Tensor, "prompts d"]) -> Aim:
    """Pull read-out directions back through an output projection.

    Args:
        network: the model.
        split: whose projection.
        vectors: one direction per prompt.

    Returns:
        The read-out, in float32 whatever the weights' format.
    """
    projection = network.get_submodule(split.site.module)
    inside, fixed = vectors * split.gain, vectors.new_zeros(len(vectors))
    if split.norm is not None:
        fixed = inside @ split.norm.bias.to(inside)
        inside = inside * split.norm.gain.to(inside)
        if split.norm.centred:
            inside = inside - inside.mean(-1, keepdim=True)
    pulled, bias = _pull_back(projection, split.site.site.width, inside)
    if split.norm is None:
        return Aim(split, pulled, torch.zeros_like(bias), bias)
    return Aim(split, pulled, bias, fixed)


def aims(model: Model, splits: Sequence[Split], vectors: Float[Tensor, "prompts d"]) -> dict[Component, Aim]:
    """The read-out of every split writer."""
    return {split.writer: aim(model.network, split, vectors) for split in splits}


def _pull_back(
    projection: nn.Module, width: int, vectors: Float[Tensor, "prompts d"]
) -> tuple[Float[Tensor, "prompts width"], Float[Tensor, " prompts"]]:
    """W^T v and <b, v> by differentiating <W x + b, v> at x = 0, whichever way round the module stores W."""
    parameter = next(projection.parameters())
    if parameter.dtype in (torch.float16, torch.bfloat16):
        projection, dtype = copy.deepcopy(projection).float(), torch.float32
    else:
        dtype = parameter.dtype if parameter.dtype.is_floating_point else torch.float32
    with torch.enable_grad():
        x = torch.zeros(len(vectors), 1, width, device=parameter.device, dtype=dtype, requires_grad=True)
        written = projection(x)[:, 0].float()
        read = (written * vectors.to(written)).sum(-1)
        (pulled,) = torch.autograd.grad(read.sum(), x)
    return pulled[:, 0].float().to(vectors.device), read.detach().to(vectors.device)


def _attention(model: Model, site: HeadSite) -> Writer:
    return next(w for w in model.anatomy.writers if w.component == Component("attn", site.layer))


def _split(model: Model, site: HeadSite, writer: Writer) -> Split:
    if len(writer.modules) > 1:
        raise AnatomyRefused(CHECK, f"{writer.component} is written by several modules; use --writers layers")
    network: Any = model.network
    projection = network.get_submodule(site.module)
    norm = None
    if writer.modules[0] != site.module:
        projected = capture(
            model, random_ids(network, batch=2, tokens=3, seed=3), [site.site], keep_prefix=False
        ).values[site.site]
        with torch.no_grad():
            state = projection(projected[:, None])
        gain, bias, eps, centred = probe_norm(network.get_submodule(writer.modules[0]), state)
        norm = PostNorm(gain, bias, eps, centred)
    with torch.no_grad():
        parameter = next(projection.parameters())
        silent = projection(torch.zeros(1, 1, site.site.width, device=parameter.device, dtype=model.dtype))
    moves = norm is not None and bool(silent.abs().max() > 0)
    return Split(writer.component, site, writer.modules[0], writer.gains[0], norm, moves)
