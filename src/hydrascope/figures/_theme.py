"""How every chart looks: one set of colours in two themes, one Vega configuration.

Charts are built in the light theme. `themed` turns a specification into another theme; a page does so in the browser
with `recolouring` and `vega_config`.

The colours of kinds are those of Okabe and Ito, lightened for the dark theme, so that they can be told apart with every
common kind of colour blindness. Scales around zero run from purple over the paper's colour to green.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import altair as alt

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


@dataclass(frozen=True)
class Theme:
    """Colours by what they stand for; within a theme no two are the same."""

    ink: str
    muted: str
    grid: str
    paper: str
    attn: str
    mlp: str
    mixer: str
    norm: str
    own: str
    total: str
    negative: str
    negative_soft: str
    middle: str
    positive_soft: str
    positive: str


LIGHT = Theme(
    ink="#1d1c1a",
    muted="#68655f",
    grid="#e6e3dc",
    paper="#fdfcfa",
    attn="#0072b2",
    mlp="#d55e00",
    mixer="#b5588f",
    norm="#009e73",
    own="#757069",
    total="#23211f",
    negative="#762a83",
    negative_soft="#b08ac4",
    middle="#f6f4f1",
    positive_soft="#79b87a",
    positive="#1b7837",
)

DARK = Theme(
    ink="#ebe8e1",
    muted="#a5a199",
    grid="#34322e",
    paper="#181715",
    attn="#56b4e9",
    mlp="#f0894a",
    mixer="#dc93bd",
    norm="#3cc99f",
    own="#8d8a83",
    total="#e9e6df",
    negative="#cf9be0",
    negative_soft="#80508f",
    middle="#24221f",
    positive_soft="#3f7d4c",
    positive="#7fd08c",
)

KIND_LABELS = {"attn": "attention", "mlp": "MLP", "mixer": "mixer"}
"""Kind of writer to its name in a legend."""

PART_LABELS = {
    "own": "own change",
    "attn": "attention",
    "mlp": "MLPs",
    "mixer": "mixers",
    "norm": "final norm",
    "total": "total effect",
}
"""Part of a total effect to its name, in the order in which they are summed."""


def colour_scale(labels: dict[str, str], theme: Theme = LIGHT) -> alt.Scale:
    """The fixed colours of some kinds or parts: role in the theme to label in the data."""
    return alt.Scale(domain=list(labels.values()), range=[getattr(theme, role) for role in labels])


def diverging_scale(limit: float, theme: Theme = LIGHT) -> alt.Scale:
    """A scale from `-limit` over 0 to `limit`, clamped."""
    colours = [theme.negative, theme.negative_soft, theme.middle, theme.positive_soft, theme.positive]
    limit = limit if limit > 0 else 1.0
    return alt.Scale(domain=[-limit, -limit / 4, 0, limit / 4, limit], range=colours, clamp=True, interpolate="lab")


def vega_config(theme: Theme = LIGHT) -> dict[str, Any]:
    """The Vega configuration that goes with a theme: fonts, axes, legends, default marks."""
    text = {"labelColor": theme.muted, "titleColor": theme.muted, "labelFontSize": 12, "titleFontSize": 12}
    return {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "title": {
            "anchor": "start",
            "color": theme.ink,
            "fontSize": 14,
            "fontWeight": 600,
            "subtitleColor": theme.muted,
            "subtitleFontSize": 12,
            "offset": 12,
            "frame": "group",
        },
        "axis": {
            **text,
            "titleFontWeight": "normal",
            "titlePadding": 10,
            "gridColor": theme.grid,
            "domainColor": theme.grid,
            "ticks": False,
            "labelPadding": 6,
            "labelOverlap": "greedy",
            "labelSeparation": 4,
        },
        "axisX": {"grid": False, "labelFlush": False, "domainColor": theme.muted},
        "axisXQuantitative": {"tickCount": 8},
        "axisY": {"domain": False, "grid": True, "tickCount": 5},
        "legend": {
            **text,
            "labelColor": theme.ink,
            "orient": "top",
            "title": None,
            "titleFontWeight": "normal",
            "symbolSize": 80,
            "offset": 8,
            "columnPadding": 12,
            "labelLimit": 240,
            "layout": {"top": {"anchor": "start", "center": True, "margin": 12}},
        },
        "text": {"color": theme.ink, "fontSize": 12},
        "rule": {"color": theme.muted},
        "line": {"strokeWidth": 2, "strokeCap": "round"},
        "point": {"filled": True, "size": 45, "opacity": 1},
        "bar": {"discreteBandSize": {"band": 0.8}},
        "aria": False,
        "axisQuantitative": {"labelFlush": False},
    }


def recolouring(source: Theme, target: Theme) -> dict[str, str]:
    """Each colour of one theme to its counterpart in the other."""
    replaced = asdict(target)
    return {colour: replaced[role] for role, colour in asdict(source).items()}


def themed(chart: alt.TopLevelMixin, theme: Theme = LIGHT) -> dict[str, Any]:
    """The Vega-Lite specification of a chart in a theme, data inside.

    Args:
        chart: a chart of this package, built in the light theme.
        theme: colours and configuration.

    Returns:
        A specification that stands alone.
    """
    with alt.data_transformers.enable("default", max_rows=None):  # sections say themselves how much they draw
        spec: dict[str, Any] = chart.to_dict(validate=False)
    data = spec.pop("datasets", {})
    text = json.dumps(spec)
    for old, new in recolouring(LIGHT, theme).items():
        text = text.replace(old, new)
    return {**json.loads(text), "datasets": data, "config": vega_config(theme)}
