"""The ledger: an `xarray.Dataset` on disk that accounts for every knock-out of every prompt.

It is in Zarr format, chunked by prompt; plain `xarray.open_zarr` opens it, and `open_dataset` checks
that it is what was written and closes.
"""

from hydrascope.ledger._buffer import LedgerBuffer
from hydrascope.ledger._file import LedgerFile
from hydrascope.ledger._joining import Part, join_ledgers
from hydrascope.ledger._json import read_record, remove, write_record, write_text
from hydrascope.ledger._reading import open_dataset, unfinished
from hydrascope.ledger._schema import (
    CLOSED,
    MEASURES,
    VARIABLES,
    kept_variables,
    label_dataset,
    numbers_kept,
    rows_of_a_chunk,
)
from hydrascope.ledger._seal import SEAL, is_sealed, lazily, seal_of

__all__ = [
    "CLOSED",
    "MEASURES",
    "SEAL",
    "VARIABLES",
    "LedgerBuffer",
    "LedgerFile",
    "Part",
    "is_sealed",
    "join_ledgers",
    "kept_variables",
    "label_dataset",
    "lazily",
    "numbers_kept",
    "open_dataset",
    "read_record",
    "remove",
    "rows_of_a_chunk",
    "seal_of",
    "unfinished",
    "write_record",
    "write_text",
]
