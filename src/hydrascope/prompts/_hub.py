"""Reads tables of the Hugging Face hub.

The library `datasets`, an optional dependency, is imported here alone and only when a table is read.
"""

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
        dataset: name of the data set, `OWNER/NAME`.
        split: name of the split.
        config: name of the configuration; None if there is only one.
        rows: number of rows; 0 if unknown.
    """

    dataset: str
    split: str
    config: str | None = None
    rows: int = 0

    @classmethod
    def parse(cls, text: str) -> HubTable:
        """Parse `OWNER/NAME` or `OWNER/NAME:SPLIT`, by default the split `train`."""
        dataset, _, split = text.partition(":")
        return cls(dataset, split or "train")


def hub_records(table: HubTable) -> Iterator[Record]:
    """Read the rows of a table, downloaded or from the library's cache.

    Args:
        table: the table to read.

    Returns:
        The rows in order.

    Raises:
        PromptError: the library is not installed, or cannot load the table.
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
    except Exception as error:  # each cause (no network, no such table, a damaged cache) has a class of its own
        said = " ".join(str(error).split()).split(". ")[0].rstrip(".") or type(error).__name__
        raise PromptError(
            f"'{table.dataset}' cannot be loaded from the Hugging Face hub ({said}); check name and network, or give "
            "a file"
        ) from error
