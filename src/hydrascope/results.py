"""A finished ledger with the analyses as methods: what a notebook works with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import xarray as xr

from hydrascope.analysis import (
    Closing,
    Findings,
    Summary,
    has_writers,
    knows_direct,
    neurons,
    reads_each,
    summarise,
)
from hydrascope.errors import ComponentError
from hydrascope.ledger import is_finished, open_dataset
from hydrascope.run_directory import COMPANIONS, FREEZE


@dataclass(frozen=True)
class Ledger:
    """The account of a run. Each table is computed once, when it is first asked for.

    Attributes:
        dataset: the labelled numbers.
        path: the run's folder, or None for a run that was not kept.
    """

    dataset: xr.Dataset
    path: Path | None = None

    @classmethod
    def open(cls, path: str | Path) -> Ledger:
        """Open the ledger of a finished run.

        Args:
            path: the run's folder, or its `ledger.zarr`.

        Raises:
            OutputError: there is none, or the run has not finished.
        """
        folder = Path(path)
        return cls(open_dataset(folder), folder.parent if folder.suffix == ".zarr" else folder)

    @cached_property
    def also(self) -> dict[str, Ledger]:
        """Ledgers of the finished runs that belong to this one, by name."""
        folder = None if self.path is None else self.path / COMPANIONS
        if folder is None or not folder.is_dir():
            return {}
        finished = [path for path in sorted(folder.iterdir()) if is_finished(path)]
        return {path.name: Ledger.open(path) for path in finished}

    @cached_property
    def findings(self) -> Findings:
        """The tables behind all methods."""
        also = {name: one.dataset for name, one in self.also.items()}
        return Findings(self.dataset, frozen=also.pop(FREEZE, None), also=also)

    # every table of `hydrascope.analysis.TABLES`, by its name

    def repair(self) -> pd.DataFrame:
        """One row per knock-out: what was lost, what came back through what, and how linear that is."""
        return self.findings.repair.copy()

    def layer_effects(self) -> pd.DataFrame:
        """Direct effect against total effect of every ablated writer (McGrath et al. 2023, figure 2)."""
        return self.findings.layer_effects.copy()

    def who_repairs(self, ablated: str | None = None) -> pd.DataFrame:
        """Who compensates for whom, with intervals corrected for the number of cells.

        Args:
            ablated: only this knock-out, strongest answer first; all of them if None.

        Raises:
            ComponentError: the run did not knock that out.
        """
        table = self.findings.who_repairs.copy()
        if ablated is None:
            return table
        if ablated not in set(table["ablated"]):
            some = ", ".join(table["ablated"].unique()[:8])
            raise ComponentError(f"this run did not knock out '{ablated}'; it has {some} ...")
        rows = table[table["ablated"] == ablated]
        return rows.reindex(rows["change"].abs().sort_values(ascending=False).index)

    def concentration(self) -> pd.DataFrame:
        """How much of each response the strongest one and two responders carry."""
        return self.findings.concentration.copy()

    def late_mlps(self) -> pd.DataFrame:
        """Whether the late MLPs write against the target in the clean run."""
        return self.findings.by_layer.late_mlps.copy()

    def released(self) -> pd.DataFrame:
        """How much of the late MLPs' pressure on the target each attention knock-out releases."""
        return self.findings.by_layer.released.copy()

    def mcgrath(self) -> pd.DataFrame:
        """Which claims of McGrath et al. 2023 hold in this model, beside the paper's numbers."""
        return self.findings.mcgrath.copy()

    def freeze(self) -> pd.DataFrame:
        """How much of each repair vanishes while a responder keeps its clean output, beside others frozen instead."""
        return self.findings.by_layer.freeze.copy()

    def interactions(self) -> pd.DataFrame:
        """Joint knock-outs of a part and its strongest responder, against that responder's answer."""
        return self.findings.by_layer.interactions.copy()

    def heads(self) -> pd.DataFrame:
        """One row per head that was knocked out or is a writer: what it writes, what its loss costs, who repairs it."""
        return self.findings.heads.copy()

    def neurons(self, ablated: str | None = None, most: int | None = 50) -> pd.DataFrame:
        """Which neurons answer each knock-out, strongest first, and whether they let go or newly write.

        Args:
            ablated: only this knock-out; all of them if None.
            most: neurons kept of each knock-out; None keeps all.

        Raises:
            ComponentError: the run did not knock that out.
            DetailDropped: the run kept MLPs whole.
        """
        return neurons(self.dataset, ablated, most=most)

    def neuron_sparsity(self) -> pd.DataFrame:
        """How many neurons carry the repair of each knock-out, and whether they are the same on every prompt."""
        return self.findings.neuron_sparsity.copy()

    def self_repair(self) -> pd.DataFrame:
        """Self-repair on ordinary text, on every part's top tokens and on all (Rushing & Nanda 2024).

        Raises:
            DetailDropped: the direct effect of nothing that was knocked out is known.
        """
        return self.findings.self_repair.copy()

    def mechanisms(self) -> pd.DataFrame:
        """Self-repair on text by mechanism: released suppression, newly written support, the final norm.

        Raises:
            DetailDropped: the direct effect of nothing that was knocked out is known.
        """
        return self.findings.mechanisms.copy()

    def pooled_mechanisms(self) -> pd.DataFrame:
        """Self-repair on text by mechanism, of all parts of the second half of the layers together.

        Raises:
            DetailDropped: the direct effect of nothing that was knocked out is known.
        """
        return self.findings.pooled_mechanisms.copy()

    def routing(self) -> pd.DataFrame:
        """How each routed MLP answers each knock-out: with the same experts, or with others.

        Raises:
            ComponentError: the model has no MLP whose change can be split so.
        """
        return self.findings.routing.copy()

    def routing_totals(self) -> pd.DataFrame:
        """How all routed MLPs behind a knock-out together answer it.

        Raises:
            ComponentError: the model has no MLP whose change can be split so.
        """
        return self.findings.routing_totals.copy()

    def attention_split(self) -> pd.DataFrame:
        """How each attention layer or head answers each knock-out: by looking elsewhere, or by what it finds.

        Raises:
            DetailDropped: the run did not split attention, or kept only sums by kind of writer.
        """
        return self.findings.attention_split.copy()

    def attention_split_totals(self) -> pd.DataFrame:
        """How all attention behind a knock-out together answers it.

        Raises:
            DetailDropped: the run did not split attention, or kept only sums by kind of writer.
        """
        return self.findings.attention_split_totals.copy()

    def attention_split_on_tokens(self) -> pd.DataFrame:
        """How all attention behind a part answers on ordinary text, on the part's top tokens and on all.

        Raises:
            DetailDropped: the run did not split attention, or the direct effect of nothing knocked out is known.
        """
        return self.findings.attention_split_on_tokens.copy()

    def rank_agreement(self) -> pd.DataFrame:
        """How far the run's ablations rank its knock-outs alike; empty where it has only one."""
        return self.findings.rank_agreement.copy()

    def ablation_loss(self) -> pd.DataFrame:
        """What each ablation costs beside a learned constant; empty where none was learned."""
        return self.findings.ablation_loss.copy()

    def doses(self) -> pd.DataFrame:
        """Every part of each knock-out's account over the dose; empty where the run has only one."""
        return self.findings.doses.copy()

    def linearity(self) -> pd.DataFrame:
        """How far each knock-out's total effect is from growing in proportion to the dose."""
        return self.findings.linearity.copy()

    def summary(self) -> Summary:
        """The findings in plain sentences, with the numbers they were made from.

        They speak of layers, also where the account keeps heads or neurons apart; those of ordinary text, of whatever
        was knocked out.
        """
        return summarise(self.findings)

    def closing(self) -> Closing:
        """The closing check, recomputed from the ledger."""
        return self.findings.closing

    @property
    def has_report(self) -> bool:
        """Whether the ledger keeps what summary and report show: every writer, or on texts the parts' own effects."""
        return knows_direct(self.dataset) if reads_each(self.dataset) else has_writers(self.dataset)

    def report(self, path: str | Path) -> Path:
        """Write the HTML report.

        Raises:
            OutputError: the file cannot be written.
        """
        from hydrascope.report import write_report  # charts take a second to import

        return write_report(self.findings, Path(path))
