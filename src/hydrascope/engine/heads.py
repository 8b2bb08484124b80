"""Heads as writers: what each head, and what no head, adds to an attention write.

The output projection is linear, so with x_h a head's stretch of its input, b its bias and w a read-out direction,

    <write, w> = sum_h <x_h, W_h^T w> + <b, w>

and W^T w is one vector per prompt and block, however many rows are read with it. Where a post-norm with gain g and bias
c follows the projection, its scale s of the row is measured and the same holds with w' = center(g * w):

    <write, w> = sum_h <x_h, W_h^T w'> / s + <b, w'> / s + <c, w>

Where a knock-out replaces the whole write, no head wrote it: its heads read as zero and `bias.L` as all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hydrascope.anatomy import HeadSite, Model, Writer
from hydrascope.anatomy.discover import random_ids
from hydrascope.anatomy.tail import probe_norm
from hydrascope.anatomy.weights import FORMATS, at_hand, device_of, format_of
from hydrascope.components import Component
from hydrascope.engine.capture import capture
from hydrascope.errors import AnatomyRefused

CHECK = "heads as writers"
"""Name of the check that a model must pass."""

_ROWS = 512
"""Rows of the identity that go through a projection at once where it cannot be differentiated."""


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
    """W^T v and <b, v> by differentiating <W x + b, v> at x = 0, whichever way round the module stores W.

    Half formats would round the result, so there the weights are read and multiplied in float32.
    """
    here = device_of(projection) or vectors.device
    x = torch.zeros(len(vectors), 1, width, device=here, dtype=format_of(projection, torch.float32))
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
    """The same from what the module writes when one entry of its input is one and all others are zero."""
    pulled = []
    with torch.no_grad():
        silent = projection(zeros[:1])[:, 0].float()
        for rows in torch.eye(zeros.shape[-1], dtype=zeros.dtype, device=zeros.device).split(_ROWS):
            written = projection(rows[:, None])[:, 0].float() - silent
            pulled.append(vectors.to(written) @ written.T)
        bias = (vectors.to(silent) @ silent.T)[:, 0]
    return torch.cat(pulled, 1).to(vectors), bias.to(vectors)


def _matrix(projection: Any, width: int) -> tuple[Float[Tensor, "width d"], Float[Tensor, " d"]] | None:
    """A projection's W and b in float32, turned so that it writes x W + b; None where they are not what it computes."""
    x = torch.randn(4, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), at_hand(projection):
        weight, bias = getattr(projection, "weight", None), getattr(projection, "bias", None)
        if weight is None or weight.ndim != 2 or width not in weight.shape or weight.dtype not in FORMATS:
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


def _attention(model: Model, site: HeadSite) -> Writer:
    return next(w for w in model.anatomy.writers if w.component == Component("attn", site.layer))


def _split(model: Model, site: HeadSite, writer: Writer) -> Split:
    if len(writer.modules) > 1:
        raise AnatomyRefused(CHECK, f"{writer.component} is written by several modules; use --writers layers")
    network: Any = model.network
    projection = network.get_submodule(site.module)
    norm = None
    ids = random_ids(network, batch=2, tokens=3, seed=3)
    projected = capture(model, ids, [site.site], keep_prefix=False).values[site.site]
    if writer.modules[0] != site.module:
        with torch.no_grad():
            state = projection(projected[:, None])
        gain, bias, eps, centred = probe_norm(network.get_submodule(writer.modules[0]), state)
        norm = PostNorm(gain, bias, eps, centred)
    with torch.no_grad():
        silent = projection(torch.zeros_like(projected[:1, None]))
    moves = norm is not None and bool(silent.abs().max() > 0)
    return Split(writer.component, site, writer.modules[0], writer.gains[0], norm, moves)
