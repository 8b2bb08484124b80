"""Makes cells on the workers of a Dask cluster, each cell a task.

Whatever dies, the cells on disk say what is left: a task whose worker is gone is given to another one, and when the
scheduler is gone, what is left is handed to the next one at its address.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import dask
from distributed import Client, KilledWorker, LocalCluster, as_completed

from hydrascope.errors import RunError, sentence
from hydrascope.run import Progress
from hydrascope.sweeping._cells import Cell, Outcome
from hydrascope.sweeping._execution import How, Told, noting_what_is_kept, reused
from hydrascope.sweeping._plan import Plan
from hydrascope.sweeping._where import Tell, Where
from hydrascope.sweeping._worker import TOPIC, work

PATIENCE = 60.0
"""Seconds that a scheduler is waited for, at the beginning and when it is gone."""

_SILENCE = logging.CRITICAL + 1

GPU = "GPU"
"""Name of the resource that workers with a GPU offer."""


def execute_on(
    where: Where,
    plan: Plan,
    how: How,
    *,
    progress: Progress = lambda stage, done, total: None,
    told: Told = lambda outcome: None,
    tell: Tell = lambda line: None,
) -> list[Outcome]:
    """Make the cells of a plan on a cluster, or what is left of them.

    Args:
        where: which cluster.
        plan: what to do.
        how: how it is done.
        progress: takes stage, number done and total; cells are a stage, and so is each worker.
        told: takes what became of each cell.
        tell: takes what happens to the cluster.

    Returns:
        What became of each cell, in the order of the plan. A failed one has stopped no other.

    Raises:
        RunError: there is no scheduler at the address, or none any more.
    """
    found = dict[str, Outcome]()

    def note(outcome: Outcome) -> None:
        found[outcome.cell] = outcome
        told(outcome)
        progress("cells", len(found), len(plan.cells))

    with noting_what_is_kept(plan):
        progress("cells", 0, len(plan.cells))
        for outcome in filter(None, (reused(cell, how) for cell in plan.cells)):
            note(outcome)
        if len(found) < len(plan.cells):
            with _addressed(where) as address:
                while left := [cell for cell in plan.cells if cell.name not in found]:
                    with _connected(address, plan, tell) as client:
                        _watch(client, progress, tell)
                        for outcome in _outcomes(client, left, how):
                            note(outcome)
    return [found[cell.name] for cell in plan.cells]


@contextmanager
def _addressed(where: Where) -> Iterator[Any]:
    """What a client connects to: an address, or a cluster of this machine that is there while the block lasts.

    The latter listens on the loopback device only and takes nobody without the keys that it makes for itself: whoever
    reaches a worker can run code, and other people use this machine, too.
    """
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]:
        logging.getLogger(name).setLevel(_SILENCE)  # what matters is told in a sentence
    if where.scheduler is not None:
        yield where.scheduler
        return
    here = "127.0.0.1:0"
    each = str(max(1, (os.cpu_count() or 1) // (where.workers or 1)))
    surroundings = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", each)}
    surroundings |= {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": surroundings}),
        LocalCluster(
            n_workers=where.workers,
            threads_per_worker=1,
            host="127.0.0.1",
            security=True,
            dashboard_address=here,
            worker_dashboard_address=here,
            memory_limit=0,  # what a run may use it decides itself
            resources={GPU: 1},  # of this machine, if there is one; torch says so where there is none
            silence_logs=_SILENCE,
        ) as local,
    ):
        yield local


@contextmanager
def _connected(address: Any, plan: Plan, tell: Tell) -> Iterator[Client]:
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:  # the last without keys, where an address asks for them
        done = sum(cell.found() is not None for cell in plan.cells)
        raise RunError(
            f"no scheduler answers at '{address}' ({error}); '{plan.folder}' keeps {done} of {len(plan.cells)} cells "
            "whole, and the same command continues once it is there"
        ) from error
    try:
        at = str(client.scheduler_info(n_workers=0)["address"])
        tell(f"{len(client.nthreads())} workers at {at}{_caution(at)}")
        yield client
    finally:
        client.close(timeout=5)


def _caution(address: str) -> str:
    """What to say of a connection that others on the network can use."""
    parts = urlsplit(address)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme == "tls" or local:
        return ""
    return "; whoever reaches it can run code, since it asks for no keys: see docs/howto/cluster.md"


def _outcomes(client: Client, cells: list[Cell], how: How) -> Iterator[Outcome]:
    """What becomes of cells, as soon as it is known; ends early when the scheduler is gone."""
    gpus = any(GPU in worker["resources"] for worker in client.scheduler_info(n_workers=-1)["workers"].values())
    futures = {}
    for place, cell in enumerate(cells):
        if _needs_gpu(cell, gpus) and not gpus:
            yield _failed(cell, f"no worker offers a {GPU}; start some with dask worker --resources {GPU}=1")
            continue
        future = client.submit(
            work,
            cell,
            how,
            os.getcwd(),
            key=f"{cell.name}-{uuid4().hex[:8]}",  # a lost cell is a new task
            resources={GPU: 1} if _needs_gpu(cell, gpus) else None,
            priority=-place,  # in order, so that a worker needs few models
        )
        futures[future] = cell
    for future in as_completed(futures, loop=client.loop):
        cell = futures[future]
        try:
            yield future.result()
        except CancelledError:  # the connection is lost, or was for a moment
            return
        except KilledWorker as error:
            yield _failed(
                cell, f"{error.allowed_failures + 1} workers died over it, perhaps for want of memory; see there"
            )
        except Exception as error:  # such as a worker without this package
            yield _failed(cell, sentence(f"no worker could begin it: {type(error).__name__} {error}"))


def _needs_gpu(cell: Cell, offered: bool) -> bool:
    """Whether a cell is for workers that offer a GPU; what goes anywhere goes there, too, lest devices be mixed."""
    device = cell.request.device
    return device.startswith(("cuda", "map")) or (offered and device == "auto")


def _failed(cell: Cell, why: str) -> Outcome:
    return Outcome(cell.name, str(cell.folder), "failed", why)


def _watch(client: Client, progress: Progress, tell: Tell) -> None:
    """Tell what workers say of themselves, and when one is gone."""
    seen: dict[str, int] = {}

    def of_a_worker(event: tuple[float, dict[str, Any]]) -> None:
        said = event[1]
        number = seen.setdefault(said["worker"], len(seen) + 1)
        progress(f"worker {number}", said["done"], said["total"])

    def of_the_cluster(event: tuple[float, dict[str, Any]]) -> None:
        said = event[1]
        if isinstance(said, dict) and said.get("action") == "remove-worker" and said.get("processing-tasks"):
            tell(f"worker {said['worker']} is gone; its cell goes to another one")

    client.subscribe_topic(TOPIC, of_a_worker)
    client.subscribe_topic("all", of_the_cluster)
