"""A finished ranking with its tables as methods, for notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from hydrascope._tables import NamedTables
from hydrascope.ledger import read_record, write_text
from hydrascope.ranking._execution import read_whole
from hydrascope.ranking._request import RankRequest
from hydrascope.resilience import Verdict
from hydrascope.run_directory import JSON, RANK, finished_record, folder_named
from hydrascope.significance import EXACT, Significance, told

if TYPE_CHECKING:
    from hydrascope.report import RankFigures


@dataclass(frozen=True, repr=False)
class Rank(NamedTables):
    """Every score of importance beside the exact one, and who backs the primaries up.

    Attributes:
        findings: the tables behind all methods.
        path: folder of the ranking; None for one that was not kept.
    """

    TABLES: ClassVar = ("ranking", "backups", "freezing", "detection", "agreement", "misjudged", "calibration", "flips")
    WHAT: ClassVar = "a ranking"

    findings: Significance
    path: Path | None = None

    @classmethod
    def open(cls, path: str | Path) -> Rank:
        """Open a finished ranking.

        Args:
            path: folder of the ranking.

        Raises:
            OutputError: there is no ranking, it has not finished, or something of it is not there.
        """
        folder = Path(path)
        record = finished_record(folder, RANK, "ranking")
        return cls(read_whole(folder, RankRequest(**record["request"]), record), folder)

    @property
    def primaries(self) -> tuple[str, ...]:
        """Parts whose backups were sought."""
        return self.findings.primaries

    def ranking(self) -> pd.DataFrame:
        """Every part by every score, with ranks."""
        return self.findings.ranking.copy()

    def backups(self) -> pd.DataFrame:
        """Whose loss matters more once the primaries are out: conditional co-ablation scores."""
        return self.findings.backups.copy()

    def freezing(self) -> pd.DataFrame:
        """What of the primaries' repair goes while candidates are frozen, one by one and together."""
        return self.findings.freezing.copy()

    def detection(self) -> pd.DataFrame:
        """How well each score finds the parts on which the repair depends, and those that were labelled."""
        return self.findings.detection.copy()

    def agreement(self) -> pd.DataFrame:
        """How far each two scores order the parts alike."""
        return self.findings.agreement.copy()

    def misjudged(self) -> pd.DataFrame:
        """Where cheap scores miss the total effect, and how much of that is repair."""
        return self.findings.misjudged.copy()

    def calibration(self) -> pd.DataFrame:
        """How large the exact effects are beside what cheap scores estimate: a line over the parts."""
        return self.findings.calibration.copy()

    def flips(self) -> pd.DataFrame:
        """The smallest sets of parts, as far as was searched, whose loss flips an answer that was asked about."""
        return self.findings.flip_table.copy()

    def summary(self) -> Verdict:
        """The findings in plain sentences, with the numbers in them."""
        return told(self.findings)

    @cached_property
    def plot(self) -> RankFigures:
        """Every figure of the report as a method, such as `found.plot.frozen_repair()`; `save_all` writes them all."""
        from hydrascope.report import RankFigures  # charts take a second to import

        return RankFigures(self.findings)

    def report(self, path: str | Path) -> Path:
        """Write the HTML report.

        Args:
            path: path of the HTML file.

        Raises:
            OutputError: the file cannot be written.
        """
        from hydrascope.report import write_rank_report  # charts take a second to import

        command = "" if self.path is None else str(read_record(self.path / JSON)["command"])
        return write_rank_report(self.findings, folder_named(path), command)

    def circuit(self, path: str | Path, score: str = EXACT, keep: int | None = None) -> Path:
        """Write a score as a circuit file of the MIB benchmark: nodes, and their edges to the logits.

        Args:
            path: path of the JSON file.
            score: name of a score of all parts, as in `ranking`.
            keep: nodes in the circuit, those with the largest scores; by default as many as clearly cost something.

        Raises:
            ComponentError: a ranked part is neither a head nor an MLP.
            OutputError: the file cannot be written.
        """
        where = folder_named(path)
        write_text(where, self.findings.circuit(score, keep))
        return where
