"""Parts by what they cost while others are gone too: rankings that know that backups stand in for each other.

I_i(q) is what the removal of part i adds to the KL divergence from the whole model when every other part is gone with
probability q. At q = 0 it is the removal of one part alone; at the share that is to go it is what the part costs among
the removed. Random sets differ more than texts do, so that many are run on few tokens. The divergence takes the place
of the loss there because it depends less on which tokens a text happens to have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations
from math import comb

import numpy as np

from hydrascope.analysis import resample
from hydrascope.components import Component
from hydrascope.pruning._judge import Judge
from hydrascope.pruning.rankings._base import Choice, Ranking
from hydrascope.pruning.rankings._removal import stand
from hydrascope.resilience import Faults, SetValues
from hydrascope.resilience import Importance as UnderFailure

MASKS, TOKENS = 64, 1024
"""Random sets from which I_i(q) is estimated, and predicted tokens on which each is run."""
FEW = 3
"""Candidates by I_i(q), as many by their last known cost that are measured again at every step, and parts of a set for
which others are tried."""
SPARE = 4
"""How many more parts than go are measured two by two."""
MOST_PAIRS = 500
"""With more pairs than this, exchanges do not begin with the set of `pairs`, which would take most of the time."""
MOST_SETS = 200_000
"""Most sets that are summed from pairs; beyond, parts are taken one by one."""


class Importance(Ranking):
    """The parts with the smallest I_i(q) at the share that is to go."""

    name = "importance"
    meaning = "smallest I_i(q) at the share that goes: its cost while others are gone too"
    repairs = True
    runs = True

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose by I_i(q), at the share of each size."""
        sets: dict[int, tuple[Component, ...]] = {}
        scores: dict[Component, float] = {}
        for size in sizes:
            scores = under_removal(judge, parts, size / len(parts))
            sets |= Choice.by_score(scores, [size]).sets
        return Choice(sets, scores)

    def sets_run(self, parts: int, sizes: Sequence[int]) -> float:
        """Random sets for every share, each part alone, and all but each, on few tokens."""
        return (len(sizes) * MASKS + 1.25 * parts) / 4


class Elimination(Ranking):
    """One part after the other, the cheapest of the best few; at every size that is asked for, parts are exchanged.

    Divergence and loss lead different ways, of which neither is always the better one: both are gone, and of the two
    sets of a size the one with the smaller loss is chosen. Both go one part at a time, and find no two that are dear
    alone and cheap together: where the set of `pairs` has a smaller loss yet, parts of that are exchanged instead.
    """

    name = "elimination"
    meaning = (
        "the few best by I_i(q) and by their last cost, measured again before every removal and exchanged while that "
        "helps, by divergence, by loss, and from the set of pairs if that costs less; the set with the smallest loss"
    )
    repairs = True
    runs = True

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose by re-evaluation of the best few by either score, and by exchanges."""
        among = under_removal(judge, parts, max(sizes) / len(parts))
        by_divergence, by_loss = (_Search(judge, cost, parts, among) for cost in (judge.kl, judge.loss))
        ways = [by_divergence.sets(sizes), by_loss.sets(sizes)]
        judge.stand_clear()
        found = {size: min((sets[size] for sets in ways), key=judge.loss) for size in sizes}
        others = Pairs().choose(judge, parts, sizes).sets if _pair_count(len(parts), sizes) <= MOST_PAIRS else {}
        for size, some in others.items():
            if judge.loss(some) < judge.loss(found[size]):
                found[size] = by_loss.exchanged(some)
        judge.stand_clear()
        return Choice(found)

    def sets_run(self, parts: int, sizes: Sequence[int]) -> float:
        """What I_i(q) takes at one share, each part alone, both ways (a few at every step, exchanges), and pairs."""
        exchanges = sum(size + 2 * FEW * FEW for size in sizes)
        grown = (MASKS + 1.25 * parts) / 4 + parts + 2 * (2 * FEW * max(sizes) + 1.5 * exchanges)
        pairs = _pair_count(parts, sizes)
        return grown + (pairs if pairs <= MOST_PAIRS else 0)


class _Search:
    """A search for sets that cost little, by one measure of cost.

    Attributes:
        judge: judges sets on the text to calibrate on.
        cost: cost of a set.
        parts: the parts that can go.
        among: I_i(q) of every part.
        last: what every part cost when it was last measured.
    """

    def __init__(
        self,
        judge: Judge,
        cost: Callable[[Collection[Component]], float],
        parts: Sequence[Component],
        among: Mapping[Component, float],
    ) -> None:
        self.judge, self.cost, self.parts, self.among = judge, cost, parts, among
        clean = cost(())
        self.last = {part: cost([part]) - clean for part in parts}

    def sets(self, sizes: Sequence[int]) -> dict[int, tuple[Component, ...]]:
        """A set of every size, each grown from the one before.

        Args:
            sizes: how many go, ascending.
        """
        found: dict[int, tuple[Component, ...]] = {}
        gone: tuple[Component, ...] = ()
        for size in sizes:
            while len(gone) < size:
                gone = (*gone, self.cheapest(gone))
            gone = found[size] = self.exchanged(gone)
        return found

    def cheapest(self, gone: Collection[Component], *others: Component) -> Component:
        """The part that costs least beside those that are gone, of the best few by either score.

        Args:
            gone: the parts that are gone.
            others: parts that are left out.
        """
        left = [part for part in self.parts if part not in gone and part not in others]
        few = sorted({part for score in (self.among, self.last) for part in sorted(left, key=score.__getitem__)[:FEW]})
        stand(self.judge, gone)
        before = self.cost(gone)
        self.last |= {part: self.cost([*gone, part]) - before for part in few}
        return min(few, key=self.last.__getitem__)

    def exchanged(self, gone: tuple[Component, ...]) -> tuple[Component, ...]:
        """A set after every exchange of one of its few dearest parts for another that makes it cheaper."""
        while len(gone) < len(self.parts):
            self.judge.stand_clear()
            fewer = {back: tuple(part for part in gone if part != back) for back in gone}
            dearest = sorted(gone, key=lambda back: self.cost(fewer[back]))[:FEW]
            tried = ((*fewer[back], self.cheapest(fewer[back], back)) for back in dearest)
            better = next((one for one in tried if self.cost(one) < self.cost(gone)), None)
            if better is None:
                break
            gone = better
        return gone


class Pairs(Ranking):
    """The set with the smallest sum of single costs and of interactions of pairs, among the cheapest parts."""

    name = "pairs"
    meaning = "smallest sum of single costs and interactions of pairs"
    repairs = True
    runs = True

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose for every size, from all sets of the cheapest parts."""
        clean = judge.loss()
        alone = {part: judge.loss([part]) - clean for part in parts}
        some = sorted(parts, key=alone.__getitem__)[: max(sizes) + SPARE]
        costs = np.diag([alone[part] for part in some])
        judge.costs(combinations(some, 2))
        for i, j in combinations(range(len(some)), 2):
            costs[i, j] = judge.loss([some[i], some[j]]) - clean - costs[i, i] - costs[j, j]
        return Choice({size: tuple(some[i] for i in _cheapest(costs, size)) for size in sizes})

    def sets_run(self, parts: int, sizes: Sequence[int]) -> float:
        """Each part alone, and pairs of the cheapest."""
        return parts + _pair_count(parts, sizes)


