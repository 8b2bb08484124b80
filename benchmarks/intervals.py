"""Do the intervals hold what they promise? Coverage, false findings and power on simulated ledgers.

    python benchmarks/intervals.py > table.md

Every design plants a truth, so that it can be counted how often an interval misses it. Effects of prompts are the sum
of an effect of their group and one of their own; the group's is 30 % of the variance.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hydrascope.analysis import _statistics as s

Array = NDArray[np.float64]

CELLS = 4000
FAMILIES = 400
KNOCKOUTS = 29
RELATIONS = [31, 29, 25, 24, 22, 21, 20, 16, 14, 13, 7, 7, 7, 6, 5, 5, 4, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]
"""Sizes of the groups of the known facts that SmolLM2-135M gets right."""
DESIGNS = {
    "6 x 10": [10] * 6,
    "8 x 10": [10] * 8,
    "12 x 10": [10] * 12,
    "30 x 9": [9] * 30,
    "30 relations": RELATIONS,
    "12 alone": [1] * 12,
    "30 alone": [1] * 30,
    "279 alone": [1] * 279,
}
SHAPES = ("gaussian", "skewed", "concentrated")
SHARED = 0.3
"""The groups' share of the variance."""


def noise(rng: np.random.Generator, sizes: list[int], cells: int, shape: str) -> Array:
    """Effects with mean 0 and variance 1, (prompts, cells): Gaussian, all skewed one way, or large in a few groups."""
    groups, codes = len(sizes), np.repeat(np.arange(len(sizes)), sizes)

    def draw(n: int) -> Array:
        return rng.exponential(1, (n, cells)) - 1 if shape == "skewed" else rng.normal(size=(n, cells))

    scale = np.exp(rng.normal(size=(groups, 1)) - 1) if shape == "concentrated" else np.ones((groups, 1))
    shared = (np.sqrt(SHARED) * draw(groups) * scale)[codes]
    found: Array = shared + np.sqrt(1 - SHARED) * draw(len(codes)) * scale[codes]
    return found


def plan(sizes: list[int], seed: int = 0) -> s.Resampling:
    """The groups of a design as the analysis sees them."""
    return s.resample(np.repeat(np.arange(len(sizes)), sizes), seed=seed)


def covered(estimate: s.Estimate, truth: float) -> float:
    """Share of the intervals, in percent, that hold the truth; where one was refused, nothing was promised."""
    told = np.isfinite(estimate[1])
    return 100 * float(((estimate[1] <= truth) & (truth <= estimate[2]))[told].mean())


def means(rng: np.random.Generator, sizes: list[int], shape: str) -> float:
    """Coverage of the interval of a mean."""
    return covered(s.mean_interval(noise(rng, sizes, CELLS, shape), plan(sizes)), 0)


def ratios(rng: np.random.Generator, sizes: list[int], shape: str) -> float:
    """Coverage of the interval of a share: half of a loss of 1 returns; its standard deviation is .7."""
    lost = 1 + 0.7 * noise(rng, sizes, CELLS, shape)
    back = 0.5 * lost + 0.4 * noise(rng, sizes, CELLS, shape)
    return covered(s.ratio_interval(back, lost, plan(sizes)), 0.5)


def share_differences(rng: np.random.Generator, sizes: list[int], shape: str) -> float:
    """Coverage of the interval of what a second run gives back less: .3 instead of .5 of the same prompts' losses."""
    lost = 1 + 0.7 * noise(rng, sizes, CELLS, shape)
    other = lost + 0.3 * noise(rng, sizes, CELLS, shape)
    resampling = plan(sizes)
    sums = []
    for share, own in ((0.3, other), (0.5, lost)):
        sums += [resampling.sums(share * own + 0.4 * noise(rng, sizes, CELLS, shape)), resampling.sums(own)]
    found = s.jackknife(lambda *of: s.divide(of[0], of[1]) - s.divide(of[2], of[3]), resampling, *sums)
    return covered(found.interval, -0.2)


def slopes(rng: np.random.Generator, sizes: list[int], shape: str, slope: float = -0.5) -> tuple[float, float]:
    """Coverage of the interval of a slope, and the share of p-values below 5 %, in percent."""
    x = noise(rng, sizes, CELLS, shape)
    y = slope * x + 0.5 * noise(rng, sizes, CELLS, shape)
    found = s.fit_line(x, y, plan(sizes)).slope
    return covered(found.interval, slope), 100 * float((found.p < 0.05).mean())


