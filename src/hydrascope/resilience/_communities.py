"""Do the parts fall into communities that depend on each other more than on the rest?

A network of the parts has for each pair the size of its interaction, |I|, or of the later part's answer, |K|. Louvain's
method looks for the division with the largest modularity (Newman): the share of the weight inside communities, less
what would lie there if weight fell between parts by their strengths alone. Any network can be divided, also one of
noise, so the modularity found is held to that found in networks whose weights are shuffled among the pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
from jaxtyping import Float

SHUFFLES = 99
FEWEST = 4
"""Fewest parts that are divided; shuffling the pairs of three changes nothing."""

NETWORKS = {"interaction": "interactions", "answer": "answers of later parts"}
"""Columns of the table of pairs whose sizes make a network, and what a sentence calls them."""
COLUMNS = ["network", "community", "size", "parts", "modularity", "shuffled", "p"]


def communities(pairs: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Divide the parts that were knocked out two by two, by their interactions and by their answers.

    Args:
        pairs: from `pair_table`, with all pairs of some parts.
        seed: of the search and of the shuffles.

    Returns:
        One row per network and community, the largest first: `network`, `interaction` or `answer`; `community`, from 1;
        `size`, the number of its parts; `parts`, with + between; and of the whole network `modularity`, `shuffled`, the
        mean of 99 networks with shuffled weights, and `p` of "no more than in shuffled ones". Nothing for a network
        without weight, with parts whose pairs were not all measured, or of fewer than four parts.
    """
    names = list(dict.fromkeys([*pairs["part"], *pairs["other"]]))
    rows = [row for network in NETWORKS for row in _divided(network, _weights(pairs, network, names), names, seed)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _weights(pairs: pd.DataFrame, network: str, names: list[str]) -> Float[np.ndarray, "parts parts"]:
    """Sizes of all pairs, symmetric; NaN where one was not measured."""
    found = pairs.pivot(index="part", columns="other", values=network).reindex(index=names, columns=names)
    above = found.abs().to_numpy(float)
    both: Float[np.ndarray, "parts parts"] = np.fmax(above, above.T)
    np.fill_diagonal(both, 0)
    return both


def _divided(
    network: str, weights: Float[np.ndarray, "parts parts"], names: list[str], seed: int
) -> list[Mapping[str, Any]]:
    if len(names) < FEWEST or np.isnan(weights).any() or not weights.any():
        return []
    found, modularity = _search(weights, seed)
    rng, pairs = np.random.default_rng(seed), np.triu_indices(len(names), 1)
    shuffled = []
    for _ in range(SHUFFLES):
        other = np.zeros_like(weights)
        other[pairs] = rng.permutation(weights[pairs])
        shuffled.append(_search(other + other.T, seed)[1])
    # equal to rounding counts as reached
    p = (1 + sum(value >= modularity - 1e-9 for value in shuffled)) / (1 + SHUFFLES)
    whole = {"modularity": modularity, "shuffled": float(np.mean(shuffled)), "p": p}
    ordered = sorted((sorted(members) for members in found), key=lambda members: (-len(members), members))
    return [
        {"network": network, "community": number, "size": len(members), **whole}
        | {"parts": "+".join(names[member] for member in members)}
        for number, members in enumerate(ordered, 1)
    ]


def _search(weights: Float[np.ndarray, "parts parts"], seed: int) -> tuple[list[set[int]], float]:
    """The division that was found, and its modularity."""
    graph = nx.from_numpy_array(weights)
    found = nx.community.louvain_communities(graph, seed=seed)
    # without rounding a single community has a modularity of 1e-17
    return found, round(float(nx.community.modularity(graph, found)), 9)
