"""Makes cells one after the other, or what is left of them."""

from __future__ import annotations

import gc
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from hydrascope.anatomy import Model
from hydrascope.errors import HydrascopeError, sentence
from hydrascope.ledger import write_text
from hydrascope.results import Ledger
from hydrascope.run import Progress, execute_runs, open_model, open_request, prepare_runs
from hydrascope.run_directory import REPORT
from hydrascope.sweeping._cells import Cell, Outcome
from hydrascope.sweeping._claim import Claimed, claimed
from hydrascope.sweeping._plan import Plan

PAUSE = 1.0
"""Seconds between two looks at a cell that another process works on."""

Told = Callable[[Outcome], None]
"""Takes what became of each cell, as soon as it is known."""


@dataclass(frozen=True)
class How:
    """How cells are made, whoever makes them.

    Attributes:
        trust_remote_code: run code that comes with the weights.
        verify: open the models of finished cells, too, and hold them to what was measured.
        report: write reports.
    """

    trust_remote_code: bool = False
    verify: bool = False
    report: bool = True


@dataclass
class OpenModel:
    """The model that was opened last, since the next cell often needs it again."""

    _opening: tuple[Any, ...] | None = None
    _model: Model | None = field(default=None, repr=False)

    def of(self, cell: Cell) -> Callable[..., Model]:
        """What opens a cell's model, or has it open already."""

        def opened(request: Any, **more: Any) -> Model:
            if self._opening != cell.opening or self._model is None:
                self._opening = self._model = None  # two at once may not fit
                gc.collect()
                torch.cuda.empty_cache()
                self._model, self._opening = open_model(request, **more), cell.opening
            return self._model

        return opened


def execute_plan(
    plan: Plan,
    how: How = How(),
    *,
    progress: Progress = lambda stage, done, total: None,
    told: Told = lambda outcome: None,
) -> list[Outcome]:
    """Make the cells of a plan, or what is left of them.

    A cell that another process works on is waited for at the end.

    Args:
        plan: what to do.
        how: how it is done.
        progress: takes stage, number done and total; cells are a stage, and so is each one's own.
        told: takes what became of each cell.

    Returns:
        What became of each cell, in the order of the plan. A failed one has stopped no other.
    """
    opened, found = OpenModel(), dict[str, Outcome]()
    left, passed_over = deque(plan.cells), 0
    with noting_what_is_kept(plan):
        progress("cells", 0, len(plan.cells))
        while left:
            cell = left.popleft()
            try:
                outcome = make(cell, how, opened, progress)
            except Claimed:
                left.append(cell)
                passed_over += 1
                if passed_over >= len(left):
                    time.sleep(PAUSE)
                continue
            passed_over = 0
            found[cell.name] = outcome
            told(outcome)
            progress("cells", len(found), len(plan.cells))
    return [found[cell.name] for cell in plan.cells]


@contextmanager
def noting_what_is_kept(plan: Plan) -> Iterator[None]:
    """Add to an interrupt how much of a sweep is kept."""
    try:
        yield
    except KeyboardInterrupt as stop:
        done = sum(cell.found() is not None for cell in plan.cells)
        stop.add_note(f"'{plan.folder}' keeps {done} of {len(plan.cells)} cells whole")
        raise


def make(cell: Cell, how: How, opened: OpenModel, progress: Progress) -> Outcome:
    """Make a cell, or what is left of it.

    Args:
        cell: the cell.
        how: how it is made.
        opened: the model that was opened last.
        progress: takes stage, number done and total.

    Returns:
        What became of it; whatever goes wrong is its own failure.

    Raises:
        Claimed: another process works on it.
    """
    started = time.monotonic()
    if (outcome := reused(cell, how)) is not None:
        return outcome
    try:
        with claimed(cell.folder.with_name(f".{cell.folder.name}.claim")) as claim:

            def told(stage: str, done: int, total: int) -> None:
                claim.require()
                progress(stage, done, total)

            return reused(cell, how) or _made(cell, how, opened, told)  # another process may just have made it
    except Claimed:
        raise
    except HydrascopeError as error:
        said = str(error)
    except Exception as error:  # a mistake of ours, or of a library, must not take a night's other cells with it
        said = _broken(cell, error)
    return Outcome(cell.name, str(cell.folder), "failed", said, time.monotonic() - started)


def reused(cell: Cell, how: How) -> Outcome | None:
    """What became of a cell that needs nothing any more and is not to be verified; None otherwise."""
    found = None if how.verify else cell.found()
    return None if found is None else Outcome(cell.name, str(cell.folder), "reused", str(found["headline"]))


def _made(cell: Cell, how: How, opened: OpenModel, progress: Progress) -> Outcome:
    started, before = time.monotonic(), cell.found()
    asked = open_request(cell.request, trust_remote_code=how.trust_remote_code, opening=opened.of(cell))
    dataset, directory = execute_runs(prepare_runs(cell.request, *asked), cell.folder, progress=progress)
    assert directory is not None
    if before is not None:  # opened anew, and the same
        return Outcome(cell.name, str(cell.folder), "reused", str(before["headline"]))
    ledger = Ledger(dataset, directory.path)
    if ledger.has_report and how.report:
        progress("report", 0, 1)
        ledger.report(cell.folder / REPORT)
        progress("report", 1, 1)
    headline, seconds = ledger.summary().headline if ledger.has_report else "", time.monotonic() - started
    cell.note(headline, seconds)
    return Outcome(cell.name, str(cell.folder), "made", headline, seconds)


def _broken(cell: Cell, error: Exception) -> str:
    """What is said of a failure that nobody foresaw; its traceback is in a file beside the cell's folder."""
    kept = cell.folder.with_name(f"{cell.folder.name}.txt")
    write_text(kept, "".join(traceback.format_exception(error)))
    return sentence(f"{type(error).__name__} {error}".strip()) + f"; this is a bug, '{kept}' has its traceback"
