"""Differences between two runs, with intervals over the groups of their shared prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._pooled import effects, pooled
from hydrascope.analysis._repair import repair
from hydrascope.analysis._statistics import (
    RESAMPLES,
    SIGNIFICANT,
    Array,
    Estimated,
    Resampling,
    add_estimate,
    divide,
    fit_line,
    holm,
    jackknife,
    mean_interval,
    ratio_interval,
    search,
    simultaneous_means,
    slope_difference,
    with_ends,
)
from hydrascope.analysis.comparison._pairs import Pairing, pair

DEPTHS = 5
"""Stretches of relative depth, of equal length."""
SHARES = ("restored", "restored_with_norm", "restored_attn", "restored_mlp", "restored_mixer", "restored_norm")


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side; differences are second minus first.

    Attributes:
        first: ledger of the run that is compared with.
        second: ledger of the run that is told of.
        names: what both are called.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.
    """

    first: xr.Dataset
    second: xr.Dataset
    names: tuple[str, str]
    resamples: int = RESAMPLES
    seed: int = 0
    pairing: Pairing = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairing", pair(self.first, self.second))

    @cached_property
    def resampling(self) -> Resampling:
        """What is independent among the shared prompts, by the groups of the first run."""
        return access.bootstrap(self.pairing.first, self.resamples, self.seed)

    @cached_property
    def knockouts(self) -> pd.DataFrame:
        """Every shared knock-out in both runs.

        Returns:
            One row per knock-out, none where nothing is shared: `ablated`, `ablated_layer`, `ablated_kind`,
            `n_prompts`; `own_change`, `compensation_attn`, `compensation_mlp` (...), `compensation`, `norm_effect`,
            `self_repair`, `total_effect`: differences of means in logits, with `_lo`, `_hi`, and `_first` and
            `_second`, the means themselves; `restored`, `restored_with_norm`, `restored_attn`, ..., `restored_norm`,
            `slope`: differences of shares and slopes in that form, where both lose something, NaN elsewhere;
            `lost_first`, `lost_second`: clear losses; `p`: of the difference in `restored_with_norm`, adjusted over
            the losses clear in both (Holm), NaN elsewhere; `total_effect_p`: of the difference in the total effect,
            adjusted over all rows (max-|t|); `outcome`: `more` or `less` repaired, `alike` where this cannot be told,
            empty where not both lose.
        """
        one, other = self.pairing.first, self.pairing.second
        table = access.knockout_columns(one, slice(None) if self.pairing.shared else slice(0))
        if not self.pairing.shared:
            return pd.DataFrame(table)
        table["n_prompts"] = one.sizes["prompt"]
        a, b = effects(one), effects(other)
        b = {name: b[name] for name in a if name in b}
        for name, values in b.items():
            self._add(table, name, mean_interval(values - a[name], self.resampling), a[name], values)
        shares = {}
        for name, answer in _ANSWERS.items():
            if answer in b:
                shares[name] = self._share_difference(a, b, answer)
                add_estimate(table, name, shares[name].interval)
                for ledger, terms in (("first", a), ("second", b)):
                    share = ratio_interval(terms[answer], -terms["own_change"], self.resampling)
                    table[f"{name}_{ledger}"] = share[0]
        lines = [(values["own_change"], values["compensation"]) for values in (b, a)]
        add_estimate(table, "slope", slope_difference(lines[0], lines[1], self.resampling).interval)
        for ledger, (x, y) in zip(("second", "first"), lines, strict=True):
            table[f"slope_{ledger}"] = fit_line(x, y, self.resampling).slope.value
        for ledger, ds in (("first", one), ("second", other)):
            table[f"lost_{ledger}"] = repair(ds, resamples=self.resamples, seed=self.seed)["lost"].to_numpy()
        both = table["lost_first"] & table["lost_second"]
        for name in (*shares, "slope"):
            for end, known in {"": both, "_lo": both, "_hi": both, **_lost_in(table)}.items():
                table[f"{name}{end}"] = np.where(known, table[f"{name}{end}"], np.nan)
        table["p"] = holm(np.where(both, shares["restored_with_norm"].p, np.nan))
        joint = simultaneous_means(b["total_effect"] - a["total_effect"], self.resampling)
        table["total_effect_p"] = joint.p
        sure = table["p"] < SIGNIFICANT
        more = table["restored_with_norm"] > 0
        table["outcome"] = np.select([sure & more, sure, both], ["more", "less", "alike"], "").astype(object)
        return pd.DataFrame(table)

    @cached_property
    def responders(self) -> pd.DataFrame:
        """Every answer that both runs have: the matrix of differences.

        Returns:
            One row per shared knock-out and writer behind it, none where nothing is shared or a run kept only sums by
            kind: `ablated`, `ablated_layer`, `ablated_kind`, `writer`, `writer_layer`, `writer_kind`, `is_own`;
            `change`, the difference of mean changes in logits, with `_lo`, `_hi`, `_first`, `_second`; `p`, adjusted by
            the false discovery rate over answers, NaN for own changes; `significant`.
        """
        one, other = self.pairing.first, self.pairing.second
        if not (self.pairing.shared and access.has_writers(one) and access.has_writers(other)):
            return pd.DataFrame(columns=[*_CELL, *with_ends("change"), "change_first", "change_second", *_SURE])
        where = {name: place for place, name in enumerate(access.names(other, "writer"))}
        at = [place for place, name in enumerate(access.names(one, "writer")) if name in where]
        other = other.isel(writer=[where[access.names(one, "writer")[place]] for place in at])
        one = one.isel(writer=at)
        free, own = access.answering(one), one["is_own"].values.astype(bool)
        k, w = np.nonzero(free | own)
        a, b = (access.numbers(ds, "change")[:, k, w] for ds in (one, other))
        table = access.knockout_columns(one, k) | access.writer_columns(one, w) | {"is_own": own[k, w]}
        self._add(table, "change", mean_interval(b - a, self.resampling), a, b)
        answers = ~table["is_own"]
        table["p"] = np.full(len(k), np.nan)
        table["p"][answers] = search((b - a)[:, answers], self.resampling)
        table["significant"] = table["p"] < SIGNIFICANT
        return pd.DataFrame(table)

    @cached_property
    def by_depth(self) -> pd.DataFrame:
        """Both runs over relative depth, whatever they share; each on its own prompts.

        Returns:
            One row per run, kind of knock-out and stretch of depth: `run`, `kind`, `depth` (middle of the stretch, 0
            first block, 1 last), and the columns of `pooled`.
        """
        tables = [_over_depth(ds, self.resamples, self.seed).assign(run=name) for name, ds in self._whole.items()]
        return pd.concat(tables, ignore_index=True)

    @property
    def _whole(self) -> Mapping[str, xr.Dataset]:
        return dict(zip(self.names, (self.first, self.second), strict=True))

    def _add(self, table: dict[str, Any], name: str, estimate: Any, first: Array, second: Array) -> None:
        add_estimate(table, name, estimate)
        table[f"{name}_first"], table[f"{name}_second"] = map(self.resampling.mean, (first, second))

    def _share_difference(self, a: dict[str, Array], b: dict[str, Array], answer: str) -> Estimated:
        """How much more of its loss the second run gets back: a difference of two ratios of sums."""
        sums = [self.resampling.sums(part) for run in (b, a) for part in (run[answer], -run["own_change"])]
        return jackknife(lambda *s: divide(s[0], s[1]) - divide(s[2], s[3]), self.resampling, *sums)


