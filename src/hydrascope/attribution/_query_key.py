"""The query-key fix of AtP* (Kramar et al. 2024, arXiv 2403.00745), for parts that later attention reads.

A softmax that is saturated has no slope, and a gradient through it sees nothing of a change that would move it. So a
part's write moves the input x of every later block l by d, along the residual stream alone; the block's own code
computes its attention weights A anew from the queries and keys of x + d, and only what follows is linear:

    correction = sum_l <dL/dA_l, A_l(x_l + d) - A_l(x_l) - (dA_l/dx_l) d>

Its last term is what attribution patching has already counted of the same path. The cost is, for every part, draw and
later block, the block's norm, queries, keys and weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hydrascope.anatomy import Model, first_tensor, replace_first_tensor
from hydrascope.attribution._graded import GradedRun
from hydrascope.components import UNIT_KINDS, Component
from hydrascope.engine import Strategy, frozen_weights, prove_attention_split, watching
from hydrascope.errors import AnatomyRefused, NonFinite
from hydrascope.run import Batch

ROWS = 1024
"""Tokens of all rows whose weights are computed together."""


def require_watchable(model: Model, strategy: Strategy) -> None:
    """Refuse models whose attention weights cannot be computed anew from a changed residual stream.

    Raises:
        AnatomyRefused: the reason, in a sentence.
    """
    why = ""
    if not (strategy.staircase or strategy.by_block):
        why = "rows of this model cannot share their prompt's keys and values"
    elif abs(model.anatomy.embed_gain - 1) > 1e-6:
        why = "the blocks of this model multiply the residual stream"
    else:
        try:
            prove_attention_split(model, strategy)
        except AnatomyRefused:
            why = "the attention weights of this model cannot be watched"
    if why:
        raise AnatomyRefused("query-key fix", f"{why}; leave the score query_key out")


class _SeenWeights(Exception):
    """Ends a block's forward as soon as its attention weights are known."""


class QueryKeyFix:
    """Corrections of attribution patching for one batch.

    Args:
        graded: the batch's clean run, watched.
        batch: the batch.
    """

    def __init__(self, graded: GradedRun, batch: Batch) -> None:
        self.graded, self.batch, self.model = graded, batch, graded.model
        self.layout = graded.layout
        self.slopes = graded.weight_gradients()
        self.prefix = batch.clean.prefix if batch.context.strategy.staircase else ()
        # rows share what a block is called with besides the stream where they belong to one text, or are single tokens
        tokens = self.layout.prompts * self.layout.tokens
        self.together = max(1, ROWS // tokens) if self.prefix or self.layout.prompts == 1 else 1
        self._seen: list[Tensor] = []
        with self._watching():
            self._clean = {layer: self._linearised(layer) for layer in self.slopes}

    @contextmanager
    def _watching(self) -> Iterator[None]:
        network = self.model.network
        with watching(network, self._see, self.prefix), torch.enable_grad(), frozen_weights(network):
            yield

    def _see(self, module: nn.Module, weights: Tensor) -> NoReturn:
        self._seen.append(weights)
        raise _SeenWeights

    def corrections(
        self, parts: Sequence[Component], displacements: Sequence[Sequence[Float[Tensor, "draws prompts edited _"]]]
    ) -> Float[np.ndarray, "parts draws prompts"]:
        """What the fix adds to attribution patching of every part, draw by draw."""
        draws, prompts = displacements[0][0].shape[:2]
        found = np.zeros((len(parts), draws, prompts))
        together = max(1, ROWS // (draws * prompts))
        for first in range(0, len(parts), together):
            some = parts[first : first + together]
            written = torch.stack([self._written(*one) for one in zip(some, displacements[first:], strict=False)])
            for layer in self.slopes:
                before = [number for number, part in enumerate(some) if part.layer < layer]
                if before:
                    with self._watching():
                        each = [self._missed(layer, one) for one in written[before].flatten(0, 1).split(self.together)]
                    missed = np.concatenate(each).reshape(len(before), draws, prompts)
                    found[[first + number for number in before]] += missed
        return found

    def _written(self, part: Component, displacements: Sequence[Tensor]) -> Float[Tensor, "draws prompts edited d"]:
        """Change of the residual stream by a part's own write."""
        anatomy, module = self.model.anatomy, self.model.network.get_submodule
        displacements = [moved.to(self.model.device) for moved in displacements]
        if part.kind == "embed":
            return displacements[0]
        writer = anatomy.writer(anatomy.written_by(part)[0])
        if part.kind not in UNIT_KINDS:
            return sum(gain * moved for gain, moved in zip(writer.gains, displacements, strict=True))  # type: ignore[return-value]
        (place,) = anatomy.places(part)
        (moved,) = displacements
        inside = self.batch.context.pools[place.site][torch.as_tensor(list(self.batch.rows))].to(self.model.device)
        changed = inside.expand(len(moved), *inside.shape).clone()
        changed[..., place.span] += moved.to(inside)

        def write(x: Tensor) -> Tensor:
            out: Tensor = module(place.site.module)(x.flatten(0, -3) if x.ndim > 3 else x)
            return out if writer.modules[0] == place.site.module else module(writer.modules[0])(out)

        with torch.no_grad():
            after, before = write(changed), write(inside)
        return writer.gains[0] * (after.view(len(moved), *before.shape) - before)

    def _linearised(self, layer: int) -> tuple[Tensor, Tensor]:
        """Clean weights of a block, and the gradient of <dL/dA, A> with respect to the block's input."""
        stream = self.graded.streams[layer].clone().requires_grad_()
        weights = self._weights(layer, stream)
        (slope,) = torch.autograd.grad(weights, stream, self.slopes[layer])
        return weights.detach(), slope

    def _missed(self, layer: int, moved: Float[Tensor, "rows prompts edited d"]) -> Float[np.ndarray, "rows prompts"]:
        """What the gradient misses of the changes that a block's weights make, for rows of changed input."""
        clean, slope = self._clean[layer]
        change = torch.zeros(len(moved), *slope.shape, dtype=slope.dtype, device=slope.device)
        for row, one in enumerate(moved):
            self.layout.put(change[row], 0, slice(None), one)
        weights = self._weights(layer, (self.graded.streams[layer] + change).flatten(0, 1))
        if not torch.isfinite(weights).all():
            raise NonFinite(f"attention weights of block {layer} are NaN or infinite; {self.model.mend}")
        product = (weights - clean) * self.slopes[layer]
        gained = product.sum((1, 3, 4)).T if self.prefix else product.view(len(moved), self.layout.prompts, -1).sum(-1)
        linear = (change * slope).view(len(moved), self.layout.prompts, -1).sum(-1)
        found: np.ndarray = (gained - linear).double().cpu().numpy()
        return found

    def _weights(self, layer: int, rows: Tensor) -> Tensor:
        """Attention weights of a block whose input is `rows`, by the block's own code."""
        args, kwargs = self.graded.calls[layer]
        if first_tensor(args) is not None:
            args = replace_first_tensor(args, rows)
        else:
            kwargs = {**kwargs, "hidden_states": rows}
        with suppress(_SeenWeights):
            self.model.network.get_submodule(self.model.anatomy.layers[layer])(*args, **kwargs)
        return self._seen.pop()
