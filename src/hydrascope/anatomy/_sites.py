"""Where a component's value can be read and replaced: a stretch of some module's input or output.

Heads and key-value groups lie side by side at the INPUT of the attention output projection, neurons at the input of the
MLP's down projection. Behind a projection they are mixed and cannot be cut apart any more. Routed experts are the
exception: their module sums them, and can be asked for the share of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Site(NamedTuple):
    """One module's input or output, or one expert's share of it.

    Attributes:
        module: path of the module.
        side: which of the two.
        width: size of its last dimension.
        expert: whose share of the output; -1 for the whole.
    """

    module: str
    side: Literal["input", "output"]
    width: int
    expert: int = -1

    def __str__(self) -> str:
        return f"{self.module}@{self.side}" + ("" if self.expert < 0 else f".expert{self.expert}")


@dataclass(frozen=True)
class Place:
    """A stretch of a site.

    Attributes:
        site: whose.
        start: first entry.
        stop: one behind the last.
    """

    site: Site
    start: int
    stop: int

    @property
    def span(self) -> slice:
        """The stretch as an index."""
        return slice(self.start, self.stop)

    @property
    def width(self) -> int:
        """Its length."""
        return self.stop - self.start
