"""Do the claims of McGrath et al. 2023 (arXiv 2307.15771) hold in this model? A row for each, with the paper's number.

The paper knocks out attention layers at the last token of facts, in a 7B model of 32 layers. Each claim is asked of the
clear losses of attention layers here, and answered by intervals of the other tables: `holds` and `does not` need an
interval on one side of the bound, everything else `cannot be told`; a least share of a loss is asked of the estimate,
whose interval need only exclude zero. Slopes are of compensation on own change, so that repair is negative; the paper
draws compensation on direct effect, so that it is positive there.

A claim about some layer looks for it among several, and a claim about all of them does not: `search` says which, and
whether the number of layers is corrected for. Two claims are not the paper's own and say so: that a random direction
is not answered as much, which a saturating read-out would do to anything, and what the norm gives back, which the
paper leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hydrascope.analysis._outcomes import LEAST_SHARE

FROM = 0.4
"""Relative depth from which the paper's layers repair: 13 of 32."""
MIDDLE = 0.85
"""Relative depth up to which layers are called middle ones; the paper's best is 23 of 32."""
EARLY = 0.1
"""Relative depth up to which layers are called early ones."""
MUCH = 0.3
"""Least share given back that is called much; the paper's is about 0.7."""
GOOD = 0.5
"""Least R² that is called a good fit; the paper's best is 0.92."""
CROWD = 4
"""Fewest later attention layers among which two can stand out."""
BEYOND = 3
"""How many times its direct effect an early layer must cost at least."""

HOLDS, DOES_NOT, UNDECIDED = "holds", "does not", "cannot be told"
"""The verdicts."""

CORRECTED, BEST, EVERY, MOST = "corrected for all", "best of several, not corrected", "every one", "more than half"
"""How a claim that is asked of several layers or writers counts them."""


class Tables(NamedTuple):
    """What the claims are read from, and how deep the model is."""

    repair: pd.DataFrame
    layer_effects: pd.DataFrame
    concentration: pd.DataFrame
    late_mlps: pd.DataFrame
    released: pd.DataFrame
    n_layers: int


class _Answer(NamedTuple):
    """The verdict, the row whose number stands beside it, and how many rows were asked."""

    verdict: str
    row: Any
    asked: int


@dataclass(frozen=True)
class _Claim:
    """A claim of the paper, and how it is asked of the tables.

    Attributes:
        claim: its name.
        says: what it says, which is its rule.
        source: where the paper says so.
        paper: the paper's number.
        measure: table and column of the number that stands beside the verdict.
        search: how it counts the layers that it is asked of.
        ask: finds the verdict.
    """

    claim: str
    says: str
    source: str
    paper: str
    measure: str
    search: str
    ask: Callable[[Tables], _Answer]


def mcgrath(tables: Tables) -> pd.DataFrame:
    """Whether the claims of the paper hold.

    Args:
        tables: of one ledger.

    Returns:
        One row per claim: `claim`; `says`, what it says; `source`, equations and figures of the paper; `verdict`:
        `holds`, `does not` or `cannot be told`; `where`, the knock-out or writer whose number stands there; `measure`,
        which column of which table that is; `value` with `_lo` and `_hi`; `asked`, of how many layers or writers;
        `search`, how these are counted; `paper`, the paper's number.
    """
    rows = []
    for claim in _CLAIMS:
        verdict, row, asked = claim.ask(tables)
        column = claim.measure.split(".")[-1]
        ends = {f"value{end}": np.nan if row is None else float(row.get(f"{column}{end}", np.nan)) for end in _ENDS}
        where = "" if row is None else str(row.get("writer", row.get("ablated")))
        rows.append(
            {"claim": claim.claim, "says": claim.says, "source": claim.source, "verdict": verdict, "where": where}
            | {"measure": claim.measure}
            | ends
            | {"asked": asked, "search": claim.search, "paper": claim.paper}
        )
    return pd.DataFrame(rows)


_ENDS = ("", "_lo", "_hi")
_UNASKED = _Answer(UNDECIDED, None, 0)


def _largest(table: pd.DataFrame, column: str, sign: int = 1) -> Any:
    """The row with the largest value of a column, or the smallest where `sign` is -1."""
    return table.iloc[int((sign * table[column]).to_numpy(dtype=np.float64).argmax())]


def _lost(tables: Tables, first: float = 0.0, last: float = 1.0) -> pd.DataFrame:
    """Clear losses of attention layers between two relative depths."""
    table = tables.repair
    depth = table["ablated_layer"] / tables.n_layers
    return table[table["lost"] & (table["ablated_kind"] == "attn") & (depth >= first) & (depth <= last)]


