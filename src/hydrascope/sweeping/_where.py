"""Where cells are made: in this process, or on workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from hydrascope.errors import RunError
from hydrascope.run import Progress
from hydrascope.sweeping._cells import Outcome
from hydrascope.sweeping._execution import How, Told, execute_plan
from hydrascope.sweeping._plan import Plan

Tell = Callable[[str], None]
"""Takes a line about the cluster."""


@dataclass(frozen=True)
class Where:
    """Where cells are made; in this process where neither is given.

    Attributes:
        workers: number of processes of a cluster on this machine.
        scheduler: address of a cluster's scheduler, such as `tls://host:8786`.
    """

    workers: int | None = None
    scheduler: str | None = None

    def require(self) -> None:
        """Find out before anything is opened whether cells can be made there.

        Raises:
            RunError: they cannot.
        """
        if self.workers is not None and self.scheduler is not None:
            raise RunError(
                "--workers starts a cluster here and --scheduler names one that is there; leave one of them out"
            )
        if self.workers is not None and self.workers < 1:
            raise RunError(f"a cluster cannot have {self.workers} workers; give 1 or more")
        if self.is_cluster and find_spec("distributed") is None:
            raise RunError("a cluster needs dask, which is not installed; run pip install 'hydrascope[cluster]'")

    @property
    def is_cluster(self) -> bool:
        """Whether workers make the cells."""
        return self.workers is not None or self.scheduler is not None


def execute_sweep(
    plan: Plan,
    how: How,
    where: Where,
    *,
    progress: Progress = lambda stage, done, total: None,
    told: Told = lambda outcome: None,
    tell: Tell = lambda line: None,
) -> list[Outcome]:
    """Make the cells of a plan, or what is left of them, wherever that is.

    Args:
        plan: what to do.
        how: how it is done.
        where: where it is done.
        progress: takes stage, number done and total.
        told: takes what became of each cell.
        tell: takes what happens to the cluster.

    Returns:
        What became of each cell, in the order of the plan.

    Raises:
        RunError: there is no such cluster, or none any more.
    """
    where.require()
    if not where.is_cluster:
        return execute_plan(plan, how, progress=progress, told=told)
    from hydrascope.sweeping._cluster import execute_on

    return execute_on(where, plan, how, progress=progress, told=told, tell=tell)
