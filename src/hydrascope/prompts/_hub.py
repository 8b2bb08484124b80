"""Tables of the Hugging Face hub, through its `datasets` library, which is imported only here and only when needed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hydrascope.errors import PromptError
from hydrascope.prompts._records import Record


@dataclass(frozen=True)
class HubTable:
    """A table on the Hugging Face hub.

    Attributes:
        dataset: `OWNER/NAME`.
        split: its part.
        config: its configuration; None for the only one.
        rows: how many it has; 0 if unknown.
    """

    dataset: str
    split: str
    config: str | None = None
    rows: int = 0


def hub_records(table: HubTable) -> Iterator[Record]:
    """Rows of a table, downloaded or from the library's own cache.

    Raises:
        PromptError: the library is not installed, or it cannot get at the table.
    """
    for number, row in enumerate(_load(table)):
        yield Record(f"{table.dataset}, row {number}", row)


def _load(table: HubTable) -> Any:
    try:
        library = importlib.import_module("datasets")
    except ImportError:
        raise PromptError(
            f"'{table.dataset}' is on the Hugging Face hub and the library 'datasets' is not installed; install "
            "hydrascope[hub], or give a file"
        ) from None
    try:
        return library.load_dataset(table.dataset, table.config, split=table.split)
    except Exception as error:  # no network, no such table, a damaged cache: a class of their own for each
        said = " ".join(str(error).split()).split(". ")[0].rstrip(".") or type(error).__name__
        raise PromptError(
            f"'{table.dataset}' cannot be loaded from the Hugging Face hub ({said}); check name and network, or give "
            "a file"
        ) from error
