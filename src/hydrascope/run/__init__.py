"""A run: what is asked, everything that is checked beforehand, and its ledger, batch by batch onto the disk.

`RunRequest` is what is asked, `Options` the part of it that says how a run is made. `open_request` opens its model and
prompts, `prepare_runs` checks it and its companion runs, and `execute_runs` makes or continues them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydrascope._lazy import lazily

if TYPE_CHECKING:
    from hydrascope.run._companions import (
        Runs,
        execute_companions,
        execute_runs,
        freeze_at_most,
        freezing,
        prepare_runs,
    )
    from hydrascope.run._execution import execute, versions
    from hydrascope.run._opening import open_model, open_request
    from hydrascope.run._options import PROTOCOLS, Options
    from hydrascope.run._record import recorded_request, stored_prompts
    from hydrascope.run._request import RunRequest, options_of
    from hydrascope.run._task import Task, default_folder, prepare
    from hydrascope.run.base import Progress

_HOMES = {
    "PROTOCOLS": "_options",
    "Options": "_options",
    "Progress": "base",
    "RunRequest": "_request",
    "Runs": "_companions",
    "Task": "_task",
    "default_folder": "_task",
    "execute": "_execution",
    "execute_companions": "_companions",
    "execute_runs": "_companions",
    "freeze_at_most": "_companions",
    "freezing": "_companions",
    "open_model": "_opening",
    "open_request": "_opening",
    "options_of": "_request",
    "prepare": "_task",
    "prepare_runs": "_companions",
    "recorded_request": "_record",
    "stored_prompts": "_record",
    "versions": "_execution",
}

__all__ = [
    "PROTOCOLS",
    "Options",
    "Progress",
    "RunRequest",
    "Runs",
    "Task",
    "default_folder",
    "execute",
    "execute_companions",
    "execute_runs",
    "freeze_at_most",
    "freezing",
    "open_model",
    "open_request",
    "options_of",
    "prepare",
    "prepare_runs",
    "recorded_request",
    "stored_prompts",
    "versions",
]

__getattr__ = lazily(__name__, _HOMES)
