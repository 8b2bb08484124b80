"""Many finished runs side by side, in Python: `hydrascope.atlas`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from hydrascope._tables import NamedTables
from hydrascope.analysis import Entry, Findings, Survey, SurveySummary, entry, summarise_survey
from hydrascope.errors import HydrascopeError, OutputError
from hydrascope.ledger import unfinished
from hydrascope.progress import Told
from hydrascope.results import Ledger
from hydrascope.run_directory import JSON, LEDGER, REPORT, RUN, folder_named, is_finished, kind_of

if TYPE_CHECKING:
    from hydrascope.report import AtlasFigures

PAGE = "atlas.html"
"""File of the page in the atlas's folder."""


@dataclass(frozen=True, repr=False)
class Atlas(NamedTables):
    """Finished runs of many models and tasks, and which claims of the paper hold in which.

    Attributes:
        findings: the tables behind all methods.
        path: the folder that the runs lie in.
    """

    TABLES: ClassVar = ("runs", "parts", "claims")
    WHAT: ClassVar = "an atlas"

    findings: Survey
    path: Path

    def table(self, name: str = "parts") -> pd.DataFrame:
        """The account of every part in every run, or another table by its name.

        Args:
            name: one of `TABLES`.

        Raises:
            OutputError: there is no such table.
        """
        return super().table(name)

    def runs(self) -> pd.DataFrame:
        """What each run shows as a whole, a row per run."""
        return self.findings.runs.copy()

    def parts(self) -> pd.DataFrame:
        """The account of every knock-out of every run, with intervals."""
        return self.findings.parts.copy()

    def claims(self) -> pd.DataFrame:
        """Which claims of McGrath et al. 2023 hold in which run, with the number beside each."""
        return self.findings.claims.copy()

    @property
    def left_out(self) -> dict[str, str]:
        """Folders that are in no table, each with the reason."""
        return dict(self.findings.left_out)

    def summary(self) -> SurveySummary:
        """The findings in plain sentences, with the numbers in them."""
        return summarise_survey(self.findings)

    @cached_property
    def plot(self) -> AtlasFigures:
        """Every figure of the page as a method, such as `found.plot.claims()`; `save_all` writes them all."""
        from hydrascope.report import AtlasFigures  # charts take a second to import

        return AtlasFigures(self.findings)

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the page; it links the reports of the runs.

        Args:
            path: path of the HTML file; None puts it into the atlas's folder.

        Raises:
            OutputError: the file cannot be written.
        """
        from hydrascope.report import write_atlas  # charts take a second to import

        page = self.path / PAGE if path is None else folder_named(path)
        return write_atlas(self.findings, page, self.path)


def atlas(folder: str | os.PathLike[str], *, progress: Told = lambda stage, done, total: None) -> Atlas:
    """Put all finished runs under a folder side by side.

    What is no finished run is left out, with the reason: runs that are broken off or damaged, runs that keep only sums,
    and what other verbs made. Companion runs are part of their run.

    Args:
        folder: where the runs lie, however deep.
        progress: takes stage, number done and total.

    Returns:
        Tables, sentences, figures and the page.

    Raises:
        OutputError: there is no such folder, or no finished run in it.
    """
    where = folder_named(folder)
    if not where.is_dir():
        raise OutputError(f"there is no folder '{where}'; name the one that has the runs")
    places = list(_runs(where))
    entries: list[Entry] = []
    left_out: dict[str, str] = {}
    for done, place in enumerate(places):
        progress("runs", done, len(places))
        name = str(place.relative_to(where)) if place != where else place.resolve().name
        try:
            entries.append(_entry(place, where, name))
        except HydrascopeError as error:  # one bad run must not hide the others
            left_out[name] = str(error)
    progress("runs", len(places), len(places))
    if not entries:
        why = "".join(f"; {reason}" for reason in list(left_out.values())[:1])
        raise OutputError(f"no finished run under '{where}'{why or '; give the folder that has the runs'}")
    return Atlas(Survey(tuple(entries), left_out), where)


def _runs(folder: Path) -> Iterator[Path]:
    """Every folder that a verb has made, in the order of their names; what lies within one is its own."""
    if (folder / JSON).is_file() or (folder / LEDGER).exists():
        yield folder
        return
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
        yield from _runs(inner)


def _entry(place: Path, folder: Path, name: str) -> Entry:
    if (kind := kind_of(place)) != RUN:
        raise OutputError(f"'{place}' was made by 'hydrascope {kind}', not by 'hydrascope run'")
    if not (place / LEDGER).exists() and not is_finished(place):
        raise unfinished(place)
    ledger = Ledger.open(place)
    if not ledger.has_report:
        raise OutputError(f"'{place}' keeps only sums by kind of writer (--detail kinds), so nothing can be told of it")
    report = place / REPORT
    return entry(Findings(ledger.dataset), name, os.path.relpath(report, folder) if report.is_file() else "")
