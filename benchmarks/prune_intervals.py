"""Do the intervals of `hydrascope prune` hold what they promise? Coverage where documents are few, unequal and heavy.

    python benchmarks/prune_intervals.py [FOLDER ...]

A cost is a mean over some 8,000 tokens, its interval goes over documents. Documents are drawn with their sizes from a
planted population, their texts taken in turn as the product does, and it is counted how often the interval holds the
population's mean, and that of a gap between two halves the planted gap. Sets that are drawn at random stand for all of
their size, whose mean is planted, too. By what is dear it is counted how often the interval holds it where it is given,
how often it is given, and, in brackets, how often it would hold if it were always given. With folders of finished
prunings their own documents are the population, drawn with replacement: the rises of all sets, and the differences of
any two.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product
from math import comb
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hydrascope.pruning import Judged, Prune, Store, gap, share_drawn

Array = NDArray[np.float64]

DRAWS = 3000
TEXTS, PREDICTED = 64, 127
"""Texts that are taken of all documents, and predicted tokens of each."""
DOCUMENTS = (15, 30, 60)
SIZES = {"long documents": (20.0, 0.8, TEXTS), "short documents": (1.5, 1.0, TEXTS), "all that there is": (1, 1, 10**9)}
"""Median number of texts of a document (1 is an even share), deviation of its logarithm, texts that are taken."""
MEAN, OWN, TEXT = 0.8, 0.25, 0.15
"""Mean cost of a token, standard deviation of a document's cost and of a text's, as where 6 of 30 blocks go."""
SETS = ((12, 2), (12, 4), (30, 3), (20, 6))
"""Parts, and how many of them go at random."""
SET_DRAWS = (10, 20, 40)

DEAR = 10
"""How many times as dear some sets are."""


def heavy(rng: np.random.Generator, count: int) -> Array:
    """Student's t with 3 degrees of freedom, with variance 1."""
    found: Array = rng.standard_t(3, count) / np.sqrt(3)
    return found


SHAPES: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "gaussian": lambda rng, count: rng.normal(size=count),
    "heavy": heavy,
    "skewed": lambda rng, count: rng.exponential(1, count) - 1,
    "lognormal": lambda rng, count: (
        (rng.lognormal(0, 0.8, count) - np.exp(0.32)) / np.sqrt(np.exp(1.28) - np.exp(0.64))
    ),
}
"""Costs of documents, with mean 0 and variance 1."""


DEARNESS: dict[str, Callable[[np.random.Generator, NDArray[np.bool_]], Array]] = {
    "alike": lambda rng, gone: 1 + 0.3 * rng.normal(size=len(gone)),
    "lognormal": lambda rng, gone: rng.lognormal(0, 0.8, len(gone)),
    "one set in ten": lambda rng, gone: np.where(rng.permutation(len(gone)) < len(gone) / 10, DEAR, 1.0),
    "with one part": lambda rng, gone: np.where(gone[:, 0], DEAR, 1.0),
    "with either of two": lambda rng, gone: np.where(gone[:, :2].any(1), DEAR, 1.0),
    "with both of two": lambda rng, gone: np.where(gone[:, :2].all(1), DEAR, 1.0),
}
"""Costs of sets, by which parts are gone in each, shape (sets, parts)."""


def taken(rng: np.random.Generator, count: int, design: str) -> NDArray[np.intp]:
    """Number of texts taken of each document: the first of each, then the second of each, until there are enough."""
    median, spread, enough = SIZES[design]
    share = max(1.0, TEXTS / count)
    has = np.maximum(1, np.round(median * share * np.exp(spread * rng.normal(size=count)))).astype(np.intp)
    rounds = 1
    while rounds < has.max() and np.minimum(has, rounds).sum() < enough:
        rounds += 1
    found = np.minimum(has, rounds)
    spare = found.sum() - enough
    last = np.flatnonzero(found == rounds)
    if spare > 0 and rounds > 1:
        found[last[len(last) - min(spare, len(last)) :]] -= 1
    return found


def sampled(rng: np.random.Generator, count: int, design: str, shape: str) -> tuple[Judged, Array]:
    """Draw documents with the summed cost of each text, whose mean over tokens is `MEAN`."""
    documents = np.repeat(np.arange(count), taken(rng, count, design))
    own = MEAN + OWN * SHAPES[shape](rng, count)
    return judged(documents), PREDICTED * (own[documents] + TEXT * heavy(rng, len(documents)))


def planted(rng: np.random.Generator, count: int, design: str, shape: str) -> bool:
    """Draw a sample and say whether its interval holds the mean."""
    text, costs = sampled(rng, count, design, shape)
    _, lo, hi = text.mean(costs)
    return lo <= MEAN <= hi


def planted_gap(rng: np.random.Generator, count: int, design: str, shape: str) -> bool:
    """Draw two halves, the first with twice the documents, and say whether the interval of their gap holds 0."""
    (unseen, mine), (seen, other) = (sampled(rng, number, design, shape) for number in (2 * count, count))
    _, lo, hi = gap(unseen, seen, (mine[None], other[None]))
    return lo <= 0 <= hi


