"""Finds the module outputs that sum to what a block adds.

Solves y = carry * x + sum_i gain_i * c_i for the smallest set of candidates c_i, with gains of one tried first. Costs a
Gram matrix of the candidates and then a small linear system for each set of up to four.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float

MAX_WRITERS = 4
"""Largest number of summands tried."""

LEAST_CARRY = 1e-3
"""Smallest factor of a block's input in its output for which the block has a residual stream."""


@dataclass(frozen=True)
class Sum:
    """The candidates that sum to a block's output, with their multipliers.

    Attributes:
        members: indices of the candidates that are summed.
        gains: multiplier of each member.
        carry: multiplier of the block's input.
        error: norm of the misfit over the norm of what is explained.
    """

    members: tuple[int, ...]
    gains: tuple[float, ...]
    carry: float
    error: float


def solve(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    candidates: Sequence[Float[np.ndarray, " n"]],
    tolerance: float,
) -> Sum | None:
    """Find the smallest sum of candidates that turns x into y.

    Args:
        x: the block's input, flattened, float64.
        y: the block's output, flattened, float64.
        candidates: outputs of the block's sub-modules, without repeats.
        tolerance: relative error that counts as a fit.

    Returns:
        The simplest solution: a carry of one before a fitted carry, then fewest members, then gains of one before
        fitted gains. None if no sum of up to four members fits with a carry above the smallest.
    """
    added = y - x
    basis = np.stack([x, *candidates])
    gram = basis @ basis.T
    for fitted_carry, goal in ((False, added), (True, y)):
        projections, energy = basis @ goal, float(goal @ goal)
        for size in range(1, MAX_WRITERS + 1):
            best: Sum | None = None
            for members in combinations(range(len(candidates)), size):
                index = [0, *(m + 1 for m in members)] if fitted_carry else [m + 1 for m in members]
                for weights in _weights(gram[np.ix_(index, index)], projections[index], fitted_carry):
                    if fitted_carry and abs(weights[0]) < LEAST_CARRY:
                        continue
                    error = _error(gram[np.ix_(index, index)], projections[index], energy, weights)
                    if error < tolerance and (best is None or error < best.error / 10):
                        carry, gains = (weights[0], weights[1:]) if fitted_carry else (1.0, weights)
                        best = Sum(members, tuple(map(float, gains)), float(carry), error)
                        break
            if best is not None:
                return best
    return None


def _weights(
    gram: Float[np.ndarray, "k k"], projections: Float[np.ndarray, " k"], fitted_carry: bool
) -> list[Float[np.ndarray, " k"]]:
    tried = [] if fitted_carry else [np.ones(len(projections))]
    with suppress(np.linalg.LinAlgError):  # dependent candidates explain nothing that a smaller set does not
        tried.append(np.linalg.solve(gram, projections))
    return tried


def _error(
    gram: Float[np.ndarray, "k k"],
    projections: Float[np.ndarray, " k"],
    energy: float,
    weights: Float[np.ndarray, " k"],
) -> float:
    misfit = energy - 2 * weights @ projections + weights @ gram @ weights
    return float(np.sqrt(max(misfit, 0.0) / energy)) if energy else 0.0
