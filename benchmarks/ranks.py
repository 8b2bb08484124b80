"""Do intervals of Kendall's tau between scores of importance hold what they promise? Planted effects and interactions.

    python benchmarks/ranks.py > table.md

Three minutes on one core. Parts lose exponential amounts and interact two by two, so that importance under failure and
Shapley values are known; prompts differ in every loss. Scores are a total effect, a cheap estimate of it whose line
differs by part, and two scores of a stress test, measured on random sets. Beside it stands how often the estimate and t
times the spread of its resamples alone would hold the true tau.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from hydrascope.analysis import Ordered, kendalls_tau, resample, spread_interval
from hydrascope.resilience import Faults, Importance, SetValues
from hydrascope.significance import Score, ScoreElsewhere

RATES = (0.1, 0.3, 0.5, 0.7, 0.9)
REPETITIONS, RESAMPLES = 100, 200
DESIGNS = ((8, 40, 30, 0.5), (12, 20, 30, 0.5), (24, 64, 12, 0.5))
"""Parts, masks at each rate, prompts, and how much a part's loss differs over prompts, as a share of it."""
PAIRS = (
    ("total", "under failure"),
    ("total", "Shapley"),
    ("cheap", "Shapley"),
    ("under failure", "Shapley"),
    ("total", "cheap"),
)


def planted(design: tuple[int, int, int, float], seed: int) -> tuple[dict[str, Score], dict[str, np.ndarray]]:
    """Scores as a ranking and a stress test of the same prompts would measure them, and what they are in truth."""
    parts, masks, prompts, spread = design
    rng, every = np.random.default_rng((seed, parts)), range(parts)
    alone, pairs = -rng.exponential(1, parts), np.triu(rng.normal(0, 2 / parts, (parts, parts)), 1)
    pairs = pairs + pairs.T
    faults = Faults.draw(tuple(f"attn.{part}" for part in every), RATES, masks, seed=seed)
    single, everything = np.eye(parts, dtype=bool), np.ones((1, parts), bool)
    sets = np.unique(np.concatenate([single, everything, ~single, faults.failed.reshape(-1, parts)]), axis=0)
    sets = sets[sets.any(1)]
    noise = rng.normal(size=(2, prompts, parts))
    losses = alone + spread * np.abs(alone) * noise[0] + 0.1 * noise[1]
    left = losses @ sets.T + np.einsum("si,ij,sj->s", sets, pairs, sets) / 2 + rng.normal(0, 0.2, (prompts, len(sets)))
    place = {np.packbits(one).tobytes(): column for column, one in enumerate(sets)}
    values = SetValues(faults.parts, np.zeros(prompts), left, place)
    samples = Importance.measure(values, faults, resample(np.arange(prompts), RESAMPLES))
    cells = {
        "under failure": [samples.at(part, 1 + RATES.index(0.3)) for part in every],
        "Shapley": [samples.shapley(part) for part in every],
    }
    line, measured = rng.uniform(0.3, 1.7, parts), values.of(single)
    scores: dict[str, Score] = {
        "total": Score("total", measured + rng.normal(0, 0.3, measured.shape)),
        "cheap": Score("cheap", measured * line + rng.normal(0, 0.1, measured.shape)),
    }
    for name, some in cells.items():
        by_group, by_mask = (np.stack([cell.mean(axis) for cell in some], 1) for axis in (1, 0))
        value = by_group.mean(0)
        scores[name] = ScoreElsewhere(name, value[None], by_group=by_group, by_mask=by_mask - value)
    truth = {"total": alone, "cheap": alone * line}
    truth |= {"under failure": -(alone + 0.3 * pairs.sum(1)), "Shapley": -(alone + 0.5 * pairs.sum(1))}
    return scores, truth


def held(design: tuple[int, int, int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Whether intervals hold the true tau, and whether the spread of resamples alone does, by repetition and pair."""
    prompts, resampling, found = design[2], resample(np.arange(design[2]), RESAMPLES), []
    for seed in range(REPETITIONS):
        scores, truth = planted(design, seed)
        orders = {
            name: Ordered(np.average(score.values, axis=0), score.drawn(resampling)) for name, score in scores.items()
        }
        for first, second in PAIRS:
            true = stats.kendalltau(*(np.abs(truth[name]) for name in (first, second))).statistic
            tau, lo, hi = kendalls_tau(orders[first], orders[second], prompts, by_size=True)
            drawn = [stats.kendalltau(*np.abs(both)).statistic
                     for both in zip(orders[first].drawn, orders[second].drawn, strict=True)]  # fmt: skip
            _, plain_lo, plain_hi = spread_interval(tau, np.array(drawn), prompts, (-1, 1))
            found.append((lo <= true <= hi, plain_lo <= true <= plain_hi))
    both = np.array(found).reshape(REPETITIONS, len(PAIRS), 2).mean(0)
    return both[:, 0], both[:, 1]


def lines() -> Iterator[str]:
    """The table, line by line."""
    yield f"| parts | masks | prompts | {' | '.join(f'{first}, {second}' for first, second in PAIRS)} |"
    yield f"|---|---|---|{'---|' * len(PAIRS)}"
    for design in DESIGNS:
        told = [f"{100 * mine:.0f} ({100 * plain:.0f})" for mine, plain in zip(*held(design), strict=True)]
        yield f"| {' | '.join(map(str, design[:3]))} | {' | '.join(told)} |"


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
