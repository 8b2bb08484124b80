"""Put the bundled default beside its sibling: table and figure of docs/zoo.md, from their measurements.

Usage: ``python -m zoo.pair``, after both were observed with ``python -m zoo.observe NAME``.
"""

from __future__ import annotations

import json
from typing import Any

import altair as alt
import pandas as pd

from hydrascope import zoo
from hydrascope.figures import LIGHT
from zoo.growth import DOCS, save_svg
from zoo.observe import SETS

_MARK = "<!-- pair -->"


def pair_rows(names: list[str], observed: list[dict[str, Any]]) -> pd.DataFrame:
    """List what every attention layer of every model loses and what later attention gives back.

    Args:
        names: Names of the models.
        observed: What `zoo.observe` wrote down of each, by prompt set.

    Returns:
        One row per model, prompt set and attention layer with attention after it: `model`, `set`, `layer`,
        `own`, `attention` with `_lo` and `_hi` (logits), `slope_attn`, `slope` with `_lo` and `_hi` (turned:
        positive is repair), `r2_attn`, `r2`.
    """
    rows = []
    for name, sets in zip(names, observed, strict=True):
        for prompts, result in sets.items():
            for layer, record in enumerate(result["layers"][:-1]):
                row: dict[str, Any] = {"model": name, "set": prompts, "layer": layer}
                for key, column, sign in (
                    ("own", "own_change", 1),
                    ("attention", "compensation_attn", 1),
                    ("slope_attn", "slope_attn", -1),
                    ("slope", "slope", -1),
                ):
                    middle, low, high = record[column]
                    low, high = sorted((sign * low, sign * high))
                    row |= {key: sign * middle, f"{key}_lo": low, f"{key}_hi": high}
                row |= {name: record[name][0] for name in ("r2_attn", "r2")}
                rows.append(row)
    return pd.DataFrame(rows)


def _interval(row: pd.Series[Any], name: str) -> str:
    return f"{row[name]:+.2f} [{row[f'{name}_lo']:+.2f}, {row[f'{name}_hi']:+.2f}]"


def table(rows: pd.DataFrame, task: str) -> str:
    """Write the models side by side for one prompt set, layer by layer."""
    models = list(dict.fromkeys(rows["model"]))
    head = [
        f"{name}: {what}" for name in models for what in ("own change", "later attention", "slope, all later", "R²")
    ]
    lines = [f"| layer | {' | '.join(head)} |", f"|---|{'---|' * len(head)}"]
    here = rows[rows["set"] == task].set_index(["layer", "model"])
    for layer in sorted(set(rows["layer"])):
        cells = []
        for name in models:
            row = here.loc[(layer, name)]
            cells += [_interval(row, "own"), _interval(row, "attention"), _interval(row, "slope"), f"{row['r2']:.2f}"]
        lines.append(f"| attn.{layer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: pd.DataFrame) -> alt.HConcatChart:
    """Draw what later attention gives back, layer by layer, for both models on every prompt set."""
    models = list(dict.fromkeys(rows["model"]))
    colour = alt.Color("model:N", sort=models, title=None, scale=alt.Scale(range=[LIGHT.attn, LIGHT.own]))
    zero = alt.Chart(pd.DataFrame({"y": [0.0]})).mark_rule(color=LIGHT.muted, strokeDash=[3, 3]).encode(y="y:Q")
    panels = []
    for task in SETS:
        base = alt.Chart(rows[rows["set"] == task]).encode(
            x=alt.X("layer:O", title="attention layer knocked out", axis=alt.Axis(labelAngle=0)),
            xOffset=alt.XOffset("model:N", sort=models),
            color=colour,
        )
        title = alt.Y("attention_lo:Q", title=f"later attention gives back (logits), {task}")
        bar = base.mark_rule(strokeWidth=2).encode(y=title, y2="attention_hi:Q")
        point = base.mark_point(filled=True, opacity=1, size=45).encode(y="attention:Q")
        panels.append(alt.layer(zero, bar, point).properties(width=210, height=190))
    chart: alt.HConcatChart = alt.hconcat(*panels)
    return chart


def main() -> None:
    """Write the table and the figure."""
    default = zoo.default()
    models = [default, *(other for other in [zoo.find(str(default.sibling))] if other is not None)]
    records = [json.loads((model.path / "measured.json").read_text()) for model in models]
    rows = pair_rows([model.name for model in models], [record["observed"] for record in records])
    (DOCS / "zoo").mkdir(exist_ok=True)
    save_svg(draw(rows), DOCS / "zoo" / "pair.svg")
    page = DOCS / "zoo.md"
    before, _, after = page.read_text().split(_MARK)
    page.write_text(_MARK.join((before, f"\n{table(rows, default.prompts.stem)}\n", after)))


if __name__ == "__main__":
    main()
