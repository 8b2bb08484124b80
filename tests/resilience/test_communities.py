"""Communities of parts: planted ones are found, and noise has none."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from hydrascope.resilience import CLEAR, communities


def network(weights: np.ndarray, answers: np.ndarray | float = np.nan) -> pd.DataFrame:
    """A table of pairs with these interactions."""
    pairs = list(combinations(range(len(weights)), 2))
    return pd.DataFrame(
        {
            "part": [f"attn.{k}" for k, _ in pairs],
            "other": [f"attn.{j}" for _, j in pairs],
            "interaction": [weights[pair] for pair in pairs],
            "answer": [answers if isinstance(answers, float) else answers[pair] for pair in pairs],
        }
    )


def test_planted_communities_are_found() -> None:
    """Two sets of four interact with a size of about 1, within a noise of 0.2; signs do not matter."""
    rng, side = np.random.default_rng(0), np.arange(8) % 2
    weights = (side[:, None] == side) * rng.choice([-1, 1], (8, 8)) + rng.normal(0, 0.2, (8, 8))
    table = communities(network(weights))
    assert table["network"].unique().tolist() == ["interaction"]  # no answers are known
    assert table["parts"].tolist() == ["attn.0+attn.2+attn.4+attn.6", "attn.1+attn.3+attn.5+attn.7"]
    assert table["size"].tolist() == [4, 4]
    assert (table["p"] <= CLEAR).all()
    size = np.abs(np.triu(weights, 1))
    size += size.T
    strength, whole = size.sum(1), size.sum()
    expected = sum(
        (size[k, j] - strength[k] * strength[j] / whole) * (side[k] == side[j]) for k in range(8) for j in range(8)
    )
    np.testing.assert_allclose(table["modularity"], expected / whole, atol=1e-8)


def test_answers_are_a_network_of_their_own() -> None:
    rng = np.random.default_rng(1)
    pairs = network(rng.normal(size=(6, 6)), rng.normal(size=(6, 6)))
    table = communities(pairs)
    pd.testing.assert_frame_equal(table, communities(pairs))
    assert set(table["network"]) == {"interaction", "answer"}
    for _, some in table.groupby("network"):
        assert sorted("+".join(some["parts"]).split("+")) == [f"attn.{k}" for k in range(6)]


@pytest.mark.parametrize("weights", [np.ones((1, 1)), np.ones((3, 3)), np.zeros((6, 6)), np.full((6, 6), np.nan)])
def test_what_cannot_be_divided_has_no_communities(weights: np.ndarray) -> None:
    assert communities(network(weights)).empty


def test_noise_has_no_communities() -> None:
    """Interactions of noise have none, nor have parts that only differ in strength."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(20):
        noise, strength = np.abs(rng.normal(size=(6, 6))), rng.exponential(1, 6)
        for weights in (noise, noise * np.outer(strength, strength)):
            found.append(communities(network(weights))["p"].iloc[0] <= CLEAR)
    assert sum(found) <= 4  # of 40, two in the long run


def test_communities_are_found_among_parts_of_all_strengths() -> None:
    """Two sets of five whose parts are up to 20 times as strong as others."""
    rng, side = np.random.default_rng(2), np.arange(10) % 2
    strength = np.geomspace(1, 20, 10)
    weights = np.outer(strength, strength) * (0.1 * rng.random((10, 10)) + (side[:, None] == side))
    table = communities(network(weights))
    assert [set(parts.split("+")) for parts in table["parts"]] == [
        {f"attn.{part}" for part in range(10) if side[part] == one} for one in (0, 1)
    ]
    assert (table["p"] <= CLEAR).all()


def test_p_values_are_adjusted_over_both_networks() -> None:
    """By Holm: the smaller of two is doubled, and the larger is no smaller than that."""
    rng, side = np.random.default_rng(0), np.arange(8) % 2
    planted, noise = (side[:, None] == side) + rng.normal(0, 0.2, (8, 8)), rng.normal(size=(8, 8))
    alone = [communities(network(weights))["p"].iloc[0] for weights in (planted, noise)]
    both = communities(network(planted, noise)).drop_duplicates("network").set_index("network")["p"]
    assert alone[0] < 0.02 < alone[1]
    assert both["interaction"] == 2 * alone[0]
    assert both["answer"] == max(2 * alone[0], alone[1])
