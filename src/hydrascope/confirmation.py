"""The run that belongs to a finished one and asks who is needed: responders held while what they answer is out."""

from __future__ import annotations

from dataclasses import replace

import xarray as xr

from hydrascope.analysis.findings import Findings
from hydrascope.analysis.freeze import pairs_to_confirm
from hydrascope.components import parse_knockouts
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
    chosen = pairs_to_confirm(findings.ds, findings.repair, findings.resampling, task.options.seed)
    if not chosen:
        return {}
    components = ",".join(chosen)
    knockouts = tuple(parse_knockouts(components, task.model.anatomy.inventory))
    options = replace(task.options, components=components, null_draws=0)
    return {HELD: replace(task, options=options, knockouts=knockouts)}
