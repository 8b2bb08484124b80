"""Do intervals of importance under failure, and p-values of communities, hold what they promise?

    python benchmarks/faults.py > table.md

Importance: random masks against enumeration of all sets. Set functions of 8 to 10 parts with interactions of all
orders, on 30 prompts that differ in level, in each part's loss and at random. Where fewer than two masks tell of a part
no interval is given, and none is counted. "Variance saved" is that of the plain difference of means over that of the
estimate, where both are known.

Communities: how often they are called so where there are none, because all interactions are noise of one size or of
sizes that go with the strengths of both parts, and where two sets of parts interact among themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pandas as pd

from hydrascope.analysis import resample
from hydrascope.resilience import CLEAR, Faults, Importance, communities, two_ways

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support import games

RATES = (0.1, 0.3, 0.5, 0.7, 0.9)
REPETITIONS, PROMPTS = 200, 30


def errors(parts: int, masks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors by repetition, part and rate, the last column the Shapley value, with and without control variates.

    Args:
        parts: number of parts.
        masks: random sets at each rate.

    Returns:
        Errors; half widths of the intervals, NaN where none is given; errors of plain differences of means.
    """
    game, resampling = games.saturating(parts, seed=parts), resample(np.arange(PROMPTS))
    truth = np.stack([*(games.importance(game, rate) for rate in RATES), games.shapley(game)], 1)
    places = [(part, node) for part in range(parts) for node in range(1, len(RATES) + 1)]
    found = []
    for repetition in range(REPETITIONS):
        values = games.set_values(games.on_prompts(game, PROMPTS, (parts, repetition)))
        faults = Faults.draw(values.parts, RATES, masks, seed=repetition)
        samples = Importance.measure(values, faults, resampling)
        cells = [samples.at(*place) for place in places] + [samples.shapley(part) for part in range(parts)]
        told = [samples.informative(*place) for place in places] + [masks] * parts
        value, lo, _ = (_by_part(one, parts) for one in two_ways(cells, resampling, told).interval)
        out, mean = faults.failed.astype(float), values.of(faults.failed).mean(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            without = np.einsum("rm,rmp->rp", mean, 1 - out) / (1 - out).sum(1)
            plain = without - np.einsum("rm,rmp->rp", mean, out) / out.sum(1)
        found.append((value - truth, value - lo, plain.T - truth[:, :-1]))
    error, half, plain_error = (np.array(one) for one in zip(*found, strict=True))
    return error, half, plain_error


def _by_part(values: np.ndarray, parts: int) -> np.ndarray:
    inside = values[:-parts].reshape(parts, -1)
    return np.column_stack([inside, values[-parts:]])


def lines() -> Iterator[str]:
    """The table, line by line."""
    names = [*(f"{rate:.0%}" for rate in RATES), "Shapley"]
    yield f"| parts | masks | {' | '.join(names)} | intervals given | variance saved |"
    yield f"|---|---|{'---|' * (len(names) + 2)}"
    for parts in (8, 9, 10):
        for masks in (20, 40, 64, 200):
            error, half, plain = errors(parts, masks)
            given = np.isfinite(half)
            held = (np.abs(error) <= half).sum((0, 1)) / given.sum((0, 1))
            known = np.isfinite(plain).all((1, 2))
            saved = plain[known].var(0).mean(0) / error[known, :, :-1].var(0).mean(0)
            told = " | ".join(f"{100 * share:.1f}" for share in held)
            told += f" | {100 * given.mean():.0f} % | {saved.min():.1f} to {saved.max():.1f}"
            yield f"| {parts} | {masks} | {told} |"


def network(kind: str, parts: int, rng: np.random.Generator) -> pd.DataFrame:
    """A table of pairs whose interactions are of a kind."""
    weights = rng.normal(size=(parts, parts))
    if kind == "strengths":
        strength = rng.exponential(1, parts)
        weights *= np.outer(strength, strength)
    if kind == "two sets":
        side = np.arange(parts) % 2
        weights = 0.3 * weights + rng.random((parts, parts)) * (side[:, None] == side)
    pairs = np.array(list(combinations(range(parts), 2)))
    names = np.array([f"attn.{part}" for part in range(parts)], object)
    found = {"part": names[pairs[:, 0]], "other": names[pairs[:, 1]], "interaction": weights[tuple(pairs.T)]}
    return pd.DataFrame({**found, "answer": np.nan})


def community_lines() -> Iterator[str]:
    """The table of communities, line by line."""
    kinds = ("noise", "strengths", "two sets")
    yield f"| parts | {' | '.join(kinds)} |"
    yield f"|---|{'---|' * len(kinds)}"
    for parts in (6, 10, 16):
        rng, found = np.random.default_rng(parts), []
        for kind in kinds:
            p = [communities(network(kind, parts, rng))["p"].iloc[0] for _ in range(REPETITIONS // 2)]
            found.append(f"{100 * np.mean(np.array(p) <= CLEAR):.1f} %")
        yield f"| {parts} | {' | '.join(found)} |"


if __name__ == "__main__":
    for line in chain(lines(), [""], community_lines()):
        print(line, flush=True)
