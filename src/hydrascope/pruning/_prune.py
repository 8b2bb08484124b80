"""A finished pruning with its tables as methods, for notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from hydrascope._tables import NamedTables
from hydrascope.exporting import Exported
from hydrascope.ledger import read_record, write_record
from hydrascope.pruning._constants import LEFT
from hydrascope.pruning._export import chosen_set, export_chosen
from hydrascope.pruning._findings import Findings
from hydrascope.pruning._reading import read
from hydrascope.pruning._subject import Subject
from hydrascope.pruning._told import told
from hydrascope.resilience import Verdict
from hydrascope.run import ModelLike, PathLike, given_model
from hydrascope.run_directory import EXPORTS, PRUNE, finished_record, folder_named

_EXPORTS = [
    *("ranking", "size", "removed", "bytes", "whole_bytes", "bytes_saved"),
    *("tokens_per_second", "whole_tokens_per_second", "speed_up", "speed_up_q1", "speed_up_q3"),
]


@dataclass(frozen=True, repr=False)
class Prune(NamedTables):
    """Which parts can go by which ranking, and what that costs on text that no ranking saw.

    Attributes:
        findings: the tables behind all methods.
        subject: what was pruned, on which text.
        path: folder of the pruning; None for one that was not kept.
    """

    TABLES: ClassVar = ("costs", "differences", "order", "exposure", "agreement", "regret", "tasks", "exports")
    WHAT: ClassVar = "a pruning"

    findings: Findings
    subject: Subject
    path: Path | None = None

    @classmethod
    def open(cls, path: PathLike) -> Prune:
        """Open a finished pruning.

        Args:
            path: its folder.

        Raises:
            OutputError: there is no pruning, or it has not finished.
        """
        folder = folder_named(path)
        finished_record(folder, PRUNE, "pruning")
        return cls(read(folder), Subject.read(folder), folder)

    def costs(self) -> pd.DataFrame:
        """Every ranking at every size: loss, perplexity, KL divergence, agreement, and the gap to what it saw."""
        return self.findings.costs.copy()

    def differences(self) -> pd.DataFrame:
        """Loss of every ranking minus that of every other one, on the same texts."""
        return self.findings.differences.copy()

    def order(self) -> pd.DataFrame:
        """When each ranking removes each part, and by which score."""
        return self.findings.order.copy()

    def exposure(self) -> pd.DataFrame:
        """Removed parts that cost more beside the others than alone: whose cheapness rests on others."""
        return self.findings.exposure.copy()

    def agreement(self) -> pd.DataFrame:
        """How well each ranking's scores foretell what random sets cost on text that no ranking saw."""
        return self.findings.agreement.copy()

    def regret(self) -> pd.DataFrame:
        """What each ranking misses at small sizes: its cost above that of the best of all sets."""
        return self.findings.regret.copy()

    def tasks(self) -> pd.DataFrame:
        """What each ranking's sets answer on tasks: right answers and logit differences, and their changes."""
        return self.findings.tasks.copy()

    def exports(self) -> pd.DataFrame:
        """What smaller models that were written save: bytes, and tokens a second of both on one machine, in turn.

        `speed_up` is the median of rounds, between its quartiles; a model with as many weights as the whole one is as
        fast, and has none.
        """
        return pd.DataFrame(self._exported, columns=_EXPORTS)

    @property
    def _exported(self) -> list[dict[str, Any]]:
        if self.path is None or not (self.path / EXPORTS).exists():
            return []
        return list(read_record(self.path / EXPORTS)["exports"])

    def report(self, path: PathLike) -> Path:
        """Write the HTML report.

        Args:
            path: path of the HTML file.

        Raises:
            OutputError: the file cannot be written.
        """
        from hydrascope.report import PruningPage, write_prune_report  # charts take a second to import

        page_file = folder_named(path)
        found, record = self.findings, self.subject.record
        page = PruningPage(
            model=str(record["model"]["label"]),
            text=str(record["prompts"]["name"]),
            units=found.units,
            left=LEFT[found.replace],
            parts=found.parts,
            said=self.summary(),
            tables=self.tables(),
            meanings={name: chosen.meaning for name, chosen in found.chosen.items()},
            tokens=(int(found.calibration.predicted.sum()), int(found.test.predicted.sum())),
            documents=(len(set(found.calibration.documents)), len(set(found.test.documents))),
            conclusive=found.test.resampling.conclusive,
            command=str(record["command"]),
            versions=record["versions"],
        )
        return write_prune_report(page, page_file)

    def removed(self, size: int | None = None, ranking: str | None = None) -> tuple[str, ...]:
        """Addresses of the parts that go.

        Args:
            size: how many; the largest that was tried if left out, or what `keep_loss` allows.
            ranking: by which ranking; the one that moves the distribution least on the text that it saw if left out.

        Raises:
            RunError: this was not measured, is no single set, or nothing can go.
        """
        size, name = chosen_set(self.findings, size, ranking)
        return self.findings.chosen[name].sets[size][0]

    def export(
        self, model: ModelLike, folder: PathLike, size: int | None = None, ranking: str | None = None
    ) -> Exported:
        """Write the smaller model as a folder that the plain library opens, with what it costs on its card.

        Args:
            model: the model that was pruned, or what `hydrascope.load` takes.
            folder: where to write; nothing may be there.
            size: how many parts go, as of `removed`.
            ranking: by which ranking, as of `removed`.

        Raises:
            RunError: another model was pruned, or this was not measured.
            ExportRefused: the folder would compute something else; nothing is left behind.
        """
        size, name = chosen_set(self.findings, size, ranking)
        found = export_chosen(self.findings, self.subject, given_model(model), folder_named(folder), size, name)
        self._remember(found, ", ".join(self.findings.alike(size, name)))
        return found

    def _remember(self, found: Exported, ranking: str) -> None:
        """Keep what a smaller model saves beside what it costs, once for every set."""
        if self.path is None:
            return
        removed = "+".join(found.removed)
        row: dict[str, Any] = {
            "ranking": ranking,
            "size": len(found.removed),
            "removed": removed,
            "bytes": found.bytes[1],
            "whole_bytes": found.bytes[0],
            "bytes_saved": 1 - found.bytes[1] / found.bytes[0],
        }
        if (speed := found.speed) is not None:
            row |= {"tokens_per_second": speed.own, "whole_tokens_per_second": speed.whole, "speed_up": speed.ratio}
            row |= {"speed_up_q1": speed.lower, "speed_up_q3": speed.upper}
        others = [one for one in self._exported if one["removed"] != removed]
        write_record(self.path / EXPORTS, {"settings": {}, "exports": [*others, row]})

    def summary(self) -> Verdict:
        """The findings in plain sentences, with the numbers in them."""
        return told(self.findings)
