"""Which sets of parts a stress test knocks out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hydrascope.analysis import Array
from hydrascope.resilience._sets import Faults, addresses, all_but_one, of_size, pair_sets, pairs_of
from hydrascope.resilience._worst import Candidates

RANDOM = 30
"""Random sets of each size beside the worst."""


@dataclass(frozen=True)
class Plan:
    """Which sets of parts a stress test knocks out.

    Attributes:
        rates: failure rates between 0 and 1.
        masks: random sets at each rate.
        pairs: number of parts that are knocked out two by two, those with the highest stakes.
        worst: largest size for which the worst set is searched.
        seed: of the random sets.
    """

    rates: tuple[float, ...]
    masks: int
    pairs: int
    worst: int
    seed: int

    def faults(self, parts: Sequence[str]) -> Faults:
        """The random sets."""
        return Faults.draw(parts, self.rates, self.masks, self.seed)

    def random(self, parts: int) -> list[Candidates]:
        """Random sets of each size from 1 for which the worst is searched."""
        return [of_size(size, RANDOM, parts, self.seed) for size in range(1, 1 + min(self.worst, parts))]

    def paired(self, stakes: Array) -> list[tuple[int, int]]:
        """Pairs of parts, by index.

        Args:
            stakes: how much is lost without each part alone.
        """
        return pairs_of(np.argsort(-stakes, kind="stable")[: self.pairs].tolist())

    def addresses(self, parts: Sequence[str], stakes: Array) -> list[str]:
        """Joint knock-outs of all sets that do not depend on a search.

        Args:
            parts: addresses of the parts.
            stakes: how much is lost without each part alone.
        """
        count = len(parts)
        sets = [
            self.faults(parts).failed.reshape(-1, count),
            np.ones((1, count), bool),
            all_but_one(count),
            pair_sets(self.paired(stakes), count),
            *self.random(count),
        ]
        return addresses(np.concatenate(sets), parts)
