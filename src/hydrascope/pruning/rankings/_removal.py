"""Parts by what their removal costs: alone, or again after every removal.

The divergence goes first, since it tells the loss as well, which the other rankings then need not run again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hydrascope.components import Component
from hydrascope.pruning._judge import Judge
from hydrascope.pruning.rankings._base import Choice, Ranking


class Divergence(Ranking):
    """The parts whose removal alone moves the next-token distribution least."""

    name = "kl"
    meaning = "smallest KL divergence when it alone is removed"
    runs = True

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose by one removal of each."""
        return Choice.by_score({part: judge.kl([part]) for part in parts}, sizes)

    def sets_run(self, parts: int, sizes: Sequence[int]) -> float:
        """Each part once, with its distributions."""
        return parts


class Loss(Ranking):
    """The parts whose removal alone raises the loss least."""

    name = "loss"
    meaning = "smallest rise of the loss when it alone is removed"
    runs = True

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose by one removal of each."""
        return Choice.by_score({part: judge.loss([part]) - judge.loss() for part in parts}, sizes)

    def sets_run(self, parts: int, sizes: Sequence[int]) -> float:
        """Each part once."""
        return parts


class Greedy(Ranking):
    """One part after the other, each the one whose removal then costs least (SLEB, arXiv 2402.09025)."""

    name = "greedy"
    meaning = "smallest rise of the loss, measured again after every removal"
    runs = repairs = True

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose by re-evaluation of all that are left."""
        order: list[Component] = []
        for _ in range(max(sizes)):
            stand(judge, order)
            left = [part for part in parts if part not in order]
            order.append(min(left, key=lambda part: judge.loss([*order, part])))
        judge.stand_clear()
        return Choice.in_order(order, sizes)

    def sets_run(self, parts: int, sizes: Sequence[int]) -> float:
        """All parts that are left, at every step."""
        return sum(parts - step for step in range(max(sizes)))


def stand(judge: Judge, order: Collection[Component]) -> None:
    """Stand on what is removed already, if anything."""
    if order:
        judge.stand_on(order)
