"""The tables of one model's runs on several tasks, each computed once, on first use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import Resampling, bootstrap, names
from hydrascope.errors import RunError
from hydrascope.significance.context._concordance import Rated, concordance
from hydrascope.significance.context._tasks import effects_by_task, only_somewhere
from hydrascope.significance.context._variance import Nested, OfTask, variance_table

RESAMPLES = 200
"""Bootstrap resamples of each task's groups, for rankings."""
_SAME = {
    "weight_digest": "weights",
    "ablation": "ablation",
    "dose": "dose",
    "positions": "replaced positions",
    "read": "read positions",
    "target_policy": "target",
    "answer": "answer",
}
"""Attributes in which runs must be alike, with what they are called."""


@dataclass(frozen=True)
class Contexts:
    """Ledgers of one model on one task or more, and how a part's importance depends on them.

    Attributes:
        ledgers: name of the task to its ledger.

    Raises:
        RunError: the ledgers are not of one model and one ablation, or share fewer than two parts,
            or have a single prompt.
    """

    ledgers: Mapping[str, xr.Dataset]

    def __post_init__(self) -> None:
        (first, ds), *others = self.ledgers.items()
        for name, other in others:
            for attribute, what in _SAME.items():
                if ds.attrs.get(attribute) != other.attrs.get(attribute):
                    shown = "model_name" if attribute == "weight_digest" else attribute
                    raise RunError(
                        f"'{first}' and '{name}' differ in their {what} ({ds.attrs[shown]} and {other.attrs[shown]}); "
                        "name runs that differ in their prompts alone"
                    )
        if all(ds.sizes["prompt"] == 1 for ds in self.ledgers.values()):
            raise RunError(
                f"{' and '.join(map(repr, self.ledgers))} {'has' if not others else 'have'} one prompt, "
                "which tells of no variance; name runs on two prompts or more"
            )
        if len(self.parts) < 2:
            raise RunError(
                f"{' and '.join(map(repr, self.ledgers))} share {len(self.parts)} knocked-out parts; name runs with "
                "the same parts (--components), two or more"
            )

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Addresses of the parts that all runs knocked out, in the order of the first."""
        first, *others = (names(ds, "ablated") for ds in self.ledgers.values())
        return tuple(part for part in first if all(part in other for other in others))

    @cached_property
    def rated(self) -> Mapping[str, Rated]:
        """Total effects of the parts in each task."""
        return {name: Rated(self._of_parts(ds, "total_effect"), _groups(ds)) for name, ds in self.ledgers.items()}

    @cached_property
    def variance(self) -> pd.DataFrame:
        """What the variance of each part's effect hangs on; see `variance_table`."""
        tasks = [
            OfTask(
                one.resampling.codes, one.values, self._of_parts(ds, "total_effect_sd") ** 2, int(ds.attrs["donors"])
            )
            for one, ds in zip(self.rated.values(), self.ledgers.values(), strict=True)
        ]
        table = variance_table(Nested.of_tasks(tasks), self.parts)
        table.insert(1, "effect", np.mean([one.mean for one in self.rated.values()], axis=0))
        return table

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """How far tasks order the parts alike; see `concordance`."""
        return concordance(self.rated)

    @cached_property
    def effects(self) -> pd.DataFrame:
        """Every part in every task; see `effects_by_task`."""
        return effects_by_task(self.rated, self.parts)

    @cached_property
    def somewhere(self) -> pd.DataFrame:
        """Parts that matter only in some tasks; see `only_somewhere`."""
        return only_somewhere(self.effects, self.rated, self.ledgers)

    def _of_parts(self, ds: xr.Dataset, variable: str) -> np.ndarray:
        place = {part: column for column, part in enumerate(names(ds, "ablated"))}
        return np.asarray(ds[variable].values[:, [place[part] for part in self.parts]], np.float64)


def _groups(ds: xr.Dataset) -> Resampling:
    return bootstrap(ds, RESAMPLES)
