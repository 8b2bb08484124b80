"""What a stress test will cost, before it is made."""

from __future__ import annotations

import numpy as np

from hydrascope.faults._execution import SETS, StressTest
from hydrascope.resilience import addresses, next_sets
from hydrascope.run import Estimate, estimate
from hydrascope.run_directory import SINGLES


def estimate_stress(test: StressTest) -> dict[str, Estimate]:
    """Count what each run of a stress test would do.

    Which pairs are knocked out, and which sets the search asks for, depends on what is found; their number hardly does.

    Args:
        test: what would be done.

    Returns:
        Estimates by the name of the run: `singles`, `sets`, and of the search for the worst sets all steps together.

    Raises:
        OutOfBudget: a single prompt does not fit the memory budget, or a ledger what is free.
    """
    parts, plan = test.parts, test.request.plan
    made = {SINGLES: test.singles, SETS: test.sets(plan.addresses(parts, np.arange(len(parts), dtype=np.float64)))}
    if len(searched := addresses(next_sets(len(parts), plan.worst), parts)):
        made["worst"] = test.sets(searched)
    return {name: estimate(task) for name, task in made.items()}
