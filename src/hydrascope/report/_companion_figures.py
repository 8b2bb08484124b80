"""Figures of companion runs, as methods: frozen responders, doses, other ablations."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from hydrascope import figures
from hydrascope.analysis import FEWEST_RANKED
from hydrascope.report import _companions
from hydrascope.report._figure import Chart, Choices, figure
from hydrascope.report._ledger_figures import LedgerFigures
from hydrascope.report._run import Run

Frozen = Literal["attention", "compensation", "with_norm"]
_THAWED = "no responder was frozen (--freeze), or nothing was repaired"
_ONE_DOSE = "it has one dose (--dose 0.25,0.5,1)"
_ONE_ABLATION = "it has one ablation (--ablation resample,mean), or too few knock-outs to rank"


def _of_frozen(run: Run) -> Choices:
    table = run.findings.by_layer.freeze
    return () if table.empty else [{"measure": measure} for measure in _companions.frozen_kind(run)[1]]


def _of_several_frozen(run: Run) -> Choices:
    table = run.findings.by_layer.freeze
    several = len(table) and table.loc[table["role"] == "responder", "ablated"].nunique() > 1
    return _of_frozen(run) if several else ()


def _of_doses(run: Run) -> Choices:
    return () if run.tables.doses.empty else [{"selection": name} for name in _companions.selections_of(run)]


def _of_halves(run: Run) -> Choices:
    return [given for given in _of_doses(run) if len(_companions.worth(run, given["selection"]))]


def _of_ablations(run: Run) -> Choices:
    table = run.tables.rank_agreement
    if table.empty or int(table["n"].max()) < FEWEST_RANKED:
        return ()
    measures = ("total_effect", "self_repair" if run.of_tokens else "compensation")
    there = [name for name in _companions.selections_of(run) if name in set(table["selection"])]
    return [{"measure": measure, "selection": name} for measure in measures for name in there]


class CompanionFigures(LedgerFigures):
    """Figures of a run with companions."""

    @figure(_of_frozen, _THAWED)
    def repair_frozen(self, ablated: str | None = None, measure: Frozen = "with_norm") -> Chart:
        """Compensation for one knock-out, by which responder is frozen.

        Args:
            ablated: the knock-out that is shown; the report's choice if None.
            measure: who compensates: `attention` or `compensation`, later layers of the kind that was frozen, or
                `with_norm`, all and the final norm.
        """
        table, titles = _companions.frozen_kind(self._run)
        names = list(dict.fromkeys(table["ablated"]))
        shown = self._run.first(names) if ablated is None else self._known(ablated, names)
        title = _companions.frozen_title(shown, titles[measure])
        return figures.repair_frozen(table, shown, measure, title, unit=self._run.unit)

    @figure(_of_several_frozen, _THAWED)
    def removed_by_freezing(self, measure: Frozen = "with_norm") -> Chart:
        """Share of each compensation that vanishes with the strongest responder frozen, and with others.

        Args:
            measure: who compensates: `attention` or `compensation`, later layers of the kind that was frozen, or
                `with_norm`, all and the final norm.
        """
        return figures.removed_by_freezing(_companions.frozen_kind(self._run)[0], measure)

    @figure(_of_doses, _ONE_DOSE)
    def dose_curves(self, ablated: str | None = None, selection: Literal["top", "all"] = "all") -> Chart:
        """Parts of one knock-out's account over the dose.

        Args:
            ablated: the knock-out that is shown; the report's choice if None.
            selection: `all`, or on ordinary text `top`, each part's top tokens.
        """
        names, shown = self._choices(_companions.CURVES, ablated)
        rows = self._selected(self._run.tables.doses, selection)
        return figures.dose_curves(rows, names, shown=shown, unit=self._run.unit, counted=self._where(selection))

    @figure(_of_halves, _ONE_DOSE)
    def half_share(self, selection: Literal["top", "all"] = "all") -> Chart:
        """Share of each total effect that half the dose has.

        Args:
            selection: `all`, or on ordinary text `top`, each part's top tokens.
        """
        worth = _companions.worth(self._run, selection)
        return figures.half_share(worth, layers=self._run.layers, counted=self._where(selection))

    @figure(_of_ablations, _ONE_ABLATION)
    def rank_agreement(
        self,
        measure: Literal["total_effect", "compensation", "self_repair"] = "total_effect",
        selection: Literal["top", "all"] = "all",
    ) -> Chart:
        """How far the run's ablations rank its knock-outs alike.

        Args:
            measure: what the knock-outs are ranked by; `compensation` of prompts, `self_repair` of texts.
            selection: `all`, or on ordinary text `top`, each part's top tokens.
        """
        rows = self._selected(self._run.tables.rank_agreement, selection)
        return figures.rank_agreement(rows, measure, _companions.ranked_by(measure, self._where(selection)))

    def _selected(self, table: pd.DataFrame, selection: str) -> pd.DataFrame:
        rows: pd.DataFrame = table[table["selection"] == selection]
        return rows

    def _where(self, selection: str) -> str:
        return _companions.selections_of(self._run)[selection].where
