"""What became of a sweep, and the verb in Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hydrascope.errors import OutputError
from hydrascope.progress import bars, require_callable
from hydrascope.results import Ledger
from hydrascope.run import PathLike, Progress
from hydrascope.sweeping._cells import Outcome
from hydrascope.sweeping._execution import How
from hydrascope.sweeping._plan import read_plan
from hydrascope.sweeping._where import Where, execute_sweep

FAILED = 1
"""Exit code where a cell failed; 2 is for a plan that cannot be read."""


@dataclass(frozen=True)
class Sweep:
    """Cells of a plan, made or failed.

    Attributes:
        folder: where the cells' folders are.
        outcomes: what became of each cell, in the order of the plan.
    """

    folder: Path
    outcomes: tuple[Outcome, ...]

    @property
    def exit_code(self) -> int:
        """0 if no cell failed, otherwise 1."""
        return FAILED if self._count("failed") else 0

    @property
    def headline(self) -> str:
        """How many cells there are, and what became of them."""
        said = f"{len(self.outcomes)} cells: {self._count('made')} made, {self._count('reused')} reused"
        failed = self._count("failed")
        return f"{said}, {failed} failed; the same command tries those again" if failed else said

    def table(self) -> pd.DataFrame:
        """A row for each cell: its name, what became of it, what was found, and its folder."""
        return pd.DataFrame([one.as_dict() for one in self.outcomes])

    def ledger(self, cell: str) -> Ledger:
        """The ledger of a cell.

        Args:
            cell: its name.

        Raises:
            OutputError: there is no such cell, or it failed.
        """
        folders = {one.cell: one.folder for one in self.outcomes if one.state != "failed"}
        if cell not in folders:
            raise OutputError(f"no finished cell is called '{cell}'; choose from {', '.join(folders) or 'none'}")
        return Ledger.open(folders[cell])

    def _count(self, state: str) -> int:
        return sum(one.state == state for one in self.outcomes)


def sweep(
    plan: PathLike | Mapping[str, Any],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    verify: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Sweep:
    """Make every run that a plan asks for, or what is left of them.

    Lists in a plan are crossed: every model with every task, every ablation and so on. Each cell is an ordinary run in
    a folder of its own. Finished ones are reused, failed ones stop no other and are tried again by the next call.

    Args:
        plan: a TOML file, or what one holds as a dictionary, such as `{"model": ["lerna", "iolaus"], "seed": [0, 1]}`.
        workers: make the cells in so many processes of their own on this machine; a script that does needs the usual
            `if __name__ == "__main__":` around the call.
        scheduler: make the cells on the Dask cluster whose scheduler has this address.
        verify: open the models of finished cells, too, and hold weights and prompts to what was measured.
        trust_remote_code: run code that comes with the weights.
        progress: takes stage, number done and total; if None, bars in a notebook or a terminal.

    Returns:
        What became of each cell.

    Raises:
        RunError: something in the plan says nothing, with its place, or there is no such cluster.
        OutputError: the plan cannot be read.
    """
    require_callable(progress)
    where = Where(workers, scheduler)
    where.require()
    asked = read_plan(plan)
    with bars(quiet=progress is not None) as drawn:
        how = How(trust_remote_code, verify, asked.report)
        return Sweep(asked.folder, tuple(execute_sweep(asked, how, where, progress=progress or drawn)))
