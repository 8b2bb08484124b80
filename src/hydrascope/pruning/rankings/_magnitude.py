"""Parts by the size of their weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from hydrascope.anatomy import Model
from hydrascope.components import Component
from hydrascope.pruning._judge import Judge
from hydrascope.pruning.rankings._base import Choice, Ranking


class Magnitude(Ranking):
    """The parts with the smallest mean absolute weight: of all weights, or of a unit's output columns."""

    name = "magnitude"
    meaning = "smallest mean absolute weight"
    sees = False

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose by the weights."""
        return Choice.by_score({part: _size(judge.model, part) for part in parts}, sizes)


def _size(model: Model, part: Component) -> float:
    block = model.anatomy.layers[part.layer]
    if part.unit is not None:
        (place,) = model.anatomy.places(part)
        projection = model.network.get_submodule(place.site.module)
        weight = projection.weight.detach()
        columns = weight[:, place.span] if isinstance(projection, nn.Linear) else weight[place.span]
        return float(columns.float().abs().mean())
    paths = {block}
    if part.kind != "layer":
        inside = (path.removeprefix(f"{block}.").split(".")[0] for path in model.anatomy.writer(part).modules)
        paths = {f"{block}.{name}" for name in inside}
    weights = [one.detach().float() for path in paths for one in model.network.get_submodule(path).parameters()]
    return float(torch.cat([one.flatten() for one in weights]).abs().mean())
