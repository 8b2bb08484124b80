"""Charts as files: SVG, PDF and PNG at the width of a column of a paper, or a page, with their data as CSV beside."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from hydrascope.errors import OutputError
from hydrascope.figures._chart import TITLE_OFFSET
from hydrascope.figures._theme import LIGHT, themed, vega_config

PRINT = replace(LIGHT, paper="#ffffff")
"""The light theme on white."""
INCHES = {1: 3.25, 2: 6.75}
"""Width of a picture over one column of a paper, and over two."""
NOTEBOOK = 560
"""Width of a chart in a notebook, in pixels."""
_PIXELS_PER_INCH = 120
"""A chart is laid out as on a phone, then scaled as a whole: its labels of 12 pixels are of 7 points on paper."""
_DOTS_PER_INCH = 300
_POINTS_PER_INCH = 72
"""Unit of the converter, which takes a length without one for points."""
_MARGIN = {"left": 3, "right": 14, "top": 3, "bottom": 3}
"""Room around a picture, in pixels; the label of the last tick reaches into that on the right."""
_FONT = 'Arial, Helvetica, "Liberation Sans", sans-serif'
"""Fonts as wide as each other, so that what is measured here fits wherever an SVG is opened."""
_TITLE_WIDTH = 0.56
"""Mean width of a character of a title, in units of its height."""
_TITLE_SIZE = 14

FORMS = ("pdf", "svg", "png", "html")
"""Endings of files that a chart can be saved to."""


@dataclass(frozen=True)
class Picture:
    """A chart laid out for paper.

    Attributes:
        drawing: an SVG document without its size; text is kept as text.
        inches: width and height.
    """

    drawing: str
    inches: tuple[float, float]

    @classmethod
    def of(cls, chart: alt.TopLevelMixin, columns: int = 1) -> Picture:
        """Lay a chart out.

        Args:
            chart: a chart of this package, as made or as `for_notebook` dressed it.
            columns: columns of the paper that it is as wide as.
        """
        import vl_convert

        svg = str(vl_convert.vegalite_to_svg(_on_paper(chart, columns), vl_version=_vega_lite()))
        size = re.search(r' width="([\d.]+)" height="([\d.]+)"', svg)
        assert size is not None
        across, down = (float(one) / _PIXELS_PER_INCH for one in size.groups())
        return cls(svg.replace(size[0], "", 1), (across, down))

    @property
    def svg(self) -> str:
        """The picture as an SVG document."""
        return self._sized("in", 1)

    def as_pdf(self) -> bytes:
        """The picture as one page of its own size."""
        import vl_convert

        return bytes(vl_convert.svg_to_pdf(self._sized("", _POINTS_PER_INCH)))

    def as_png(self) -> bytes:
        """The picture in pixels, fine enough for print."""
        import vl_convert

        return bytes(vl_convert.svg_to_png(self._sized("", _POINTS_PER_INCH), ppi=_DOTS_PER_INCH))

    def _sized(self, unit: str, per_inch: int) -> str:
        across, down = (f"{inches * per_inch:.6g}{unit}" for inches in self.inches)
        return self.drawing.replace("<svg", f'<svg width="{across}" height="{down}"', 1)


def for_notebook(chart: alt.TopLevelMixin) -> alt.TopLevelMixin:
    """Give a chart the package's look and a width of its own, for a notebook."""
    look = vega_config(LIGHT)
    look["legend"].pop("layout")  # Altair, which checks a chart before it is shown, knows none
    dressed: alt.TopLevelMixin = chart.properties(width=NOTEBOOK)
    dressed.title.offset = TITLE_OFFSET  # type: ignore[attr-defined]  # nothing stands beside it
    dressed.config = alt.Config(**{**look, "background": LIGHT.paper})  # type: ignore[attr-defined]
    return dressed


