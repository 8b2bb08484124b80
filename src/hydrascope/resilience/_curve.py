"""The degradation curve: what is left when every part fails with probability q."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.polynomial import legendre
from scipy.optimize import nnls

from hydrascope.analysis import Array, Estimate, Resampling, add_estimate
from hydrascope.resilience._sets import Faults, pair_sets, pairs_of, singles
from hydrascope.resilience._two_ways import Sampled, by_group, two_ways
from hydrascope.resilience._values import SetValues

UNEVEN = 0.02
"""Largest error of an integral's weights on a polynomial whose values lie within 1."""


def quadrature(nodes: Sequence[float]) -> Float[np.ndarray, " nodes"]:
    """Weights of an integral from 0 to 1, none negative, lest they blow up the noise of single nodes.

    They are exact for polynomials of a degree below the number of nodes, or nearly so.

    Args:
        nodes: ascending, between 0 and 1.

    Returns:
        The weights; all NaN where the nodes lie so that nothing can be said of the whole.
    """
    moments = np.zeros(len(nodes))
    moments[0] = 1
    weights, missed = nnls(legendre.legvander(2 * np.array(nodes) - 1, len(nodes) - 1).T, moments)
    if missed > UNEVEN:
        return np.full(len(nodes), np.nan)
    whole: Float[np.ndarray, " nodes"] = weights / weights.sum()
    return whole


def curve_cells(values: SetValues, faults: Faults, resampling: Resampling) -> list[Sampled]:
    """Values by group and mask at every node of the curve; at its ends there is one set only."""
    clean = by_group(values.clean[:, None], resampling)
    nothing = by_group(values.of(np.ones((1, len(faults.parts)), bool)), resampling)
    inside = by_group(values.of(faults.failed), resampling)
    return [clean, *(inside[:, rate] for rate in range(len(faults.rates))), nothing]


def degradation(values: SetValues, faults: Faults, resampling: Resampling) -> pd.DataFrame:
    """What is left at every failure rate, beside what losses of single parts and of pairs would leave.

    Args:
        values: values of the sets.
        faults: the random sets.
        resampling: groups of prompts.

    Returns:
        One row per rate, 0 and 1 included: `rate`; `masks`; `value`; `damage`, the clean value minus it; `singles`, the
        damage if losses of single parts added up (q times the sum of all); `beyond`, the damage minus that; `pairs`,
        the damage if losses of single parts and interactions of pairs did, NaN unless all pairs were measured. Values
        and differences have `_lo` and `_hi`, which allow for the draw of prompts and of masks.
    """
    cells = curve_cells(values, faults, resampling)
    rates, count = np.array(faults.nodes), len(faults.parts)
    alone = -single_losses(values, resampling).sum(1, keepdims=True)
    interactions = pair_matrix(values, resampling)
    both = np.nan if interactions is None else -interactions[np.triu_indices(count, 1)].sum()
    table: dict[str, Any] = {"rate": rates, "masks": [cell.shape[1] for cell in cells]}
    add_estimate(table, "value", two_ways(cells, resampling).interval)
    add_estimate(table, "damage", two_ways([cells[0] - cell for cell in cells], resampling).interval)
    table["singles"] = rates * alone.mean()
    beyond = [cells[0] - cell - rate * alone for rate, cell in zip(rates, cells, strict=True)]
    add_estimate(table, "beyond", two_ways(beyond, resampling).interval)
    table["pairs"] = rates * alone.mean() + rates**2 * both
    return pd.DataFrame(table)


def area(values: SetValues, faults: Faults, resampling: Resampling) -> Estimate:
    """Area under the degradation curve, the mean value over all failure rates, with its interval."""
    cells = curve_cells(values, faults, resampling)
    whole = sum(weight * cell for weight, cell in zip(quadrature(faults.nodes), cells, strict=True))
    assert not isinstance(whole, int)
    value, lo, hi = (float(end[0]) for end in two_ways([whole], resampling).interval)
    return value, lo, hi


def survived(curve: pd.DataFrame, threshold: float) -> Estimate:
    """Largest failure rate up to which the value stays at or above a threshold, with its interval.

    Between rates the curve is taken as straight. The ends are the rates at which the ends of the curve's interval cross
    the threshold: those rates at which the curve's own value may be the threshold.

    Args:
        curve: from `degradation`.
        threshold: least value.

    Returns:
        Rate and ends of its interval; NaN where even the clean value is below, 1 where it never falls so low.
    """
    rates = curve["rate"].to_numpy()
    return tuple(_crossing(rates, curve[name].to_numpy(), threshold) for name in ("value", "value_lo", "value_hi"))  # type: ignore[return-value]


def _crossing(rates: Array, values: Array, threshold: float) -> float:
    below = np.flatnonzero(~(values >= threshold))
    if np.isnan(values).any() or (len(below) and below[0] == 0):
        return float("nan")
    if not len(below):
        return 1.0
    at = below[0]
    before, after = values[at - 1], values[at]
    return float(rates[at - 1] + (rates[at] - rates[at - 1]) * (before - threshold) / (before - after))


def single_losses(values: SetValues, resampling: Resampling) -> Float[np.ndarray, "groups parts"]:
    """What each part's failure alone does to the value, ablated minus clean."""
    return by_group(values.of(singles(len(values.parts))) - values.clean[:, None], resampling)


def pair_matrix(values: SetValues, resampling: Resampling) -> Float[np.ndarray, "parts parts"] | None:
    """Interaction I[k, j] of all pairs, symmetric; None unless all of them were measured."""
    count = len(values.parts)
    pairs = pairs_of(range(count))
    sets = pair_sets(pairs, count)
    if not all(values.has(one) for one in sets):
        return None
    alone = single_losses(values, resampling).mean(0)
    joint = by_group(values.of(sets) - values.clean[:, None], resampling).mean(0)
    found = np.zeros((count, count))
    for (k, j), loss in zip(pairs, joint, strict=True):
        found[k, j] = found[j, k] = loss - alone[k] - alone[j]
    return found