def tokens(rng: np.random.Generator, documents: int, shape: str) -> tuple[float, float, float]:
    """Coverage on ordinary text: mean over all tokens, mean and share over a part's top tokens.

    Documents of 62 tokens; some have many top tokens (lognormal rates, 2 % in all), and the effect is larger there.
    """
    sizes = [62] * documents
    values, other = noise(rng, sizes, CELLS // 2, shape), noise(rng, sizes, CELLS // 2, shape)
    sampling = s.resample(np.repeat(np.arange(documents), 62), weight=np.ones(62 * documents))
    spread = 0.7
    rate = np.exp(spread * rng.normal(size=(documents, CELLS // 2)) - spread**2 / 2)
    raised = 0.3 * (rate - 1)
    top = (rng.random(values.shape) < np.repeat(np.minimum(0.02 * rate, 1), 62, axis=0)).astype(np.float64)
    lost = 1 + 0.7 * values + np.repeat(raised, 62, axis=0)
    truth = 1 + 0.3 * (np.exp(spread**2) - 1)
    back = 0.5 * lost + 0.4 * other
    return (
        covered(s.mean_interval(values, sampling), 0),
        covered(s.mean_interval(lost, sampling, top), truth),
        covered(s.studentised(sampling.sums(top * back), sampling.sums(top * lost), sampling), 0.5),
    )


def family_errors(rng: np.random.Generator, sizes: list[int], shape: str, cells: int = 2 * KNOCKOUTS) -> float:
    """Share of families without any effect, in percent, in which one is found."""
    found = [
        s.simultaneous_means(noise(rng, sizes, cells, shape), plan(sizes, seed)).significant.any()
        for seed in range(FAMILIES)
    ]
    return 100 * float(np.mean(found))


def power(rng: np.random.Generator, loss: float, error: float) -> float:
    """How often, in percent, one loss among 29 knock-outs without any is found, with the relations as groups."""
    of_a_mean = np.sqrt(np.mean([SHARED + (1 - SHARED) / size for size in RELATIONS]) / len(RELATIONS))
    found = []
    for seed in range(FAMILIES):
        values = error / of_a_mean * noise(rng, RELATIONS, KNOCKOUTS, "gaussian")
        values[:, 0] -= loss
        found.append(s.simultaneous_means(values, plan(RELATIONS, seed)).significant[0])
    return 100 * float(np.mean(found))


def discoveries(rng: np.random.Generator, sizes: list[int], shape: str, cells: int = 1770) -> tuple[float, float]:
    """Mean share of false cells among those found, and share of the true ones found, in percent; 5 % have an effect."""
    false, found = [], []
    true = np.arange(cells) < cells // 20
    for _ in range(50):
        values = noise(rng, sizes, cells, shape) + true
        sure = s.search(values, plan(sizes)) < 0.05
        false.append((sure & ~true).sum() / max(1, sure.sum()))
        found.append(sure[true].mean())
    return 100 * float(np.mean(false)), 100 * float(np.mean(found))


def lines() -> Iterator[str]:
    """The tables, line by line."""
    rng = np.random.default_rng(0)
    yield "| groups x prompts | effects | mean | ratio | slope | slope p < .05 under its null | family of 58 |"
    yield "|---|---|---|---|---|---|---|"
    for design, sizes in DESIGNS.items():
        for shape in SHAPES:
            pointwise = [means(rng, sizes, shape), ratios(rng, sizes, shape), slopes(rng, sizes, shape)[0]]
            wrong = [slopes(rng, sizes, shape, slope=0)[1], family_errors(rng, sizes, shape)]
            told = " | ".join(f"{value:.1f}" for value in (*pointwise, *wrong))
            yield f"| {design} | {shape} | {told} |"
    yield "\n| groups x prompts | effects | difference of shares between two runs |\n|---|---|---|"
    for design in ("6 x 10", "8 x 10", "12 x 10", "30 relations", "279 alone"):
        for shape in SHAPES:
            yield f"| {design} | {shape} | {share_differences(rng, DESIGNS[design], shape):.1f} |"
    yield "\n| documents | effects | all tokens | top tokens | share on top tokens |\n|---|---|---|---|---|"
    for documents in (8, 12, 24, 60):
        for shape in SHAPES[:2]:
            told = " | ".join(f"{value:.1f}" for value in tokens(rng, documents, shape))
            yield f"| {documents} | {shape} | {told} |"
    yield "\n| search among 1,770 cells | effects | false among those found | true ones found |\n|---|---|---|---|"
    for design in ("8 x 10", "30 x 9", "30 relations", "279 alone"):
        for shape in SHAPES[:2]:
            false, found = discoveries(rng, DESIGNS[design], shape)
            yield f"| {design} | {shape} | {false:.1f} | {found:.1f} |"
    yield "\n| loss among 29 knock-outs, 30 relations | found |\n|---|---|"
    for loss, error in ((1.44, 0.18), (0.9, 0.18), (0.72, 0.18)):
        yield f"| {loss} logits with a standard error of {error} | {power(rng, loss, error):.1f} |"


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
