"""Values at every position: of a block of texts that lend to each other, and means of all texts of their length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.ablations import ExtraRun
from hydrascope.anatomy import Model, Site
from hydrascope.engine.texts import Recorded, record_texts
from hydrascope.engine.values import embedding_noise

Values = dict[Site, Float[Tensor, "texts edited _"]]

BLOCK = 16
"""Texts of one length that are each other's donors: the paper's 15 donors and the text itself."""


@dataclass(frozen=True)
class Places:
    """What is kept of every text.

    Attributes:
        sites: module inputs and outputs.
        edited: positions that will be replaced.
        read: positions that will be read.
    """

    sites: tuple[Site, ...]
    edited: tuple[int, ...]
    read: tuple[int, ...]


def blocks_of(count: int, least: int) -> list[range]:
    """Cut a number of texts of one length into blocks of at least so many, about `BLOCK` each and nearly equal."""
    pieces = max(1, count // max(BLOCK, least))
    edges = [round(count * i / pieces) for i in range(pieces + 1)]
    return [range(a, b) for a, b in pairwise(edges)]


def values_of(
    model: Model, texts: Sequence[Sequence[int]], places: Places, at_once: int
) -> tuple[Values, list[Recorded]]:
    """Run texts of one length and keep their values and, for the pushes to come, their clean passes.

    Args:
        model: the model.
        texts: token ids, all of one length.
        places: what is kept.
        at_once: texts that go through together.

    Returns:
        Values at the edited positions, one row per text, and the clean passes in order.
    """
    passes = []
    found: dict[Site, list[Tensor]] = {site: [] for site in places.sites}
    for first in range(0, len(texts), at_once):
        ids = torch.tensor([list(text) for text in texts[first : first + at_once]])
        recorded = record_texts(model, ids, places.edited, places.read, places.sites)
        _gather(found, recorded)
        passes.append(replace(recorded, values={}))
    return {site: torch.cat(parts) for site, parts in found.items()}, passes


def extra_values(model: Model, runs: Sequence[ExtraRun], places: Places, at_once: int) -> Values:
    """The same of runs that only lend: noisy or counterfactual ones, of the same length."""
    found: dict[Site, list[Tensor]] = {site: [] for site in places.sites}
    for first in range(0, len(runs), at_once):
        some = runs[first : first + at_once]
        ids = torch.tensor([list(run.ids) for run in some])
        noise = torch.stack([embedding_noise(run, model.anatomy.d_model) for run in some]) if some[0].noise else None
        recorded = record_texts(
            model, ids, places.edited, places.read, places.sites, embedding_noise=noise, keep_streams=False
        )
        _gather(found, recorded)
    return {site: torch.cat(parts) for site, parts in found.items()}


def position_means(model: Model, texts: Sequence[Sequence[int]], places: Places, at_once: int) -> Values:
    """Mean values at each position over texts of one length, as one row."""
    sums: dict[Site, Tensor] = {}
    for first in range(0, len(texts), at_once):
        ids = torch.tensor([list(text) for text in texts[first : first + at_once]])
        recorded = record_texts(model, ids, places.edited, places.read, places.sites, keep_streams=False)
        for site, value in recorded.values.items():
            total = value.double().sum(0).cpu()
            sums[site] = sums[site] + total if site in sums else total
    return {site: (total / len(texts))[None, list(places.edited)].float() for site, total in sums.items()}


def _gather(found: Mapping[Site, list[Tensor]], recorded: Recorded) -> None:
    for site, parts in found.items():
        parts.append(recorded.values[site][:, list(recorded.layout.edited)].cpu())
