"""A sweep: many models, tasks, ablations and seeds, each combination an ordinary run in a folder of its own.

`read_plan` turns a TOML file into cells, `price_plan` says what they cost, `execute_plan` makes them one after the
other, or what is left of them, and `execute_sweep` does where a `Where` says, which may be a cluster. `Sweep` has what
became of them, and `sweep` is the verb in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydrascope._lazy import lazily

if TYPE_CHECKING:
    from hydrascope.sweeping._cells import Cell, Outcome
    from hydrascope.sweeping._execution import How, execute_plan
    from hydrascope.sweeping._plan import Plan, read_plan
    from hydrascope.sweeping._pricing import Price, price_plan
    from hydrascope.sweeping._sweep import Sweep, sweep
    from hydrascope.sweeping._where import Where, execute_sweep

__all__ = [
    "Cell",
    "How",
    "Outcome",
    "Plan",
    "Price",
    "Sweep",
    "Where",
    "execute_plan",
    "execute_sweep",
    "price_plan",
    "read_plan",
    "sweep",
]

__getattr__ = lazily(
    __name__,
    {
        "_cells": "Cell Outcome",
        "_execution": "How execute_plan",
        "_plan": "Plan read_plan",
        "_pricing": "Price price_plan",
        "_sweep": "Sweep sweep",
        "_where": "Where execute_sweep",
    },
)
