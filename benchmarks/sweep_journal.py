"""Notes every batch that a process measures, and makes batches small and slow: a file for `dask worker --preload`.

The journal is the file named by `SWEEP_JOURNAL`: a line a batch, with the cell, the process and the rows.
"""

from __future__ import annotations

import os
import time
from typing import Any

from hydrascope.run import _prompt_run, _runner
from hydrascope.sweeping import _execution

BATCH = 4
PAUSE = 0.2
"""Seconds that each batch takes longer, so that a kill meets it."""


def watch() -> None:
    """Note batches from now on."""
    noted = os.open(os.environ["SWEEP_JOURNAL"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    measure, made, at_work = vars(_runner)["measure"], vars(_execution)["_made"], [""]

    def measured(context: Any, rows: Any, *rest: Any, **more: Any) -> Any:
        os.write(noted, f"{at_work[0]} {os.getpid()} {','.join(map(str, rows))}\n".encode())
        time.sleep(PAUSE)
        return measure(context, rows, *rest, **more)

    def make(cell: Any, *rest: Any) -> Any:
        at_work[0] = cell.name
        return made(cell, *rest)

    vars(_runner)["measure"], vars(_execution)["_made"] = measured, make
    vars(_prompt_run)["BATCH"] = BATCH


def dask_setup(worker: object) -> None:
    """Called by a worker as it starts."""
    watch()
