"""The charts of a stress test, for its page and as methods: what of its tables is drawn, and under which words."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from hydrascope import figures
from hydrascope.analysis import quantity
from hydrascope.figures import View
from hydrascope.resilience import Resilience

LOST, TAKERS = 36, 40
"""Most parts and most writers in the chart of load transfer."""


def degradation_curve(found: Resilience, value: str = "logit") -> View:
    """What is left at every failure rate.

    Args:
        found: tables of the test.
        value: `logit`, `log_prob` or `kl`.
    """
    answer = quantity(found.ds)
    axis, title = {
        "logit": (answer.axis, f"The {answer.answer}"),
        "log_prob": ("log-probability of the answer (nats)", "The answer’s log-probability"),
        "kl": ("minus KL from the clean prediction (nats)", "Distance from the clean prediction"),
    }[value]
    return figures.degradation_curve(found.curve(value), value=axis, title=title)


def accuracy_curve(found: Resilience) -> View:
    """Share of right answers at every failure rate."""
    return figures.accuracy_curve(found.curve("accuracy"), found.accuracy)


def leading(found: Resilience) -> list[str]:
    """The parts with the largest importance at any rate, in the order of the forward pass."""
    most = found.importance().groupby("part")["importance"].max().nlargest(figures.CURVES).index
    return [part for part in found.parts if part in set(most)]


def importance_curves(found: Resilience, parts: Sequence[str]) -> View:
    """Importance of some parts over the failure rate of the others, crossings marked."""
    unit = f"loss in {quantity(found.ds).axis}"
    return figures.importance_curves(found.importance(), parts, found.crossings, unit=unit)


def pair_matrix(found: Resilience) -> View:
    """Interactions of all measured pairs."""
    return figures.pair_matrix(found.pairs, found.parts)


def load_transfer(found: Resilience) -> View:
    """Shares of each loss that writers take over, of the writers that take, or lose, most."""
    table = found.transfers
    parts = [part for part in found.parts if part in set(table["part"])][:LOST]
    size: pd.Series[float] = table.groupby("taker")["transfer"].apply(lambda some: some.abs().max())
    kept = set(size.nlargest(TAKERS).index)
    takers = [name for name in map(str, found.ds["writer"].values) if name in kept]
    some = table[table["part"].isin(parts) & table["taker"].isin(takers)]
    return figures.load_transfer(some, parts, takers)