def _any_above(table: pd.DataFrame, column: str, bound: float) -> _Answer:
    """Does any row lie above a bound? The row with the largest lower end is shown."""
    known = table[table[f"{column}_lo"].notna()]
    if known.empty:
        return _UNASKED
    row = _largest(known, f"{column}_lo")
    below = (known[f"{column}_hi"] < bound).all()
    return _Answer(HOLDS if row[f"{column}_lo"] > bound else DOES_NOT if below else UNDECIDED, row, len(known))


def _attention(tables: Tables) -> _Answer:
    asked = _lost(tables)
    asked = asked[asked["attn_below"].notna()]
    if asked.empty:
        return _UNASKED
    seen = asked[asked["hydra"]]
    row = _largest(seen if len(seen) else asked, "compensation_attn")
    below = np.fmin(asked["attn_below"], asked["compensation_attn_minus_null_hi"])
    none = (below < -LEAST_SHARE * asked["own_change"]).all()
    return _Answer(HOLDS if len(seen) else DOES_NOT if none else UNDECIDED, row, len(asked))


def _direction(tables: Tables) -> _Answer:
    asked = _lost(tables)
    asked = asked[asked["compensation_minus_null_lo"].notna()]
    if asked.empty:
        return _UNASKED
    seen = asked[asked["outcome"] == "repaired"]
    row = _largest(seen if len(seen) else asked, "compensation_minus_null_lo")
    none = (asked["compensation_minus_null_hi"] < -LEAST_SHARE * asked["own_change"]).all()
    return _Answer(HOLDS if len(seen) else DOES_NOT if none else UNDECIDED, row, len(asked))


def _repair(tables: Tables) -> _Answer:
    return _any_above(_lost(tables, FROM, MIDDLE), "restored", MUCH)


def _slope(tables: Tables) -> _Answer:
    known = _lost(tables, FROM)
    known = known[known["slope_lo"].notna()]
    if known.empty:
        return _UNASKED
    below, beyond = (known["slope_lo"] > -1).all(), (known["slope_hi"] < -1).any()
    return _Answer(HOLDS if below else DOES_NOT if beyond else UNDECIDED, _largest(known, "slope", -1), len(known))


def _fit(tables: Tables) -> _Answer:
    known = _lost(tables, FROM)
    return _any_above(known[known["slope_hi"] < 0], "r2", GOOD)


def _localised(tables: Tables) -> _Answer:
    answered = set(tables.repair.loc[tables.repair["hydra"], "ablated"])
    rows = tables.concentration
    rows = rows[(rows["scope"] == "attn") & rows["ablated"].isin(answered) & (rows["responders"] >= CROWD)]
    if rows.empty:
        return _UNASKED
    row = rows.iloc[int((rows["top2_share_median"] - 2 / rows["responders"]).to_numpy().argmax())]
    chance = max(0.5, 2 / row["responders"])
    return _Answer(HOLDS if row["top2_share_median"] > chance else DOES_NOT, row, len(rows))


