"""Parts that fail together: interactions of pairs, hidden dependences, and how additive losses are.

    I[k, j] = v(k, j) - v(k) - v(j) + v(0)

Negative: both cost more together than alone. If a later part j answers k's loss, and acts on the logits alone, then
I = -K[k, j] exactly where the norm is left out of v; K is the change of j's direct effect when k is out: active repair.
Parts that do the same work, or that a third one covers for, interact while neither answers the other, I < 0 and K = 0:
passive redundancy. Positive: they lie on one path, so that the second loss has little left to take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from hydrascope.analysis import (
    SIGNIFICANT,
    Array,
    Findings,
    Resampling,
    add_estimate,
    divide,
    false_discovery,
    mean_estimate,
)
from hydrascope.resilience._curve import pair_matrix, single_losses
from hydrascope.resilience._sets import Faults, pair_sets, singles
from hydrascope.resilience._two_ways import LEVEL, RESAMPLES, by_group
from hydrascope.resilience._values import SetValues

ANSWERED = 0.5
"""Least share of an interaction that the later part's answer makes up in active repair; below half of it, passive."""

LEFT = 0.5
"""Least share of an interaction that is left without the final norm, if it is not called the norm's."""

PAIRS = [
    *("part", "other", "interaction", "interaction_lo", "interaction_hi", "p", "significant"),
    *("still_norm", "still_norm_lo", "still_norm_hi"),
    *("joint_loss", "joint_loss_lo", "joint_loss_hi", "alone", "other_alone"),
    *("answer", "answer_lo", "answer_hi", "answer_significant", "unexplained", "kind"),
]


def pair_table(
    values: SetValues,
    still_norm: SetValues,
    pairs: Sequence[tuple[int, int]],
    account: Findings,
    resampling: Resampling,
) -> pd.DataFrame:
    """Interactions of pairs of parts, beside the answer of the later one.

    Args:
        values: values of the sets.
        still_norm: values of the sets if the final norm kept its clean scale.
        pairs: indices of the two parts of each measured pair.
        account: tables of the knock-outs of single parts.
        resampling: groups of prompts.

    Returns:
        One row per pair: `part`, `other`, the later one; `interaction`, and `p` (of "it is zero", adjusted for the
        number of pairs by the false discovery rate) with `significant`; `still_norm`, the interaction with the norm
        left out; `joint_loss`, and both losses alone, `alone` and `other_alone` (positive where it costs); `answer`,
        what the later one gives back when the earlier one is out, K, in logits, with `answer_significant`, and NaN
        where the account does not keep it; `unexplained`, the sum of `still_norm` and `answer`, zero if the answer is
        all; `kind`: `active repair`, `passive redundancy`, `partly active repair`, `final norm` (less than half is left
        without it), `one path`, `redundancy` (no answer is known), or empty where no interaction is clear. Estimates
        have `_lo` and `_hi`.
    """
    count = len(values.parts)
    if not pairs:
        return pd.DataFrame(columns=PAIRS)
    first, second = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
    loss = values.clean[:, None] - values.of(singles(count))
    joint = values.clean[:, None] - values.of(pair_sets(pairs, count))
    found = mean_estimate(_interactions(values, pairs), resampling)
    table: dict[str, Any] = {
        "part": np.array(values.parts, object)[first],
        "other": np.array(values.parts, object)[second],
    }
    add_estimate(table, "interaction", found.interval)
    table["p"] = false_discovery(found.p)
    table["significant"] = table["p"] < SIGNIFICANT
    add_estimate(table, "still_norm", mean_estimate(_interactions(still_norm, pairs), resampling).interval)
    add_estimate(table, "joint_loss", mean_estimate(joint, resampling).interval)
    mean = resampling.mean(loss)
    table["alone"], table["other_alone"] = mean[first], mean[second]
    answers = _answers(account, list(zip(table["part"], table["other"], strict=True)))
    table |= {str(name): answers[name].to_numpy() for name in answers}
    table["unexplained"] = table["still_norm"] + table["answer"]
    found_pairs = pd.DataFrame(table)
    found_pairs["kind"] = [_kind(row) for row in found_pairs.to_dict("records")]
    return found_pairs[PAIRS]


