"""Mean and spread of what modules take or return, over a run's tokens: where a search for constants begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy import Model, Place, Site
from hydrascope.engine.texts import record_texts


@dataclass(frozen=True)
class Moments:
    """Of one site, channel by channel, in float64.

    Attributes:
        mean: over the tokens.
        variance: around it.
    """

    mean: Float[Tensor, " width"]
    variance: Float[Tensor, " width"]

    @classmethod
    def of(cls, values: Float[Tensor, "tokens width"]) -> Moments:
        """Of values that are all there."""
        values = values.double()
        return cls(values.mean(0), values.var(0, correction=0))


@dataclass(frozen=True)
class Origin:
    """Where the search at one place begins, and in steps of what size it goes.

    Attributes:
        mean: float32.
        spread: root mean square of the deviations from it; one where there are none.
    """

    mean: Float[Tensor, " width"]
    spread: float

    @classmethod
    def at(cls, place: Place, moments: Mapping[Site, Moments]) -> Origin:
        """That of a place, from what is known of its site."""
        site = moments[place.site]
        return cls(site.mean[place.span].float(), float(site.variance[place.span].mean().sqrt()) or 1.0)


def moments_of_texts(
    model: Model, texts: Sequence[Sequence[int]], batches: Sequence[Sequence[int]], sites: Sequence[Site]
) -> dict[Site, Moments]:
    """Over all tokens of all texts, of whatever length.

    Args:
        model: the model.
        texts: token ids.
        batches: which of them go through together; those of a batch are of one length.
        sites: module inputs and outputs.
    """
    sums: dict[Site, Tensor] = {site: torch.zeros(2, site.width, dtype=torch.float64) for site in sites}
    for batch in batches:
        ids = torch.tensor([list(texts[i]) for i in batch])
        last = (ids.shape[1] - 1,)
        for site, value in record_texts(model, ids, last, last, sites, keep_streams=False).values.items():
            value = value.double()
            sums[site] += torch.stack([value.sum((0, 1)), value.square().sum((0, 1))]).cpu()
    tokens = sum(len(texts[i]) for batch in batches for i in batch)
    means = {site: total / tokens for site, total in sums.items()}
    return {site: Moments(mean, (square - mean**2).clamp_min(0.0)) for site, (mean, square) in means.items()}
