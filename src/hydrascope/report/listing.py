"""The table of numbers: one row per knock-out, means with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hydrascope.analysis import Quantity
from hydrascope.figures import is_curve
from hydrascope.report.numbers import NONE, fixed, interval, percent

ROWS = 200
"""Most rows printed; the knock-outs that lose most are kept. The ledger has them all."""


@dataclass(frozen=True)
class Cell:
    """What a cell shows, what stands small below it, and what it is sorted by (NaN sorts last)."""

    text: str
    value: float
    small: str = ""


@dataclass(frozen=True)
class Listing:
    """A table ready to be printed."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""


_EFFECTS = {
    "direct_effect": "direct effect",
    "own_change": "own change",
    "compensation_attn": "attention",
    "compensation_mlp": "MLPs",
    "compensation_mixer": "mixers",
    "norm_effect": "final norm",
    "total_effect": "total effect",
}
_SHARES = {"restored": "restored", "restored_with_norm": "restored with norm"}


def listing(table: pd.DataFrame, who: pd.DataFrame, quantity: Quantity, *, by_kl: bool = False) -> Listing:
    """The numbers of every knock-out.

    Args:
        table: from `analysis.repair.repair`.
        who: from `analysis.responders.who_repairs`.
        quantity: what the numbers are of.
        by_kl: show KL divergence and put those first that change the distribution most.
    """
    total = len(table)
    by_layer = is_curve(table)
    if by_kl:
        table = table.nlargest(ROWS, "kl")
    elif total > ROWS or not by_layer:
        strongest_first = table["own_change"].abs().nlargest(ROWS).index
        table = table.loc[strongest_first.sort_values() if by_layer else strongest_first]
    effects = {name: label for name, label in _EFFECTS.items() if name in table and table[name].notna().any()}
    # effects of a few hundredths need a third decimal to be told apart
    places = 2 if table[list(effects)].abs().max().max() >= 1 else 3
    kl = ("KL (nats)",) if by_kl else ()
    columns = ("knocked out", *kl, *effects.values(), *_SHARES.values(), "slope", "R²", "answers most")
    strongest = _strongest(who)
    shown = {"kl": 3} if by_kl else {}
    shown |= dict.fromkeys(effects, places)
    rows = tuple(_row(row, i, shown, strongest) for i, row in enumerate(table.to_dict("records")))
    caption = (
        f"Means over prompts in {quantity.axis}, ablated minus clean, with 95 % intervals in small print. "
        "Shares are given where the part was really removed and lost something. “Answers most” is the layer with "
        "the largest change that differs from zero after correction. Press a heading to sort."
    )
    if by_kl:
        caption += " Those that change the distribution most, by KL divergence from the clean one, come first."
    elif not by_layer:
        caption += " Those that lose most come first."
    if total > ROWS:
        caption += f" The {ROWS} of {total:,} knock-outs that {'change' if by_kl else 'lose'} most are listed."
    return Listing(caption, columns, rows)


def _row(
    row: dict[Any, Any],
    order: int,
    shown: dict[str, int],
    strongest: dict[str, tuple[str, float]],
) -> tuple[Cell, ...]:
    cells = [Cell(str(row["ablated"]), order)]
    cells += [_estimate(row, name, places) for name, places in shown.items()]
    cells += [_share(row, name) for name in _SHARES]
    slope = Cell(
        fixed(row["restoring_slope"]),
        float(row["restoring_slope"]),
        interval(-row["slope_hi"], -row["slope_lo"]),
    )
    writer, change = strongest.get(str(row["ablated"]), (NONE, math.nan))
    cells += [
        slope,
        _estimate(row, "r2"),
        Cell(writer, change, "" if math.isnan(change) else _signed(change)),
    ]
    return tuple(cells)


def _estimate(row: dict[Any, Any], name: str, places: int = 2) -> Cell:
    small = interval(row[f"{name}_lo"], row[f"{name}_hi"], places)
    return Cell(fixed(row[name], places), float(row[name]), "" if small == NONE else small)


def _share(row: dict[Any, Any], name: str) -> Cell:
    if not row["meaningful"]:
        return Cell(NONE, math.nan)
    low, high = percent(row[f"{name}_lo"]), percent(row[f"{name}_hi"])
    small = "" if NONE in (low, high) else f"{low.rstrip('%').rstrip()} to {high}"
    return Cell(percent(row[name]), float(row[name]), small)


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + fixed(value)


def _strongest(who: pd.DataFrame) -> dict[str, tuple[str, float]]:
    if who.empty:
        return {}
    sure = who[who["significant"] & ~who["is_own"]]
    best = sure.loc[sure["change"].abs().groupby(sure["ablated"]).idxmax()] if len(sure) else sure
    return {str(row["ablated"]): (str(row["writer"]), row["change"]) for row in best.to_dict("records")}
