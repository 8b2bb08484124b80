"""The registry of tables; those of one ledger are computed once, on first use.

A new table is a function of a ledger and one line in `Findings`; `hydrascope.Ledger` has a method of its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd
import xarray as xr

from hydrascope.analysis import (
    _ablation_comparison,
    _change_decomposition,
    _closing,
    _dose,
    _erasure,
    _freeze,
    _heads,
    _layers,
    _mcgrath,
    _mechanisms,
    _neurons,
    _repair,
    _responders,
    _self_repair,
)
from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._statistics import RESAMPLES, Resampling

Function = Callable[..., pd.DataFrame]
Arguments = Callable[["Findings"], tuple[Any, ...]]


def _its_ledger(findings: Findings) -> tuple[Any, ...]:
    return (findings.ds,)


def _with_frozen(findings: Findings) -> tuple[Any, ...]:
    return findings.ds, findings.frozen


def _ablations(findings: Findings) -> tuple[Any, ...]:
    return (_ablation_comparison.by_ablation(findings.ds, findings.also),)


def _doses(findings: Findings) -> tuple[Any, ...]:
    return (_dose.by_dose(findings.ds, findings.also),)


def _claimed(findings: Findings) -> tuple[Any, ...]:
    it = findings.by_layer
    tables = (it.repair, it.layer_effects, it.concentration, it.late_mlps, it.released)
    return (_mcgrath.Tables(*tables, n_layers=int(it.ds.attrs["n_layers"])),)


class Table(cached_property[pd.DataFrame]):
    """A table of `Findings`, and the function that makes it.

    Attributes:
        function: takes ledgers, returns the table.
    """

    def __init__(self, function: Function, of: Arguments = _its_ledger, *, resampled: bool = True) -> None:
        self.function = function
        super().__init__(lambda it: self.function(*of(it), **(it.settings if resampled else {})))
        self.__doc__ = function.__doc__


@dataclass(frozen=True)
class Findings:
    """Every table of one ledger, for the summary, the report and notebooks.

    Attributes:
        ds: the ledger; not to be changed from here on.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.
        frozen: a ledger of these prompts in which responders are frozen, if any.
        also: ledgers of other companion runs, by name.
    """

    ds: xr.Dataset
    resamples: int = RESAMPLES
    seed: int = 0
    frozen: xr.Dataset | None = None
    also: Mapping[str, xr.Dataset] = field(default_factory=dict)

    repair = Table(_repair.repair)
    layer_effects = Table(_repair.layer_effects)
    who_repairs = Table(_responders.who_repairs)
    concentration = Table(_responders.concentration, resampled=False)
    late_mlps = Table(_erasure.late_mlps)
    released = Table(_erasure.released)
    routing = Table(_change_decomposition.routing)
    routing_totals = Table(_change_decomposition.routing_totals)
    attention_split = Table(_change_decomposition.attention_split)
    attention_split_totals = Table(_change_decomposition.attention_split_totals)
    attention_split_on_tokens = Table(_change_decomposition.attention_split_on_tokens)
    mcgrath = Table(_mcgrath.mcgrath, _claimed, resampled=False)
    heads = Table(_heads.heads)
    neurons = Table(_neurons.neurons)
    neuron_sparsity = Table(_neurons.neuron_sparsity)
    self_repair = Table(_self_repair.self_repair)
    mechanisms = Table(_mechanisms.mechanisms)
    pooled_mechanisms = Table(_mechanisms.pooled_mechanisms)
    freeze = Table(_freeze.freeze, _with_frozen)
    interactions = Table(_freeze.interactions, _with_frozen)
    rank_agreement = Table(_ablation_comparison.rank_agreement, _ablations)
    ablation_loss = Table(_ablation_comparison.ablation_loss, _ablations)
    doses = Table(_dose.doses, _doses)
    linearity = Table(_dose.linearity, _doses)

    @property
    def settings(self) -> dict[str, int]:
        """Arguments of the bootstrap that all tables share."""
        return {"resamples": self.resamples, "seed": self.seed}

    @cached_property
    def resampling(self) -> Resampling:
        """The bootstrap that all tables share."""
        return access.bootstrap(self.ds, **self.settings)

    @cached_property
    def by_layer(self) -> Findings:
        """The tables of whole layers, where the account keeps heads or neurons apart."""
        whole = _layers.by_layer(self.ds)
        frozen = None if self.frozen is None else _layers.by_layer(self.frozen)
        also = {name: _layers.by_layer(one) for name, one in self.also.items()}
        return self if whole is self.ds else Findings(whole, self.resamples, self.seed, frozen, also)

    @cached_property
    def account(self) -> pd.DataFrame:
        """The account of every knock-out, under the names of `repair`; of texts on each part's top tokens."""
        if not access.reads_each(self.ds):
            return self.repair
        top = self.self_repair.query("selection == 'top'").drop(columns="restored")
        renamed = {}
        for name in top.columns:
            stem, end = (name[:-3], name[-3:]) if name.endswith(("_lo", "_hi")) else (name, "")
            if stem == "repair_norm":
                renamed[name] = f"norm_effect{end}"
            elif stem.startswith("repair_"):
                renamed[name] = f"compensation_{stem.removeprefix('repair_')}{end}"
        whole = {f"restored_with_norm{end}": self.self_repair[f"restored{end}"] for end in ("", "_lo", "_hi")}
        return top.rename(columns=renamed).assign(**{name: whole[name][top.index] for name in whole})

    @cached_property
    def closing(self) -> _closing.Closing:
        """Whether the ledger closes."""
        return _closing.closing(self.ds)


TABLES: Mapping[str, Function] = {
    name: table.function for name, table in vars(Findings).items() if isinstance(table, Table)
}
"""Name of each table to the function that makes it; `Findings` and `hydrascope.Ledger` share the names."""
