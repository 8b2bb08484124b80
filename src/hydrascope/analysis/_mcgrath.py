"""Do the claims of McGrath et al. 2023 (arXiv 2307.15771) hold in this model? A row for each, with the paper's number.

The paper knocks out attention layers at the last token of facts, in a 7B model of 32 layers. Each claim is asked of the
clear losses of attention layers here, and answered by intervals of the other tables: `holds` and `does not` need an
interval on one side of the bound, everything else `cannot be told`. Slopes are of compensation on own change, so that
repair is negative; the paper draws compensation on direct effect, so that it is positive there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hydrascope.analysis._outcomes import LEAST_SHARE

FROM = 0.4
"""Relative depth from which the paper's layers repair: 13 of 32."""
MIDDLE = 0.85
"""Relative depth up to which layers are called middle ones; the paper's best is 23 of 32."""
MUCH = 0.3
"""Least share given back that is called much; the paper's is about 0.7."""
GOOD = 0.5
"""Least R² that is called a good fit; the paper's best is 0.92."""
CROWD = 4
"""Fewest later attention layers among which two can stand out."""


class Tables(NamedTuple):
    """What the claims are read from, and how deep the model is."""

    repair: pd.DataFrame
    concentration: pd.DataFrame
    late_mlps: pd.DataFrame
    released: pd.DataFrame
    n_layers: int


class _Claim(NamedTuple):
    """A claim in words, the paper's number, and how it is asked of the tables: verdict, row and column."""

    claim: str
    says: str
    paper: str
    ask: Callable[[Tables], tuple[str, Any, str]]


def mcgrath(tables: Tables) -> pd.DataFrame:
    """Whether the claims of the paper hold.

    Args:
        tables: of one ledger.

    Returns:
        One row per claim: `claim`; `says`, what it says; `verdict`: `holds`, `does not` or `cannot be told`; `where`,
        the knock-out or writer whose number stands there; `measure`, which column of which table that is; `value` with
        `_lo` and `_hi`; `paper`, the paper's number.
    """
    rows = []
    for claim in _CLAIMS:
        verdict, row, measure = claim.ask(tables)
        column = measure.split(".")[-1]
        ends = {f"value{end}": np.nan if row is None else float(row.get(f"{column}{end}", np.nan)) for end in _ENDS}
        where = "" if row is None else str(row.get("writer", row.get("ablated")))
        rows.append(
            {"claim": claim.claim, "says": claim.says, "verdict": verdict, "where": where, "measure": measure}
            | ends
            | {"paper": claim.paper}
        )
    return pd.DataFrame(rows)


_ENDS = ("", "_lo", "_hi")


def _lost(tables: Tables, first: float = FROM, last: float = 1.0) -> pd.DataFrame:
    """Clear losses of attention layers between two relative depths."""
    table = tables.repair
    depth = table["ablated_layer"] / tables.n_layers
    return table[table["lost"] & (table["ablated_kind"] == "attn") & (depth >= first) & (depth <= last)]


def _any_above(table: pd.DataFrame, column: str, bound: float, measure: str) -> tuple[str, Any, str]:
    """Does any row lie above a bound? The row with the largest lower end is shown."""
    known = table[table[f"{column}_lo"].notna()]
    if known.empty:
        return "cannot be told", None, measure
    row = known.iloc[int(known[f"{column}_lo"].to_numpy().argmax())]
    if row[f"{column}_lo"] > bound:
        return "holds", row, measure
    return ("does not" if (known[f"{column}_hi"] < bound).all() else "cannot be told"), row, measure


def _repair(tables: Tables) -> tuple[str, Any, str]:
    return _any_above(_lost(tables, last=MIDDLE), "restored", MUCH, "repair.restored")


def _slope(tables: Tables) -> tuple[str, Any, str]:
    known = _lost(tables)
    known = known[known["slope_lo"].notna()]
    if known.empty:
        return "cannot be told", None, "repair.slope"
    row = known.iloc[int(known["slope"].to_numpy().argmin())]
    below, beyond = (known["slope_lo"] > -1).all(), (known["slope_hi"] < -1).any()
    return ("holds" if below else "does not" if beyond else "cannot be told"), row, "repair.slope"


def _fit(tables: Tables) -> tuple[str, Any, str]:
    known = _lost(tables)
    return _any_above(known[known["slope_hi"] < 0], "r2", GOOD, "repair.r2")


def _localised(tables: Tables) -> tuple[str, Any, str]:
    answered = set(tables.repair.loc[tables.repair["hydra"], "ablated"])
    rows = tables.concentration
    rows = rows[(rows["scope"] == "attn") & rows["ablated"].isin(answered) & (rows["responders"] >= CROWD)]
    measure = "concentration.top2_share_median"
    if rows.empty:
        return "cannot be told", None, measure
    row = rows.iloc[int((rows["top2_share_median"] - 2 / rows["responders"]).to_numpy().argmax())]
    chance = max(0.5, 2 / row["responders"])
    return ("holds" if row["top2_share_median"] > chance else "does not"), row, measure


def _erasure(tables: Tables) -> tuple[str, Any, str]:
    each, measure = tables.late_mlps, "late_mlps.direct_effect"
    if each.empty or each["direct_effect_lo"].isna().all():
        return "cannot be told", None, measure
    row = each.iloc[int(each["direct_effect"].to_numpy().argmin())]
    if each["erases"].any():
        return "holds", row, measure
    return ("does not" if (each["direct_effect_lo"] > 0).all() else "cannot be told"), row, measure


def _release(tables: Tables) -> tuple[str, Any, str]:
    rows, measure = tables.released, "released.suppression"
    lost = _lost(tables, first=0.0).set_index("ablated")["own_change"]
    rows = rows[(rows["kind"] == "mlp") & rows["ablated"].isin(lost.index)] if len(rows) else rows
    if rows.empty:
        return "cannot be told", None, measure
    least = -LEAST_SHARE * lost[rows["ablated"]].to_numpy()
    clear = rows[(rows["suppression_lo"] > 0) & (rows["suppression"] >= least)]
    among = clear if len(clear) else rows
    row = among.iloc[int(among["suppression"].to_numpy().argmax())]
    if len(clear):
        return "holds", row, measure
    return ("does not" if (rows["suppression_hi"] < least).all() else "cannot be told"), row, measure


def _percent(share: float) -> str:
    """A round share in percent."""
    return f"{round(100 * share)} %"


_CLAIMS = (
    _Claim(
        "repair at middle layers",
        f"an attention layer at {_percent(FROM)} to {_percent(MIDDLE)} of the depth gets more than {_percent(MUCH)} of "
        "its loss back, norm left out",
        "about 70 %",
        _repair,
    ),
    _Claim(
        "slope below 1",
        f"from {_percent(FROM)} of the depth on compensation does not exceed the loss: slope above −1",
        "−0.7",
        _slope,
    ),
    _Claim("R²", f"at one of these layers the loss predicts the compensation, R² above {GOOD}", "0.92", _fit),
    _Claim(
        "localised response",
        "one or two later attention layers carry most of attention’s answer where attention answers",
        "usually 1",
        _localised,
    ),
    _Claim("late MLP erasure", "some late MLP writes against the target in the clean run", "below 0", _erasure),
    _Claim(
        "erasure released",
        f"late MLPs erase less once an attention layer is gone, by {_percent(LEAST_SHARE)} of its loss or more",
        "less erasure",
        _release,
    ),
)
