"""How much faster a smaller model is, on a machine that others use too.

A round is a forward of the whole model, two of the smaller one, and one of the whole again: what slows the machine down
step by step slows both. The ratio is taken round by round, and of all rounds the middle one, since a busy moment that
met only one of the two makes no round the middle one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from hydrascope.anatomy import Model

TIMED = 128
"""Tokens of a forward that is timed."""
SECONDS, FEWEST, MOST = 1.5, 3, 50
"""Time for all rounds, and how many there are at least and at most."""


@dataclass(frozen=True)
class Speed:
    """Tokens a second of two models, in forwards without a cache on one machine in turn.

    Attributes:
        whole: of the whole model, over all rounds.
        own: of the smaller one, over all rounds.
        ratio: how many times as fast the smaller one is, the median of all rounds.
        lower: first quartile of the ratio.
        upper: third quartile of the ratio.
        rounds: number of rounds.
    """

    whole: float
    own: float
    ratio: float
    lower: float
    upper: float
    rounds: int


def speed_of(model: Model, smaller: Any) -> Speed:
    """Time forwards of a model and of a smaller one.

    Args:
        model: the whole model.
        smaller: the smaller one, on the same device.
    """
    ids = torch.full((1, min(TIMED, model.context)), 3, device=model.device)
    whole, own = model.network, smaller
    for network in (whole, own):  # the first forward allocates
        _seconds(network, ids)
    taken: list[tuple[float, float]] = []
    began = time.perf_counter()
    while len(taken) < FEWEST or (len(taken) < MOST and time.perf_counter() - began < SECONDS):
        first, *twice, last = (_seconds(network, ids) for network in (whole, own, own, whole))
        taken.append((first + last, sum(twice)))
    times = np.array(taken)
    lower, ratio, upper = np.quantile(times[:, 0] / times[:, 1], (0.25, 0.5, 0.75))
    each = 2 * len(times) * ids.numel() / times.sum(0)
    return Speed(float(each[0]), float(each[1]), float(ratio), float(lower), float(upper), len(times))


@torch.no_grad()
def _seconds(network: Any, ids: Int[Tensor, "texts tokens"]) -> float:
    started = time.perf_counter()
    network(input_ids=ids, use_cache=False).logits[0, -1, 0].item()  # waits for the device
    return time.perf_counter() - started
