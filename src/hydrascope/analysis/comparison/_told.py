"""What two runs differ in, in sentences whose numbers stand in the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._statistics import MORE_GROUPS, SIGNIFICANT, Reading, spearman
from hydrascope.analysis.comparison._tables import Comparison
from hydrascope.analysis.summary._told import extreme
from hydrascope.analysis.summary._words import count, digits, listed, percent, signed, spread

_GIVERS = {
    "restored_attn": "later attention",
    "restored_mlp": "later MLPs",
    "restored_mixer": "later mixers",
    "restored_norm": "the final norm",
}
NAMED = 5
"""Most knock-outs that are named one by one."""

Row = Any
"""A row of a table."""


@dataclass(frozen=True)
class ComparisonSummary:
    """What a comparison shows.

    Attributes:
        headline: the largest difference in repair that is certain, or that there is none.
        sentences: what supports and limits that.
    """

    headline: str
    sentences: tuple[str, ...]


def summarise_comparison(found: Comparison) -> ComparisonSummary:
    """State what differs between two runs, in sentences that hold whatever the signs are.

    Args:
        found: the comparison.
    """
    if not found.pairing.shared:
        return ComparisonSummary(_unpaired(found), tuple(_differing(found)))
    table = found.knockouts
    if not found.resampling.conclusive:
        prompts = count(found.pairing.first.sizes["prompt"], "shared prompt")
        return ComparisonSummary(
            f"What differs cannot be told from {prompts}: {MORE_GROUPS}.", tuple(_differing(found))
        )
    said = [
        _losses(found, table),
        _others(table),
        _total_effects(found, table),
        _answers(found),
        *_differing(found),
        _prompts(found),
    ]
    return ComparisonSummary(_headline(found, table), tuple(sentence for sentence in said if sentence))


def _headline(found: Comparison, table: pd.DataFrame) -> str:
    one, other = found.names
    sure = table[table["outcome"].isin(["more", "less"])]
    if len(sure):
        row = _largest(sure, "restored_with_norm")
        shares = [percent(float(row[f"restored_with_norm_{which}"])) for which in ("first", "second")]
        differs = spread(_reading(row, "restored_with_norm"), form=percent)
        return (
            f"Of what is lost without {row['ablated']}, {shares[0]} come back in {one} and {shares[1]} in {other}: "
            f"a difference of {differs}{_mostly(row)}."
        )
    both = int((table["lost_first"] & table["lost_second"]).sum())
    if both:
        losses = count(both, "loss", "losses")
        return f"None of the {losses} clear in both is repaired more or less in {other} than in {one}."
    lost = [int(table[f"lost_{which}"].sum()) for which in ("first", "second")]
    return f"No loss is clear in both runs, so repair cannot be compared: {one} has {lost[0]}, {other} {lost[1]}."


def _mostly(row: Row) -> str:
    """Through whom more than half of the difference comes."""
    whole = float(row["restored_with_norm"])
    for name, label in _GIVERS.items():
        if name in row and _reading(row, name).sign * whole > 0 and abs(float(row[name])) > abs(whole) / 2:
            return f", most through {label} ({spread(_reading(row, name), form=percent)})"
    return ""


def _losses(found: Comparison, table: pd.DataFrame) -> str:
    one, other = found.names
    first, second = table["lost_first"], table["lost_second"]
    told = {name: int((table["outcome"] == name).sum()) for name in ("more", "less", "alike")}
    return (
        f"Clear losses on what both kept: {first.sum()} in {one}, {second.sum()} in {other}, "
        f"{(first & second).sum()} in both; of these {other} repairs {told['more']} more, {told['less']} less, and "
        f"{told['alike']} cannot be told apart."
    )


def _others(table: pd.DataFrame) -> str:
    sure = table[table["outcome"].isin(["more", "less"])]
    if len(sure) < 2:
        return ""
    order = sure["restored_with_norm"].abs().sort_values(ascending=False).index[:NAMED]
    named = [f"{row['ablated']} {_by(row, 'restored_with_norm', percent)}" for _, row in sure.loc[order].iterrows()]
    return f"Differences in the share that comes back, norm included: {listed(named)}."


def _total_effects(found: Comparison, table: pd.DataFrame) -> str:
    if (table["total_effect"] == 0).all():
        return f"The total effects of {count(len(table), 'shared knock-out')} are the same to the last digit."
    sure = table[table["total_effect_p"] < SIGNIFICANT]
    first, second = (table[f"total_effect_{which}"].to_numpy(dtype=np.float64) for which in ("first", "second"))
    rank = float(spearman(first[None], second[None])[0])
    alike = f" The rank correlation of mean total effects is {digits(rank)}." if np.isfinite(rank) else ""
    more = int((sure["total_effect"] < 0).sum())
    largest = _largest(table, "total_effect")
    return (
        f"Of {count(len(table), 'shared knock-out')}, {more} {'costs' if more == 1 else 'cost'} more in "
        f"{found.names[1]} and {len(sure) - more} less; the largest difference of a mean total effect is "
        f"{_by(largest, 'total_effect', signed)} logits, without {largest['ablated']}.{alike}"
    )


def _answers(found: Comparison) -> str:
    cells = found.responders[~found.responders["is_own"].astype(bool)]
    if cells.empty:
        return ""
    sure = cells[cells["significant"]]
    if sure.empty:
        return f"None of {count(len(cells), 'answer')} of single writers differs beyond chance."
    row = _largest(sure, "change")
    means = [signed(float(row[f"change_{which}"])) for which in ("first", "second")]
    return (
        f"Of {count(len(cells), 'answer')} of single writers, {len(sure)} differ; most of all {row['writer']}’s to "
        f"{row['ablated']}: {means[0]} logits in {found.names[0]}, {means[1]} in {found.names[1]}."
    )


def _unpaired(found: Comparison) -> str:
    table = found.by_depth
    pieces = []
    for name in found.names:
        rows = table[(table["run"] == name) & (table["own_change_hi"] < 0)]
        if rows.empty:
            pieces.append(f"no stretch of {name} clearly loses anything")
            continue
        row = extreme(rows, "restored_with_norm")
        share = spread(_reading(row, "restored_with_norm"), form=percent)
        pieces.append(f"{name} gives back most at {percent(float(row['depth']))} of its depth ({row['kind']}: {share})")
    return f"By relative depth, since {found.pairing.why_not}: {'; '.join(pieces)}. Nothing here is paired."


def _differing(found: Comparison) -> list[str]:
    told = [f"{name} ({_short(one)} against {_short(other)})" for name, one, other in found.pairing.differing]
    return [f"The runs differ in {listed(told)}." if told else "The runs were asked for alike."]


def _prompts(found: Comparison) -> str:
    noun = "token" if access.reads_each(found.first) else "prompt"
    shared, sizes = found.pairing.first.sizes["prompt"], (found.first.sizes["prompt"], found.second.sizes["prompt"])
    units = f" in {found.resampling.units} groups" if found.resampling.by_group else ""
    # a run of the shared prompts alone would draw donors from fewer, and could lose more or less
    apart = f", each as its run measured it, with donors from all of that run's {noun}s" if {*sizes} != {shared} else ""
    return (
        f"Differences are taken {noun} by {noun} over the {shared:,} that both kept{units} (of {sizes[0]:,} and "
        f"{sizes[1]:,}){apart}; brackets are 95 % intervals, and what is called more or less holds for all losses "
        "together."
    )


def _largest(table: pd.DataFrame, column: str) -> Row:
    """The row with the largest absolute value of a column."""
    return table.iloc[int(table[column].abs().to_numpy(dtype=np.float64).argmax())]


def _by(row: Row, name: str, form: Any) -> str:
    return spread(_reading(row, name), form=form)


def _reading(row: Row, name: str) -> Reading:
    return Reading(float(row[name]), float(row[f"{name}_lo"]), float(row[f"{name}_hi"]), True)


def _short(value: str, most: int = 24) -> str:
    return (value if len(value) <= most else f"{value[:10]}…") or "none"
