"""What a section of the report is made of: a heading, charts, a table, words and references."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import altair as alt

from hydrascope import figures
from hydrascope.report.listing import Listing
from hydrascope.report.literature import REFERENCES, Reference
from hydrascope.report.packing import pack

Chart = alt.TopLevelMixin


@dataclass(frozen=True)
class Panel:
    """One chart on the page.

    Attributes:
        id: of its element.
        description: for those who cannot see it.
        payload: JSON with the specification and, apart from it, the data.
        shape: `wide` takes the whole row, `tall` two rows, nothing half a row.
    """

    id: str
    description: str
    payload: str
    shape: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with either a figure or the reason why there is none."""

    slug: str
    title: str
    how: str = ""
    panels: tuple[Panel, ...] = ()
    references: tuple[Reference, ...] = ()
    notes: tuple[str, ...] = ()
    equation: tuple[tuple[str, str], ...] = ()
    words: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    listing: Listing | None = None


@dataclass
class Draft:
    """Charts of a section, in the order in which they stand."""

    slug: str
    charts: list[tuple[Chart, str]] = field(default_factory=list)

    def add(self, chart: Chart, shape: str = "") -> None:
        """Put a chart behind the others."""
        self.charts.append((chart, shape))

    def panels(self) -> tuple[Panel, ...]:
        """The charts as the page carries them."""
        return tuple(_panel(f"{self.slug}-{i}", chart, shape) for i, (chart, shape) in enumerate(self.charts, start=1))


def _panel(name: str, chart: Chart, shape: str) -> Panel:
    spec: dict[str, Any] = figures.themed(chart)
    spec.pop("config")
    datasets = {key: pack(records) for key, records in spec.pop("datasets").items()}
    payload = json.dumps({"spec": spec, "datasets": datasets}, separators=(",", ":"), allow_nan=False)
    return Panel(name, str(spec["description"]), payload, shape)


def finished(draft: Draft, title: str, how: str, **more: Any) -> Section:
    """The section of a draft, with its references."""
    return Section(draft.slug, title, how, draft.panels(), REFERENCES[draft.slug], **more)
