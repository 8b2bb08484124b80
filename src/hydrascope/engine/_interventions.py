"""Interventions: what is replaced in a row of a forward, and by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy import Place, Site

Edits = Mapping[Site, Sequence[tuple[int, slice, Tensor]]]
"""By site: row, stretch and value of each replacement."""


@dataclass(frozen=True)
class Edit:
    """One replacement: a stretch of activations, and its value at each replaced position."""

    place: Place
    value: Float[Tensor, "prompts edited width"]


@dataclass(frozen=True)
class Intervention:
    """Edits made together in one row, with those that freeze parts at their clean value.

    Attributes:
        name: name of the knock-out, for messages.
        first_layer: first block that differs from the clean run.
        edits: the replacements.
    """

    name: str
    first_layer: int
    edits: tuple[Edit, ...]


def in_order_of_depth(interventions: Sequence[Intervention]) -> list[int]:
    """Indices that sort interventions by their first edited block, as a growing batch needs them."""
    return sorted(range(len(interventions)), key=lambda i: interventions[i].first_layer)


def in_random_direction(
    displacement: Float[Tensor, "prompts edited width"], seed: int, keys: Sequence[int], key: tuple[int, ...]
) -> Float[Tensor, "prompts edited width"]:
    """Displacements of the same norms in random directions, for the control.

    A prompt's directions depend on nothing but the run's seed, its number in `keys`, and `key`.
    """
    shape = displacement.shape[1:]
    drawn = np.stack([np.random.default_rng((seed, own, *key)).standard_normal(shape, "float32") for own in keys])
    directions = torch.nn.functional.normalize(torch.from_numpy(drawn), dim=-1)
    scaled: Tensor = directions.to(displacement) * displacement.norm(dim=-1, keepdim=True)
    return scaled
