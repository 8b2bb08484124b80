"""What a run does: knock-outs, draws, random-direction controls, and who can respond to what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice, pairwise
from math import ceil
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from hydrascope.ablations import Ablation
from hydrascope.anatomy import Anatomy, Place
from hydrascope.components import UNIT_KINDS, Component, Knockout
from hydrascope.engine._axes import Aggregation, Column, Detail, Masks, aggregation, columns, frozen_columns
from hydrascope.engine._units import UnitDecomposition
from hydrascope.errors import ComponentError


class Job(NamedTuple):
    """One intervention on every prompt: a knock-out or its random-direction control, under one draw."""

    knockout: int
    draw: int
    null: bool


@dataclass(frozen=True)
class Plan:
    """What is the same for all batches of a run.

    Attributes:
        knockouts: what is ablated, one column of the ledger each.
        ablation: what replaces the ablated outputs.
        table: pool index of each draw and prompt.
        null_draws: draws that are repeated as random-direction controls.
        seed: seed of the controls' directions.
        decompositions: writers that are read unit by unit.
        detail: how much of the account the ledger keeps.
        dose: share of the way from a prompt's own value to the replacement.
        heads: attention writers by their heads, where changes of attention are split; none where they are not.
        reads_elsewhere: something is read at a position where nothing is replaced, nor held.
    """

    anatomy: Anatomy
    knockouts: tuple[Knockout, ...]
    ablation: Ablation
    table: Int[np.ndarray, "draws prompts"]
    null_draws: int
    seed: int
    decompositions: tuple[UnitDecomposition, ...] = ()
    detail: Detail = "full"
    dose: float = 1.0
    heads: tuple[UnitDecomposition, ...] = ()
    reads_elsewhere: bool = False

    @cached_property
    def edited(self) -> tuple[tuple[Place, ...], ...]:
        """For each knock-out the places whose value is replaced.

        Raises:
            ComponentError: a joint knock-out names a part and something inside it.
        """
        return tuple(edited_places(knockout, self.anatomy) for knockout in self.knockouts)

    @cached_property
    def frozen(self) -> tuple[tuple[Place, ...], ...]:
        """For each knock-out the places that keep their clean value."""
        return tuple(frozen_places(knockout, self.anatomy, self.decompositions) for knockout in self.knockouts)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The writer axis of a forward, in the order of writing."""
        return columns(self.anatomy, self.decompositions)

    @cached_property
    def immovable(self) -> Mapping[int, Bool[np.ndarray, " columns"]]:
        """For each knock-out with frozen parts, the columns that cannot move at the replaced positions."""
        return frozen_columns(self.knockouts, self.columns, self.anatomy)

    @cached_property
    def masks(self) -> Masks:
        """Which columns a knock-out changes by itself, and which can respond to it."""
        return Masks.of(self.knockouts, self.columns, self.anatomy, {} if self.reads_elsewhere else self.immovable)

    @cached_property
    def read_apart(self) -> Bool[np.ndarray, " ablated"]:
        """Whether all of a knock-out is read by itself: whole writers, and units that are columns."""

        def alone(part: Component) -> bool:
            mine = self.anatomy.written_by(part)
            divided = (split.within(part) is not None for split in self.decompositions if split.writer in mine)
            return part.kind not in UNIT_KINDS or any(divided)

        first = {(p.kind, p.layer): p for k in self.knockouts for p in k.parts}
        known = {of: alone(part) for of, part in first.items()}
        return np.array([all(known[p.kind, p.layer] for p in k.parts) for k in self.knockouts])

    @cached_property
    def aggregation(self) -> Aggregation:
        """How columns become entries of the ledger."""
        return aggregation(self.detail, self.columns, self.masks)

    @cached_property
    def routed(self) -> tuple[int, ...]:
        """Columns of the routed MLPs whose changes are split, in the order of their sites; none by kind."""
        if self.detail != "full" or not self.anatomy.routes:
            return ()
        writers = [column.writer for column in self.columns]
        return tuple(writers.index(Component("mlp", site.layer)) for site in self.anatomy.experts)

    @cached_property
    def attending(self) -> tuple[int, ...]:
        """Columns of attention whose changes are split, in the order of an `AttentionSplit`."""
        writers = {split.writer for split in self.heads}
        return tuple(i for i, column in enumerate(self.columns) if column.writer in writers and column.kind == "attn")

    @property
    def interventions(self) -> int:
        """Interventions of a prompt, controls included."""
        return len(self.knockouts) * (self.ablation.draws + self.null_draws)

    def schedule(self, size: int, *, by_block: bool) -> Iterator[list[Job]]:
        """All interventions of a prompt, forward by forward, controls last.

        They come in order of depth, so that none waits for shallower ones in its forward, and are made one by one: a
        run over all neurons has a million.

        Args:
            size: largest number that shares a forward.
            by_block: all of a forward begin in one block, and the forwards of a block are nearly equal.
        """
        if not by_block:
            for jobs, _ in self._jobs(self._deep):
                yield from _cut(jobs, size)
            return
        for _, block in groupby(self._deep, key=lambda k: self.knockouts[k].first_layer):
            for jobs, count in self._jobs(list(block)):
                yield from _cut(jobs, ceil(count / ceil(count / size)))

    @cached_property
    def _deep(self) -> list[int]:
        return sorted(range(len(self.knockouts)), key=lambda k: self.knockouts[k].first_layer)

    def _jobs(self, knockouts: Sequence[int]) -> Iterator[tuple[Iterator[Job], int]]:
        """Jobs of some knock-outs with their number, first the ablation's and then the controls'."""
        for null, draws in ((False, self.ablation.draws), (True, self.null_draws)):
            if draws:
                yield (Job(k, draw, null) for k in knockouts for draw in range(draws)), len(knockouts) * draws


def _cut(jobs: Iterator[Job], size: int) -> Iterator[list[Job]]:
    while some := list(islice(jobs, size)):
        yield some


def edited_places(knockout: Knockout, anatomy: Anatomy) -> tuple[Place, ...]:
    """Stretches of activations that a knock-out replaces.

    Raises:
        ComponentError: one named part, knocked out or frozen, lies inside another.
    """
    named = (*knockout.parts, *knockout.frozen)
    units = [part for part in named if part.kind in UNIT_KINDS]
    whole = [writer for part in named if part.kind not in UNIT_KINDS for writer in anatomy.written_by(part)]
    inside = {writer for part in units for writer in anatomy.written_by(part)}
    stretches = sorted((p.site, p.start, p.stop) for part in units for p in anatomy.places(part))
    overlapping = any(a == b and start < stop for (a, _, stop), (b, start, _) in pairwise(stretches))
    if overlapping or len(set(whole)) < len(whole) or inside & set(whole):
        raise ComponentError(f"'{knockout}' names a part and something inside it; name only the larger one")
    return tuple(place for part in knockout.parts for place in anatomy.places(part))


def frozen_places(
    knockout: Knockout, anatomy: Anatomy, decompositions: Sequence[UnitDecomposition] = ()
) -> tuple[Place, ...]:
    """Stretches of activations that keep their clean values.

    A writer that is read unit by unit is frozen where its units lie side by side: a frozen write would be no unit's.
    """
    divided = {split.writer: split for split in decompositions}
    found: list[Place] = []
    for part in knockout.frozen:
        mine = anatomy.written_by(part)
        if part.kind in UNIT_KINDS or not any(writer in divided for writer in mine):
            found += anatomy.places(part)
            continue
        for writer in mine:
            split = divided.get(writer)
            found += anatomy.places(writer) if split is None else [Place(split.site, 0, split.site.width)]
    return tuple(found)
