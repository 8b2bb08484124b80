"""Do the intervals of `hydrascope prune` hold what they promise? Coverage where documents are few, unequal and heavy.

    python benchmarks/prune_intervals.py [FOLDER ...]

A cost is a mean over some 8,000 tokens, its interval goes over documents. Documents are drawn with their sizes from a
planted population, their texts taken in turn as the product does, and it is counted how often the interval holds the
population's mean. With folders of finished prunings their own documents are the population, drawn with replacement:
the rises of all sets, and the differences of any two.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hydrascope.pruning import Judged, Prune, Store

Array = NDArray[np.float64]

DRAWS = 3000
TEXTS, PREDICTED = 64, 127
"""Texts that are taken of all documents, and predicted tokens of each."""
DOCUMENTS = (15, 30, 60)
SIZES = {"long documents": (20.0, 0.8, TEXTS), "short documents": (1.5, 1.0, TEXTS), "all that there is": (1, 1, 10**9)}
"""Median number of texts of a document (1 is an even share), deviation of its logarithm, texts that are taken."""
MEAN, OWN, TEXT = 0.8, 0.25, 0.15
"""Mean cost of a token, standard deviation of a document's cost and of a text's, as where 6 of 30 blocks go."""


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


def planted(rng: np.random.Generator, count: int, design: str, shape: str) -> bool:
    """Draw a sample and say whether its interval holds the mean."""
    texts = taken(rng, count, design)
    documents = np.repeat(np.arange(count), texts)
    own = MEAN + OWN * SHAPES[shape](rng, count)
    costs = PREDICTED * (own[documents] + TEXT * heavy(rng, len(documents)))
    _, lo, hi = interval(documents, np.full(len(documents), float(PREDICTED)), costs)
    return lo <= MEAN <= hi


def interval(documents: NDArray[np.intp], predicted: Array, costs: Array) -> tuple[float, float, float]:
    """The product's interval of a mean over tokens, from the summed cost of each text."""
    return Judged(Store(None, "simulated"), tuple(map(str, documents)), predicted).mean(costs)


def drawn_again(rng: np.random.Generator, judged: Judged, costs: Array, count: int) -> float:
    """Coverage, in percent, where the documents of a pruning are the population.

    Args:
        rng: draws.
        judged: one part of a pruning's text.
        costs: summed over each text.
        count: documents drawn.
    """
    names = np.array(judged.documents)
    own = [np.flatnonzero(names == name) for name in np.unique(names)]
    truth, held = costs.sum() / judged.predicted.sum(), 0
    for _ in range(DRAWS // 3):
        some = [own[i] for i in rng.integers(len(own), size=count)]
        rows = np.concatenate(some)
        documents = np.repeat(np.arange(count), [len(one) for one in some])
        _, lo, hi = interval(documents, judged.predicted[rows], costs[rows])
        held += lo <= truth <= hi
    return 100 * held / (DRAWS // 3)


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
    if folders:
        yield "\n| pruning | documents | rises, median (least) | differences |\n|---|---|---|---|"
    for folder in folders:
        yield from of_folder(rng, folder)


if __name__ == "__main__":
    for line in lines([Path(name) for name in sys.argv[1:]]):
        print(line, flush=True)