def planted_sets(
    rng: np.random.Generator, count: int, gone: NDArray[np.bool_], draws: int, dear: str
) -> tuple[bool, bool]:
    """Draw sets and documents; whether an interval of the mean over all sets is given, and whether it holds or would.

    Args:
        rng: draws.
        count: documents.
        gone: which parts are gone in each of all sets.
        draws: sets drawn.
        dear: what makes a set dear.
    """
    documents = np.repeat(np.arange(count), taken(rng, count, "long documents"))
    every = DEARNESS[dear](rng, gone)
    some = rng.choice(len(gone), draws, replace=False)
    relative = (
        1 + OWN * rng.normal(size=count)[documents] + TEXT * heavy(rng, draws * len(documents)).reshape(draws, -1)
    )
    sets = tuple(tuple(map(str, np.flatnonzero(gone[one]))) for one in some)
    given = not np.isnan(share_drawn(sets, gone.shape[1]))
    _, lo, hi = judged(documents).mean(PREDICTED * every[some, None] * relative, share=draws / len(gone))
    return given, bool(lo <= every.mean() <= hi)


def judged(documents: NDArray[np.intp], predicted: Array | None = None) -> Judged:
    """Texts of some documents, all of one length where nothing else is said."""
    tokens = np.full(len(documents), float(PREDICTED)) if predicted is None else predicted
    return Judged(Store(None, "simulated"), tuple(map(str, documents)), tokens)


def drawn_again(rng: np.random.Generator, text: Judged, costs: Array, count: int) -> float:
    """Coverage, in percent, where the documents of a pruning are the population.

    Args:
        rng: draws.
        text: one part of a pruning's text.
        costs: summed over each text.
        count: documents drawn.
    """
    names = np.array(text.documents)
    own = [np.flatnonzero(names == name) for name in np.unique(names)]
    truth, held = costs.sum() / text.predicted.sum(), 0
    for _ in range(DRAWS // 3):
        some = [own[i] for i in rng.integers(len(own), size=count)]
        rows = np.concatenate(some)
        documents = np.repeat(np.arange(count), [len(one) for one in some])
        _, lo, hi = judged(documents, text.predicted[rows]).mean(costs[rows])
        held += lo <= truth <= hi
    return 100 * held / (DRAWS // 3)


def of_sets(rng: np.random.Generator, parts: int, size: int, draws: int, count: int) -> Iterator[str]:
    """Coverage of the mean over all sets where an interval is given, how often it is, and coverage if always."""
    gone = np.zeros((comb(parts, size), parts), bool)
    for row, some in enumerate(combinations(range(parts), size)):
        gone[row, list(some)] = True
    for dear in DEARNESS:
        given, held = np.array([planted_sets(rng, count, gone, draws, dear) for _ in range(DRAWS // 6)]).T
        told = f"{100 * held[given].mean():.1f} of {100 * given.mean():.0f}" if given.mean() > 0.02 else "none"
        yield f"{told} ({100 * held.mean():.1f})"


def of_folder(rng: np.random.Generator, folder: Path) -> Iterator[str]:
    """Median and least coverage of the rises of a pruning, and of their paired differences."""
    found = Prune.open(folder).findings
    sets = sorted({found.chosen[name].sets[size] for size in found.sizes for name in found.chosen})
    rises = [found.test.cost(one).loss - found.test.clean.loss for one in sets]
    pairs = [a - b for a, b in combinations(rises, 2)]
    for count in DOCUMENTS:
        held = [[drawn_again(rng, found.test, one, count) for one in some[:40]] for some in (rises, pairs)]
        said = " | ".join(f"{np.median(some):.1f} ({min(some):.1f})" for some in held)
        yield f"| {folder.name} | {count} | {said} |"


def lines(folders: Sequence[Path]) -> Iterator[str]:
    """The tables, line by line."""
    rng = np.random.default_rng(0)
    yield f"| documents | sizes | {' | '.join(SHAPES)} |\n|---|---|{'---|' * len(SHAPES)}"
    for count in DOCUMENTS:
        for design in SIZES:
            held = [np.mean([planted(rng, count, design, shape) for _ in range(DRAWS)]) for shape in SHAPES]
            yield f"| {count} | {design} | {' | '.join(f'{100 * one:.1f}' for one in held)} |"
    yield f"\n| documents, seen and not | sizes | {' | '.join(SHAPES)} |\n|---|---|{'---|' * len(SHAPES)}"
    for count, design in product(DOCUMENTS[:2], SIZES):
        held = [np.mean([planted_gap(rng, count, design, shape) for _ in range(DRAWS)]) for shape in SHAPES]
        yield f"| {count}, {2 * count} | {design} | {' | '.join(f'{100 * one:.1f}' for one in held)} |"
    yield f"\n| sets | draws | documents | {' | '.join(DEARNESS)} |\n|---|---|---|{'---|' * len(DEARNESS)}"
    for (parts, size), draws, count in product(SETS, SET_DRAWS, (DOCUMENTS[0], DOCUMENTS[-1])):
        yield f"| {size} of {parts} | {draws} | {count} | {' | '.join(of_sets(rng, parts, size, draws, count))} |"
    if folders:
        yield "\n| pruning | documents | rises, median (least) | differences |\n|---|---|---|---|"
    for folder in folders:
        yield from of_folder(rng, folder)


if __name__ == "__main__":
    for line in lines([Path(name) for name in sys.argv[1:]]):
        print(line, flush=True)
