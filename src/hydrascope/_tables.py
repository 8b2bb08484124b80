"""Results whose tables are methods, so that a table can be had by its name."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import pandas as pd

from hydrascope._card import card
from hydrascope.errors import OutputError
from hydrascope.ledger import write_text
from hydrascope.run_directory import folder_named


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

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write every table as CSV.

        Args:
            folder: where to write; made if it is not there.

        Raises:
            OutputError: a file cannot be written.
        """
        where = folder_named(folder)
        try:
            where.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"'{where}' cannot be made: {error.strerror or error}") from error
        for name, table in self.tables().items():
            write_text(where / f"{name}.csv", table.to_csv(index=False))
        return where
