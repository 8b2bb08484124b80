"""Constants that do the least harm, learned by gradient through the untouched model (Li & Janson 2024)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil

import torch

from hydrascope.ablations import Learning as Descent
from hydrascope.anatomy import Anatomy, Model, Site
from hydrascope.components import Knockout
from hydrascope.engine.batch import Constants
from hydrascope.engine.moments import Moments, Origin
from hydrascope.engine.objective import Harm, Losses, Values
from hydrascope.engine.passes import Passes
from hydrascope.engine.plan import Plan, edited_places
from hydrascope.engine.strategy import Strategy
from hydrascope.errors import AblationError

CANDIDATES = 3
"""Values whose harm over everything is measured beside the steps: zeros, the mean, and the last one."""


def require_learnable(knockouts: Sequence[Knockout], anatomy: Anatomy) -> None:
    """Refuse what no constant is learned for.

    Raises:
        AblationError: an edge, or a single expert.
    """
    for knockout in knockouts:
        if knockout.sender is not None:
            raise AblationError(f"optimal values belong to parts, and {knockout} is an edge; choose mean or resample")
        if any(place.site.expert >= 0 for place in edited_places(knockout, anatomy)):
            raise AblationError(f"no optimal value can be learned for a single expert as in {knockout}; choose mean")


@dataclass(frozen=True)
class Learning:
    """What the constants of a run are learned from.

    Attributes:
        model: the model.
        plan: the run's plan.
        strategy: of a push whose first edited block is known.
        passes: clean passes of all prompts or texts.
        moments: of every site, over the same.
    """

    model: Model
    plan: Plan
    strategy: Callable[[int], Strategy]
    passes: Passes
    moments: Mapping[Site, Moments]

    @property
    def groups(self) -> list[list[int]]:
        """Knock-outs that are learned together, in order of depth; none waits for another's push to reach its block."""
        blocks = [knockout.first_layer for knockout in self.plan.knockouts]
        found = []
        for _, same in groupby(sorted(range(len(blocks)), key=blocks.__getitem__), lambda k: self._begin(blocks[k])):
            some = list(same)
            size = ceil(len(some) / ceil(len(some) / self.passes.together))
            found += [some[i : i + size] for i in range(0, len(some), size)]
        return found

    def _begin(self, block: int) -> int:
        return self.strategy(block).first_block

    def learn(self, group: Sequence[int]) -> list[Constants]:
        """The constants of some knock-outs, by their numbers in the plan.

        Raises:
            AblationError: no gradient comes through the model.
        """
        knockouts = [self.plan.knockouts[number] for number in group]
        places = [self.plan.edited[number] for number in group]
        strategy = self.strategy(min(knockout.first_layer for knockout in knockouts))
        origins = [[Origin.at(place, self.moments) for place in some] for some in places]
        descent = self.plan.ablation.learning
        assert descent is not None
        return learn(Harm(self.model, strategy, knockouts, places, self.passes), origins, descent)


def learn(harm: Harm, origins: Sequence[Sequence[Origin]], descent: Descent) -> list[Constants]:
    """The constants of least harm, and of no more than zeros or the mean do.

    Gradient descent (Adam) begins at the better of the two. Where every step sees everything, each value on the way is
    a candidate, otherwise only the last one, whose harm over everything is then measured.

    Args:
        harm: what is minimised.
        origins: of every place of every knock-out.
        descent: steps and rate.

    Returns:
        For each knock-out one value per place, float32 on the CPU.

    Raises:
        AblationError: no gradient comes through the model.
    """
    means = [[origin.mean.to(harm.model.device) for origin in some] for some in origins]
    spreads = [[origin.spread for origin in some] for some in origins]
    best = [[torch.zeros_like(value) for value in some] for some in means]
    lowest = torch.full((len(means),), torch.inf)
    for values in (best, means):
        best, lowest = _better(best, lowest, values, harm.losses(values))
    start = best
    steps = [[torch.zeros_like(value, requires_grad=True) for value in some] for some in best]
    optimiser = torch.optim.Adam([step for some in steps for step in some])
    for number in range(descent.steps):
        values = _moved(start, spreads, steps)
        losses, slopes = harm.losses_and_slopes(values, number)
        if len(harm.passes.turns) == 1:
            best, lowest = _better(best, lowest, values, losses)
        for some in zip(steps, slopes, spreads, strict=True):
            for step, slope, spread in zip(*some, strict=True):
                step.grad = slope * spread
        optimiser.param_groups[0]["lr"] = descent.rate * (1 - number / descent.steps)
        optimiser.step()
    values = _moved(start, spreads, steps)
    best, _ = _better(best, lowest, values, harm.losses(values))
    return [tuple(value.detach().float().cpu() for value in some) for some in best]


def _moved(start: Values, spreads: Sequence[Sequence[float]], steps: Values) -> Values:
    return [
        [a + spread * step.detach() for a, spread, step in zip(*some, strict=True)]
        for some in zip(start, spreads, steps, strict=True)
    ]


def _better(best: Values, lowest: Losses, values: Values, losses: Losses) -> tuple[Values, Losses]:
    improved = (losses < lowest).tolist()
    kept = [new if yes else old for new, old, yes in zip(values, best, improved, strict=True)]
    return kept, torch.minimum(lowest, losses)
