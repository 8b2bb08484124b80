"""What a worker of a cluster does: makes a cell, and keeps its model for the next."""

from __future__ import annotations

import os
import time
from threading import Lock

from distributed import get_worker

from hydrascope.errors import OutputError
from hydrascope.sweeping._cells import Cell, Outcome
from hydrascope.sweeping._claim import Claimed
from hydrascope.sweeping._execution import PAUSE, How, OpenModel, make

TOPIC = "hydrascope"
"""Name under which workers say how far they are."""

_EVERY = 0.5
"""Seconds between two of a worker's messages."""

_OPENED = OpenModel()
_TURN = Lock()
"""A worker with several threads makes one cell at a time, since there is one model."""


def work(cell: Cell, how: How, where: str) -> Outcome:
    """Make a cell, or what is left of it, once no other process works on it.

    Args:
        cell: the cell.
        how: how it is made.
        where: folder that the command was given in, which paths are relative to.

    Raises:
        OutputError: this worker does not see that folder.
    """
    with _TURN:
        try:
            os.chdir(where)
        except OSError as error:
            raise OutputError(
                f"a worker sees no folder '{where}'; a cluster needs a file system that all share"
            ) from error
        while True:
            try:
                return make(cell, how, _OPENED, _Teller(cell.name).told)
            except Claimed:
                time.sleep(PAUSE)


class _Teller:
    """Says how far a worker is, not too often."""

    def __init__(self, cell: str) -> None:
        self._cell, self._worker, self._said = cell, get_worker(), 0.0

    def told(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() - self._said > _EVERY:
            self._said = time.monotonic()
            said = {"worker": self._worker.address, "cell": self._cell, "stage": stage, "done": done, "total": total}
            self._worker.log_event(TOPIC, said)
