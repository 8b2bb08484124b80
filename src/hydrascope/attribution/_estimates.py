"""Estimates for some knock-outs of one batch, score by score."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
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
        started = time.monotonic()
        self.plan, self.batch, self.knockouts, self.scores = plan, batch, knockouts, scores
        self.model, self.context = batch.context.model, batch.context
        self.places = [plan.edited[k] for k in knockouts]
        self.moved = [batch.context.displacements(k, batch.rows) for k in knockouts]
        self.moved_by_site = _together(self.places, self.moved)
        self.seconds: dict[Score, float] = {}
        self._prepared = time.monotonic() - started

    def all(self) -> dict[Score, Estimate]:
        """Every score that is asked for; `seconds` has what each took, shared passes included."""
        found: dict[Score, Estimate] = {}
        if "grad_drop" in self.scores.kinds:  # before the other graph, so that only one is alive
            found["grad_drop"] = self._timed("grad_drop", self._grad_drop, self._prepared)
        if set(self.scores.kinds) - {"grad_drop"}:
            started = time.monotonic()
            self._pass_back()
            shared = self._prepared + time.monotonic() - started
            makers: dict[Score, Callable[[], Estimate]] = {
                "attribution_patching": self._attribution_patching,
                "activation_gradient": self._activation_gradient,
                "query_key": self._query_key,
            }
            found |= {k: self._timed(k, make, shared) for k, make in makers.items() if k in self.scores.kinds}
        return found

    def _timed(self, kind: Score, make: Callable[[], Estimate], before: float) -> Estimate:
        started = time.monotonic()
        found = make()
        self.seconds[kind] = before + time.monotonic() - started
        return found

    def _run(self, dropped: Sequence[int | None] = (None,), *, watched: bool = False) -> GradedRun:
        sites = list(dict.fromkeys(place.site for places in self.places for place in places))
        batch, value = self.batch, self.scores.value
        strategy = self.context.strategy
        return GradedRun(self.model, strategy, batch.clean, batch.items, sites, value, dropped=dropped, watched=watched)

    def _pass_back(self) -> None:
        """The plain backward pass, which all scores but GradDrop share."""
        self._graded = self._run(watched="query_key" in self.scores.kinds)
        (self._slopes,) = _by_row(self._graded.gradients())
        self._patching = self._products(self.moved_by_site, self._slopes)

    def _attribution_patching(self) -> Estimate:
        found: Estimate = self._patching.mean(1)
        return found

    def _activation_gradient(self) -> Estimate:
        own = [[self.context.own(one, self.batch.rows)[None].float() for one in places] for places in self.places]
        return -self._products(_together(self.places, own), self._slopes)[:, 0]

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
                summed += np.abs(self._products(self.moved_by_site, slopes)).mean(1)
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
        self, values: Sequence[_Stretches], slopes: Mapping[Site, Tensor]
    ) -> Float[np.ndarray, "knockouts draws prompts"]:
        """Inner products of each knock-out's values with gradients, over all places, positions and entries."""
        found = np.zeros((len(self.knockouts), values[0].values.shape[1], len(self.batch.rows)))
        for one in values:
            slope = slopes[one.site][..., one.entries].to(one.values)
            found[one.knockouts] += torch.einsum("kdpew,pekw->kdp", one.values, slope).double().numpy()
        return found


class _Stretches(NamedTuple):
    """Values of many knock-outs at equally wide places of one site, multiplied together: neurons are many.

    Attributes:
        knockouts: which knock-outs, each once.
        site: the site.
        entries: which of its entries each place has.
        values: the values.
    """

    knockouts: list[int]
    site: Site
    entries: Int[Tensor, "knockouts width"]
    values: Float[Tensor, "knockouts draws prompts edited width"]


def _together(places: Sequence[Sequence[Place]], values: Sequence[Sequence[Tensor]]) -> list[_Stretches]:
    """Values by knock-out and place, gathered by site and width."""
    alike: dict[tuple[Site, int], list[tuple[int, Place, Tensor]]] = {}
    for number, some in enumerate(zip(places, values, strict=True)):
        for place, value in zip(*some, strict=True):
            alike.setdefault((place.site, place.width), []).append((number, place, value))
    found = []
    for (site, _), entries in alike.items():
        numbers, where, each = zip(*entries, strict=True)
        index = torch.tensor([range(place.start, place.stop) for place in where])
        found.append(_Stretches(list(numbers), site, index, torch.stack(each)))
    return found


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
