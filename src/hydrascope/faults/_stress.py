"""A finished stress test with its tables as methods, for notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from hydrascope._tables import NamedTables
from hydrascope.analysis import Estimate
from hydrascope.faults._execution import read_whole
from hydrascope.faults._request import StressRequest
from hydrascope.ledger import read_record
from hydrascope.resilience import Resilience, ResilienceComparison, Verdict, verdict
from hydrascope.run_directory import JSON, STRESS, finished_record

if TYPE_CHECKING:
    from hydrascope.report import StressFigures


@dataclass(frozen=True, repr=False)
class Stress(NamedTables):
    """What a model survives, and what each part is worth when others fail.

    Attributes:
        findings: the tables behind all methods.
        path: folder of the test; None for one that was not kept.
    """

    TABLES: ClassVar = (
        *("curve", "importance", "ranking", "agreement", "crossings", "pairs", "communities"),
        *("single_faults", "hidden_pairs"),
        *("additivity", "transfers", "shares", "loads", "worst"),
    )
    WHAT: ClassVar = "a stress test"

    findings: Resilience
    path: Path | None = None

    @classmethod
    def open(cls, path: str | Path) -> Stress:
        """Open a finished stress test.

        Args:
            path: folder of the test.

        Raises:
            OutputError: there is no stress test, it has not finished, or something of it is not there.
        """
        folder = Path(path)
        record = finished_record(folder, STRESS, "stress test")
        return cls(read_whole(folder, StressRequest(**record["request"])), folder)

    def curve(self, value: str = "logit") -> pd.DataFrame:
        """What is left at every failure rate: the degradation curve.

        Args:
            value: `logit`, `log_prob`, `kl` or `accuracy`.
        """
        return self.findings.curve(value)

    def area(self, value: str = "logit") -> Estimate:
        """Mean of a value over all failure rates, with the ends of its interval."""
        return self.findings.area(value)

    def survived(self) -> Estimate | None:
        """Largest failure rate at which the model stays right often enough, with the ends of its interval."""
        return self.findings.survived

    def importance(self, value: str = "logit") -> pd.DataFrame:
        """Importance of every part at every failure rate of the others.

        Args:
            value: `logit`, `log_prob`, `kl` or `accuracy`.
        """
        return self.findings.importance(value)

    def ranking(self) -> pd.DataFrame:
        """Every part by what it writes, by its loss alone, among other losses, and by its Shapley value."""
        return self.findings.ranking.copy()

    def agreement(self) -> pd.DataFrame:
        """How far these orders of importance agree: Kendall's tau."""
        return self.findings.agreement.copy()

    def crossings(self) -> pd.DataFrame:
        """Parts that matter less than another one alone, and more among failures."""
        return self.findings.crossings.copy()

    def pairs(self) -> pd.DataFrame:
        """Interactions of pairs: active repair, passive redundancy, one path."""
        return self.findings.pairs.copy()

    def communities(self) -> pd.DataFrame:
        """Communities of parts that interact, or answer each other, with their modularity beside shuffled ones."""
        return self.findings.communities.copy()

    def single_faults(self) -> pd.DataFrame:
        """Which parts can be lost one at a time (N-1)."""
        return self.findings.single_faults.copy()

    def hidden_pairs(self) -> pd.DataFrame:
        """Pairs of which each part can be lost but not both (N-2)."""
        return self.findings.hidden_pairs.copy()

    def additivity(self) -> pd.DataFrame:
        """How well losses of single parts, and of pairs, add up to those of random sets."""
        return self.findings.additivity.copy()

    def transfers(self) -> pd.DataFrame:
        """Share of each part's loss that each writer behind it takes over."""
        return self.findings.transfers.copy()

    def shares(self) -> pd.DataFrame:
        """Every writer's share of all positive direct effects before each part fails and after."""
        return self.findings.shares.copy()

    def loads(self) -> pd.DataFrame:
        """Where the load of each part goes when it fails."""
        return self.findings.loads.copy()

    def worst(self) -> pd.DataFrame:
        """The worst sets that a search found, a bound, beside random ones of their size."""
        return self.findings.worst.copy()

    def beside(self, first: Stress) -> ResilienceComparison:
        """This test beside another one with the same prompts, parts and random sets.

        Args:
            first: the test that is compared with; differences are this one's minus its.

        Raises:
            RunError: the two have no sets in common.
        """
        models = [str(one.findings.ds.attrs["model_name"]) for one in (first, self)]
        names = [f"{model} ({place})" for place, model in enumerate(models, 1)] if len(set(models)) == 1 else models
        return ResilienceComparison(first.findings, self.findings, (names[0], names[1]))

    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables by name; curves and importance of the logit, and the curves of all other values."""
        curves = {f"curve_{value}": self.curve(value) for value in self.findings.measured if value != "logit"}
        return {**super().tables(), **curves}

    def summary(self) -> Verdict:
        """The findings in plain sentences, with the numbers in them."""
        return verdict(self.findings)

    @cached_property
    def plot(self) -> StressFigures:
        """Every figure of the report as a method, such as `test.plot.pair_matrix()`; `save_all` writes all."""
        from hydrascope.report import StressFigures  # charts take a second to import

        return StressFigures(self.findings)

    def report(self, path: str | Path) -> Path:
        """Write the HTML report.

        Args:
            path: path of the HTML file.

        Raises:
            OutputError: the file cannot be written.
        """
        from hydrascope.report import write_stress_report  # charts take a second to import

        command = "" if self.path is None else str(read_record(self.path / JSON)["command"])
        return write_stress_report(self.findings, Path(path), command)
