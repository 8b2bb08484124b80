"""A stress test: many sets of parts knocked out together, each an ordinary knock-out of the run room.

`StressRequest` is what is asked. `prepare_stress` checks it, `estimate_stress` says what it will cost, `execute_stress`
makes or continues it: first every part alone, then random sets and pairs, then the search for the worst sets, each a
run of its own below `companions/` of the test's folder. `Stress` has the tables, and `stress` is the verb in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydrascope._lazy import lazily

if TYPE_CHECKING:
    from hydrascope.faults._estimate import estimate_stress
    from hydrascope.faults._execution import (
        StressTest,
        default_stress_folder,
        execute_stress,
        of_sets,
        prepare_singles,
        prepare_stress,
    )
    from hydrascope.faults._request import StressRequest
    from hydrascope.faults._stress import Stress
    from hydrascope.faults._verb import stress

__all__ = [
    "Stress",
    "StressRequest",
    "StressTest",
    "default_stress_folder",
    "estimate_stress",
    "execute_stress",
    "of_sets",
    "prepare_singles",
    "prepare_stress",
    "stress",
]

__getattr__ = lazily(
    __name__,
    {
        "_estimate": "estimate_stress",
        "_execution": "StressTest default_stress_folder execute_stress of_sets prepare_singles prepare_stress",
        "_request": "StressRequest",
        "_stress": "Stress",
        "_verb": "stress",
    },
)
