"""The tables of one stress test, each computed once, on first use."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import Array, Estimate, Findings, Resampling, bootstrap
from hydrascope.resilience import _communities, _curve, _load, _pairs, _ranking, _worst
from hydrascope.resilience._importance import Importance
from hydrascope.resilience._plan import Plan
from hydrascope.resilience._sets import Faults
from hydrascope.resilience._two_ways import Sampled
from hydrascope.resilience._values import SetValues, values_in

ALLOWED = 0.1
"""Largest share of prompts that may lose much without a part that can be lost."""


@dataclass(frozen=True)
class Resilience:
    """Ledgers of a stress test and what they show.

    Attributes:
        parts: addresses of the parts, in the order of the forward pass.
        account: tables of the knock-outs of single parts.
        ledgers: ledgers of the knock-outs of single parts, and of sets of them.
        plan: which sets were knocked out.
        accuracy: least accuracy that counts as surviving.
        loss: least loss of the logit that counts.
    """

    parts: tuple[str, ...]
    account: Findings
    ledgers: tuple[xr.Dataset, ...]
    plan: Plan
    accuracy: float
    loss: float
    _kept: dict[str, SetValues] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ds(self) -> xr.Dataset:
        """Ledger of the knock-outs of single parts."""
        return self.account.ds

    @cached_property
    def resampling(self) -> Resampling:
        """What is independent: groups of prompts, or documents."""
        return bootstrap(self.ds)

    @cached_property
    def faults(self) -> Faults:
        """The random sets."""
        return self.plan.faults(self.parts)

    @property
    def measured(self) -> list[str]:
        """Values that the ledgers keep."""
        return values_in(self.ds)

    @property
    def groups(self) -> list[str]:
        """Group of each prompt."""
        return [str(group) for group in self.ds["group"].values]

    def values(self, value: str = "logit") -> SetValues:
        """One value of every set.

        Raises:
            DetailDropped: the ledgers do not keep it.
        """
        if value not in self._kept:
            self._kept[value] = SetValues.read(self.ledgers, self.parts, value)
        return self._kept[value]

    def curve(self, value: str = "logit") -> pd.DataFrame:
        """The degradation curve; see `degradation`."""
        return _curve.degradation(self.values(value), self.faults, self.resampling)

    def area(self, value: str = "logit") -> Estimate:
        """Mean of the value over all failure rates, with its interval."""
        return _curve.area(self.values(value), self.faults, self.resampling)

    @cached_property
    def survived(self) -> Estimate | None:
        """Largest failure rate with the accuracy asked for, with its interval; None where accuracy is not kept."""
        return _curve.survived(self.curve("accuracy"), self.accuracy) if "accuracy" in self.measured else None

    @cached_property
    def samples(self) -> Importance:
        """Importance of every part for the logit, by group and mask."""
        return Importance.measure(self.values(), self.faults, self.resampling)

    def importance(self, value: str = "logit") -> pd.DataFrame:
        """Importance of every part at every failure rate; see `importance_table`."""
        if value == "logit":
            return _ranking.importance_table(self.samples, self.resampling)
        samples = Importance.measure(self.values(value), self.faults, self.resampling)
        return _ranking.importance_table(samples, self.resampling)

    @cached_property
    def ranking(self) -> pd.DataFrame:
        """Every part by four orders of importance; see `ranking`."""
        return _ranking.ranking(self.samples, self.values(), self.account, self.resampling)

    @cached_property
    def sampled_scores(self) -> dict[str, list[Sampled]]:
        """What parts are worth among other losses, by group and mask; see `sampled_scores`."""
        return _ranking.sampled_scores(self.samples, self.values(), self.resampling)

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """How far the four orders agree; see `agreement`."""
        return _ranking.agreement(self.samples, self.account, self.resampling)

    @cached_property
    def crossings(self) -> pd.DataFrame:
        """Whose importance overtakes whose; see `crossings`."""
        return _ranking.crossings(self.samples, self.resampling)

    @cached_property
    def stakes(self) -> Array:
        """What each part's failure alone does to the logit, or to its own direct effect, whichever is more.

        A part whose loss is repaired costs little alone, and may be what another one depends on.
        """
        own = self.resampling.mean(self.ds["own_change"].values)
        lost = _curve.single_losses(self.values(), self.resampling).mean(0)
        found: Array = np.maximum(np.abs(own), np.abs(lost))
        return found

    @cached_property
    def paired(self) -> list[tuple[int, int]]:
        """Pairs that were knocked out, by index."""
        return self.plan.paired(self.stakes)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """Interactions of pairs; see `pair_table`."""
        return _pairs.pair_table(self.values(), self.values("still_norm"), self.paired, self.account, self.resampling)

    @cached_property
    def communities(self) -> pd.DataFrame:
        """Communities of parts that interact, and that answer each other; see `communities`."""
        return _communities.communities(self.pairs, self.plan.seed)

    @cached_property
    def single_faults(self) -> pd.DataFrame:
        """Which parts can be lost one at a time; see `single_faults`."""
        return _pairs.single_faults(self.values(), self.resampling, self.loss, ALLOWED)

    @cached_property
    def hidden_pairs(self) -> pd.DataFrame:
        """Pairs of which each can be lost but not both; see `hidden_pairs`."""
        return _pairs.hidden_pairs(self.values(), self.paired, self.resampling, self.loss, ALLOWED)

    @cached_property
    def additivity(self) -> pd.DataFrame:
        """How well losses add up; see `additivity`."""
        return _pairs.additivity(self.values(), self.faults, self.resampling)

    @cached_property
    def transfers(self) -> pd.DataFrame:
        """Shares of each part's loss that others take; see `transfers`."""
        return _load.transfers(self.account, self.resampling)

    @cached_property
    def shares(self) -> pd.DataFrame:
        """Every writer's share of the load before and after each failure; see `shares`."""
        return _load.shares(self.account, self.resampling)

    @cached_property
    def loads(self) -> pd.DataFrame:
        """Where each part's load goes; see `loads`."""
        return _load.loads(self.account, self.resampling)

    @cached_property
    def worst(self) -> pd.DataFrame:
        """The worst sets found of each size; see `worst_table`."""
        found, _ = self.search()
        random = self.plan.random(len(self.parts))[: len(found)]
        return _worst.worst_table(self.values(), found, random, self.groups, self.resampling.weight)

    def search(self) -> tuple[list[_worst.Set], _worst.Candidates]:
        """The worst sets so far, and the sets to measure next; see `search`."""
        weight = self.resampling.weight * _worst.halves(self.groups)[0]
        return _worst.search(self.values(), self.plan.worst, weight)
