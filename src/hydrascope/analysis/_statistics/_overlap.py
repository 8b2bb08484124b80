"""How much sets overlap by chance."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hydrascope.analysis._statistics._units import Array


def jaccard_by_chance(sizes: ArrayLike, among: int) -> Array:
    """Expected Jaccard index of every two of some sets, were each drawn at random.

    The size of the intersection is hypergeometric, so the expectation is a finite sum:

        E[J] = sum_k C(a, k) C(n - a, b - k) / C(n, b) * k / (a + b - k)

    Args:
        sizes: of the sets, shape (sets,).
        among: number of things that they are drawn from.

    Returns:
        Shape (sets, sets); 0 where either is empty.
    """
    distinct, codes = np.unique(np.asarray(sizes, dtype=np.intp), return_inverse=True)
    table = np.zeros((len(distinct), len(distinct)))
    for i, a in enumerate(distinct):
        for j, b in enumerate(distinct[: i + 1]):
            table[i, j] = table[j, i] = _expected(int(a), int(b), among)
    found: Array = table[codes[:, None], codes[None, :]]
    return found


@lru_cache(maxsize=1 << 16)
def _expected(a: int, b: int, among: int) -> float:
    k, factorial = np.arange(max(1, a + b - among), min(a, b) + 1), _log_factorials(among)

    def choose(n: Any, r: Any) -> Any:
        return factorial[n] - factorial[r] - factorial[n - r]

    chance = np.exp(choose(a, k) + choose(among - a, b - k) - choose(among, b))
    return float((chance * k / np.maximum(a + b - k, 1)).sum())


@lru_cache(maxsize=16)
def _log_factorials(last: int) -> Array:
    found: Array = np.concatenate([[0.0], np.log(np.arange(1, last + 1)).cumsum()])
    return found
