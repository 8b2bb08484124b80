"""Set functions whose answers are known: what a set of failed parts leaves, by enumeration.

A game gives every one of the 2^n sets a value; importance under failure, Banzhaf and Shapley values are sums over all
sets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb

import numpy as np

from hydrascope.analysis import Findings
from hydrascope.resilience import Plan, Resilience, SetValues
from tests.support.synthetic import Plant, synthetic_ledger


def every_set(parts: int) -> np.ndarray:
    """All sets, the empty one first. [2^n, n]"""
    return ((np.arange(2**parts)[:, None] >> np.arange(parts)) & 1).astype(bool)


def set_values(games: np.ndarray, names: Sequence[str] | None = None) -> SetValues:
    """Values of every set on every prompt, as a stress test would have measured them. [P, 2^n]"""
    parts = int(np.log2(games.shape[1]))
    place = {np.packbits(one).tobytes(): column for column, one in enumerate(every_set(parts)[1:])}
    return SetValues(tuple(names or map(str, range(parts))), games[:, 0], games[:, 1:], place)


def importance(game: np.ndarray, rate: float) -> np.ndarray:
    """I_i(q) of every part. [n]"""
    return _over_sets(game, lambda size, others: rate**size * (1 - rate) ** (others - size))


def shapley(game: np.ndarray) -> np.ndarray:
    """Shapley value of every part. [n]"""
    return _over_sets(game, lambda size, others: 1 / ((others + 1) * comb(others, size)))


def mean_value(game: np.ndarray, rate: float) -> float:
    """Mean value when every part fails with a probability."""
    sizes = every_set(int(np.log2(len(game)))).sum(1)
    return float((game * rate**sizes * (1 - rate) ** (sizes.max() - sizes)).sum())


def _over_sets(game: np.ndarray, weight: Callable[[int, int], float]) -> np.ndarray:
    sets = every_set(int(np.log2(len(game))))
    found = []
    for part in range(sets.shape[1]):
        without = np.flatnonzero(~sets[:, part])
        weights = np.array([weight(int(size), sets.shape[1] - 1) for size in sets[without].sum(1)])
        found.append(float((weights * (game[without] - game[without + 2**part])).sum()))
    return np.array(found)


def saturating(parts: int, seed: int) -> np.ndarray:
    """Losses that add up, with interactions of pairs, inside a curve that flattens. [2^n]"""
    rng, sets = np.random.default_rng(seed), every_set(parts).astype(float)
    alone, pairs = rng.exponential(1, parts), np.triu(rng.normal(0, 0.4, (parts, parts)), 1)
    return 3 * np.tanh((4 - sets @ alone - np.einsum("si,ij,sj->s", sets, pairs, sets)) / 3)


def on_prompts(game: np.ndarray, prompts: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """Prompts that differ in level, in each part's loss, and at random, around a game. [P, 2^n]"""
    rng, parts = np.random.default_rng(seed), int(np.log2(len(game)))
    level = rng.normal(0, 0.8, (prompts, 1))
    losses = rng.normal(0, 0.25, (prompts, parts)) @ every_set(parts).T.astype(float)
    return game + level + losses + rng.normal(0, 0.3, (prompts, len(game)))


def measured(
    values: np.ndarray,
    parts: Sequence[str],
    *plants: Plant,
    groups: int | None = None,
    masks: int = 20,
    loss: float = 0.5,
) -> Resilience:
    """A finished stress test in which every set was measured. [P, 2^n]

    Args:
        values: what every set leaves of the logit on every prompt; right answers are those above zero.
        parts: addresses of the parts, sub-layers of eight blocks.
        plants: who answers whom in the account of the single parts; nothing else moves there.
        groups: number of groups of prompts; every prompt by itself if None.
        masks: random sets at each rate.
        loss: logits that a prompt must lose to count.
    """
    ds = synthetic_ledger(
        len(values),
        ablated=parts,
        plants=plants,
        n_groups=groups or len(values),
        norm=0.0,
        donor_noise=0.0,
        noise=0.0,
    )
    ds = ds.drop_vars(["log_prob_change", "kl"])  # of sets, the logit and right answers are all that is known
    kept = {name: set_values(one, parts) for name, one in {"logit": values, "accuracy": (values > 0) * 1.0}.items()}
    plan = Plan((0.3, 0.6), masks, pairs=len(parts), worst=2, seed=0)
    return Resilience(tuple(parts), Findings(ds), (ds,), plan, 0.5, loss, {**kept, "still_norm": kept["logit"]})
