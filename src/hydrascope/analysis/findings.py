"""The tables of one ledger, each computed once, when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd
import xarray as xr

from hydrascope.analysis import (
    agreement,
    dose,
    erasure,
    freeze,
    harm,
    heads,
    layers,
    mechanisms,
    neurons,
    parts,
    redistribution,
    repair,
    responders,
    routing,
)
from hydrascope.analysis.closing import Closing, closing
from hydrascope.analysis.self_repair import self_repair
from hydrascope.analysis.statistics import DRAWS, Resampling


@dataclass(frozen=True)
class Findings:
    """What the verdict, the report and a notebook read from the same ledger.

    Attributes:
        ds: the ledger; not to be changed from here on.
        draws: bootstrap draws.
        seed: of the draws.
        held: a ledger of the same prompts in which responders are held; None where nothing was confirmed.
        also: ledgers of the runs that belong to this one, by name.
    """

    ds: xr.Dataset
    draws: int = DRAWS
    seed: int = 0
    held: xr.Dataset | None = None
    also: Mapping[str, xr.Dataset] = field(default_factory=dict)

    @cached_property
    def resampling(self) -> Resampling:
        """The bootstrap that all tables share."""
        return parts.plan(self.ds, self.draws, self.seed)

    @cached_property
    def repair(self) -> pd.DataFrame:
        """`analysis.repair.repair`."""
        return repair.repair(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def layer_effects(self) -> pd.DataFrame:
        """`analysis.repair.layer_effects`."""
        return repair.layer_effects(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def who_repairs(self) -> pd.DataFrame:
        """`analysis.responders.who_repairs`."""
        return responders.who_repairs(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def concentration(self) -> pd.DataFrame:
        """`analysis.responders.concentration`."""
        return responders.concentration(self.ds)

    @cached_property
    def late_mlps(self) -> pd.DataFrame:
        """`analysis.erasure.late_mlps`."""
        return erasure.late_mlps(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def released(self) -> pd.DataFrame:
        """`analysis.erasure.released`."""
        return erasure.released(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def routing(self) -> pd.DataFrame:
        """`analysis.routing.routing`."""
        return routing.routing(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def routing_totals(self) -> pd.DataFrame:
        """`analysis.routing.routing_totals`."""
        return routing.routing_totals(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def redistribution(self) -> pd.DataFrame:
        """`analysis.redistribution.redistribution`."""
        return redistribution.redistribution(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def redistribution_totals(self) -> pd.DataFrame:
        """`analysis.redistribution.redistribution_totals`."""
        return redistribution.redistribution_totals(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def redistribution_on_text(self) -> pd.DataFrame:
        """`analysis.redistribution.redistribution_on_text`."""
        return redistribution.redistribution_on_text(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def heads(self) -> pd.DataFrame:
        """`analysis.heads.heads`."""
        return heads.heads(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def neurons(self) -> pd.DataFrame:
        """`analysis.neurons.neurons`."""
        return neurons.neurons(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def sparsity(self) -> pd.DataFrame:
        """`analysis.neurons.sparsity`."""
        return neurons.sparsity(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def self_repair(self) -> pd.DataFrame:
        """`analysis.self_repair.self_repair`."""
        return self_repair(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def mechanisms(self) -> pd.DataFrame:
        """`analysis.mechanisms.mechanisms`."""
        return mechanisms.mechanisms(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def pooled_mechanisms(self) -> pd.DataFrame:
        """`analysis.mechanisms.pooled`."""
        return mechanisms.pooled(self.ds, draws=self.draws, seed=self.seed)

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """`analysis.agreement.agreement` of the run's ablations."""
        ledgers = agreement.by_ablation(self.ds, self.also)
        return agreement.agreement(ledgers, draws=self.draws, seed=self.seed)

    @cached_property
    def harm(self) -> pd.DataFrame:
        """`analysis.harm.harm` of the run's ablations."""
        ledgers = agreement.by_ablation(self.ds, self.also)
        return harm.harm(ledgers, draws=self.draws, seed=self.seed)

    @cached_property
    def doses(self) -> pd.DataFrame:
        """`analysis.dose.curves` of the run's doses."""
        return dose.curves(dose.by_dose(self.ds, self.also), draws=self.draws, seed=self.seed)

    @cached_property
    def linearity(self) -> pd.DataFrame:
        """`analysis.dose.linearity` of the run's doses."""
        return dose.linearity(dose.by_dose(self.ds, self.also), draws=self.draws, seed=self.seed)

    @cached_property
    def by_layer(self) -> Findings:
        """The same of whole layers, where the account keeps heads or neurons apart."""
        whole = layers.by_layer(self.ds)
        held = None if self.held is None else layers.by_layer(self.held)
        also = {name: layers.by_layer(one) for name, one in self.also.items()}
        return self if whole is self.ds else Findings(whole, self.draws, self.seed, held, also)

    @cached_property
    def freeze(self) -> pd.DataFrame:
        """`analysis.freeze.freeze`."""
        return freeze.freeze(self.ds, self.held, draws=self.draws, seed=self.seed)

    @cached_property
    def interactions(self) -> pd.DataFrame:
        """`analysis.freeze.interactions`."""
        return freeze.interactions(self.ds, self.held, draws=self.draws, seed=self.seed)

    @cached_property
    def closing(self) -> Closing:
        """`analysis.closing.closing`."""
        return closing(self.ds)
