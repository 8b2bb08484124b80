"""What a sweep will cost, cell by cell, before it is made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from hydrascope.errors import HydrascopeError
from hydrascope.run import Progress, estimate, freeze_at_most, open_request, prepare_runs
from hydrascope.sweeping._cells import Cell
from hydrascope.sweeping._execution import How, OpenModel
from hydrascope.sweeping._plan import Plan


@dataclass(frozen=True)
class Price:
    """What a cell would take.

    Attributes:
        cell: its name.
        folder: its run's folder.
        state: `finished`, `begun`, `new`, or `refused`.
        said: what was found, or why it is refused.
        interventions: ablated runs of a prompt, companions and at most freezing included.
        seconds: least time of all of it from here to its end, at the speed of a matrix product here.
        needed_bytes: estimated peak beside the weights.
        ledger_bytes: size of its ledgers.
    """

    cell: str
    folder: str
    state: Literal["finished", "begun", "new", "refused"]
    said: str = ""
    interventions: int = 0
    seconds: float = 0.0
    needed_bytes: int = 0
    ledger_bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


def price_plan(plan: Plan, how: How, *, progress: Progress = lambda stage, done, total: None) -> list[Price]:
    """Price every cell of a plan that is not finished; nothing is computed but the checks of its models.

    Args:
        plan: what would be done.
        how: how it would be done.
        progress: takes stage, number done and total.
    """
    opened, prices = OpenModel(), list[Price]()
    for cell in plan.cells:
        progress("cells", len(prices), len(plan.cells))
        prices.append(_price(cell, how, opened))
    return prices


def _price(cell: Cell, how: How, opened: OpenModel) -> Price:
    found = None if how.verify else cell.found()
    if found is not None:
        return Price(cell.name, str(cell.folder), "finished", str(found["headline"]))
    try:
        asked = open_request(cell.request, trust_remote_code=how.trust_remote_code, opening=opened.of(cell))
        runs = prepare_runs(cell.request, *asked)
        frozen = freeze_at_most(runs.main) if cell.request.freeze else {}
        each = [estimate(task) for task in (runs.main, *runs.companions.values(), *frozen.values())]
    except HydrascopeError as error:
        return Price(cell.name, str(cell.folder), "refused", str(error))
    return Price(
        cell.name,
        str(cell.folder),
        "begun" if cell.begun else "new",
        each[0].caution,
        sum(one.interventions for one in each),
        sum(one.seconds for one in each),
        max(one.needed_bytes for one in each),
        sum(one.ledger_bytes for one in each),
    )
