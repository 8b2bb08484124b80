"""Estimates for some knock-outs of one batch, score by score."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy import Place, Site
from hydrascope.attribution._graded import GradedRun
from hydrascope.attribution._query_key import QueryKeyFix
from hydrascope.attribution._scores import Score, Scores
from hydrascope.engine import Footprint, Plan, texts_at_once
from hydrascope.run import Batch

GRADED_ROWS = 256
"""Single-token rows whose graph is kept at once."""

GRAPH_SHARE = 4
"""A graph takes one part in so many of the memory budget."""

MOVED_SHARE = 8
"""Displacements that are alive at once take one part in so many of the memory budget."""

Estimate = Float[np.ndarray, "knockouts prompts"]


class Estimates:
    """Estimates of the total effects of some knock-outs on a batch; the plain backward pass is made once.

    Args:
        plan: the run's plan.
        batch: the batch.
        knockouts: numbers of single-part knock-outs in the plan.
        scores: which estimates.
    """

    def __init__(self, plan: Plan, batch: Batch, knockouts: Sequence[int], scores: Scores) -> None:
        self.plan, self.batch, self.knockouts, self.scores = plan, batch, knockouts, scores
        self.model, self.context = batch.context.model, batch.context
        self.places = [plan.edited[k] for k in knockouts]
        self.moved = [batch.context.displacements(k, batch.rows) for k in knockouts]
        self.seconds: dict[Score, float] = {}

    def all(self) -> dict[Score, Estimate]:
        """Every score that is asked for; `seconds` has what each took, shared passes included."""
        makers = {
            "grad_drop": self._grad_drop,  # first, so that only one graph is alive
            "attribution_patching": self._attribution_patching,
            "activation_gradient": self._activation_gradient,
            "query_key": self._query_key,
        }
        found: dict[Score, Estimate] = {}
        shared = 0.0
        for kind in sorted(self.scores.kinds, key=list(makers).index):
            started = time.monotonic()
            if kind != "grad_drop" and not shared:
                self._patching  # noqa: B018 - a pass that several scores share counts for each
                shared = time.monotonic() - started
            before = time.monotonic()
            found[kind] = makers[kind]()
            self.seconds[kind] = time.monotonic() - before + (0.0 if kind == "grad_drop" else shared)
        return found

    def _run(self, dropped: Sequence[int | None] = (None,), *, watched: bool = False) -> GradedRun:
        sites = list(dict.fromkeys(place.site for places in self.places for place in places))
        batch, value = self.batch, self.scores.value
        strategy = self.context.strategy
        return GradedRun(self.model, strategy, batch.clean, batch.items, sites, value, dropped=dropped, watched=watched)

    @cached_property
    def _graded(self) -> GradedRun:
        return self._run(watched="query_key" in self.scores.kinds)

    @cached_property
    def _slopes(self) -> dict[Site, Tensor]:
        return next(_by_row(self._graded.gradients()))

    @cached_property
    def _patching(self) -> Float[np.ndarray, "knockouts draws prompts"]:
        return self._products(self.moved, self._slopes)

    def _attribution_patching(self) -> Estimate:
        found: Estimate = self._patching.mean(1)
        return found

    def _activation_gradient(self) -> Estimate:
        own = [[self.context.own(one, self.batch.rows)[None].float() for one in places] for places in self.places]
        return -self._products(own, self._slopes)[:, 0]

    def _query_key(self) -> Estimate:
        parts = [self.plan.knockouts[k].parts[0] for k in self.knockouts]
        missed = QueryKeyFix(self._graded, self.batch).corrections(parts, self.moved)
        found: Estimate = (self._patching + missed).mean(1)
        return found

    def _grad_drop(self) -> Estimate:
        blocks, together = range(self.model.anatomy.n_layers), self._rows_together
        summed: Estimate = np.zeros((len(self.knockouts), len(self.batch.rows)))
        for first in blocks[::together]:
            for slopes in _by_row(self._run(blocks[first : first + together]).gradients()):
                summed += np.abs(self._products(self.moved, slopes)).mean(1)
        others = [len(blocks) - (self.plan.knockouts[k].first_layer >= 0) for k in self.knockouts]
        summed /= np.array(others)[:, None]
        return summed

    @property
    def _rows_together(self) -> int:
        """Rows of a prompt that share a forward: many single tokens, or as many tokens as a forward of texts has."""
        prompts, tokens = self.batch.clean.ids.shape
        if not self.context.strategy.staircase:
            return texts_at_once(self.model.device, prompts * tokens, 1)
        row = Footprint.of(self.model, tokens, copies_prefix=False).row * self.model.anatomy.n_layers
        return max(1, min(GRADED_ROWS, self.context.budget.bytes // GRAPH_SHARE // row) // prompts)

    def _products(
        self, values: Sequence[Sequence[Tensor]], slopes: Mapping[Site, Tensor]
    ) -> Float[np.ndarray, "knockouts draws prompts"]:
        """Inner products of each knock-out's values with gradients, over all places, positions and entries."""

        def product(place: Place, value: Tensor) -> Tensor:
            return (value * slopes[place.site][..., place.span].to(value)).sum((-1, -2)).double()

        found = [
            torch.stack([product(place, value) for place, value in zip(places, some, strict=True)]).sum(0)
            for places, some in zip(self.places, values, strict=True)
        ]
        return torch.stack(found).numpy()


def _by_row(slopes: Mapping[Site, Tensor]) -> Iterator[dict[Site, Float[Tensor, "prompts edited _"]]]:
    """Gradients of one row of every prompt after the other, where replacement values are."""
    for row in zip(*(slope.cpu() for slope in slopes.values()), strict=True):
        yield dict(zip(slopes, row, strict=True))


def chunks(plan: Plan, batch: Batch) -> Iterator[list[int]]:
    """Knock-outs whose displacements fit a share of the memory budget; they share a graph."""
    room = batch.context.budget.bytes // MOVED_SHARE
    bytes_of_one = 4 * len(batch.rows) * len(batch.clean.layout.edited) * plan.ablation.draws
    some: list[int] = []
    taken = 0
    for k, places in enumerate(plan.edited):
        size = sum(place.width for place in places) * bytes_of_one
        if some and taken + size > room:
            yield some
            some, taken = [], 0
        some.append(k)
        taken += size
    yield some
