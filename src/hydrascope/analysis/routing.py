"""How much of what routed MLPs answer is their router's doing.

A routed MLP f reads a state h and asks the experts that its router chooses, r. Under a knock-out both change, and its
change is the sum of two parts:

    same experts   f(h, r0) - f(h0, r0)    the new state, sent where the clean run (h0, r0) sent the old one
    re-routed      f(h, r) - f(h, r0)      what sending it elsewhere, or weighing the answers anew, adds

The routing change is the share of the chosen experts that the clean run did not choose.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hydrascope.analysis import parts, two_ways
from hydrascope.analysis.statistics import DRAWS
from hydrascope.errors import ComponentError

WAYS = two_ways.TwoWays("same_experts", "rerouted", "rerouted_change", "routing_change", "routing_change")


def has_routing(ds: xr.Dataset) -> bool:
    """Whether the ledger splits the changes of routed MLPs."""
    return WAYS.variable in ds


def routed_writers(ds: xr.Dataset) -> NDArray[np.bool_]:
    """Which writers are routed MLPs whose changes are split.

    Raises:
        DetailDropped: the run kept only sums by kind of writer.
        ComponentError: the model has none.
    """
    parts.require_writers(ds, "re-routing")
    if not has_routing(ds):
        raise ComponentError("this run's model has no MLP whose change can be split by its routing; see inspect")
    return np.isin(parts.names(ds, "writer"), json.loads(ds.attrs["routed_writers"]))


def routing(ds: xr.Dataset, *, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """How each routed MLP answers each knock-out: with the same experts, or with others.

    Args:
        ds: the ledger.
        draws: bootstrap draws.
        seed: of the draws.

    Returns:
        `analysis.two_ways.by_writer`, the ways `same_experts` and `rerouted`, the share `routing_change` (of the chosen
        experts).

    Raises:
        DetailDropped: the run kept only sums by kind of writer.
        ComponentError: the model has no such MLP.
    """
    return two_ways.by_writer(ds, WAYS, routed_writers(ds), parts.plan(ds, draws, seed))


def routing_totals(ds: xr.Dataset, *, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """The same for all routed MLPs behind a knock-out together: `analysis.two_ways.totals`.

    Args:
        ds: the ledger.
        draws: bootstrap draws.
        seed: of the draws.

    Raises:
        DetailDropped: the run kept only sums by kind of writer.
        ComponentError: the model has no such MLP.
    """
    return two_ways.totals(ds, WAYS, routed_writers(ds), parts.plan(ds, draws, seed))