_CELL = ["ablated", "ablated_layer", "ablated_kind", "writer", "writer_layer", "writer_kind", "is_own"]
_SURE = ["p", "significant"]
_ANSWERS = {name: name.replace("restored", "compensation") for name in SHARES} | {
    "restored_norm": "norm_effect",
    "restored_with_norm": "self_repair",
}


def _lost_in(table: dict[str, Any]) -> dict[str, Any]:
    return {f"_{which}": table[f"lost_{which}"] for which in ("first", "second")}


def _over_depth(ds: xr.Dataset, resamples: int, seed: int) -> pd.DataFrame:
    resampling, values = access.bootstrap(ds, resamples, seed), effects(ds)
    columns = access.knockout_columns(ds)
    last = max(1, int(ds.attrs["n_layers"]) - 1)
    stretch = np.minimum((columns["ablated_layer"] / last * DEPTHS).astype(int), DEPTHS - 1)
    rows = []
    for kind in dict.fromkeys(columns["ablated_kind"]):
        for place in np.unique(stretch[columns["ablated_kind"] == kind]):
            of = (columns["ablated_kind"] == kind) & (stretch == place)
            rows.append({"kind": kind, "depth": (place + 0.5) / DEPTHS, **pooled(values, of, resampling)})
    return pd.DataFrame(rows)
