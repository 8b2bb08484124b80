"""Do the parts fall into communities that depend on each other more than on the rest?

A network of the parts has for each pair the size of its interaction, |I|, or of the later part's answer, |K|. Louvain's
method looks for the division with the largest modularity (Newman): the share of the weight inside communities, less
what would lie there if weight fell between parts by their strengths alone. Any network can be divided, also one of
noise, so the modularity found is held to that found in shuffled networks: every part keeps its strength, the sum of its
weights, and by how much a pair's weight exceeds what both strengths make of it goes to another pair. Shuffling the
weights themselves would hide communities wherever a few parts are much stronger than others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
from jaxtyping import Float

from hydrascope.analysis import divide, holm

SHUFFLES = 99
CLEAR = 0.02
"""Largest p at which communities are called so; in networks of noise alone p is below 0.05 up to 8 % of the time."""
ROUNDS = 50
"""Rounds of scaling; with six parts or more strengths are then right to some parts in a thousand."""
FEWEST = 4
"""Fewest parts that are divided; shuffling the pairs of three changes nothing."""

NETWORKS = {"interaction": "interactions", "answer": "answers of later parts"}
"""Columns of the table of pairs whose sizes make a network, and what a sentence calls them."""
Matrix = Float[np.ndarray, "parts parts"]

COLUMNS = ["network", "community", "size", "parts", "modularity", "shuffled", "p"]


def communities(pairs: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Divide the parts that were knocked out two by two, by their interactions and by their answers.

    Args:
        pairs: from `pair_table`, with all pairs of some parts.
        seed: of the search and of the shuffles.

    Returns:
        One row per network and community, the largest first: `network`, `interaction` or `answer`; `community`, from 1;
        `size`, the number of its parts; `parts`, with + between; and of the whole network `modularity`, `shuffled`, the
        mean of 99 shuffled networks, and `p` of "no more than in shuffled ones", adjusted by Holm over both networks.
        Nothing for a network without weight, with parts whose pairs were not all measured, or of fewer than four parts.
    """
    names = list(dict.fromkeys([*pairs["part"], *pairs["other"]]))
    rows = [row for network in NETWORKS for row in _divided(network, _weights(pairs, network, names), names, seed)]
    found = pd.DataFrame(rows, columns=COLUMNS)
    p = found.drop_duplicates("network").set_index("network")["p"]
    return found.assign(p=found["network"].map(pd.Series(holm(p), p.index)).astype(float))


def _weights(pairs: pd.DataFrame, network: str, names: list[str]) -> Matrix:
    """Sizes of all pairs, symmetric; NaN where one was not measured."""
    found = pairs.pivot(index="part", columns="other", values=network).reindex(index=names, columns=names)
    above = found.abs().to_numpy(float)
    both: Matrix = np.fmax(above, above.T)
    np.fill_diagonal(both, 0)
    return both


def _divided(network: str, weights: Matrix, names: list[str], seed: int) -> list[Mapping[str, Any]]:
    if len(names) < FEWEST or np.isnan(weights).any() or not weights.any():
        return []
    found, modularity = _search(weights, seed)
    rng, strengths = np.random.default_rng(seed), weights.sum(1)
    expected = _balanced(1 - np.eye(len(names)), strengths)
    beyond = divide(weights, expected)
    shuffled = []
    for _ in range(SHUFFLES):
        other = np.nan_to_num(_shuffled(beyond, rng)) * expected
        shuffled.append(_search(_balanced(other, strengths), seed)[1])
    # equal to rounding counts as reached
    p = (1 + sum(value >= modularity - 1e-9 for value in shuffled)) / (1 + SHUFFLES)
    whole = {"modularity": modularity, "shuffled": float(np.mean(shuffled)), "p": p}
    ordered = sorted((sorted(members) for members in found), key=lambda members: (-len(members), members))
    return [
        {"network": network, "community": number, "size": len(members), **whole}
        | {"parts": "+".join(names[member] for member in members)}
        for number, members in enumerate(ordered, 1)
    ]


def _shuffled(weights: Matrix, rng: np.random.Generator) -> Matrix:
    """Weights of pairs, each at another pair."""
    pairs, other = np.triu_indices(len(weights), 1), np.zeros_like(weights)
    other[pairs] = rng.permutation(weights[pairs])
    found: Matrix = other + other.T
    return found


def _balanced(weights: Matrix, strengths: Float[np.ndarray, " parts"]) -> Matrix:
    """Weights scaled part by part until each has its strength."""
    scale: Float[np.ndarray, " parts"] = np.ones(len(weights))
    for _ in range(ROUNDS):
        scale = scale * np.sqrt(np.nan_to_num(divide(strengths, scale * (weights @ scale))))
    found: Matrix = weights * np.outer(scale, scale)
    return found


def _search(weights: Matrix, seed: int) -> tuple[list[set[int]], float]:
    """The division that was found, and its modularity."""
    if not weights.any():
        return [{part} for part in range(len(weights))], 0.0
    graph = nx.from_numpy_array(weights)
    found = nx.community.louvain_communities(graph, seed=seed)
    # without rounding a single community has a modularity of 1e-17
    return found, round(float(nx.community.modularity(graph, found)), 9)