def _written(tables: Tables) -> _Answer:
    table = tables.layer_effects
    known = table[(table["ablated_layer"] / tables.n_layers >= FROM) & table["share_exceeds_lo"].notna()]
    if known.empty:
        return _UNASKED
    middle = known.sort_values("share_exceeds").iloc[len(known) // 2]
    more, less = (known["share_exceeds_lo"] > 0.5).mean() > 0.5, (known["share_exceeds_hi"] < 0.5).mean() > 0.5
    return _Answer(HOLDS if more else DOES_NOT if less else UNDECIDED, middle, len(known))


def _early(tables: Tables) -> _Answer:
    table = tables.layer_effects
    known = table[(table["ablated_layer"] / tables.n_layers < EARLY) & table["drop_lo"].notna()]
    if known.empty:
        return _UNASKED
    ends = known[["direct_effect_lo", "direct_effect_hi"]]
    most, sure = ends.abs().max(axis=1), np.sign(ends).sum(axis=1).abs() == 2
    least = ends.abs().min(axis=1).where(sure, 0.0)
    beyond = (known["drop_lo"] > BEYOND * most).any()
    none = (known["drop_hi"] < BEYOND * least).all()
    row = _largest(known.assign(gap=known["drop_lo"] - BEYOND * most), "gap")
    return _Answer(HOLDS if beyond else DOES_NOT if none else UNDECIDED, row, len(known))


def _erasure(tables: Tables) -> _Answer:
    each = tables.late_mlps
    if each.empty or each["direct_effect_lo"].isna().all():
        return _UNASKED
    against = (each["direct_effect_lo"] > 0).all()
    verdict = HOLDS if each["erases"].any() else DOES_NOT if against else UNDECIDED
    return _Answer(verdict, _largest(each, "direct_effect", -1), len(each))


def _release(tables: Tables) -> _Answer:
    rows = tables.released
    lost = _lost(tables).set_index("ablated")["own_change"]
    rows = rows[(rows["kind"] == "mlp") & rows["ablated"].isin(lost.index)] if len(rows) else rows
    if rows.empty:
        return _UNASKED
    least = -LEAST_SHARE * lost[rows["ablated"]].to_numpy()
    clear = rows[(rows["suppression_lo"] > 0) & (rows["suppression"] >= least)]
    none = (rows["suppression_hi"] < least).all()
    verdict = HOLDS if len(clear) else DOES_NOT if none else UNDECIDED
    return _Answer(verdict, _largest(clear if len(clear) else rows, "suppression"), len(rows))


def _norm(tables: Tables) -> _Answer:
    return _any_above(_lost(tables), "restored_norm", LEAST_SHARE)


def _percent(share: float) -> str:
    """A round share in percent."""
    return f"{round(100 * share)} %"


_CLAIMS = (
    _Claim(
        "attention answers attention",
        f"later attention gives back {_percent(LEAST_SHARE)} or more of what an attention layer lost, beyond a random "
        "direction where that was run",
        "eq. 33 and 34, figures 1 and 3",
        "layer 20 for 18",
        "repair.compensation_attn",
        CORRECTED,
        _attention,
    ),
    _Claim(
        "beyond a random direction",
        "a lost attention layer is repaired, and more than one that loses a random direction of the same length",
        "not in the paper",
        "not asked",
        "repair.compensation_minus_null",
        CORRECTED,
        _direction,
    ),
    _Claim(
        "repair at middle layers",
        f"an attention layer at {_percent(FROM)} to {_percent(MIDDLE)} of the depth gets more than {_percent(MUCH)} of "
        "its loss back, norm left out",
        "conclusion, eq. 33",
        "about 70 %",
        "repair.restored",
        BEST,
        _repair,
    ),
    _Claim(
        "slope below 1",
        f"from {_percent(FROM)} of the depth on compensation does not exceed the loss: slope above −1",
        "figure 7, eq. 33",
        "−0.7",
        "repair.slope",
        EVERY,
        _slope,
    ),
    _Claim(
        "R²",
        f"at one of these layers the loss predicts the compensation, R² above {GOOD}",
        "figure 7",
        "0.92",
        "repair.r2",
        BEST,
        _fit,
    ),
    _Claim(
        "localised response",
        "one or two later attention layers carry most of attention’s answer where attention answers",
        "figures 1 and 3",
        "usually 1",
        "concentration.top2_share_median",
        BEST,
        _localised,
    ),
    _Claim(
        "more written than missed",
        f"at more than half of the layers from {_percent(FROM)} of the depth on, most prompts lose less than the layer "
        "wrote",
        "eq. 10 and 12, figure 2",
        "75 % to 90 % of prompts",
        "layer_effects.share_exceeds",
        MOST,
        _written,
    ),
    _Claim(
        "early layers act through others",
        f"a layer of the first {_percent(EARLY)} of the depth costs more than {BEYOND} times what it writes",
        "section 4.2, figure 2",
        "large, writing almost nothing",
        "layer_effects.drop",
        BEST,
        _early,
    ),
    _Claim(
        "late MLP erasure",
        "some late MLP writes against the target in the clean run",
        "section 6, eq. 30 to 32",
        "below 0",
        "late_mlps.direct_effect",
        CORRECTED,
        _erasure,
    ),
    _Claim(
        "erasure released",
        f"late MLPs erase less once an attention layer is gone, by {_percent(LEAST_SHARE)} of its loss or more",
        "section 6, figure 8",
        "less erasure",
        "released.suppression",
        BEST,
        _release,
    ),
    _Claim(
        "help from the norm",
        f"the final norm gives back more than {_percent(LEAST_SHARE)} of what an attention layer lost",
        "left out there; Rushing & Nanda",
        "up to about 30 %",
        "repair.restored_norm",
        BEST,
        _norm,
    ),
)
