"""Importance of a part when others fail too.

With every other part failing independently with probability q,

    I_i(q) = E[v(S) - v(S u {i})]        S without i, each other part in it with probability q

so I_i(0) is the ordinary knock-out's loss, I_i(1/2) the Banzhaf value, and the integral over q the Shapley value
(Owen's multilinear extension). From masks at rate q, x_i in {0, 1} for whether i fails,

    I_i(q) = -E[v(x) w_i(x)],            w_i(x) = (x_i - q) / (q (1 - q))

which is the mean of v over masks without i minus that over masks with i. Most of v's variation has nothing to do with i
and is taken out by a control variate h: a regression of v on the mask, fitted on other masks than it is used for, so
that the estimate stays without bias:

    I_i(q) = -E[(v - h) w_i] - E[h w_i]      the second known exactly

h holds each part's loss alone as measured; with `LEARNED` masks or more also what is regressed, a correction of these
slopes and sums over pairs of failed parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from hydrascope.analysis import Array, Resampling
from hydrascope.resilience._curve import pair_matrix, quadrature, single_losses
from hydrascope.resilience._sets import Faults, all_but_one
from hydrascope.resilience._two_ways import Sampled, by_group
from hydrascope.resilience._values import SetValues

FOLDS = 5
"""Parts of the masks; the regression used on one is fitted on the others."""
LEARNED = 60
"""Fewest masks from which a regression is learned; with fewer it adds more variance than it takes out at some rates."""
PENALTIES = 10.0 ** np.arange(-6, 2)
"""Penalties tried in the regression, as shares of its largest eigenvalue."""

Matrix = Float[np.ndarray, "parts parts"]


@dataclass(frozen=True)
class _Regression:
    """What is left of the values at one rate, and what the regression says of each part.

    Attributes:
        residual: value minus control variate.
        slopes: -E[h w_i] of the regression used on each fold of the masks.
        weights: w_i of each mask.
    """

    residual: Sampled
    slopes: Float[np.ndarray, "folds groups parts"]
    weights: Float[np.ndarray, "masks parts"]

    def cell(self, part: int, fold: Int[np.ndarray, " masks"]) -> Sampled:
        """A part's importance by group and mask."""
        found: Sampled = self.slopes[fold, :, part].T - self.residual * self.weights[:, part]
        return found


@dataclass(frozen=True)
class Importance:
    """Importance of every part under failure, by group and mask.

    Attributes:
        faults: the random sets.
        alone: importance where nothing else fails.
        last: importance where all else has failed.
        between: importance at each rate.
        fold: which fold each mask is in.
    """

    faults: Faults
    alone: Float[np.ndarray, "groups parts"]
    last: Float[np.ndarray, "groups parts"]
    between: tuple[_Regression, ...]
    fold: Int[np.ndarray, " masks"]

    @classmethod
    def measure(cls, values: SetValues, faults: Faults, resampling: Resampling) -> Importance:
        """Estimate from masks.

        Args:
            values: values of the sets.
            faults: the random sets.
            resampling: groups of prompts.
        """
        count = len(faults.parts)
        losses = single_losses(values, resampling)
        everything = values.of(np.ones((1, count), bool))
        last = by_group(values.of(all_but_one(count)) - everything, resampling)
        mean = losses.mean(0)
        saturation = np.outer(mean, mean)
        np.fill_diagonal(saturation, 0)
        pairs = [saturation, *(() if (known := pair_matrix(values, resampling)) is None else (known,))]
        fold = np.arange(faults.masks) % FOLDS
        inside = by_group(values.of(faults.failed), resampling)
        between = tuple(
            _regress(inside[:, number], faults.failed[number], rate, losses, pairs, fold)
            for number, rate in enumerate(faults.rates)
        )
        return cls(faults, -losses, last, between, fold)

    def at(self, part: int, node: int) -> Sampled:
        """A part's importance at a node of the curve; at both ends there are no masks."""
        if node == 0:
            return self.alone[:, [part]]
        if node == len(self.faults.nodes) - 1:
            return self.last[:, [part]]
        return self.between[node - 1].cell(part, self.fold)

    def informative(self, part: int, node: int) -> int:
        """Masks that tell of a part: in the rarer of both cases, that it fails and that it does not."""
        if node in (0, len(self.faults.nodes) - 1):
            return 1
        failed = int(self.faults.failed[node - 1, :, part].sum())
        return min(failed, self.faults.masks - failed)

    def shapley(self, part: int) -> Sampled:
        """A part's importance over all rates: its Shapley value."""
        weights = quadrature(self.faults.nodes)
        found: Sampled = np.zeros((len(self.alone), self.faults.masks))
        for node, weight in enumerate(weights):
            found = found + weight * self.at(part, node)
        return found


