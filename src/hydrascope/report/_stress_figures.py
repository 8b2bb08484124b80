"""Figures of a stress test, as methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from hydrascope import figures
from hydrascope.errors import ComponentError
from hydrascope.report import _stress_charts as charts
from hydrascope.report._figure import ONE, Chart, Choices, Figures, figure
from hydrascope.resilience import Resilience


def _always(found: Resilience) -> Choices:
    return ONE


def _of_values(found: Resilience) -> Choices:
    return [{"value": value} for value in ("logit", "log_prob", "kl") if value in found.measured]


def _with_accuracy(found: Resilience) -> Choices:
    return () if found.survived is None else ONE


def _with_pairs(found: Resilience) -> Choices:
    return () if found.pairs.empty else ONE


def _with_transfers(found: Resilience) -> Choices:
    return () if found.transfers.empty else ONE


class StressFigures(Figures[Resilience]):
    """The figures of one stress test: each method returns an Altair chart with its data inside.

    The tab key offers those that the test has. A chart carries the look of the report; to join it to others with
    Altair's operators, drop that first: `chart.config = alt.Undefined`.
    """

    _WHAT: ClassVar = "stress test"

    @figure(_of_values, "its ledgers keep no value")
    def degradation_curve(self, value: Literal["logit", "log_prob", "kl"] = "logit") -> Chart:
        """What is left at every failure rate, beside what single losses and pairs would leave.

        Args:
            value: `logit`, `log_prob` or `kl`.
        """
        return charts.degradation_curve(self._run, value)

    @figure(_with_accuracy, "its ledgers do not keep which answers are right")
    def accuracy_curve(self) -> Chart:
        """Share of prompts that stay right at every failure rate, and the share asked for."""
        return charts.accuracy_curve(self._run)

    @figure(_always, "")
    def importance_curves(self, parts: Sequence[str] | None = None) -> Chart:
        """What losing each of some parts costs over the failure rate of the others, and where one overtakes another.

        Args:
            parts: the parts drawn, six at most; those with the largest importance at any rate if None.
        """
        shown = charts.leading(self._run) if parts is None else list(parts)
        unknown = [part for part in shown if part not in self._run.parts]
        if unknown or not 1 <= len(shown) <= figures.CURVES:
            wrong = f"there is no part '{unknown[0]}' in this test" if unknown else f"{len(shown)} parts were named"
            raise ComponentError(
                f"{wrong}; name 1 to {figures.CURVES} of {', '.join(self._run.parts[:8])}"
                f"{' ...' * (len(self._run.parts) > 8)}"
            )
        return charts.importance_curves(self._run, shown)

    @figure(_with_pairs, "no pairs were knocked out (--pairs)")
    def pair_matrix(self) -> Chart:
        """How much more or less each two parts cost together than alone."""
        return charts.pair_matrix(self._run)

    @figure(_with_transfers, "no part clearly lost something of its own that a writer could take over")
    def load_transfer(self) -> Chart:
        """Share of each part's loss that each writer behind it takes over."""
        return charts.load_transfer(self._run)
