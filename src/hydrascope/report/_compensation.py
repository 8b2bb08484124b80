"""Sections on compensation over prompts, and on erasure."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from hydrascope import figures
from hydrascope.analysis import compensation_points
from hydrascope.report._cell_prompts import cell_prompts
from hydrascope.report._effects import FEW, bands, thinned
from hydrascope.report._run import Run
from hydrascope.report._section import Draft, Section

CLOUDS = 48
"""Most knock-outs in the list of the scatter of compensation."""
ROOM = 8
"""Names that fit under half a row."""


def compensation(run: Run) -> Section | None:
    """Compensation against own change over prompts."""
    if run.of_tokens:
        return None
    draft = Draft("compensation", "Slope of compensation on own change")
    if run.ds.sizes["prompt"] < FEW:
        return draft.absent(f"a line over prompts needs {FEW} prompts or more.")
    table = run.tables.repair
    names = table.loc[table["own_change"].abs().nlargest(CLOUDS).index.sort_values(), "ablated"]
    points = clouds(run, [str(name) for name in names])
    told = figures.slopes_shown(table).any()
    draft.add(figures.compensation_by_prompt(points, table, shown=run.focus), "tall" if told else "wide")
    if told:
        draft.add(figures.slope_by_layer(table, "slope", layers=run.layers))
        draft.add(figures.slope_by_layer(table, "r2", layers=run.layers, legend=False))
    control = (
        "Hollow marks: the random-direction control (norm-matched), the same part moved by a random vector of the same "
        "length; only what exceeds it is compensation for what was lost."
        if int(run.ds.attrs.get("null_draws", 0)) > 0 and "null_change" in run.ds
        else "The run has no random-direction control, so a slope may be partly the read-out saturating."
    )
    return draft.finished(
        "Each point is one prompt: across, the own change of the knocked-out part, a loss where negative; upwards, the "
        "compensation by all others without the norm. On the dashed line, of slope −1, the loss is made good; the "
        "solid one is fitted, and a negative slope is repair.",
        [
            control,
            f"{_slopes_told(table)} {bands(run) if figures.is_curve(table) else ''}",
            thinned(len(points)),
        ],
    )


def _slopes_told(table: pd.DataFrame) -> str:
    """Which slopes are drawn, in words."""
    drawn, of = int(figures.slopes_shown(table).sum()), len(table)
    rule = (
        "Slopes are drawn where they can tell full repair (−1) from none (0): something comes after the part, and the "
        "interval is narrower than 1. Lines stop at what is left out; an arrow at an edge is a value beyond the axis."
    )
    return f"{rule} Drawn: {drawn} of {of}."


def clouds(run: Run, names: Sequence[str]) -> pd.DataFrame:
    """The tables of `analysis.compensation_points` of some knock-outs, one below the other."""
    tables = [compensation_points(run.tables.ds, name).assign(ablated=name) for name in names]
    return pd.concat(tables, ignore_index=True)


def kinds(run: Run) -> Section | None:
    """Compensation by kind of writer, over depth."""
    if run.of_tokens:
        return None
    draft, table = Draft("kinds", "Compensation by kind of writer, over depth"), run.tables.repair
    for i, kind in enumerate(run.kinds):
        chart = figures.parts_by_layer(table, kind, layers=run.layers, legend=i == 0, unit=run.unit)
        draft.add(chart, shape(table, kind))
    told = [kind for kind in run.kinds if (table["meaningful"] & (table["ablated_kind"] == kind)).any()]
    alone = "wide" if len(told) < len(run.kinds) else ""
    for i, kind in enumerate(told):
        chart = figures.restored_by_layer(table, kind, layers=run.layers, legend=i == 0)
        draft.add(chart, shape(table, kind) or alone)
    shares = (
        "Shares are ratios of sums over prompts, given only where the part was really removed and lost something; an "
        "arrow at an edge is a share beyond the axis, and an interval that touches an edge goes on."
        if told
        else "Shares are left out: no knock-out lost enough for a ratio to mean anything."
    )
    return draft.finished(
        "Each bar is one knock-out, its colours the compensation by later attention, by later MLPs and by the final "
        "norm; below, the share of the loss that is restored, counted with and without the norm.",
        [
            "The short line across a bar is what was lost (below zero where the part wrote against the answer); a bar "
            f"that reaches it has made the loss good. {shares}"
        ],
    )


def matrix(run: Run) -> Section | None:
    """The heat map of who compensates for whom."""
    if run.of_tokens:
        return None
    draft, table = Draft("responders", "Compensation matrix"), run.tables.who_repairs
    others = table[~table["is_own"]] if len(table) else table
    if others.empty:
        return draft.absent("nothing that was knocked out has an attention layer or MLP behind it.")
    there = [kind for kind in ("attn", "mlp", "mixer") if kind in set(others["writer_kind"])]
    for i, kind in enumerate(there):
        draft.add(figures.compensation_matrix(table, kind, legend=i == 0), "wide" if len(there) == 1 else "")
    shown, rows = figures.rows_shown(table), table["ablated"].nunique()
    cells = table[table["ablated"].isin(shown) & table["writer_kind"].isin(there)]
    return draft.finished(
        "A row is a knock-out, a column a later writer: green, it writes more for the answer than in the clean run; "
        "purple, less; empty, it comes earlier and cannot respond.",
        [
            "Dots: different from zero after correction over all cells. Plain grey: the knocked-out part itself. A "
            "cell is what a writer changes in the answer directly: it shows who changed, not who was needed."
            + (
                f" The {len(shown)} of {rows} knock-outs with the strongest responses are shown."
                if len(shown) < rows
                else ""
            )
        ],
        behind=cell_prompts(run.tables.ds, cells, run.focus),
    )


def erasure(run: Run) -> Section | None:
    """Erasure by late MLPs."""
    if run.of_tokens:
        return None
    draft = Draft("erasure", "Erasure by late MLPs")
    if run.tables.late_mlps.empty:
        return draft.absent("the ledger has no MLP in the second half of the model.")
    draft.add(figures.late_mlp_effects(run.tables.late_mlps, layers=run.layers, unit=run.unit))
    released = run.tables.released
    released = released[released["kind"] == "mlp"] if len(released) else released
    if kind := next((kind for kind in run.kinds if len(released) and kind in set(released["ablated_kind"])), None):
        draft.add(figures.released_by_layer(released, kind, layers=run.layers), shape(run.tables.repair, kind))
    return draft.finished(
        "The first chart is what MLPs of the second half write in the clean run, against the answer where below zero; "
        "the second is how that changes under each knock-out, where relaxed suppression (dark green: letting go of "
        "what was held back) is not the same as new promotion (pale green: newly writing for the answer).",
        ["Noise alone fills both green and purple, so read the diamonds: the sums."],
    )


def shape(table: pd.DataFrame, kind: str) -> str:
    """Width of a chart over knock-outs of one kind; names of addresses need room."""
    rows = table[table["ablated_kind"] == kind]
    return "" if figures.is_curve(rows) or len(rows) <= ROOM else "wide"
