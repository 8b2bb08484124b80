"""Results whose tables are methods, so that a table can be had by its name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

import pandas as pd

from hydrascope._card import card
from hydrascope.errors import OutputError


@runtime_checkable
class Said(Protocol):
    """Findings in sentences."""

    @property
    def headline(self) -> str:
        """The most important one."""

    @property
    def sentences(self) -> Sequence[str]:
        """The others."""


class NamedTables(ABC):
    """What a finished test or ranking adds to its tables.

    Attributes:
        TABLES: names of the methods that return tables and need no argument.
        WHAT: what it is called in a sentence, `a stress test`.
    """

    TABLES: ClassVar[tuple[str, ...]]
    WHAT: ClassVar[str]

    @abstractmethod
    def summary(self) -> Said:
        """The findings in plain sentences."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.summary().headline}\nTables: {', '.join(self.TABLES)}"

    def _repr_html_(self) -> str:
        said = self.summary()
        return card(said.headline, {"tables": ", ".join(self.TABLES)}, said.sentences[:3])

    def table(self, name: str) -> pd.DataFrame:
        """A table by its name.

        Args:
            name: one of `TABLES`.

        Raises:
            OutputError: there is no such table.
        """
        if name not in self.TABLES:
            raise OutputError(f"{self.WHAT} has no table '{name}'; choose from {', '.join(self.TABLES)}")
        found: pd.DataFrame = getattr(self, name)()
        return found

    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables by name."""
        return {name: self.table(name) for name in self.TABLES}
