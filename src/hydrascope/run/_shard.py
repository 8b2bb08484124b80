"""A share of a run: which of the rows that must be computed together are one process's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from hydrascope.errors import RunError


@dataclass(frozen=True)
class Shard:
    """One of several nearly equal shares of a run.

    Attributes:
        number: which share, from 1.
        count: number of shares.
    """

    number: int
    count: int

    @classmethod
    def read(cls, text: str) -> Shard:
        """A share as it is asked for, such as `2/3`.

        Raises:
            RunError: the text is no share.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise RunError(f"shard cannot be '{text}'; give which and how many, from 1/3 to 3/3")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def name(self) -> str:
        """Name of the shard's folder."""
        return f"{self.number}-of-{self.count}"

    def share(self, together: Iterable[range], rows: int) -> Bool[np.ndarray, " rows"]:
        """Which rows are this shard's: those of every stretch that begins in its part of all rows.

        Args:
            together: stretches of rows that must be computed together, in order.
            rows: number of rows.
        """
        found = np.zeros(rows, dtype=bool)
        for some in together:
            found[some.start : some.stop] = some.start * self.count // rows == self.number - 1
        return found


WHOLE = Shard(1, 1)
"""A run that is not divided."""
