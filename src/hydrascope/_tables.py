"""Results whose tables are methods, so that a table can be had by its name."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from hydrascope.errors import OutputError


class NamedTables:
    """What a finished test or ranking adds to its tables.

    Attributes:
        TABLES: names of the methods that return tables and need no argument.
        WHAT: what it is called in a sentence, `a stress test`.
    """

    TABLES: ClassVar[tuple[str, ...]]
    WHAT: ClassVar[str]

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
