"""Rankings that need no look at the model: random ones, the last parts, scores from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, count
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd

from hydrascope.components import Component
from hydrascope.errors import RunError
from hydrascope.pruning._judge import Judge
from hydrascope.pruning.rankings._base import Choice, Ranking


@dataclass(frozen=True)
class Random(Ranking):
    """Parts at random.

    Attributes:
        number: how many sets of each size, no two alike; all sets where there are no more.
        seed: of all permutations.
    """

    number: int = 20
    seed: int = 0
    name = "random"
    meaning = "at random; the mean of several draws"
    sees = False
    draws = True

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose the first distinct sets that seeded permutations begin with."""
        drawn = {size: self._drawn(parts, size) for size in sizes}
        return Choice({size: some[0] for size, some in drawn.items()}, drawn=drawn)

    def _drawn(self, parts: Sequence[Component], size: int) -> tuple[tuple[Component, ...], ...]:
        if comb(len(parts), size) <= self.number:
            return tuple(combinations(parts, size))
        found: dict[frozenset[Component], tuple[Component, ...]] = {}
        for draw in count():
            if len(found) == self.number:
                break
            order = np.random.default_rng((self.seed, draw)).permutation(len(parts))[:size]
            some = tuple(parts[i] for i in order)
            found.setdefault(frozenset(some), some)
        return tuple(found.values())


class Last(Ranking):
    """The last parts."""

    name = "last"
    meaning = "the last parts"
    sees = False

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose from the end."""
        return Choice.in_order(list(reversed(parts)), sizes)


@dataclass(frozen=True)
class Scored(Ranking):
    """A user's own scores; the lowest goes first.

    Attributes:
        scores: score by address.
    """

    scores: Mapping[str, float]
    meaning = "scores of your own"

    @classmethod
    def read(cls, path: Path) -> Scored:
        """Read scores from a JSON object of addresses, or from a CSV file with columns part and score.

        Raises:
            RunError: it is neither.
        """
        try:
            if path.suffix.lower() == ".csv":
                table = pd.read_csv(path)
                found = dict(zip(table["part"].map(str), table["score"].map(float), strict=True))
            else:
                found = {str(part): float(score) for part, score in json.loads(path.read_text("utf-8")).items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"'{path}' holds no scores of parts; give a JSON object such as {{\"layer.3\": 0.2}}, or a CSV file "
                "with the columns part and score"
            ) from error
        return cls(found)

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose by the scores.

        Raises:
            RunError: a part has none.
        """
        if lost := [str(part) for part in parts if str(part) not in self.scores]:
            raise RunError(f"{len(lost)} parts have no score, first {lost[0]}; give every part one")
        return Choice.by_score({part: self.scores[str(part)] for part in parts}, sizes)
