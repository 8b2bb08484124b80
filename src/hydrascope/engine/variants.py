"""Variants of a batch of prompts: which stretches of which activations are replaced, and by what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy import Place


@dataclass(frozen=True)
class Edit:
    """One replacement.

    Attributes:
        place: where.
        value: what is put there: one row per prompt, or one per prompt and edited position.
    """

    place: Place
    value: Float[Tensor, "prompts *edited width"]


@dataclass(frozen=True)
class Variant:
    """A set of edits made together: one knock-out, a joint one, or a knock-out with other parts held.

    Attributes:
        name: what is knocked out, for messages.
        first_layer: the first block that differs from the clean run.
        edits: the replacements.
    """

    name: str
    first_layer: int
    edits: tuple[Edit, ...]


def in_order_of_depth(variants: Sequence[Variant]) -> list[int]:
    """Indices that sort variants by their first edited block, so that the batch can grow like a staircase."""
    return sorted(range(len(variants)), key=lambda i: variants[i].first_layer)
