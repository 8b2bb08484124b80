"""What a ranking will cost, before it is made."""

from __future__ import annotations

from hydrascope.ranking._execution import FROZEN, JOINT, Ranking
from hydrascope.run import Estimate, estimate
from hydrascope.run_directory import SINGLES


def estimate_rank(ranking: Ranking) -> dict[str, Estimate]:
    """Count what each run of a ranking would do.

    Where primaries are still to be found, the first part stands for them: it has the most parts behind it.

    Args:
        ranking: what would be done.

    Returns:
        Estimates by the name of the run; the few passes of the gradients are not counted.

    Raises:
        OutOfBudget: a single prompt does not fit the memory budget, or a ledger what is free.
    """
    primaries = ranking.named or ranking.parts[:1]
    made = {SINGLES: ranking.singles, JOINT: ranking.joint(primaries)}
    if ranking.later(primaries):
        made[FROZEN] = ranking.frozen(primaries, {})
    return {name: estimate(task) for name, task in made.items()}
