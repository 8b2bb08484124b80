"""Figures of runs over prompts, as methods; each stands alone, where the report draws some of them in pairs."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd

from hydrascope import figures
from hydrascope.analysis import effect_points, has_attention_split, has_heads, has_neurons, has_routing, neuron_curves
from hydrascope.report import _compensation, _effects, _units
from hydrascope.report._figure import ONE, Chart, Choices, figure
from hydrascope.report._ledger_figures import LedgerFigures
from hydrascope.report._run import Run

Kind = str | None
_TEXTS = "it is of texts"
_WHOLE = "no whole attention layer or MLP was knocked out on its own"
_UNSPLIT = "attention was not split (--split-attention)"
_WHOLE_MLPS = "no MLP was kept neuron by neuron (--writers neurons)"
_FEW = f"a line over prompts needs {_effects.FEW} prompts or more"


def _of_prompts(run: Run) -> Choices:
    return () if run.of_tokens else ONE


def _of_layers(measure: str, *values: str, prompts: int = 1) -> Any:
    def choices(run: Run) -> Choices:
        if run.of_tokens or run.tables.layer_effects.empty or run.ds.sizes["prompt"] < prompts:
            return ()
        return [{measure: value} for value in values] or ONE

    return choices


def _with_slopes(run: Run) -> Choices:
    return () if run.of_tokens or run.ds.sizes["prompt"] < _effects.FEW else ONE


def _of_kinds(run: Run) -> Choices:
    return () if run.of_tokens else [{"kind": kind} for kind in run.kinds]


def _with_shares(run: Run) -> Choices:
    if run.of_tokens:
        return ()
    meaningful = set(run.tables.repair.loc[run.tables.repair["meaningful"], "ablated_kind"])
    return [{"kind": kind} for kind in run.kinds if kind in meaningful]


def _of_responders(run: Run) -> Choices:
    if run.of_tokens or run.tables.who_repairs.empty:
        return ()
    table = run.tables.who_repairs
    there = set(table.loc[~table["is_own"], "writer_kind"])
    return [{"responding": kind} for kind in figures.KIND_LABELS if kind in there]


def _with_late_mlps(run: Run) -> Choices:
    return () if run.of_tokens or run.tables.late_mlps.empty else ONE


def _with_released(run: Run) -> Choices:
    if run.of_tokens or run.tables.released.empty:
        return ()
    released = run.tables.released
    there = set(released.loc[released["kind"] == "mlp", "ablated_kind"])
    return [{"kind": kind} for kind in run.kinds if kind in there]


def _of_heads(run: Run) -> Choices:
    if run.of_tokens or not has_heads(run.ds):
        return ()
    table = run.findings.heads
    written, asked = table["direct_effect"].notna().any(), table["knocked_out"].any()
    found = ["direct_effect"] if written else ["own_change"] if asked else []
    found += ["total_effect"] if asked else []
    found += ["restored_with_norm"] if asked and table["meaningful"].any() else []
    return [{"value": value} for value in found]


def _of_units(run: Run) -> Choices:
    if run.of_tokens or not run.tables.layer_effects.empty or "head" in run.kinds:
        return ()
    table = run.tables.repair
    if not figures.has_unit_grid(table):
        return ()
    found = ["own_change", "total_effect", *(["compensation_attn"] if "compensation_attn" in table else [])]
    found += ["restored_with_norm"] if table["meaningful"].any() else []
    return [{"value": value} for value in found]


def _of_split_heads(run: Run) -> Choices:
    if run.of_tokens or not has_heads(run.ds) or not run.findings.heads["direct_effect"].notna().any():
        return ()
    return ONE if len(run.head_answers) else ()


def _of_neurons(run: Run) -> Choices:
    return () if run.of_tokens or not has_neurons(run.ds) or run.findings.neuron_sparsity.empty else ONE


def _of_attention(run: Run) -> Choices:
    return () if run.of_tokens or not has_attention_split(run.ds) or run.tables.attention_split.empty else ONE


def _of_attention_totals(run: Run) -> Choices:
    there = set(run.tables.attention_split_totals["ablated_kind"]) if _of_attention(run) else ()
    return [{"kind": kind} for kind in run.kinds if kind in there]


def _of_routing(run: Run) -> Choices:
    if run.of_tokens or not has_routing(run.ds):
        return ()
    there = set(run.tables.routing_totals["ablated_kind"])
    return [{"kind": kind} for kind in run.kinds if kind in there]


class PromptFigures(LedgerFigures):
    """Figures of a run that reads the last token of prompts."""

    @figure(_of_prompts, _TEXTS)
    def balance(self, ablated: str | None = None) -> Chart:
        """Own change, attention, MLPs and norm end to end, up to the total effect.

        Args:
            ablated: the knock-out that is shown; the report's choice if None.
        """
        table = self._run.tables.repair
        shown = self._run.focus if ablated is None else self._known(ablated, list(table["ablated"]))
        return figures.balance(table, shown, unit=self._run.unit)

    @figure(_of_layers("effect", "direct_effect", "drop"), _WHOLE)
    def effect_by_layer(self, effect: Literal["direct_effect", "drop"] = "direct_effect") -> Chart:
        """Direct effect, or minus the total effect, of each attention layer and MLP over depth.

        Args:
            effect: `direct_effect`, or `drop`, what is lost without it.
        """
        run = self._run
        return figures.effect_by_layer(run.tables.layer_effects, effect, layers=run.layers, unit=run.unit)

    @figure(_of_layers("measure", prompts=_effects.FEW), _WHOLE)
    def direct_against_total(self) -> Chart:
        """Direct effect against minus total effect, a point per prompt and layer."""
        return figures.direct_against_total(effect_points(self._run.tables.ds))

    @figure(_of_layers("measure", "r2", "share_exceeds", prompts=_effects.FEW), _WHOLE)
    def agreement_by_layer(self, measure: Literal["r2", "share_exceeds"] = "r2") -> Chart:
        """How well the direct effect predicts the total effect, over depth.

        Args:
            measure: `r2`, or `share_exceeds`, the share of prompts whose direct effect exceeds the loss.
        """
        return figures.agreement_by_layer(self._run.tables.layer_effects, measure, layers=self._run.layers)

    @figure(_of_heads, "no heads were knocked out or kept apart (--components head, or --writers heads)")
    def head_grid(
        self, value: Literal["direct_effect", "own_change", "total_effect", "restored_with_norm"] = "total_effect"
    ) -> Chart:
        """A quantity of every head, on the grid of layers and heads.

        Args:
            value: the quantity; `restored_with_norm` is the share of the loss that comes back.
        """
        return figures.head_grid(self._run.findings.heads, value)

    @figure(_of_split_heads, "attention was not kept head by head (--writers heads)")
    def head_answers(self, ablated: str | None = None) -> Chart:
        """How much more or less every head writes for the answer under one knock-out.

        Args:
            ablated: the knock-out that is shown; the report's choice if None.
        """
        found = self._run.head_answers
        names, shown = self._choices(_units.CHOICES, ablated, set(found["ablated"]))
        return figures.head_answers(found, self._run.findings.heads, names, shown)

    @figure(_of_units, "no neurons, experts or KV groups were knocked out over several layers")
    def unit_grid(
        self, value: Literal["own_change", "total_effect", "compensation_attn", "restored_with_norm"] = "total_effect"
    ) -> Chart:
        """A quantity of every unit that was knocked out, on the grid of layers and units.

        Args:
            value: the quantity; `restored_with_norm` is the share of the loss that comes back.
        """
        return figures.unit_grid(self._run.tables.repair, value)

    @figure(_of_prompts, _TEXTS)
    def prompt_views(self, ablated: str | None = None) -> Chart:
        """What every layer writes on single prompts, clean and knocked out.

        Args:
            ablated: the knock-out that is shown; the report's choice if None.
        """
        names, shown = self._choices(_effects.IN_VIEW, ablated)
        views = _effects.views(self._run, names)
        first = next(text for text, _ in views)
        return figures.prompt_views(views, layers=self._run.layers, shown=(first, shown), unit=self._run.unit)

    @figure(_with_slopes, _FEW)
    def compensation_by_prompt(self, ablated: str | None = None) -> Chart:
        """Compensation against own change, a point per prompt, with the fitted line.

        Args:
            ablated: the knock-out that is shown; the report's choice if None.
        """
        names, shown = self._choices(_compensation.CLOUDS, ablated)
        return figures.compensation_by_prompt(
            _compensation.clouds(self._run, names), self._run.tables.repair, shown=shown
        )

    @figure(lambda run: [{"measure": name} for name in ("slope", "r2") for _ in _with_slopes(run)], _FEW)
    def slope_by_layer(self, measure: Literal["slope", "r2"] = "slope") -> Chart:
        """Slope, or R², of compensation on own change over depth, beside a random direction's.

        Args:
            measure: `slope` (-1 is full repair) or `r2`.
        """
        return figures.slope_by_layer(self._run.tables.repair, measure, layers=self._run.layers)

    @figure(_of_kinds, _TEXTS)
    def parts_by_layer(self, kind: Kind = None) -> Chart:
        """Compensation by attention, MLPs and norm, stacked over depth.

        Args:
            kind: kind of component knocked out, such as `attn`; the first that the report shows if None.
        """
        run, kind = self._run, kind or self._run.kinds[0]
        return figures.parts_by_layer(run.tables.repair, kind, layers=run.layers, unit=run.unit)

    @figure(_with_shares, "no knock-out lost enough for a ratio to mean anything")
    def restored_by_layer(self, kind: Kind = None) -> Chart:
        """Share of each loss that comes back, with and without the norm.

        Args:
            kind: kind of component knocked out, such as `attn`; the first that the report shows if None.
        """
        kind = kind or str(next(iter(_with_shares(self._run)))["kind"])
        return figures.restored_by_layer(self._run.tables.repair, kind, layers=self._run.layers)

    @figure(_of_responders, "nothing that was knocked out has an attention layer or MLP behind it")
    def compensation_matrix(self, responding: Kind = None) -> Chart:
        """Who compensates for whom: knock-outs downwards, later writers across.

        Args:
            responding: kind of the responding writers, `attn`, `mlp` or `mixer`; the first that there is if None.
        """
        responding = responding or str(next(iter(_of_responders(self._run)))["responding"])
        return figures.compensation_matrix(self._run.tables.who_repairs, responding)

    @figure(_with_late_mlps, "it has no MLP in the second half of the model")
    def late_mlp_effects(self) -> Chart:
        """What each late MLP writes on the answer in the clean run."""
        run = self._run
        return figures.late_mlp_effects(run.tables.late_mlps, layers=run.layers, unit=run.unit)

    @figure(_with_released, "nothing was knocked out before a late MLP")
    def released_by_layer(self, kind: Kind = None) -> Chart:
        """How the late MLPs change under each knock-out, in four parts.

        Args:
            kind: kind of component knocked out, such as `attn`; the first that the report shows if None.
        """
        kind = kind or str(next(iter(_with_released(self._run)))["kind"])
        table = self._run.tables.released
        return figures.released_by_layer(table[table["kind"] == "mlp"], kind, layers=self._run.layers)

    @figure(_of_neurons, _WHOLE_MLPS)
    def neuron_scatter(self, ablated: str | None = None) -> Chart:
        """Clean direct effect against change, a point per neuron.

        Args:
            ablated: the knock-out that is shown; the report's choice if None.
        """
        return figures.neuron_scatter(self._run.findings.neurons, *self._beside_neurons(ablated))

    @figure(_of_neurons, _WHOLE_MLPS)
    def carried_by_few(self, ablated: str | None = None) -> Chart:
        """Share of the repair that the strongest neurons of a prompt carry.

        Args:
            ablated: the knock-out that is shown; the report's choice if None.
        """
        names, shown = self._beside_neurons(ablated)
        return figures.carried_by_few(self._neuron_curves(names), names, shown)

    @figure(_of_neurons, _WHOLE_MLPS)
    def nth_neuron(self, ablated: str | None = None) -> Chart:
        """Prompts on which the n-th strongest neuron repairs much.

        Args:
            ablated: the knock-out that is shown; the report's choice if None.
        """
        names, shown = self._beside_neurons(ablated)
        return figures.nth_neuron(self._neuron_curves(names), names, shown)

    @figure(_of_neurons, _WHOLE_MLPS)
    def half_by_layer(self) -> Chart:
        """How many neurons carry half of the repair, over the layers knocked out."""
        return figures.half_by_layer(_units.one_scope(self._run.findings.neuron_sparsity), layers=self._run.layers)

    @figure(_of_attention, _UNSPLIT)
    def attention_by_writer(self, ablated: str | None = None) -> Chart:
        """Pattern and value effect of every later attention layer.

        Args:
            ablated: the knock-out that is shown; the report's choice if None.
        """
        table = self._run.tables.attention_split
        names, shown = self._choices(_effects.IN_VIEW, ablated, set(table["ablated"]))
        return figures.attention_by_writer(table, names, shown, layers=self._run.layers)

    @figure(_of_attention_totals, _UNSPLIT)
    def attention_by_layer(self, kind: Kind = None) -> Chart:
        """Pattern and value effect of all attention behind each knock-out.

        Args:
            kind: kind of component knocked out, such as `attn`; the first that the report shows if None.
        """
        kind = kind or str(next(iter(_of_attention_totals(self._run)))["kind"])
        table = self._run.tables.attention_split_totals
        return figures.two_ways_by_layer(table, figures.ATTENTION, kind, layers=self._run.layers)

    @figure(_of_attention_totals, _UNSPLIT)
    def attention_moved(self, kind: Kind = None) -> Chart:
        """Share of attention's weight that moved to other tokens, behind each knock-out.

        Args:
            kind: kind of component knocked out, such as `attn`; the first that the report shows if None.
        """
        kind = kind or str(next(iter(_of_attention_totals(self._run)))["kind"])
        table = self._run.tables.attention_split_totals
        return figures.moved_by_layer(table, figures.ATTENTION, kind, layers=self._run.layers)

    @figure(_of_routing, "the model has no routed MLPs behind what was knocked out")
    def routing_by_layer(self, kind: Kind = None) -> Chart:
        """What the same experts and re-routing add, in all routed MLPs behind each knock-out.

        Args:
            kind: kind of component knocked out, such as `attn`; the first that the report shows if None.
        """
        kind = kind or str(next(iter(_of_routing(self._run)))["kind"])
        return figures.two_ways_by_layer(
            self._run.tables.routing_totals, figures.ROUTING, kind, layers=self._run.layers
        )

    @figure(_of_routing, "the model has no routed MLPs behind what was knocked out")
    def routing_moved(self, kind: Kind = None) -> Chart:
        """Share of the experts asked that are new, behind each knock-out.

        Args:
            kind: kind of component knocked out, such as `attn`; the first that the report shows if None.
        """
        kind = kind or str(next(iter(_of_routing(self._run)))["kind"])
        return figures.moved_by_layer(self._run.tables.routing_totals, figures.ROUTING, kind, layers=self._run.layers)

    def _beside_neurons(self, ablated: str | None) -> tuple[list[str], str]:
        return self._choices(_units.CHOICES, ablated, set(self._run.findings.neuron_sparsity["ablated"]))

    def _neuron_curves(self, names: list[str]) -> pd.DataFrame:
        return pd.concat([neuron_curves(self._run.ds, name) for name in names], ignore_index=True)
