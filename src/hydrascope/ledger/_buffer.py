"""Write buffer of a ledger: rows wait, since one costs as much to write as a thousand."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

import numpy as np

from hydrascope.ledger._file import LedgerFile
from hydrascope.ledger._schema import VARIABLES

BYTES = 64 * 2**20
"""Size at which rows are written at once."""


class LedgerBuffer:
    """Gathers consecutive rows; leaving the `with` block writes them, whatever happened inside.

    Args:
        file: the ledger.
        wait: seconds that rows may wait: what a kill can cost beside the rows that are being computed.
    """

    def __init__(self, file: LedgerFile, wait: float) -> None:
        self._file, self._wait = file, wait
        self._done = file.done()
        self._parts: list[Mapping[str, np.ndarray]] = []
        self._rows, self._since = range(0), time.monotonic()

    def is_done(self, rows: range) -> bool:
        """Whether all of these rows were there at the beginning."""
        return bool(self._done[rows.start : rows.stop].all())

    def add(self, rows: range, arrays: Mapping[str, np.ndarray]) -> None:
        """Take a few rows, and write when enough wait.

        Raises:
            OutputError: the disk is full or cannot be written.
        """
        if self._parts and rows.start != self._rows.stop:
            self.write()
        first = self._rows.start if self._parts else rows.start
        self._rows = range(first, rows.stop)
        self._parts.append(arrays)
        size = sum(array.nbytes for part in self._parts for array in part.values())
        if size >= BYTES or time.monotonic() - self._since >= self._wait:
            self.write()

    def write(self) -> None:
        """Write the gathered rows.

        Raises:
            OutputError: the disk is full or cannot be written; the rows stay undone.
        """
        parts, self._parts, self._since = self._parts, [], time.monotonic()
        if parts:
            axis = {name: VARIABLES[name][0].index("prompt") for name in parts[0]}
            together = {name: np.concatenate([part[name] for part in parts], axis[name]) for name in axis}
            self._file.write(self._rows, together)

    def __enter__(self) -> LedgerBuffer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.write()
