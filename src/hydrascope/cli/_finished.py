"""Opens what a folder holds, whichever verb made it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hydrascope.faults import Stress
    from hydrascope.results import Ledger


def open_finished(folder: Path) -> Ledger | Stress:
    """Open a finished run, or a finished stress test.

    Args:
        folder: its folder.

    Raises:
        OutputError: nothing finished is there, or it is not what was written.
    """
    from hydrascope.run_directory import STRESS, kind_of

    if kind_of(folder) == STRESS:
        from hydrascope.faults import Stress

        return Stress.open(folder)
    from hydrascope.results import Ledger

    return Ledger.open(folder)
