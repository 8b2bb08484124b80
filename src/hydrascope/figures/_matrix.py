"""The compensation matrix: knock-outs by responding writers."""

from __future__ import annotations

import altair as alt
import pandas as pd

from hydrascope.figures._chart import KNOCKED_OUT, LEGEND, MARKS, View, compact, finish, reading
from hydrascope.figures._theme import KIND_LABELS, LIGHT, diverging_scale

ROWS = 100
"""Most knock-outs shown; the strongest responses are kept."""


def compensation_matrix(table: pd.DataFrame, writer_kind: str, *, legend: bool = True) -> View:
    """Heat map of mean changes: knocked out downwards, responding writer across.

    The colours have the same limits for every kind of writer. Cells of the knocked-out part itself are grey, since its
    own change would drown the others; dots mark changes that differ from zero after correction over all cells.

    Args:
        table: from `analysis.who_repairs`, all kinds.
        writer_kind: kind of the responding writers.
        legend: whether to explain the colours.
    """
    others = table[~table["is_own"]]
    limit = float(others["change"].abs().max()) if len(others) else 1.0
    rows = rows_shown(table)
    cells = table[(table["writer_kind"] == writer_kind) & table["ablated"].isin(rows)]
    columns = [
        "ablated",
        "writer",
        "writer_layer",
        "change",
        "change_lo",
        "change_hi",
        "p",
        "significant",
    ]
    y = alt.Y(
        "ablated:N",
        sort=rows,
        scale=alt.Scale(domain=rows),
        title="knocked out",
        axis=alt.Axis(grid=False, domain=False),
    )
    x = alt.X(
        "writer_layer:O",
        title=f"{KIND_LABELS.get(writer_kind, writer_kind)} layer that responds".replace("MLP layer", "MLP"),
        axis=alt.Axis(labelAngle=0, domain=False, values=_ticks(cells["writer_layer"])),
    )
    scale_legend = alt.Legend(
        title="change (logits)",
        gradientLength=180,
        gradientThickness=10,
        tickCount=5,
        format="~g",
        titlePadding=6,
    )
    tiles = (
        alt.Chart(compact(cells.loc[~cells["is_own"], columns]))
        .mark_rect(stroke=LIGHT.paper, strokeWidth=1)
        .encode(
            x=x,
            y=y,
            color=alt.Color("change:Q", scale=diverging_scale(limit), legend=scale_legend if legend else None),
            tooltip=[
                KNOCKED_OUT,
                alt.Tooltip("writer:N", title="responds"),
                reading("change", "change (logits)"),
                reading("change_lo", "from"),
                reading("change_hi", "to"),
                alt.Tooltip("p:Q", title="p, corrected", format=".2~g"),
            ],
        )
    )
    own = (
        alt.Chart(compact(cells.loc[cells["is_own"], ["ablated", "writer", "writer_layer", "change"]]))
        .mark_rect(fill=LIGHT.grid, stroke=LIGHT.paper, strokeWidth=1)
        .encode(x=x, y=y, tooltip=[alt.Tooltip("writer:N", title="knocked out"), reading("change", "own change")])
    )
    dots = (
        alt.Chart(cells.loc[cells["significant"], ["ablated", "writer_layer"]])
        .mark_point(size=14, fill=LIGHT.ink, stroke=None, tooltip=None)
        .encode(x=x, y=y)
    )
    step = 20 if len(rows) <= 20 else 14 if len(rows) <= 48 else 11
    title = f"Compensation by {'MLPs' if writer_kind == 'mlp' else KIND_LABELS.get(writer_kind, writer_kind)}"
    return finish(
        alt.layer(own, tiles, dots).resolve_legend(color="independent"),
        title=title,
        description=f"{title}: heat map of the mean change of each writer under each knock-out.",
        height=step * len(rows),
        spare=0 if legend else LEGEND + 28,
    )


def _ticks(layers: pd.Series[int]) -> list[int]:
    first, last = int(layers.min()), int(layers.max())
    return list(range(first, last + 1, -(-(last - first + 1) // 16)))


def rows_shown(table: pd.DataFrame) -> list[str]:
    """Addresses that the heat map of a `who_repairs` table shows, in the ledger's order."""
    others = table[~table["is_own"]]
    names = [str(name) for name in dict.fromkeys(table["ablated"])]
    # two charts share the cells; dots come on top
    most = min(ROWS, MARKS // max(1, 2 * table["writer_layer"].nunique()))
    if len(names) <= most:
        return names
    strongest = set(others.groupby("ablated")["change"].agg(lambda change: change.abs().max()).nlargest(most).index)
    return [name for name in names if name in strongest]
