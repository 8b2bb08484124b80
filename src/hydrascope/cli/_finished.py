"""Opens what a folder holds, whichever verb made it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hydrascope.faults import Stress
    from hydrascope.pruning import Prune
    from hydrascope.ranking import Rank
    from hydrascope.results import Ledger


def open_finished(folder: Path) -> Ledger | Stress | Rank | Prune:
    """Open a finished run, stress test, ranking or pruning.

    Args:
        folder: its folder.

    Raises:
        OutputError: nothing finished is there, or it is not what was written.
    """
    from hydrascope.run_directory import PRUNE, RANK, STRESS, kind_of

    kind = kind_of(folder)
    if kind == STRESS:
        from hydrascope.faults import Stress

        return Stress.open(folder)
    if kind == RANK:
        from hydrascope.ranking import Rank

        return Rank.open(folder)
    if kind == PRUNE:
        from hydrascope.pruning import Prune

        return Prune.open(folder)
    from hydrascope.results import Ledger

    return Ledger.open(folder)
