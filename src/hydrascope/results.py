"""A finished ledger with the analyses as methods, for notebooks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import xarray as xr

from hydrascope._card import card
from hydrascope.analysis import (
    TABLES,
    Closing,
    Findings,
    Summary,
    has_writers,
    knows_direct,
    neurons,
    reads_each,
    shortened,
    summarise,
)
from hydrascope.components import parse_component
from hydrascope.errors import ComponentError, OutputError, RunError, did_you_mean, shown
from hydrascope.ledger import open_dataset, unfinished
from hydrascope.run_directory import (
    COMPANIONS,
    FREEZE,
    JSON,
    LEDGER,
    PRUNE,
    RANK,
    STRESS,
    folder_named,
    is_finished,
    kind_of,
)

if TYPE_CHECKING:
    from hydrascope.report import Plots


@dataclass(frozen=True)
class Ledger:
    """The account of a run; each table is computed once, on first use.

    Attributes:
        dataset: the labelled numbers.
        path: folder of the run; None for a run that was not kept.
    """

    dataset: xr.Dataset
    path: Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.dataset, xr.Dataset):
            raise OutputError(f"{shown(self.dataset)} is no ledger; open a run's with Ledger.open(FOLDER)")

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Ledger:
        """Open the ledger of a finished run.

        Args:
            path: folder of the run, or its `ledger.zarr`.

        Raises:
            OutputError: there is no ledger, the run has not finished, or the ledger is not what was written.
            LedgerDoesNotClose: its numbers do not add up.
        """
        folder = folder_named(path)
        others = {STRESS: "a stress test", RANK: "a ranking", PRUNE: "a pruning"}
        if (kind := kind_of(folder)) in others:
            raise OutputError(
                f"'{folder}' holds {others[kind]}, which has no ledger of its own; name a folder that 'hydrascope run' "
                f"wrote, or read this one with 'hydrascope show' or hydrascope.{kind.capitalize()}.open"
            )
        begun = os.path.isfile(folder / JSON) and not os.path.exists(folder / LEDGER)
        if begun and not is_finished(folder):
            raise unfinished(folder)
        return cls(open_dataset(folder), folder.parent if folder.suffix == ".zarr" else folder)

    @cached_property
    def also(self) -> dict[str, Ledger]:
        """Ledgers of the finished companion runs, by name, but for those in `damaged`."""
        return {name: one for name, one in self._companions.items() if isinstance(one, Ledger)}

    @property
    def damaged(self) -> dict[str, str]:
        """What is wrong with companion runs that cannot be believed, by name."""
        return {name: one for name, one in self._companions.items() if isinstance(one, str)}

    @cached_property
    def _companions(self) -> dict[str, Ledger | str]:
        """Every finished companion run, or why it is not read: one bad one must not hide the run."""
        folder = None if self.path is None else self.path / COMPANIONS
        found: dict[str, Ledger | str] = {}
        for path in sorted(folder.iterdir()) if folder is not None and folder.is_dir() else ():
            try:
                if is_finished(path):
                    found[path.name] = Ledger.open(path)
            except RunError as error:
                found[path.name] = str(error)
        return found

    @cached_property
    def findings(self) -> Findings:
        """The tables behind all methods."""
        also = {name: one.dataset for name, one in self.also.items()}
        return Findings(self.dataset, frozen=also.pop(FREEZE, None), also=also)

    def table(self, name: str, *, full: bool = False) -> pd.DataFrame:
        """A table by its name, with the columns that a reader needs.

        Args:
            name: name of the method that returns the table, such as `repair`.
            full: keep all columns, as that method does.

        Raises:
            ComponentError: there is no such table.
            DetailDropped: the run did not keep what the table needs.
        """
        if name not in TABLES:
            raise ComponentError(f"there is no table '{name}'; choose from {', '.join(TABLES)}")
        table: pd.DataFrame = getattr(self, name)()
        return table if full else shortened(name, table)

    def _repr_html_(self) -> str:
        attributes, sizes = self.dataset.attrs, self.dataset.sizes
        facts = {
            "prompts": f"{attributes['prompts_name']}, {sizes['prompt']:,} of {attributes['prompts_total']:,} kept",
            "knocked out": f"{sizes['ablated']:,} parts, by {attributes['ablation']}",
            "closes to": f"{attributes['closing_error']:.1e} (allowed {attributes['closing_tolerance']:g})",
            "companions": ", ".join(self.also),
            "folder": self.path or "",
        }
        sentences = (self.summary().headline,) if self.has_report else ()
        return card(f"Ledger of {attributes['model_name']}", facts, sentences)

    # every table of `hydrascope.analysis.TABLES`, by its name

    def repair(self) -> pd.DataFrame:
        """What each knock-out lost, what came back through what, and how linear that is."""
        return self.findings.repair.copy()

    def layer_effects(self) -> pd.DataFrame:
        """Direct against total effect of every ablated writer (McGrath et al. 2023, figure 2)."""
        return self.findings.layer_effects.copy()

    def who_repairs(self, ablated: str | None = None) -> pd.DataFrame:
        """The compensation matrix, with intervals corrected for the number of cells.

        Args:
            ablated: only this knock-out, strongest answer first; all of them if None.

        Raises:
            ComponentError: the run did not knock that out.
        """
        table = self.findings.who_repairs.copy()
        if ablated is None:
            return table
        there, ablated = list(table["ablated"].unique()), _spelled_out(ablated)
        if ablated not in there:
            more = f" and {len(there) - 8} more" if len(there) > 8 else ""
            raise ComponentError(
                f"this run did not knock out {shown(ablated)}{did_you_mean(str(ablated), there)}; "
                f"it did {', '.join(there[:8])}{more}"
            )
        rows = table[table["ablated"] == ablated]
        return rows.reindex(rows["change"].abs().sort_values(ascending=False).index)

    def concentration(self) -> pd.DataFrame:
        """How much of each response the strongest one and two responders carry."""
        return self.findings.concentration.copy()

    def late_mlps(self) -> pd.DataFrame:
        """Whether the late MLPs write against the target in the clean run."""
        return self.findings.by_layer.late_mlps.copy()

    def released(self) -> pd.DataFrame:
        """How much the late MLPs, or late attention, let go under each knock-out."""
        return self.findings.by_layer.released.copy()

    def mcgrath(self) -> pd.DataFrame:
        """Which claims of McGrath et al. 2023 hold in this model, beside the paper's numbers."""
        return self.findings.mcgrath.copy()

    def freeze(self) -> pd.DataFrame:
        """How much of each repair vanishes while a responder, or another layer, is frozen."""
        return self.findings.by_layer.freeze.copy()

    def interactions(self) -> pd.DataFrame:
        """Joint knock-outs of a part and its strongest responder, against the answer."""
        return self.findings.by_layer.interactions.copy()

    def heads(self) -> pd.DataFrame:
        """What each head writes, what its loss costs, and who repairs it."""
        return self.findings.heads.copy()

    def neurons(self, ablated: str | None = None, most: int | None = 50) -> pd.DataFrame:
        """The neurons that answer each knock-out, strongest first.

        Args:
            ablated: only this knock-out; all of them if None.
            most: neurons kept of each knock-out; None keeps all.

        Raises:
            ComponentError: the run did not knock that out.
            DetailDropped: the run kept MLPs whole.
        """
        return neurons(self.dataset, None if ablated is None else _spelled_out(ablated), most=most)

    def neuron_sparsity(self) -> pd.DataFrame:
        """How many neurons carry each repair, and whether they are the same on every prompt."""
        return self.findings.neuron_sparsity.copy()

    def self_repair(self) -> pd.DataFrame:
        """Self-repair on text, on top tokens and on all (Rushing & Nanda 2024).

        Raises:
            DetailDropped: no knock-out's direct effect is known.
        """
        return self.findings.self_repair.copy()

    def mechanisms(self) -> pd.DataFrame:
        """Self-repair on text by mechanism: released suppression, new promotion, the norm.

        Raises:
            DetailDropped: no knock-out's direct effect is known.
        """
        return self.findings.mechanisms.copy()

    def pooled_mechanisms(self) -> pd.DataFrame:
        """Self-repair on text by mechanism, of all parts of the second half together.

        Raises:
            DetailDropped: no knock-out's direct effect is known.
        """
        return self.findings.pooled_mechanisms.copy()

    def routing(self) -> pd.DataFrame:
        """How each routed MLP answers: with the same experts, or with others.

        Raises:
            DetailDropped: the run kept only sums by kind of writer.
            ComponentError: the model has no routed MLP whose change can be split.
        """
        return self.findings.routing.copy()

    def routing_totals(self) -> pd.DataFrame:
        """How all routed MLPs behind a knock-out together answer it.

        Raises:
            DetailDropped: the run kept only sums by kind of writer.
            ComponentError: the model has no routed MLP whose change can be split.
        """
        return self.findings.routing_totals.copy()

    def attention_split(self) -> pd.DataFrame:
        """Pattern and value effect of each attention layer, or head, per knock-out.

        Raises:
            DetailDropped: the run did not split attention, or kept only sums by kind of writer.
        """
        return self.findings.attention_split.copy()

    def attention_split_totals(self) -> pd.DataFrame:
        """Pattern and value effect of all attention behind a knock-out together.

        Raises:
            DetailDropped: the run did not split attention, or kept only sums by kind of writer.
        """
        return self.findings.attention_split_totals.copy()

    def attention_split_on_tokens(self) -> pd.DataFrame:
        """Pattern and value effect on ordinary text, on top tokens and on all.

        Raises:
            DetailDropped: the run did not split attention, or no knock-out's direct effect is known.
        """
        return self.findings.attention_split_on_tokens.copy()

    def rank_agreement(self) -> pd.DataFrame:
        """How far the run's ablations rank its knock-outs alike; empty where it has only one."""
        return self.findings.rank_agreement.copy()

    def ablation_loss(self) -> pd.DataFrame:
        """What each ablation costs beside a learned constant; empty where none was learned."""
        return self.findings.ablation_loss.copy()

    def doses(self) -> pd.DataFrame:
        """Every part of each account over the dose; empty where the run has only one."""
        return self.findings.doses.copy()

    def linearity(self) -> pd.DataFrame:
        """How far each total effect is from growing in proportion to the dose."""
        return self.findings.linearity.copy()

    def summary(self) -> Summary:
        """The findings in plain sentences, with the numbers in them.

        They speak of layers, also where the account keeps heads or neurons apart; on text, of whatever was knocked out.
        """
        return summarise(self.findings)

    def closing(self) -> Closing:
        """The closing check, recomputed from the ledger."""
        return self.findings.closing

    @cached_property
    def plot(self) -> Plots:
        """Every figure of the report as a method, such as `ledger.plot.balance()`; `save_all` writes them all.

        Raises:
            DetailDropped: the ledger keeps only sums, of which there is no report.
        """
        from hydrascope.report import plots  # charts take a second to import

        return plots(self.findings)

    @property
    def has_report(self) -> bool:
        """Whether the ledger keeps what summary and report show."""
        return knows_direct(self.dataset) if reads_each(self.dataset) else has_writers(self.dataset)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the HTML report.

        Args:
            path: path of the HTML file.

        Raises:
            OutputError: the file cannot be written.
        """
        from hydrascope.report import write_report  # charts take a second to import

        return write_report(self.findings, folder_named(path))


def _spelled_out(address: str) -> str:
    """The long form of an address such as `L5H3`; whatever is no single component stays as it is."""
    try:
        return str(parse_component(str(address)))
    except ComponentError:
        return str(address)
