"""Constants that do the least harm, learned by gradient through the untouched model (Li & Janson 2024).

Every knock-out of a group is a row of the last token's push, as in a sweep, and each row has constants of its own; the
gradient of the summed losses is then each row's own. Nothing is drawn at random: all prompts count in every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.ablation import Optimal
from hydrascope.anatomy import Anatomy, Model, Place
from hydrascope.anatomy.hooks import Hooks, hooked
from hydrascope.anatomy.weights import at_hand
from hydrascope.components import Knockout
from hydrascope.engine.batch import Constants, Work
from hydrascope.engine.budget import Budget, Footprint
from hydrascope.engine.capture import Clean, capture
from hydrascope.engine.plan import edited_places
from hydrascope.engine.rows import Rows
from hydrascope.engine.scope import Scope
from hydrascope.engine.strategy import Strategy
from hydrascope.engine.values import same_length_batches
from hydrascope.engine.variants import Edit, Variant, in_order_of_depth
from hydrascope.errors import AblationError
from hydrascope.prompts import EncodedPrompt

PROMPTS = 64
"""Prompts that go through the model together, at most."""

ROWS = 1024
"""Rows whose steps are kept for the gradient, at most."""

KEPT_SHARE = 4
"""One part in so many of the budget holds clean passes; those beyond are made again in every step."""


class _ReachedHead(Exception):
    """Ends the forward pass where the unembedding would begin."""


def require_learnable(knockouts: Sequence[Knockout], anatomy: Anatomy, scope: Scope) -> None:
    """Refuse what no constant is learned for.

    Raises:
        AblationError: several positions, an edge, or a single expert.
    """
    if not scope.is_last:
        raise AblationError(
            "optimal values are learned for the last token alone; leave --positions and --read out, or choose mean or "
            "resample"
        )
    for knockout in knockouts:
        if knockout.sender is not None:
            raise AblationError(f"optimal values belong to parts, and {knockout} is an edge; choose mean or resample")
        if any(place.site.expert >= 0 for place in edited_places(knockout, anatomy)):
            raise AblationError(f"no optimal value can be learned for a single expert as in {knockout}; choose mean")


@dataclass(frozen=True)
class Passes:
    """The prompts of a run in batches of one length, and their clean passes as far as they fit.

    Attributes:
        model: the model.
        batches: positions of the prompts in the run's pools.
        ids: token ids of all prompts.
        needs_prefix: whether keys and values are kept.
        kept: clean passes by batch.
    """

    model: Model
    batches: tuple[list[int], ...]
    ids: tuple[tuple[int, ...], ...]
    needs_prefix: bool
    kept: dict[int, Clean]

    @classmethod
    def of(cls, work: Work, prompts: Sequence[EncodedPrompt]) -> Passes:
        """Run the prompts once and keep what fits."""
        ids = tuple(prompt.ids for prompt in prompts)
        wide = same_length_batches(work.model, ids, work.budget)
        batches = tuple(batch[i : i + PROMPTS] for batch in wide for i in range(0, len(batch), PROMPTS))
        passes = cls(work.model, batches, ids, work.strategy.needs_prefix, {})
        left = work.budget.bytes // KEPT_SHARE
        for number in range(len(batches)):
            clean = passes.make(number)
            left -= sum(t.nbytes for t in (clean.logits, *(side for pair in clean.prefix for side in pair)))
            if left < 0:
                break
            passes.kept[number] = clean
        return passes

    def make(self, number: int) -> Clean:
        """The clean pass of a batch, now."""
        ids = torch.tensor([self.ids[row] for row in self.batches[number]])
        return capture(self.model, ids, keep_prefix=self.needs_prefix)

    def __iter__(self) -> Iterator[Clean]:
        """All clean passes."""
        return (self.kept.get(number) or self.make(number) for number in range(len(self.batches)))

    def groups(self, budget: Budget, knockouts: Sequence[int]) -> list[list[int]]:
        """Knock-outs that are learned together: as many as the steps kept for the gradient leave room for."""
        tokens = max(map(len, self.ids))
        anatomy = self.model.anatomy
        row = Footprint.of(self.model, tokens, copies_prefix=True).row * anatomy.n_layers + 16 * anatomy.n_vocab
        rows = min(ROWS, budget.bytes // KEPT_SHARE // row)
        size = max(1, rows // max(map(len, self.batches)) - 1)
        return [list(knockouts[i : i + size]) for i in range(0, len(knockouts), size)]


def learn(work: Work, passes: Passes, knockouts: Sequence[int], ablation: Optimal) -> list[Constants]:
    """The optimal constants of some knock-outs.

    Args:
        work: model, plan and values; its plan's replacements are the means.
        passes: the prompts.
        knockouts: their numbers in the plan.
        ablation: steps and rate.

    Returns:
        For each knock-out one value per place, float32 on the CPU.

    Raises:
        AblationError: no gradient comes through the model.
    """
    group = _Group(work, passes, knockouts)
    means = [[work.donated(place, 0, [0])[0].to(work.model.device) for place in some] for some in group.places]
    best = [[torch.zeros_like(value) for value in some] for some in means]
    lowest = torch.full((len(knockouts),), torch.inf)
    for values in (best, means):
        best, lowest = _better(best, lowest, values, group.losses(values))
    start = best
    steps = [[torch.zeros_like(value, requires_grad=True) for value in some] for some in best]
    optimiser = torch.optim.Adam([step for some in steps for step in some])
    for number in range(ablation.steps + 1):
        values = [
            [a + spread * step for a, spread, step in zip(*some, strict=True)]
            for some in zip(start, group.spreads, steps, strict=True)
        ]
        if last := number == ablation.steps:
            losses = group.losses(values)
        else:
            losses, slopes = group.losses_and_slopes(values)
            for some in zip(steps, slopes, group.spreads, strict=True):
                for step, slope, spread in zip(*some, strict=True):
                    step.grad = slope * spread
        best, lowest = _better(best, lowest, values, losses)
        if not last:
            optimiser.param_groups[0]["lr"] = ablation.rate * (1 - number / ablation.steps)
            optimiser.step()
    return [tuple(value.detach().float().cpu() for value in some) for some in best]


Values = list[list[Tensor]]
"""One value at each place of each knock-out."""


def _better(
    best: Values, lowest: Float[Tensor, " knockouts"], values: Values, losses: Float[Tensor, " knockouts"]
) -> tuple[Values, Float[Tensor, " knockouts"]]:
    improved = (losses < lowest).tolist()
    kept = [
        [value.detach() for value in new] if yes else old for new, old, yes in zip(values, best, improved, strict=True)
    ]
    return kept, torch.minimum(lowest, losses)


class _Group:
    """Knock-outs that are learned together, as the rows of one push."""

    def __init__(self, work: Work, passes: Passes, knockouts: Sequence[int]) -> None:
        self.work, self.passes = work, passes
        self.knockouts = [work.plan.knockouts[number] for number in knockouts]
        self.places = [work.plan.edited[number] for number in knockouts]
        self.spreads = [[_spread(work, place) for place in some] for some in self.places]

    def losses(self, values: Values) -> Float[Tensor, " knockouts"]:
        """Mean divergence over all prompts of each knock-out."""
        total = torch.zeros(len(values))
        with torch.no_grad():
            for clean in self.passes:
                total += self._loss(clean, values).cpu()
        return total

    def losses_and_slopes(self, values: Values) -> tuple[Float[Tensor, " knockouts"], Values]:
        """The same and its gradient with respect to every value."""
        leaves = [[value.detach().requires_grad_() for value in some] for some in values]
        flat = [leaf for some in leaves for leaf in some]
        slopes = [torch.zeros_like(leaf) for leaf in flat]
        total = torch.zeros(len(values))
        for clean in self.passes:
            with torch.enable_grad():
                loss = self._loss(clean, leaves)
            if not loss.requires_grad:
                raise AblationError(
                    "no gradient comes through this model, so no optimal value can be learned; choose mean"
                )
            for slope, found in zip(slopes, torch.autograd.grad(loss.sum(), flat), strict=True):
                slope += found
            total += loss.detach().cpu()
        rest = iter(slopes)
        return total, [[next(rest) for _ in some] for some in leaves]

    def _loss(self, clean: Clean, values: Values) -> Float[Tensor, " knockouts"]:
        prompts = len(clean.ids)
        variants = [
            Variant(
                str(knockout),
                knockout.first_layer,
                tuple(Edit(p, v.expand(prompts, -1)) for p, v in zip(places, given, strict=True)),
            )
            for knockout, places, given in zip(self.knockouts, self.places, values, strict=True)
        ]
        each = divergence(self.work.model, clean, variants, self.work.strategy)
        return each.sum(1) / len(self.passes.ids)


def divergence(
    model: Model, clean: Clean, variants: Sequence[Variant], strategy: Strategy
) -> Float[Tensor, "variants prompts"]:
    """KL(clean || variant) of the next-token distribution in nats, with its gradient where one is asked for.

    Args:
        model: the model.
        clean: its clean pass on a batch, with the prefix kept.
        variants: what to replace, at the last token.
        strategy: how rows come by the prefix.

    Returns:
        One number per variant and prompt, in the order given.

    Raises:
        HookDidNotFire: an edit did not happen exactly once.
    """
    order = in_order_of_depth(variants)
    push = _Graded(model, clean, [variants[i] for i in order], strategy)
    with hooked() as hooks, suppress(_ReachedHead):
        push.attach(hooks)
        strategy.push(model.network, clean, len(variants) + 1)
    push.check_fired(hooks)
    tail = model.anatomy.tail
    head: Any = model.network.get_submodule(tail.head)
    with at_hand(head):
        states = push.normed[1:].to(head.weight.device)
        bias = getattr(head, "bias", None)
        logits = torch.nn.functional.linear(states, head.weight, bias).float() * tail.scale
    log_q = tail.cap(logits).log_softmax(-1)
    log_p = clean.logits.to(log_q.device).float().log_softmax(-1)
    found = (log_p.exp() * (log_p - log_q)).sum(-1)
    return found[torch.tensor(order).argsort().to(found.device)]


class _Graded(Rows):
    """One push that ends at the head, with nothing changed in place that a gradient needs."""

    def attach(self, hooks: Hooks) -> None:
        module = self.model.network.get_submodule
        for layer, path in enumerate(self.model.anatomy.layers):
            hooks.on_input(module(path), f"start of block {layer}", lambda h, layer=layer: self._grow(h, layer))  # type: ignore[misc]
        for site in self.edits:
            watch = hooks.on_input if site.side == "input" else hooks.on_output
            watch(module(site.module), str(site), lambda x, site=site: self._put(_copy(x), site))  # type: ignore[misc]
        hooks.on_input(module(self.model.anatomy.tail.head), "head", self._stop)

    def _stop(self, normed: Tensor) -> NoReturn:
        self.normed = self.layout.items_of(normed)
        raise _ReachedHead


def _copy(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def _spread(work: Work, place: Place) -> float:
    """Root mean square of the deviations from the mean over the prompts; one where there are none."""
    own = work.pools[place.site][: work.n_clean, place.span].float()
    spread = float((own - own.mean(0)).square().mean().sqrt())
    return spread or 1.0