def _regress(
    values: Sampled,
    failed: Bool[np.ndarray, "masks parts"],
    rate: float,
    losses: Float[np.ndarray, "groups parts"],
    pairs: Sequence[Matrix],
    fold: Int[np.ndarray, " masks"],
) -> _Regression:
    """The control variate at one rate, and what it leaves."""
    centred = failed - rate
    features = np.concatenate([centred, *(_pair_sum(failed, one) for one in pairs)], 1)
    # E[feature w_i]: 1 for the part's own, and for pairs what a pair with i adds
    known = np.concatenate([np.eye(failed.shape[1]), *(rate * one.sum(1)[None] for one in pairs)])
    scale = np.maximum(features.std(0), 1e-12)
    features, known = features / scale, known / scale[:, None]
    beyond = values - losses @ failed.T
    residual, slopes = np.empty_like(values), []
    for number in range(FOLDS):
        others, here = fold != number, fold == number
        middle, mean = features[others].mean(0), beyond[:, others].mean(1, keepdims=True)
        coefficients = np.zeros((len(values), len(known)))
        if len(failed) >= LEARNED:
            coefficients = _ridge(features[others] - middle, beyond[:, others] - mean)
        residual[:, here] = beyond[:, here] - mean - coefficients @ (features[here] - middle).T
        slopes.append(-losses - coefficients @ known)
    return _Regression(residual, np.stack(slopes), centred / (rate * (1 - rate)))


def _pair_sum(failed: Bool[np.ndarray, "masks parts"], pairs: Matrix) -> Float[np.ndarray, "masks 1"]:
    """Sum over the failed pairs of each mask."""
    both = failed.astype(np.float64)
    found: Float[np.ndarray, "masks 1"] = ((both @ pairs) * both).sum(1, keepdims=True) / 2
    return found


def _ridge(features: Float[np.ndarray, "masks features"], values: Sampled) -> Float[np.ndarray, "groups features"]:
    """Slopes of all groups under one penalty, the best by generalised cross-validation of the mean group."""
    left, size, right = np.linalg.svd(features, full_matrices=False)
    inside = values @ left
    mean, whole = inside.mean(0), float((values.mean(0) ** 2).sum())
    shares = size**2 / np.maximum(size**2 + PENALTIES[:, None] * size[0] ** 2, 1e-12)
    missed = whole - (mean**2 * (1 - (1 - shares) ** 2)).sum(1)
    free = 1 - shares.sum(1) / len(features)
    best = shares[np.argmin(np.where(free > 0.05, missed / np.maximum(free, 0.05) ** 2, np.inf))]
    found: Float[np.ndarray, "groups features"] = (inside * best / np.maximum(size, 1e-12)) @ right
    return found


def mean_importance(samples: Importance) -> Array:
    """Importance of every part (rows) at every node of the curve (columns)."""
    parts, nodes = range(len(samples.faults.parts)), range(len(samples.faults.nodes))
    return np.array([[samples.at(part, node).mean() for node in nodes] for part in parts])
