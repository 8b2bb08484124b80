"""What is left of a repair while responders are held at their clean output."""

from __future__ import annotations

import altair as alt
import pandas as pd

from hydrascope.figures.build import UNIT, View, compact, finish, reading
from hydrascope.figures.theme import LIGHT, colour_scale

ROW = 34
"""Height of a bar with its space."""

_NOTHING = "nothing held"
_SHOWN = ("responder", "two", "all", "controls", "other")
_SINGLE = {"attn": ("responder", "strongest responder"), "own": ("controls", "other layers")}
"""Role in the theme to a role in the table and its name."""


def repair_held(table: pd.DataFrame, ablated: str, measure: str, title: str, *, unit: str = UNIT) -> View:
    """Repair of one knock-out with nothing held, and with its responders or others held.

    Args:
        table: from `analysis.freeze.freeze`.
        ablated: the knock-out.
        measure: which repair, one of `analysis.freeze.MEASURES`.
        title: of the chart.
        unit: what the logits are of, on the axis.
    """
    rows = table[(table["ablated"] == ablated) & (table["measure"] == measure)]
    rows = pd.concat([rows[rows["role"] == role] for role in _SHOWN], ignore_index=True)
    ends = ("", "_lo", "_hi")
    free = {"frozen": _NOTHING, "colour": "total", **{f"value{end}": rows[f"repair{end}"].iloc[0] for end in ends}}
    bars = [free] + [
        {
            "frozen": in_words(str(row["frozen"]), str(row["role"])),
            "colour": "own" if row["role"] == "controls" else "attn",
            **{f"value{end}": row[f"repair_frozen{end}"] for end in ends},
            "removed": row["removed"],
        }
        for row in rows.to_dict("records")
    ]
    data = compact(pd.DataFrame(bars))
    base = alt.Chart(data).encode(
        y=alt.Y("frozen:N", sort=[bar["frozen"] for bar in bars], title=None, axis=alt.Axis(labelLimit=170)),
        x=alt.X("value:Q", title=f"given back ({unit})"),
    )
    scale = alt.Scale(domain=["total", "attn", "own"], range=[LIGHT.total, LIGHT.attn, LIGHT.own])
    filled = base.mark_bar(height=18).encode(
        color=alt.Color("colour:N", scale=scale, legend=None),
        tooltip=[
            alt.Tooltip("frozen:N", title="held"),
            reading("value", "given back"),
            reading("value_lo", "from"),
            reading("value_hi", "to"),
            reading("removed", "removed", ".0%"),
        ],
    )
    layers = [filled]
    if data["value_lo"].notna().any():
        layers.append(base.mark_rule(strokeWidth=5, color=LIGHT.paper).encode(x="value_lo:Q", x2="value_hi:Q"))
        layers.append(base.mark_rule(strokeWidth=2, color=LIGHT.muted).encode(x="value_lo:Q", x2="value_hi:Q"))
    return finish(
        alt.layer(*layers),
        title=title,
        description=f"{title}: what is given back when {ablated} is knocked out, by what is held at its clean output.",
        height=ROW * len(bars),
    )


def removed_by_holding(table: pd.DataFrame, measure: str) -> View:
    """Share of each knock-out's repair that vanishes, its strongest responder beside others.

    Args:
        table: from `analysis.freeze.freeze`.
        measure: which repair, one of `analysis.freeze.MEASURES`.
    """
    here = table[(table["measure"] == measure) & table["meaningful"]]
    names = list(dict.fromkeys(here["ablated"]))
    long = pd.concat(
        [here[here["role"] == role].assign(who=label) for role, label in _SINGLE.values()], ignore_index=True
    )
    columns = ["ablated", "frozen", "who", "removed", "removed_lo", "removed_hi"]
    labels = {role: label for role, (_, label) in _SINGLE.items()}
    offset = alt.YOffset("who:N", sort=list(labels.values()))
    base = alt.Chart(compact(long[columns])).encode(
        y=alt.Y("ablated:N", sort=names, title="knocked out"),
        yOffset=offset,
        x=alt.X("removed:Q", title="share removed", axis=alt.Axis(format="%")),
        color=alt.Color("who:N", scale=colour_scale(labels), legend=alt.Legend()),
    )
    points = base.mark_point(size=60).encode(
        shape=alt.Shape("who:N", scale=alt.Scale(domain=list(labels.values()), range=["circle", "diamond"])),
        tooltip=[
            alt.Tooltip("ablated:N", title="knocked out"),
            alt.Tooltip("frozen:N", title="held"),
            reading("removed", "removed", ".0%"),
            reading("removed_lo", "from", ".0%"),
            reading("removed_hi", "to", ".0%"),
        ],
    )
    layers = [points]
    if long["removed_lo"].notna().any():
        layers.insert(0, base.mark_rule(strokeWidth=2).encode(x="removed_lo:Q", x2="removed_hi:Q"))
    title = "Of later attention’s answer" if measure == "attention" else "Of all that is given back"
    return finish(
        alt.layer(*layers),
        title=title,
        description=f"{title}: share that vanishes while a layer is held, for each knock-out.",
        height=max(3, len(names)) * (ROW + 10),
    )


def in_words(held: str, role: str) -> str:
    """What is held, as a bar is called."""
    if role == "all":
        return "all later attention"
    if role == "controls":
        return f"another: {held}"
    return held.replace("/", " and ")
