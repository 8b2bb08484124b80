"""Interventions: which stretches of which activations are replaced in a row of a forward, and by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy import Place, Site

Edits = Mapping[Site, Sequence[tuple[int, slice, Tensor]]]
"""For each site the rows in which it is replaced, the stretch and the value."""


@dataclass(frozen=True)
class Edit:
    """One replacement.

    Attributes:
        place: a stretch of a module's input or output.
        value: what is put there at each replaced position.
    """

    place: Place
    value: Float[Tensor, "prompts edited width"]


@dataclass(frozen=True)
class Intervention:
    """Edits made together in one row: a knock-out, a joint one, or a knock-out with other parts held.

    Attributes:
        name: what is knocked out, for messages.
        first_layer: the first block that differs from the clean run.
        edits: the replacements.
    """

    name: str
    first_layer: int
    edits: tuple[Edit, ...]


def in_order_of_depth(interventions: Sequence[Intervention]) -> list[int]:
    """Indices that sort interventions by their first edited block, so that a batch can grow like a staircase."""
    return sorted(range(len(interventions)), key=lambda i: interventions[i].first_layer)


def in_random_direction(
    displacement: Float[Tensor, "prompts edited width"], seed: int, rows: Sequence[int], key: tuple[int, ...]
) -> Float[Tensor, "prompts edited width"]:
    """Norm-matched random displacements for the control.

    Args:
        displacement: the real ones.
        seed: of the run.
        rows: each prompt's number; its direction depends on nothing but seed, number and key.
        key: what tells this displacement from others of the prompt.
    """
    shape = displacement.shape[1:]
    drawn = np.stack([np.random.default_rng((seed, row, *key)).standard_normal(shape, "float32") for row in rows])
    directions = torch.nn.functional.normalize(torch.from_numpy(drawn), dim=-1)
    scaled: Tensor = directions.to(displacement) * displacement.norm(dim=-1, keepdim=True)
    return scaled
