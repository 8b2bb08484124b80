"""What a set of failed parts leaves: values read from ledgers, by set.

logit       the account's logit: centred, of the target, or of target minus foil
log_prob    log-probability of the target, nats
still_norm  the logit if the final norm kept its clean scale
kl          minus the KL divergence from the clean next-token distribution, nats
accuracy    share of draws in which the target is the most probable token, or above its foil
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from hydrascope.analysis import Array
from hydrascope.errors import DetailDropped
from hydrascope.resilience._sets import key, members

VALUES: Mapping[str, tuple[str, ...]] = {
    "logit": ("clean_logit", "total_effect"),
    "still_norm": ("clean_logit", "norm_effect", "total_effect"),
    "log_prob": ("clean_prob", "log_prob_change"),
    "kl": ("kl",),
    "accuracy": ("clean_target_first", "target_first"),
}
"""Value to the ledger variables it is made of."""


def values_in(ds: xr.Dataset) -> list[str]:
    """Values that a ledger's variables allow."""
    return [name for name, needed in VALUES.items() if all(variable in ds for variable in needed)]


@dataclass(frozen=True)
class SetValues:
    """The value of every measured set of parts, on every prompt.

    Attributes:
        parts: addresses of the parts.
        clean: value of the clean run.
        values: value of each measured set.
        place: column of each set.
    """

    parts: tuple[str, ...]
    clean: Float[np.ndarray, " prompts"]
    values: Float[np.ndarray, "prompts sets"]
    place: Mapping[bytes, int]

    @classmethod
    def read(cls, ledgers: Sequence[xr.Dataset], parts: Sequence[str], value: str) -> SetValues:
        """Read one value of all knock-outs of some ledgers.

        Args:
            ledgers: ledgers of the same prompts; knock-outs that name other parts are left out.
            parts: addresses of the parts.
            value: a name in `VALUES`.

        Raises:
            DetailDropped: the ledgers do not keep what the value is made of.
        """
        if value not in values_in(ledgers[0]):
            raise DetailDropped(f"there is no value '{value}' in this run; it has {', '.join(values_in(ledgers[0]))}")
        place: dict[bytes, int] = {}
        columns: list[Array] = []
        for ds in ledgers:
            found = _by_knockout(ds, value)
            for column, name in enumerate(ds["ablated"].values):
                named = members(str(name), parts)
                if named.sum() == len(str(name).split("+")) and key(named) not in place:
                    place[key(named)] = len(columns)
                    columns.append(found[:, column])
        return cls(tuple(parts), _clean(ledgers[0], value), np.stack(columns, 1), place)

    def of(self, sets: Bool[np.ndarray, "*shape parts"]) -> Float[np.ndarray, "prompts ..."]:
        """Values of some sets; the empty one is the clean run."""
        flat = sets.reshape(-1, sets.shape[-1])
        packed = np.packbits(flat, axis=1)
        columns = [self.place[one.tobytes()] if one.any() else -1 for one in packed]
        known = np.concatenate([self.values, self.clean[:, None]], 1)
        return known[:, columns].reshape(len(known), *sets.shape[:-1])

    def of_size(self, size: int) -> Bool[np.ndarray, "_ parts"]:
        """All measured sets with so many parts, in the order in which they were measured."""
        packed = np.frombuffer(b"".join(self.place), np.uint8).reshape(len(self.place), -1)
        sets = np.unpackbits(packed, axis=1, count=len(self.parts)).astype(bool)
        found: Bool[np.ndarray, "_ parts"] = sets[sets.sum(1) == size]
        return found

    def has(self, one: Bool[np.ndarray, " parts"]) -> bool:
        """Whether a set was measured."""
        return key(one) in self.place


def _clean(ds: xr.Dataset, value: str) -> Float[np.ndarray, " prompts"]:
    if value == "kl":
        return np.zeros(ds.sizes["prompt"])
    found = np.asarray(ds[VALUES[value][0]].values, np.float64)
    return np.log(found) if value == "log_prob" else found


def _by_knockout(ds: xr.Dataset, value: str) -> Float[np.ndarray, "prompts ablated"]:
    change = np.asarray(ds[VALUES[value][-1]].values, np.float64)
    if value == "still_norm":
        change = change - np.asarray(ds["norm_effect"].values, np.float64)
    if value == "kl":
        return -change
    return change if value == "accuracy" else _clean(ds, value)[:, None] + change