def save_chart(chart: alt.TopLevelMixin, path: Path, *, columns: int = 1) -> list[Path]:
    """Write a chart, and its data as CSV beside it.

    Args:
        chart: a chart of this package.
        path: path of the picture; its ending says the form: pdf, svg, png or html.
        columns: columns of the paper that it is as wide as, 1 or 2; a page is as wide as its window.

    Returns:
        Paths of the picture and of its tables.

    Raises:
        OutputError: the ending is none of these, or the file cannot be written.
    """
    form = path.suffix.removeprefix(".").lower()
    if form not in _WRITERS:
        raise OutputError(f"'{path}' does not end in one of {', '.join(FORMS)}; name the picture so")
    if columns not in INCHES:
        raise OutputError(f"a picture is 1 or 2 columns wide, not {columns!r}")
    tables = chart_data(chart)
    numbered = {path.with_suffix(".csv" if not i else f".{i + 1}.csv"): table for i, table in enumerate(tables)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_WRITERS[form](chart, columns))
        for place, table in numbered.items():
            table.to_csv(place, index=False)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}; choose another place") from error
    return [path, *numbered]


def chart_data(chart: alt.TopLevelMixin) -> list[pd.DataFrame]:
    """The tables that a chart is drawn from, the one that says most of a row first.

    A chart with a list to choose from has the rows of every choice.
    """
    datasets = chart.to_dict(validate=False).get("datasets", {})
    tables = [pd.DataFrame(rows) for rows in datasets.values()]
    return sorted((table for table in tables if table.size), key=lambda table: (-table.shape[1], -len(table)))


def _on_paper(chart: alt.TopLevelMixin, columns: int) -> dict[str, Any]:
    """A specification of fixed width with its whole title, and with nothing to choose."""
    spec, width = themed(chart, PRINT), INCHES[columns] * _PIXELS_PER_INCH
    for param in spec.get("params", []):
        param.pop("bind", None)
    chosen = {param["name"]: param.get("value") for param in spec.get("params", [])}
    if title := spec.get("title"):
        title = {"text": title} if isinstance(title, str) else title
        most = int(width / (_TITLE_WIDTH * _TITLE_SIZE))
        lines = [part for line in _said(title["text"], chosen) for part in textwrap.wrap(line, most)]
        spec["title"] = {**title, "text": lines, "limit": 0, "frame": "bounds", "offset": TITLE_OFFSET}
    spec["config"] |= {"background": PRINT.paper, "font": _FONT}
    if columns == 1:
        spec["config"]["legend"]["layout"]["top"]["direction"] = "vertical"  # side by side they are too wide
    spec |= {"width": width, "autosize": {"type": "fit-x", "contains": "padding"}, "padding": _MARGIN}
    return spec


def _said(text: str | Mapping[str, str], chosen: Mapping[str, Any]) -> list[str]:
    """Lines of a title; an expression is texts and names of parameters, joined with +."""
    if isinstance(text, str):
        return [text]
    lines = text["expr"].strip("[]").split(", ") if text["expr"].startswith("[") else [text["expr"]]
    return ["".join(literal or str(chosen[name]) for literal, name in _TERM.findall(line)) for line in lines]


_TERM = re.compile(r"'([^']*)'|(\w+)")


def _vega_lite() -> str:
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _page(chart: alt.TopLevelMixin) -> bytes:
    """A page that draws the chart, lets a reader choose, and loads nothing."""
    wide: alt.TopLevelMixin = chart.properties(width="container")
    return str(wide.to_html(inline=True)).encode()


_WRITERS: dict[str, Callable[[alt.TopLevelMixin, int], bytes]] = {
    "svg": lambda chart, columns: Picture.of(chart, columns).svg.encode(),
    "pdf": lambda chart, columns: Picture.of(chart, columns).as_pdf(),
    "png": lambda chart, columns: Picture.of(chart, columns).as_png(),
    "html": lambda chart, columns: _page(chart),
}
