"""Every figure of the report as a method, and all of them as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt

from hydrascope.analysis import Findings, summarise
from hydrascope.errors import OutputError
from hydrascope.figures import FORMS, save_chart
from hydrascope.report._companion_figures import CompanionFigures
from hydrascope.report._prompt_figures import PromptFigures
from hydrascope.report._run import Run
from hydrascope.report._text_figures import TextFigures


class Plots(PromptFigures, CompanionFigures, TextFigures):
    """The figures of one run: each method returns an Altair chart with its data inside.

    The tab key offers those that the run has. A chart carries the look of the report; to join it to others with
    Altair's operators, drop that first: `chart.config = alt.Undefined`.
    """

    def save(self, chart: alt.TopLevelMixin, path: str | Path, columns: int = 1) -> list[Path]:
        """Write one figure at the size of a paper's column, and its data as CSV beside it.

        Args:
            chart: a figure of this accessor.
            path: path of the picture; its ending says the form: pdf, svg, png or html.
            columns: 1 for a width of 3.25 inches, 2 for 6.75; an HTML page is as wide as its window.

        Returns:
            Paths of the picture and of its data.

        Raises:
            OutputError: the ending is none of these, or the file cannot be written.
        """
        return save_chart(chart, Path(path), columns=columns)

    def save_all(self, folder: str | Path, form: str = "pdf", columns: int = 1) -> list[Path]:
        """Write every figure that the run has, in all its variants, and its data as CSV beside it.

        Args:
            folder: folder of the files, made if there is none; files of the same names are replaced.
            form: pdf, svg, png or html.
            columns: 1 for a width of 3.25 inches, 2 for 6.75; an HTML page is as wide as its window.

        Returns:
            Paths of the pictures and of their data.

        Raises:
            OutputError: there is no such form, or a file cannot be written.
        """
        if form not in FORMS:
            raise OutputError(f"there is no form '{form}' of a figure; choose from {', '.join(FORMS)}")
        written = []
        for name, given in self._variants():
            stem = "-".join([name, *(str(value).replace("_", "-") for value in given.values())])
            written += self.save(self._draw(name, **given), Path(folder) / f"{stem}.{form}", columns)
        return written

    def _draw(self, name: str, **given: Any) -> alt.TopLevelMixin:
        """A figure by its name.

        Args:
            name: name of a method that returns a chart.
            given: its arguments.
        """
        chart: alt.TopLevelMixin = getattr(self, name)(**given)
        return chart


def plots(findings: Findings) -> Plots:
    """Every figure that the report of a ledger can have.

    Raises:
        DetailDropped: the ledger keeps only sums, of which there is no report.
    """
    return Plots(Run(findings, summarise(findings).focus))
