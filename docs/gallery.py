"""Draws a finished run's figures for the site.

python docs/gallery.py runs/gemma270-ioi docs/gallery/gemma270-ioi
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import altair as alt
import vl_convert

import hydrascope as hs
from hydrascope import figures
from hydrascope.analysis import compensation_points, quantity

WIDTH, HEIGHT = 640, 300
PADDING = 18
"""For readers whose letters are wider than those that the charts were laid out with."""


def charts(ledger: hs.Ledger) -> Iterator[tuple[str, alt.TopLevelMixin]]:
    """Name and chart of every figure that a run of layers, or of heads, has."""
    repair, focus, layers = ledger.repair(), ledger.summary().focus, int(ledger.dataset.attrs["n_layers"])
    unit = quantity(ledger.dataset).axis
    kind = str(repair.set_index("ablated").loc[focus, "ablated_kind"])
    yield "balance", figures.balance(repair, focus, unit=unit)
    points = compensation_points(ledger.dataset, focus).assign(ablated=focus)
    yield "compensation", figures.compensation_by_prompt(points, repair, shown=focus)
    yield "parts", figures.parts_by_layer(repair, kind, layers=layers, unit=unit)
    yield "matrix", figures.compensation_matrix(ledger.who_repairs(), "attn")
    if figures.has_unit_grid(repair):
        yield "grid", figures.unit_grid(repair, "own_change")
    if len(frozen := ledger.freeze()):
        yield "frozen", figures.repair_frozen(frozen, focus, "with_norm", f"{focus} knocked out", unit=unit)
    if len(effects := ledger.layer_effects()):
        yield "direct", figures.effect_by_layer(effects, "direct_effect", layers=layers, unit=unit)
        yield "total", figures.effect_by_layer(effects, "drop", layers=layers, unit=unit)


def draw(ledger: hs.Ledger, folder: Path) -> None:
    """Write every figure as SVG, in the light theme and at the width of a page."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, chart in charts(ledger):
        specification = figures.themed(chart)
        specification |= {"width": WIDTH, "padding": PADDING}
        specification.setdefault("height", HEIGHT)
        specification["config"]["axis"] |= {"labelOverlap": True, "labelSeparation": 8}
        (folder / f"{name}.svg").write_text(vl_convert.vegalite_to_svg(specification), encoding="utf-8")


if __name__ == "__main__":
    draw(hs.Ledger.open(sys.argv[1]), Path(sys.argv[2]))
