"""Rankings that need no look at the model: random ones, the last parts, scores from elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import combinations, count
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hydrascope.components import Component
from hydrascope.errors import RunError, did_you_mean, shown
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


OWN = "scores"
"""Name of the ranking by a user's own scores."""


@dataclass(frozen=True)
class Scored(Ranking):
    """A user's own scores; the lowest goes first.

    Attributes:
        scores: score by address.
    """

    scores: Mapping[str, float]
    meaning = "scores of your own"
    sees = False

    @classmethod
    def read(cls, path: Path) -> Scored:
        """Read scores from a JSON object of addresses, or from a CSV file with columns part and score.

        Raises:
            RunError: it is neither, or a score is none.
        """
        if not path.exists():
            raise RunError(f"there is no file '{path}'; give {_FILE}")
        if path.is_dir():
            raise RunError(f"'{path}' is a folder; give {_FILE}")
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"'{path}' cannot be read ({error}); give {_FILE}") from error
        if not text.strip():
            raise RunError(f"'{path}' is empty; give {_FILE}")
        try:
            if path.suffix.lower() == ".csv":
                table = pd.read_csv(StringIO(text))
                return cls.of(zip(table["part"], table["score"], strict=True), f"'{path}'")
            pairs = json.loads(text, object_pairs_hook=_Pairs)
        except (ValueError, KeyError) as error:
            raise RunError(f"'{path}' holds no scores of parts; give {_FILE}") from error
        if not isinstance(pairs, _Pairs):
            raise RunError(f"'{path}' holds no scores of parts; give {_FILE}")
        return cls.of(pairs, f"'{path}'")

    @classmethod
    def of(cls, pairs: Iterable[tuple[Any, Any]], where: str) -> Scored:
        """Scores from pairs of an address and a number.

        Args:
            pairs: the pairs.
            where: what they are from, for errors.

        Raises:
            RunError: a score is no number, or a part has two.
        """
        found: dict[str, float] = {}
        for part, score in pairs:
            name = str(part)
            if name in found:
                raise RunError(f"{where} has two scores of {name}; give every part one")
            try:
                found[name] = float(score)
            except (TypeError, ValueError):
                found[name] = math.nan
            if not math.isfinite(found[name]):
                raise RunError(f"the score of {name} in {where} is {shown(score)}; give a number")
        return cls(found)

    def check(self, parts: Sequence[Component]) -> None:
        """Check that the parts that can go are those that have scores.

        Raises:
            RunError: a part has none, or another one has.
        """
        names = list(map(str, parts))
        if more := [name for name in self.scores if name not in set(names)]:
            raise RunError(
                f"{more[0]} has a score and is no part that can go in this model{did_you_mean(more[0], names)}; score "
                f"those from {names[0]} to {names[-1]} (--scores)"
            )
        if lost := [name for name in names if name not in self.scores]:
            parts_have = "1 part has" if len(lost) == 1 else f"{len(lost):,} parts have"
            raise RunError(f"{parts_have} no score, first {lost[0]}; give every part one (--scores)")

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose by the scores."""
        return Choice.by_score({part: self.scores[str(part)] for part in parts}, sizes)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with whatever it says twice."""


_FILE = 'a JSON object such as {"layer.3": 0.2}, or a CSV file with the columns part and score'
