"""What became of each loss: repaired on the whole, made worse, or neither; and what hides it.

Two questions, one after the other, so that the second is asked of no more than what was lost:

1. What was clearly lost? An own change below zero, corrected over all knock-outs, of a part that was really removed.
2. What did the rest do about it? Corrected over the clear losses. *Repaired* is what is clearly above zero three times:
   all later writers together, these with the final norm, and these beyond the random-direction control. *Made worse* is
   what is clearly below three times, and grows with the loss from prompt to prompt: a token that was chosen for its
   clean logit is lowered by any disturbance. What the norm alone gives back is the norm's.

Effects below `FLOOR` of the clean logit and answers below `LEAST_SHARE` of the loss are called negligible, however
certain their sign. *Hydra* is attention answering attention: after a clear loss of an attention layer or head, later
attention together is clearly above zero, and beyond the control.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hydrascope.analysis._statistics import Array, Estimate, Resampling, Simultaneous, mean_interval, simultaneous_means

FLOOR = 0.02
"""Least own change as a share of the mean |clean logit|."""
LEAST_SHARE = 0.1
"""Least answer as a share of what was lost."""
ATTENTION = ("attn", "head")
"""Kinds of knock-outs after which an answer of attention is the Hydra effect."""

Flags = NDArray[np.bool_]


@runtime_checkable
class Means(Protocol):
    """How the mean of each knock-out is taken, and told with its interval."""

    def mean(self, values: Array) -> Estimate:
        """Mean of each knock-out with the interval that tables show; from (rows, knock-outs)."""
        ...

    def linear(self, values: Array) -> Array:
        """Values, (rows, knock-outs), whose plain mean over all rows is that mean, and varies as it does."""
        ...


@dataclass(frozen=True)
class OverPrompts:
    """Means over all prompts.

    Attributes:
        resampling: what is independent.
    """

    resampling: Resampling

    def mean(self, values: Array) -> Estimate:
        """Mean over the prompts, with its interval."""
        return mean_interval(values, self.resampling)

    def linear(self, values: Array) -> Array:
        """The values themselves."""
        return values


@dataclass(frozen=True)
class Account:
    """The account of every knock-out, row by row, and what may be asked of it.

    Attributes:
        own: own changes, (rows, knock-outs), in logits.
        answers: what later writers of each kind changed by.
        norm: norm effects.
        control: what later writers of each kind changed by under a random direction; None without control.
        removed: knock-outs whose part was really removed and whose own changes do not cancel.
        growing: knock-outs whose loss draws the more further loss the larger it is, beyond the control.
        kinds: kind of each knock-out.
        clean: mean size of the clean logit.
        kept: knock-outs that the replacement left in place, although the part writes much.
        shared: knock-outs whose loss shows only jointly with that of a part that does not answer it.
        means: over which rows the mean of each knock-out is.
    """

    own: Array
    answers: Mapping[str, Array]
    norm: Array
    control: Mapping[str, Array] | None
    removed: Flags
    growing: Flags
    kinds: NDArray[Any]
    clean: float
    kept: Flags
    shared: Flags
    means: Means


def outcomes(account: Account, resampling: Resampling) -> dict[str, Any]:
    """What became of each loss.

    Args:
        account: of every knock-out.
        resampling: the bootstrap.

    Returns:
        Columns: `lost`; `outcome`: `repaired`, `made worse`, `norm` (only the norm gives back) or `open`, empty where
        nothing was lost; `hydra`; `attn_below`, what the answer of later attention is below, with intervals that hold
        for all clear losses of attention (NaN elsewhere); `hidden_by`, what hides the loss from the total effect:
        `active` (later writers give back more than the norm), `norm` (the norm does), `passive` (nobody answers, but
        another part does the same: only joint knock-outs show it) or `nothing`; and, where nothing was lost, `not
        removed` of what the replacement left in place, otherwise empty.
    """
    lost = _lost(account, resampling)
    at = np.flatnonzero(lost)
    answer = sum(account.answers.values(), np.zeros_like(account.own))
    asked = _Asked(account, at, resampling)
    signs = [asked.signs(answer), asked.signs(answer + account.norm)]
    if account.control is not None:
        control = sum(account.control.values(), np.zeros_like(account.own))
        signs.append(asked.signs(answer - control))
    repaired, worse = (np.all([one == sign for one in signs], axis=0) for sign in (1, -1))
    worse &= account.growing[at]
    by_norm = ~repaired & (signs[1] == 1) & (asked.signs(account.norm) == 1)
    outcome = np.full(len(lost), "", dtype=object)
    outcome[at] = np.select([repaired, worse, by_norm], ["repaired", "made worse", "norm"], "open")
    hidden = np.where(account.kept & ~lost, "not removed", "").astype(object)
    larger = account.means.mean(account.norm - answer)[0][at] > 0
    hides = [repaired & ~larger, by_norm | (repaired & larger), account.shared[at]]
    hidden[at] = np.select(hides, ["active", "norm", "passive"], "nothing")
    hydra, below = _hydra(account, lost, resampling)
    return {"lost": lost, "outcome": outcome, "hydra": hydra, "attn_below": below, "hidden_by": hidden}


def _lost(account: Account, resampling: Resampling) -> Flags:
    joint = simultaneous_means(account.means.linear(account.own), resampling)
    high = account.means.mean(account.own)[2]
    found: Flags = joint.significant & (high < 0) & (-joint.mean >= FLOOR * account.clean) & account.removed
    return found


@dataclass(frozen=True)
class _Asked:
    """Some knock-outs that are asked together whether they were answered."""

    account: Account
    at: NDArray[np.intp]
    resampling: Resampling

    def joint(self, values: Array) -> Simultaneous:
        """Their means, with intervals that hold for all of them."""
        return simultaneous_means(self.account.means.linear(values)[:, self.at], self.resampling)

    def signs(self, values: Array) -> NDArray[np.intp]:
        """1 or -1 where a mean is clear, also by its own interval, and not negligible beside the loss; otherwise 0."""
        joint, (_, low, high) = self.joint(values), self.account.means.mean(values)
        least = LEAST_SHARE * np.abs(self.account.means.mean(self.account.own)[0])
        clear = joint.significant & ((low > 0) | (high < 0))[self.at] & (np.abs(joint.mean) >= least[self.at])
        found: NDArray[np.intp] = np.where(clear, np.sign(joint.mean), 0).astype(np.intp)
        return found


def _hydra(account: Account, lost: Flags, resampling: Resampling) -> tuple[Flags, Array]:
    answer = account.answers.get("attn", np.zeros_like(account.own))
    at = np.flatnonzero(lost & np.isin(account.kinds, ATTENTION) & answer.any(0))
    asked = _Asked(account, at, resampling)
    found, below = np.zeros(len(lost), bool), np.full(len(lost), np.nan)
    clear = asked.signs(answer) == 1
    if account.control is not None:
        clear &= asked.signs(answer - account.control["attn"]) == 1
    found[at], below[at] = clear, asked.joint(answer).hi
    return found, below


def strongest(table: pd.DataFrame) -> Any:
    """The label of the row that a summary describes and figures show first.

    Of the repaired losses that whose net repair, norm included, has the largest lower end. Where none is repaired: the
    largest further loss, the largest answer of attention to attention, the largest clear loss, the largest own change.

    Args:
        table: a row per knock-out, with the columns of `outcomes`.
    """
    repaired, worse = (table[table["outcome"] == outcome] for outcome in ("repaired", "made worse"))
    if len(repaired):
        return repaired["self_repair_lo"].idxmax()
    if len(worse):
        return worse["self_repair_hi"].idxmin()
    if len(hydra := table[table["hydra"]]):
        return hydra["compensation_attn"].idxmax()
    lost = table[table["lost"]]
    return (lost if len(lost) else table)["own_change"].abs().idxmax()
