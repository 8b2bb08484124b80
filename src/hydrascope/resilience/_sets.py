"""Sets of parts that fail together: random ones nested over rates, pairs, and all but one.

Every mask has one uniform number for each part, and at rate q the parts fail whose number is below q. So a mask's set
at one rate is inside its set at a higher one, and differences between rates are seen on the same masks (common random
numbers). More masks, or other rates, leave the sets that are there already as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float

Sets = Bool[np.ndarray, "*shape parts"]
"""Sets of parts: whether each part is in."""


@dataclass(frozen=True)
class Faults:
    """Random sets of parts.

    Attributes:
        parts: addresses of the parts that can fail.
        rates: failure rates, ascending, between 0 and 1.
        uniforms: one number for each mask and part.
    """

    parts: tuple[str, ...]
    rates: tuple[float, ...]
    uniforms: Float[np.ndarray, "masks parts"]

    @classmethod
    def draw(cls, parts: Sequence[str], rates: Sequence[float], masks: int, seed: int) -> Faults:
        """Draw masks.

        Args:
            parts: addresses of the parts that can fail.
            rates: failure rates between 0 and 1.
            masks: number of masks.
            seed: of the uniform numbers.
        """
        uniforms = np.random.default_rng((seed, len(parts))).random((masks, len(parts)))
        return cls(tuple(parts), tuple(sorted(rates)), uniforms)

    @property
    def masks(self) -> int:
        """Number of masks at each rate."""
        return len(self.uniforms)

    @cached_property
    def failed(self) -> Bool[np.ndarray, "rates masks parts"]:
        """Which parts fail at each rate."""
        return self.uniforms < np.array(self.rates)[:, None, None]

    @property
    def nodes(self) -> tuple[float, ...]:
        """The rates between nothing and everything failing, both included."""
        return (0.0, *self.rates, 1.0)


def singles(parts: int) -> Bool[np.ndarray, "parts parts"]:
    """Each part by itself."""
    return np.eye(parts, dtype=bool)


def all_but_one(parts: int) -> Bool[np.ndarray, "parts parts"]:
    """All parts without each one."""
    return ~singles(parts)


def pair_sets(pairs: Sequence[tuple[int, int]], parts: int) -> Bool[np.ndarray, "pairs parts"]:
    """Both parts of each pair.

    Args:
        pairs: indices of two parts.
        parts: number of parts.
    """
    found = np.zeros((len(pairs), parts), bool)
    for row, members in zip(found, pairs, strict=True):
        row[list(members)] = True
    return found


def pairs_of(some: Iterable[int]) -> list[tuple[int, int]]:
    """All pairs of some parts, by index."""
    return list(combinations(sorted(some), 2))


def of_size(size: int, count: int, parts: int, seed: int) -> Bool[np.ndarray, "sets parts"]:
    """Random sets of one size, each size from a stream of its own.

    Args:
        size: parts in a set.
        count: number of sets.
        parts: number of parts.
        seed: of the sets.
    """
    drawn = np.random.default_rng((seed, parts, size)).random((count, parts)).argsort(1).argsort(1)
    found: Bool[np.ndarray, "sets parts"] = drawn < size
    return found


def key(members: Bool[np.ndarray, " parts"]) -> bytes:
    """A set as something to look up."""
    return np.packbits(members).tobytes()


def addresses(sets: Bool[np.ndarray, "sets parts"], parts: Sequence[str]) -> list[str]:
    """Joint knock-outs of the distinct sets with two parts or more, as components are written."""
    distinct = {key(members): members for members in sets if members.sum() > 1}
    return [
        "+".join(part for part, inside in zip(parts, members, strict=True) if inside) for members in distinct.values()
    ]


def members(address: str, parts: Sequence[str]) -> Bool[np.ndarray, " parts"]:
    """The set that an address of a knock-out names, whatever the order of its parts."""
    named = set(address.split("+"))
    return np.array([part in named for part in parts])
