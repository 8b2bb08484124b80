"""A section of the page: heading, charts, table, references."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import altair as alt

from hydrascope import figures
from hydrascope.report._cell_prompts import CellPrompts
from hydrascope.report._listing import Listing
from hydrascope.report._literature import REFERENCES, Reference
from hydrascope.report._numbers import tied

Chart = alt.TopLevelMixin
Words = tuple[tuple[str, str], ...]
"""Words and what they mean, or names and their values."""


@dataclass(frozen=True)
class Panel:
    """One chart on the page.

    Attributes:
        id: identifier of its element.
        description: text for those who cannot see it.
        payload: JSON with the specification and, apart from it, the data.
        shape: `wide` takes the whole row, `tall` two rows, nothing half a row.
    """

    id: str
    description: str
    payload: str
    shape: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with either a figure or the reason why there is none.

    Attributes:
        slug: name of the section in the page's addresses.
        title: heading of the section.
        how: how to read the figure.
        panels: the charts.
        references: what others measured.
        notes: paragraphs of the caption.
        equation: terms of a sum, each with its name.
        words: terms and their meanings.
        reason: why there is no figure; empty where there is one.
        listing: a table below the figure.
        behind: the prompts behind the cells of a matrix.
    """

    slug: str
    title: str
    how: str = ""
    panels: tuple[Panel, ...] = ()
    references: tuple[Reference, ...] = ()
    notes: tuple[str, ...] = ()
    equation: Words = ()
    words: Words = ()
    reason: str = ""
    listing: Listing | None = None
    behind: CellPrompts | None = None


@dataclass
class Draft:
    """A section in the making.

    Attributes:
        slug: name of the section.
        title: heading of the section.
        charts: charts with their shapes, in the order of the page.
    """

    slug: str
    title: str
    charts: list[tuple[Chart, str]] = field(default_factory=list)

    def add(self, chart: Chart, shape: str = "") -> None:
        """Put a chart behind the others."""
        self.charts.append((chart, shape))

    def absent(self, reason: str, words: Words = ()) -> Section:
        """The section with a reason in place of its figure."""
        return Section(self.slug, self.title, reason=reason, words=words)

    def finished(self, how: str, notes: Sequence[str] = (), **more: Any) -> Section:
        """The section with its charts and references; empty notes are left out."""
        panels = tuple(_panel(f"{self.slug}-{i}", *chart) for i, chart in enumerate(self.charts, start=1))
        references = tuple(replace(one, text=tied(one.text)) for one in REFERENCES.get(self.slug, ()))
        captions = tuple(tied(note) for note in notes if note)
        return Section(self.slug, self.title, tied(how), panels, references, captions, **more)


def _panel(name: str, chart: Chart, shape: str) -> Panel:
    spec: dict[str, Any] = figures.themed(chart)
    spec.pop("config")
    datasets = {key: pack(records) for key, records in spec.pop("datasets").items()}
    payload = json.dumps({"spec": spec, "datasets": datasets}, separators=(",", ":"), allow_nan=False)
    return Panel(name, str(spec["description"]), payload, shape)


def pack(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Records as columns, in a quarter of the space; the page's script unpacks them.

    Args:
        records: rows with the same names.

    Returns:
        `rows`, how many; `columns`, name to a list of values or, for text, to `levels` and `codes`.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    return {
        "rows": len(records),
        "columns": {name: _column([r.get(name) for r in records]) for name in names},
    }


def _column(values: list[Any]) -> Any:
    if not values or not all(isinstance(value, str) for value in values):
        return values
    codes: dict[str, int] = {}
    indices = [codes.setdefault(value, len(codes)) for value in values]
    return {"levels": list(codes), "codes": indices}
