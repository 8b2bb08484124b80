"""Blocks by what they do to the residual stream, which one pass over the text tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy import first_tensor, hooked
from hydrascope.components import Component
from hydrascope.engine import Trunk
from hydrascope.pruning._judge import Judge
from hydrascope.pruning.rankings._base import Choice, Ranking


class Influence(Ranking):
    """Block influence, 1 minus the cosine of a block's input and output (ShortGPT, arXiv 2403.03853)."""

    name = "influence"
    meaning = "smallest block influence, 1 - cosine of input and output"
    kinds = ("layer",)

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose by the mean over all tokens."""
        total = np.zeros(judge.model.anatomy.n_layers)
        for states in _streams(judge):
            cosine = torch.cosine_similarity(states[:-1].double(), states[1:].double(), dim=-1)
            total += (1 - cosine).sum((1, 2)).cpu().numpy()
        tokens = sum(map(len, judge.texts.ids))
        return Choice.by_score({part: float(total[part.layer] / tokens) for part in parts}, sizes)


class Angular(Ranking):
    """The run of neighbouring blocks that turns the last token's stream least (Gromov, arXiv 2403.17887)."""

    name = "angular"
    meaning = "the run of neighbours that turns the stream least"
    kinds = ("layer",)

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose a run for every size."""
        depth, sets = judge.model.anatomy.n_layers, {}
        last = torch.cat([states[:, :, -1].double() for states in _streams(judge)], 1)
        for size in sizes:
            cosine = torch.cosine_similarity(last[: depth - size + 1], last[size:], dim=-1).clamp(-1, 1)
            first = int((cosine.arccos() / torch.pi).mean(1).argmin())
            sets[size] = tuple(part for part in parts if first <= part.layer < first + size)
        return Choice(sets)


def _streams(judge: Judge) -> Iterator[Float[Tensor, "states texts tokens d"]]:
    """The residual stream before the first block and behind each, batch by batch."""
    for trunk in judge.trunks:
        behind = [first_tensor(one) for one in trunk.streams.returned]
        yield torch.stack([entering(judge, trunk), *(one for one in behind if one is not None)])


def entering(judge: Judge, trunk: Trunk) -> Float[Tensor, "texts tokens d"]:
    """The stream that enters the first block."""
    found: list[Tensor] = []
    first = judge.model.network.get_submodule(judge.model.anatomy.layers[0])
    with hooked() as hooks:
        hooks.on_input(first, "entering", lambda stream: found.append(stream.detach().cpu()))
        trunk.logits(judge.model)
    return found[0]