def _pair_count(parts: int, sizes: Sequence[int]) -> int:
    """How many pairs of the cheapest parts there are."""
    return comb(min(parts, max(sizes) + SPARE), 2)


def _cheapest(costs: np.ndarray, size: int) -> tuple[int, ...]:
    """The set of a size with the smallest sum of an upper triangle."""
    count = len(costs)
    if comb(count, size) <= MOST_SETS:
        return min(combinations(range(count), size), key=lambda some: costs[np.ix_(some, some)].sum())
    found: tuple[int, ...] = ()
    for _ in range(size):
        left = [i for i in range(count) if i not in found]
        found = min((tuple(sorted((*found, i))) for i in left), key=lambda some: costs[np.ix_(some, some)].sum())
    return found


def under_removal(judge: Judge, parts: Sequence[Component], rate: float) -> dict[Component, float]:
    """I_i(q) of every part, in nats of a token.

    Args:
        judge: judges sets on the text to calibrate on.
        parts: the parts that can go.
        rate: q, how probable it is that each other part is gone.
    """
    count, names, some = len(parts), [str(part) for part in parts], judge.on_fewer(TOKENS)
    faults = Faults.draw(names, [rate], MASKS, seed=0)
    whole = np.ones((1, count), bool)
    columns: list[np.ndarray] = []
    place: dict[bytes, int] = {}
    for one in np.concatenate([np.eye(count, dtype=bool), ~np.eye(count, dtype=bool), whole, faults.failed[0]]):
        if one.any() and (key := np.packbits(one).tobytes()) not in place:
            place[key] = len(columns)
            cost = some.cost([part for part, gone in zip(parts, one, strict=True) if gone], whole=True)
            columns.append(-cost.rows[1])
    values = SetValues(tuple(names), np.zeros(len(some.texts.ids)), np.stack(columns, 1), place)
    # of documents of unequal size every token counts alike, as in what is judged
    resampling = resample(some.texts.documents, weight=np.ones(len(some.texts.ids)))
    found = UnderFailure.measure(values, faults, resampling)
    scale = len(some.texts.ids) / some.texts.tokens
    return {part: scale * float(found.at(number, 1).mean()) for number, part in enumerate(parts)}
