"""Optimal ablation: constants that do the least harm, learned by gradient.

a* = argmin_a E[KL(clean || ablated with Z = a)]  (Li & Janson 2024, arXiv 2409.09951)

Every knock-out is a row of one forward and has constants of its own, so that the gradient of the summed losses is each
row's own. Learning costs about 180 times a run with one donor; the mean is the cheap constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hydrascope.ablations import Learning as Descent
from hydrascope.anatomy import Anatomy, Hooks, Model, Place, Site, hooked, weights_loaded
from hydrascope.components import Knockout
from hydrascope.engine._activations import ActivationStatistics, Origin
from hydrascope.engine._clean import CleanRun
from hydrascope.engine._clean_cache import CleanBatches
from hydrascope.engine._forward import ReachedHead, Rows, copied
from hydrascope.engine._interventions import Edit, Intervention, in_order_of_depth
from hydrascope.engine._measure import Constants
from hydrascope.engine._memory import GRADED_LOGIT_BYTES
from hydrascope.engine._plan import Plan, edited_places
from hydrascope.engine._strategies import Strategy
from hydrascope.errors import AblationError

CANDIDATES = 3
"""Values whose loss over everything is measured beside the steps: zeros, the mean, and the last one."""


def require_learnable(knockouts: Sequence[Knockout], anatomy: Anatomy) -> None:
    """Refuse knock-outs that no constant can be learned for.

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
        plan: the run's plan.
        strategy: gives the strategy for a first edited block.
        batches: clean runs of all prompts or texts.
        statistics: activation statistics of every site, over all prompts or texts.
    """

    model: Model
    plan: Plan
    strategy: Callable[[int], Strategy]
    batches: CleanBatches
    statistics: Mapping[Site, ActivationStatistics]

    @property
    def groups(self) -> list[list[int]]:
        """Knock-outs that are learned together, in order of depth; forwards of a group begin at one block."""
        blocks = [knockout.first_layer for knockout in self.plan.knockouts]
        found = []
        for _, same in groupby(sorted(range(len(blocks)), key=blocks.__getitem__), lambda k: self._begin(blocks[k])):
            some = list(same)
            size = ceil(len(some) / ceil(len(some) / self.batches.together))
            found += [some[i : i + size] for i in range(0, len(some), size)]
        return found

    def _begin(self, block: int) -> int:
        return self.strategy(block).first_block

    def learn(self, group: Sequence[int]) -> list[Constants]:
        """Constants of some knock-outs, by their numbers in the plan.

        Raises:
            AblationError: no gradient comes through the model.
        """
        knockouts = [self.plan.knockouts[number] for number in group]
        places = [self.plan.edited[number] for number in group]
        strategy = self.strategy(min(knockout.first_layer for knockout in knockouts))
        origins = [[Origin.at(place, self.statistics) for place in some] for some in places]
        descent = self.plan.ablation.learning
        assert descent is not None
        return learn(KLObjective(self.model, strategy, knockouts, places, self.batches), origins, descent)


def learn(objective: KLObjective, origins: Sequence[Sequence[Origin]], descent: Descent) -> list[Constants]:
    """The constants of least loss, which is never above that of zeros or the mean.

    Gradient descent (Adam) begins at the better of the two. Where every step sees everything, each value on the way is
    a candidate, otherwise only the last one, whose loss over everything is then measured.

    Args:
        objective: loss to minimise.
        origins: for each knock-out, start and step size at every place.
        descent: steps and rate.

    Returns:
        For each knock-out one value per place, float32 on the CPU.
    """
    means = [[origin.mean.to(objective.model.device) for origin in some] for some in origins]
    spreads = [[origin.spread for origin in some] for some in origins]
    best = [[torch.zeros_like(value) for value in some] for some in means]
    lowest = torch.full((len(means),), torch.inf)
    for values in (best, means):
        best, lowest = _better(best, lowest, values, objective.losses(values))
    start = best
    steps = [[torch.zeros_like(value, requires_grad=True) for value in some] for some in best]
    optimiser = torch.optim.Adam([step for some in steps for step in some])
    for number in range(descent.steps):
        values = _moved(start, spreads, steps)
        losses, slopes = objective.losses_and_slopes(values, number)
        if len(objective.batches.turns) == 1:
            best, lowest = _better(best, lowest, values, losses)
        for some in zip(steps, slopes, spreads, strict=True):
            for step, slope, spread in zip(*some, strict=True):
                step.grad = slope * spread
        optimiser.param_groups[0]["lr"] = descent.rate * (1 - number / descent.steps)
        optimiser.step()
    values = _moved(start, spreads, steps)
    best, _ = _better(best, lowest, values, objective.losses(values))
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


Values = list[list[Tensor]]
"""For each knock-out one value per place."""

Losses = Float[Tensor, " knockouts"]


@dataclass(frozen=True)
class KLObjective:
    """KL divergence from the clean next-token distribution in nats, averaged over all read positions.

    Attributes:
        strategy: how the knock-outs are run.
        knockouts: knock-outs that go through the model together.
        places: places of each knock-out; every edited position gets one value.
        batches: clean runs of all prompts or texts.
    """

    model: Model
    strategy: Strategy
    knockouts: Sequence[Knockout]
    places: Sequence[Sequence[Place]]
    batches: CleanBatches

    def losses(self, values: Values) -> Losses:
        """Loss of every knock-out over everything."""
        total = torch.zeros(len(values))
        with torch.no_grad():
            for clean in self.batches.of(self.batches.all):
                total += self._sums(clean, values).cpu()
        return total / sum(self.batches.items)

    def losses_and_slopes(self, values: Values, step: int) -> tuple[Losses, Values]:
        """Losses over what one step sees, and their gradient with respect to every value.

        Raises:
            AblationError: no gradient comes through the model.
        """
        leaves = [[value.detach().requires_grad_() for value in some] for some in values]
        flat = [leaf for some in leaves for leaf in some]
        slopes = [torch.zeros_like(leaf) for leaf in flat]
        total = torch.zeros(len(values))
        turn = self.batches.turn(step)
        items = sum(self.batches.items[batch] for batch in turn)
        for clean in self.batches.of(turn):
            with torch.enable_grad():
                loss = self._sums(clean, leaves) / items
            if not loss.requires_grad:
                raise AblationError(
                    "no gradient comes through this model, so no optimal value can be learned; choose mean"
                )
            for slope, found in zip(slopes, torch.autograd.grad(loss.sum(), flat), strict=True):
                slope += found
            total += loss.detach().cpu()
        rest = iter(slopes)
        return total, [[next(rest) for _ in some] for some in leaves]

    def _sums(self, clean: CleanRun, values: Values) -> Losses:
        """Losses summed over the read positions of one batch."""
        layout = self.strategy.layout(clean)
        shape = (layout.prompts, len(layout.edited), -1)
        interventions = [
            Intervention(
                str(knockout),
                knockout.first_layer,
                tuple(Edit(place, value.expand(*shape)) for place, value in zip(places, given, strict=True)),
            )
            for knockout, places, given in zip(self.knockouts, self.places, values, strict=True)
        ]
        return divergence(self.model, clean, interventions, self.strategy).sum(1)


def divergence(
    model: Model, clean: CleanRun, interventions: Sequence[Intervention], strategy: Strategy
) -> Float[Tensor, "interventions items"]:
    """KL(clean || intervention) of the next-token distribution in nats; differentiable.

    One number per intervention and read position, in the order given.

    Raises:
        HookDidNotFire: an edit did not happen exactly once.
    """
    order = in_order_of_depth(interventions)
    forward = _Graded(model, clean, [interventions[i] for i in order], strategy, with_clean=strategy.staircase)
    with hooked() as hooks, suppress(ReachedHead), frozen_weights(model.network):
        forward.attach(hooks)
        strategy.run(model.network, clean, len(interventions) + forward.with_clean)
    forward.check_fired(hooks)
    states = forward.normed[int(forward.with_clean) :]
    items = max(1, GRADED_LOGIT_BYTES // (4 * model.anatomy.n_vocab * len(interventions)))
    found = [
        checkpoint(_kl, model, some, logits, use_reentrant=False, preserve_rng_state=False)
        for some, logits in zip(states.split(items, 1), clean.logits.split(items), strict=True)
    ]
    each: Tensor = torch.cat(found, 1)
    return each[torch.tensor(order).argsort().to(each.device)]


def _kl(
    model: Model, states: Float[Tensor, "interventions items d"], clean: Float[Tensor, "items vocab"]
) -> Float[Tensor, "interventions items"]:
    tail = model.anatomy.tail
    head: Any = model.network.get_submodule(tail.head)
    with weights_loaded(head):
        weight, bias = head.weight.detach(), getattr(head, "bias", None)
        bias = None if bias is None else bias.detach()
        logits = torch.nn.functional.linear(states.to(weight.device), weight, bias).float()
    log_q = tail.cap(logits * tail.scale).log_softmax(-1)
    log_p = clean.to(log_q.device).float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


class _Graded(Rows):
    """One forward up to the head, in which nothing that a gradient needs is changed in place."""

    def attach(self, hooks: Hooks) -> None:
        module = self.model.network.get_submodule
        for layer, path in enumerate(self.model.anatomy.layers):
            hooks.on_input(module(path), f"start of block {layer}", lambda h, layer=layer: self._grow(h, layer))  # type: ignore[misc]
        for site in self.edits:
            watch = hooks.on_input if site.side == "input" else hooks.on_output
            watch(module(site.module), str(site), lambda x, site=site: self._put(copied(x), site))  # type: ignore[misc]
        hooks.on_input(module(self.model.anatomy.tail.head), "head", self._stop)

    def _stop(self, normed: Tensor) -> NoReturn:
        self.normed = self.layout.items_of(normed)
        raise ReachedHead


@contextmanager
def frozen_weights(network: nn.Module) -> Iterator[None]:
    """Keep nothing for gradients of weights."""
    wanting = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        for weight in wanting:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in wanting:
            weight.requires_grad_(True)
