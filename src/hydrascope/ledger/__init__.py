"""The ledger: an `xarray.Dataset` on disk that accounts for every knock-out of every prompt.

It is in Zarr format, chunked by prompt; plain `xarray.open_zarr` opens it, and `open_dataset` checks that it closed.
"""

from hydrascope.ledger._buffer import LedgerBuffer
from hydrascope.ledger._file import LedgerFile, is_finished, open_dataset
from hydrascope.ledger._json import read_json, write_text
from hydrascope.ledger._schema import (
    CLOSED,
    MEASURES,
    VARIABLES,
    kept_variables,
    label_dataset,
    numbers_kept,
    rows_of_a_chunk,
)

__all__ = [
    "CLOSED",
    "MEASURES",
    "VARIABLES",
    "LedgerBuffer",
    "LedgerFile",
    "is_finished",
    "kept_variables",
    "label_dataset",
    "numbers_kept",
    "open_dataset",
    "read_json",
    "rows_of_a_chunk",
    "write_text",
]
