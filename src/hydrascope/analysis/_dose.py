"""How the account of a knock-out grows with the dose of the replacement.

At dose d the value put in place is (1 - d) of the prompt's own and d of the replacement. What the part itself writes
into the read-out then changes in proportion to d; the rest need not. Small disturbances of the residual stream are
often absorbed, which a straight line through the origin cannot show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._ablation_comparison import aligned
from hydrascope.analysis._statistics import (
    RESAMPLES,
    Array,
    add_estimate,
    divide,
    jackknife,
    mean_interval,
    with_ends,
)
from hydrascope.analysis._tokens import selections

_ABOUT = ["ablated", "ablated_layer", "ablated_kind", "selection"]
_DOSES = [*_ABOUT, "dose", "part", *with_ends("value")]
_LINEARITY = [*_ABOUT, "total_effect", *with_ends("half_share", "bend")]


def by_dose(ds: xr.Dataset, also: Mapping[str, xr.Dataset]) -> dict[float, xr.Dataset]:
    """Ledgers of a run and its smaller doses, ascending; empty with one dose."""
    found = {_dose(one): one for one in also.values() if one.attrs["ablation"] == ds.attrs["ablation"]}
    found = {dose: one for dose, one in found.items() if dose < _dose(ds)} | {_dose(ds): ds}
    return dict(sorted(found.items())) if len(found) > 1 else {}


def doses(ledgers: Mapping[float, xr.Dataset], *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Every part of the account at every dose, including the zeros at dose 0.

    Args:
        ledgers: ledgers of the same knock-outs on the same prompts, by dose.
        resamples: number of bootstrap resamples over prompts.
        seed: seed of the bootstrap.

    Returns:
        One row per knock-out, `selection` (`all`; on text `top`, too, chosen by the clean run), dose and part (`own`,
        `attn`, `mlp`, `mixer` where there are such, `norm`, `total`): `value`, its mean over prompts in logits, with
        `_lo` and `_hi`.
    """
    common = _common(ledgers)
    if not common:
        return pd.DataFrame(columns=_DOSES)
    first = next(iter(common.values()))
    resampling = access.bootstrap(first, resamples, seed)
    tables = []
    for dose, ds in {0.0: None, **common}.items():
        for part, numbers in _parts(first if ds is None else ds).items():
            whole = numbers if ds is not None else np.zeros_like(numbers)
            for selection, (known, weight) in selections(first).items():
                mine = access.knockout_columns(first, known)
                mine |= {"selection": selection, "dose": dose, "part": part}
                add_estimate(mine, "value", mean_interval(whole[:, known], resampling, weight))
                tables.append(pd.DataFrame(mine))
    table = pd.concat(tables, ignore_index=True)
    order = table["ablated"].map({name: i for i, name in enumerate(access.names(first, "ablated"))})
    sorted_by = ["selection", "order", "part", "dose"]
    return table.assign(order=order).sort_values(sorted_by, kind="stable")[_DOSES].reset_index(drop=True)


def linearity(ledgers: Mapping[float, xr.Dataset], *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """How far each total effect is from growing in proportion to the dose.

    With T(d) the mean total effect at a share d of the largest dose, by straight lines between the doses measured,

        half_share = T(1/2) / T(1)                          1/2 on a straight line, less where small doses are absorbed
        bend       = 2 * integral of (T(d) / T(1) - d) dd   0 on a straight line, -1 if all comes at the end

    Args:
        ledgers: ledgers of the same knock-outs on the same prompts, by dose.
        resamples: number of bootstrap resamples over prompts, shared by all doses.
        seed: seed of the bootstrap.

    Returns:
        One row per knock-out and `selection`: `total_effect` at the largest dose, `half_share` and `bend` with `_lo`
        and `_hi`.
    """
    common = _common(ledgers)
    if not common:
        return pd.DataFrame(columns=_LINEARITY)
    first = next(iter(common.values()))
    resampling = access.bootstrap(first, resamples, seed)
    shares = np.array([0.0, *common]) / max(common)
    totals = [access.numbers(ds, "total_effect") for ds in common.values()]
    tables = []
    for selection, (known, weight) in selections(first).items():
        mine = [total[:, known] for total in totals]
        table = access.knockout_columns(first, known)
        table |= {"selection": selection, "total_effect": resampling.mean(mine[-1], weight)}
        sums = [resampling.sums(total if weight is None else weight * total) for total in mine]
        for name, measure in (("half_share", _half), ("bend", _bend)):
            add_estimate(table, name, jackknife(partial(measure, shares), resampling, *sums).interval)
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def _half(shares: Array, *dosed: Array) -> Array:
    totals = _from_zero(dosed)
    above = int(np.searchsorted(shares, 0.5))
    weight = (0.5 - shares[above - 1]) / (shares[above] - shares[above - 1])
    return divide((1 - weight) * totals[above - 1] + weight * totals[above], totals[-1])


def _bend(shares: Array, *dosed: Array) -> Array:
    totals = _from_zero(dosed)
    steps = np.diff(shares).reshape(-1, *(1,) * (totals.ndim - 1))
    area = (steps * (totals[1:] + totals[:-1])).sum(0)
    return divide(area, totals[-1]) - 1


def _from_zero(dosed: Sequence[Array]) -> Array:
    found: Array = np.stack([np.zeros_like(dosed[0]), *dosed])
    return found


def _common(ledgers: Mapping[float, xr.Dataset]) -> dict[float, xr.Dataset]:
    named = aligned({str(dose): ds for dose, ds in ledgers.items()})
    return {dose: named[str(dose)] for dose in sorted(ledgers) if dose > 0 and str(dose) in named}


def _parts(ds: xr.Dataset) -> dict[str, Array]:
    kinds = {kind: access.response(ds, kind) for kind in access.kinds(ds)}
    own = {"own": access.numbers(ds, "own_change")}
    return own | kinds | {"norm": access.numbers(ds, "norm_effect"), "total": access.numbers(ds, "total_effect")}


def _dose(ds: xr.Dataset) -> float:
    return float(ds.attrs.get("dose", 1.0))
