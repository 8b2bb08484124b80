"""Sites and places: where a component's value is read and replaced.

Heads and key-value groups are slices of the attention output projection's input, neurons are entries of the MLP down
projection's input; after a projection they are summed and cannot be separated. Routed experts are summed by their
module, which can be run for each expert alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Site(NamedTuple):
    """A module's input or output, or one expert's share of its output.

    Attributes:
        module: path of the module.
        side: whether the module's input or its output is meant.
        width: size of the last dimension.
        expert: index of the expert whose share is meant; -1 for the whole.
    """

    module: str
    side: Literal["input", "output"]
    width: int
    expert: int = -1

    def __str__(self) -> str:
        return f"{self.module}@{self.side}" + ("" if self.expert < 0 else f".expert{self.expert}")


@dataclass(frozen=True)
class Place:
    """A slice of a site's last dimension.

    Attributes:
        site: the module's input or output.
        start: first index of the slice.
        stop: index after the last one.
    """

    site: Site
    start: int
    stop: int

    @property
    def span(self) -> slice:
        """The slice, as an index of the last dimension."""
        return slice(self.start, self.stop)

    @property
    def width(self) -> int:
        """Length of the slice."""
        return self.stop - self.start
