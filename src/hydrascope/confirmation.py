"""The run that belongs to a finished one and asks who is needed: responders held while what they answer is out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import xarray as xr

from hydrascope.analysis import (
    FREEZE_CONTROLS,
    FREEZE_MOST,
    Findings,
    choose_freezes,
    freezes_of,
    require_writers,
)
from hydrascope.components import Knockout, parse_knockouts
from hydrascope.run_directory import HELD
from hydrascope.task import Task


def confirming(task: Task, ds: xr.Dataset) -> dict[str, Task]:
    """What is left to do to confirm a run.

    Args:
        task: the run's.
        ds: its finished ledger.

    Returns:
        The task by the name of its folder, on the same prompts with the same donors and seed; none where the ledger
        shows no repair by attention, or keeps only sums by kind.
    """
    if task.options.detail != "full":
        return {}
    findings = Findings(ds).by_layer
    chosen = choose_freezes(findings.ds, findings.repair, findings.resampling, task.options.seed)
    if not chosen:
        return {}
    return {HELD: _holding(task, chosen)}


def at_most(task: Task) -> dict[str, Task]:
    """The largest task that `confirming` could find, before the run is made: every attention layer repaired.

    Args:
        task: the run's.

    Returns:
        The task by the name of its folder; none where nothing could be confirmed whatever the ledger shows.
    """
    if task.options.detail != "full":
        return {}
    attention = [writer.component for writer in task.model.anatomy.writers if writer.component.kind == "attn"]
    alone = {knockout.parts[0] for knockout in task.knockouts if _alone(knockout)}
    later = {one: [other for other in attention if other.layer > one.layer] for one in attention if one in alone}
    chosen: list[str] = []
    for one in [one for one in attention if later.get(one)][
        :FREEZE_MOST
    ]:  # the first are the dearest: most lies behind them
        names = [str(other) for other in later[one]]
        chosen += freezes_of(str(one), names, names[2:][:FREEZE_CONTROLS] or names[1:])
    return {HELD: _holding(task, list(dict.fromkeys(chosen)))} if chosen else {}


def require_whole(ds: xr.Dataset) -> None:
    """Refuse to confirm a ledger that does not say who responded.

    Raises:
        DetailDropped: it keeps only sums by kind of writer.
    """
    require_writers(ds, "learning who is needed")


def _holding(task: Task, chosen: Sequence[str]) -> Task:
    components = ",".join(chosen)
    knockouts = tuple(parse_knockouts(components, task.model.anatomy.inventory))
    options = replace(task.options, components=components, null_draws=0, split_attention=False)
    return replace(task, options=options, knockouts=knockouts, heads=())


def _alone(knockout: Knockout) -> bool:
    return len(knockout.parts) == 1 and not knockout.frozen and knockout.sender is None