def _interactions(values: SetValues, pairs: Sequence[tuple[int, int]]) -> Float[np.ndarray, "prompts pairs"]:
    first, second = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
    alone = values.of(singles(len(values.parts)))
    joint = values.of(pair_sets(pairs, len(values.parts)))
    found: Float[np.ndarray, "prompts pairs"] = joint - alone[:, first] - alone[:, second] + values.clean[:, None]
    return found


def interactions(
    values: SetValues, pairs: Sequence[tuple[int, int]], resampling: Resampling
) -> Float[np.ndarray, "groups pairs"]:
    """Interactions of pairs by group of prompts.

    Args:
        values: values of the sets.
        pairs: indices of the two parts of each measured pair.
        resampling: groups of prompts.
    """
    return by_group(_interactions(values, pairs), resampling)


def _answers(account: Findings, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """K of each pair with its interval, from the account; NaN where it is not kept."""
    columns = ["change", "change_lo", "change_hi", "significant"]
    names = ["answer", "answer_lo", "answer_hi", "answer_significant"]
    if str(account.ds.attrs.get("detail", "full")) != "full":
        return pd.DataFrame([[np.nan, np.nan, np.nan, False]] * len(pairs), columns=names)
    known = account.who_repairs.set_index(["ablated", "writer"])[columns]
    found = known.reindex(pd.MultiIndex.from_tuples(pairs)).set_axis(names, axis=1)
    found["answer_significant"] = found["answer_significant"].fillna(False).astype(bool)
    return found


def _kind(row: Mapping[Any, Any]) -> str:
    """What an interaction is, or nothing where it is not clear."""
    if not row["significant"]:
        return ""
    if row["still_norm"] / row["interaction"] < LEFT:
        return "final norm"
    if row["interaction"] > 0:
        return "one path"
    if np.isnan(row["answer"]):
        return "redundancy"
    share = row["answer"] / -row["still_norm"] if row["answer_significant"] else 0.0
    if share >= ANSWERED:
        return "active repair"
    return "passive redundancy" if share < ANSWERED / 2 else "partly active repair"


def single_faults(values: SetValues, resampling: Resampling, loss: float, allowed: float) -> pd.DataFrame:
    """Which parts the model can lose one at a time (N-1).

    Args:
        values: values of the sets.
        resampling: groups of prompts.
        loss: least loss of a prompt that counts.
        allowed: largest share of prompts that may lose so much.

    Returns:
        One row per part: `part`, `hit`, the share of prompts that lose so much without it, with `hit_lo` and `hit_hi`,
        and `secure`, whether that is at most the share allowed.
    """
    hit = _hit(values, singles(len(values.parts)), loss)
    table: dict[str, Any] = {"part": np.array(values.parts, object)}
    add_estimate(table, "hit", mean_estimate(hit, resampling).interval)
    table["secure"] = table["hit"] <= allowed
    return pd.DataFrame(table)


def hidden_pairs(
    values: SetValues, pairs: Sequence[tuple[int, int]], resampling: Resampling, loss: float, allowed: float
) -> pd.DataFrame:
    """Pairs of which each part can be lost, but not both (N-2).

    Args:
        values: values of the sets.
        pairs: indices of the two parts of each measured pair.
        resampling: groups of prompts.
        loss: least loss of a prompt that counts.
        allowed: largest share of prompts that may lose so much.

    Returns:
        One row per pair of parts that are secure by themselves: `part`, `other`, `hit`, the share of prompts that lose
        so much without both, with `hit_lo` and `hit_hi`, and `hidden`, whether that is more than the share allowed.
    """
    secure = single_faults(values, resampling, loss, allowed)["secure"].to_numpy()
    some = [(k, j) for k, j in pairs if secure[k] and secure[j]]
    table: dict[str, Any] = {
        "part": np.array([values.parts[k] for k, _ in some], object),
        "other": np.array([values.parts[j] for _, j in some], object),
    }
    hit = _hit(values, pair_sets(some, len(values.parts)), loss)
    add_estimate(table, "hit", mean_estimate(hit, resampling).interval)
    table["hidden"] = table["hit"] > allowed
    return pd.DataFrame(table)


def _hit(values: SetValues, sets: Bool[np.ndarray, "sets parts"], loss: float) -> Float[np.ndarray, "prompts sets"]:
    found: Float[np.ndarray, "prompts sets"] = (values.clean[:, None] - values.of(sets) >= loss).astype(np.float64)
    return found


def additivity(values: SetValues, faults: Faults, resampling: Resampling, seed: int = 0) -> pd.DataFrame:
    """How well losses of single parts, and of pairs, add up to the losses of random sets.

    R2 is one minus the squared error of the prediction over the variance of v(S) between sets of two or more; nothing
    is fitted, so that it is negative where the prediction is worse than no prediction. `line` allows for what saturates
    alike in all sets: it is the R2 of a straight line through measured losses over those of single parts added up.

    Args:
        values: values of the sets.
        faults: the random sets.
        resampling: groups of prompts.
        seed: of the bootstrap over groups and masks.

    Returns:
        One row per rate, and one for all together with a NaN rate: `rate`, `sets`, `singles`, the R2 with losses of
        single parts, and `pairs`, that with interactions too (NaN unless all pairs were measured), each with `_lo` and
        `_hi`; `line`; `damage`, the mean loss, and `damage_singles`, what losses alone predict for it.
    """
    measured = by_group(values.of(faults.failed) - values.clean[:, None, None], resampling)
    alone, interactions = single_losses(values, resampling), pair_matrix(values, resampling)
    several = faults.failed.sum(-1) > 1
    chosen = [(rate, several & (np.array(faults.rates) == rate)[:, None]) for rate in faults.rates]
    rows = []
    for rate, which in [*chosen, (np.nan, several)]:
        if which.sum() < 2:
            continue
        sets, losses = faults.failed[which].astype(np.float64), measured[:, which]
        row: dict[str, Any] = {"rate": rate, "sets": int(which.sum())}
        by_singles = alone @ sets.T
        add_estimate(row, "singles", _r2(losses, by_singles, resampling, seed))
        by_pairs = np.full_like(losses, np.nan)
        if interactions is not None:
            by_pairs = by_singles + np.einsum("sk,kj,sj->s", sets, interactions, sets) / 2
        add_estimate(row, "pairs", _r2(losses, by_pairs, resampling, seed))
        row["line"] = _line(losses.mean(0), by_singles.mean(0))
        row["damage"], row["damage_singles"] = -losses.mean(), -by_singles.mean()
        rows.append(row)
    return pd.DataFrame(rows)


def _line(measured: Array, predicted: Array) -> float:
    """R2 of a straight line; NaN where either does not vary."""
    if not (measured.std() > 0 and predicted.std() > 0):
        return float("nan")
    return float(np.corrcoef(measured, predicted)[0, 1] ** 2)


def _r2(
    measured: Float[np.ndarray, "groups sets"],
    predicted: Float[np.ndarray, "groups sets"],
    resampling: Resampling,
    seed: int,
) -> tuple[float, float, float]:
    groups, sets = measured.shape
    value = float(_explained(measured.mean(0)[None], predicted.mean(0)[None], np.ones((1, sets)))[0])
    if not resampling.conclusive or np.isnan(value):
        return value, np.nan, np.nan
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES) / groups
    counts = rng.multinomial(sets, np.full(sets, 1 / sets), RESAMPLES).astype(np.float64)
    found = _explained(drawn @ measured, drawn @ predicted, counts)
    lo, hi = np.nanquantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return value, float(lo), float(hi)


def _explained(
    measured: Float[np.ndarray, "draws sets"],
    predicted: Float[np.ndarray, "draws sets"],
    counts: Float[np.ndarray, "draws sets"],
) -> Float[np.ndarray, " draws"]:
    """R2 of predictions, each set as often as it was drawn."""
    mean = (counts * measured).sum(1, keepdims=True) / counts.sum(1, keepdims=True)
    missed, whole = (counts * (measured - predicted) ** 2).sum(1), (counts * (measured - mean) ** 2).sum(1)
    return 1 - divide(missed, whole)
