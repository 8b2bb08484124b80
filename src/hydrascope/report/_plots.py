"""Every figure of a ledger's report as a method."""

from __future__ import annotations

from hydrascope.analysis import Findings, summarise
from hydrascope.report._companion_figures import CompanionFigures
from hydrascope.report._prompt_figures import PromptFigures
from hydrascope.report._run import Run
from hydrascope.report._text_figures import TextFigures


class Plots(PromptFigures, CompanionFigures, TextFigures):
    """The figures of one run: each method returns an Altair chart with its data inside.

    The tab key offers those that the run has. A chart carries the look of the report; to join it to others with
    Altair's operators, drop that first: `chart.config = alt.Undefined`.
    """


def plots(findings: Findings) -> Plots:
    """Every figure that the report of a ledger can have.

    Raises:
        DetailDropped: the ledger keeps only sums, of which there is no report.
    """
    return Plots(Run(findings, summarise(findings).focus))
