"""Conditional co-ablation: whose knock-out begins to matter once the primaries are out.

With dz_u|S = TE(S u {u}) - TE(S), the change of the answer's logit when u is lost beside the primaries S, and the
energy E its mean square over prompts,

    conditional = E(dz_u|S) - E(dz_u)            coupling = mean (dz_u|S - dz_u)**2
    amplification = E(dz_u|S) / E(dz_u)          interaction = mean of dz_u|S - dz_u, with its sign

Gong et al. (arXiv 2607.01940) take the energy in the Fisher metric of the whole next-token distribution; here it is
that of the answer alone, in squared logits, since a ledger keeps no logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from hydrascope.analysis import Findings, Resampling, add_estimate, mean_estimate, names, ratio_interval

JOINS = "+"

ByPart = Float[np.ndarray, "prompts parts"]


@dataclass(frozen=True)
class Effects:
    """Effects of losing each candidate, alone and beside the primaries.

    Attributes:
        parts: addresses of the candidates.
        alone: total effect of each alone.
        given: total effect of each beside the primaries, minus that of the primaries.
    """

    parts: tuple[str, ...]
    alone: ByPart
    given: ByPart

    @classmethod
    def read(cls, ledgers: Sequence[xr.Dataset], primaries: Sequence[str], parts: Sequence[str]) -> Effects:
        """Read the effects of all candidates.

        Args:
            ledgers: ledgers of the same prompts, with the knock-outs alone and beside the primaries.
            primaries: addresses of the parts that are out.
            parts: addresses of all parts; the candidates are those that are not primaries.
        """
        known = by_set(ledgers, "total_effect")
        candidates = tuple(part for part in parts if part not in primaries)
        out = known[frozenset(primaries)]
        alone = np.stack([known[frozenset({part})] for part in candidates], 1)
        given = np.stack([known[frozenset({part, *primaries})] - out for part in candidates], 1)
        return cls(candidates, alone, given)


def by_set(ledgers: Sequence[xr.Dataset], variable: str) -> Mapping[frozenset[str], Float[np.ndarray, " prompts"]]:
    """One variable of every knock-out, by the set of its parts whatever their order."""
    return {
        frozenset(name.split(JOINS)): np.asarray(ds[variable].values[:, column], np.float64)
        for ds in ledgers
        for column, name in enumerate(names(ds, "ablated"))
    }


def backups(effects: Effects, resampling: Resampling) -> pd.DataFrame:
    """How much each candidate's loss matters more once the primaries are out.

    Args:
        effects: of all candidates.
        resampling: groups of prompts.

    Returns:
        One row per candidate: `part`; `energy`, of its loss alone, `energy_given`, beside the primaries, `conditional`,
        the second minus the first, and `coupling` (squared logits); `amplification`, their ratio; `interaction`, below
        zero where both cost more together than alone (logits). Each has `_lo` and `_hi`.
    """
    alone, given = effects.alone, effects.given
    table: dict[str, Any] = {"part": np.array(effects.parts, object)}
    means = {
        "energy": alone**2,
        "energy_given": given**2,
        "conditional": given**2 - alone**2,
        "coupling": (given - alone) ** 2,
        "interaction": given - alone,
    }
    for name, values in means.items():
        add_estimate(table, name, mean_estimate(values, resampling).interval)
    add_estimate(table, "amplification", ratio_interval(given**2, alone**2, resampling))
    return pd.DataFrame(table)


def find_primaries(account: Findings, allowed: Sequence[str]) -> tuple[str, ...]:
    """The part whose loss is repaired most, or where none clearly is, the part that loses most of its own.

    Args:
        account: tables of the knock-outs of single parts.
        allowed: addresses that may be chosen.
    """
    table = account.repair
    table = table[table["ablated"].isin(list(allowed))]
    repaired = table[(table["own_change_hi"] < 0) & (table["self_repair_lo"] > 0)]
    if len(repaired):
        return (str(repaired["ablated"].iloc[int(repaired["self_repair"].argmax())]),)
    return (str(table["ablated"].iloc[int(table["own_change"].argmin())]),)
