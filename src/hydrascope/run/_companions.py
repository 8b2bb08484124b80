"""A run and its companions: other ablations, other doses, and frozen responders.

Companions share model, prompts, filter, donors and seed with the run, so that their ledgers can be compared row by row.
Each costs a run of its own, below `companions/` of the main run's folder: killed, it continues; changed, it is refused;
and it goes when the main run is overwritten. Earlier companions that are not asked for this time stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from hydrascope.ablations import Ablation
from hydrascope.analysis import FREEZE_CONTROLS, FREEZE_MOST, Findings, choose_freezes, freezes_of
from hydrascope.anatomy import Model
from hydrascope.components import Component, Knockout, parse_knockouts
from hydrascope.errors import HydrascopeError, RunError
from hydrascope.prompts import PromptSet
from hydrascope.run._execution import execute, versions
from hydrascope.run._record import record_of, store_prompts
from hydrascope.run._request import RunRequest
from hydrascope.run._runner import Progress, Tell
from hydrascope.run._task import Task, prepare
from hydrascope.run_directory import FREEZE, RunDirectory, locked, open_run_directory


@dataclass(frozen=True)
class Runs:
    """A run and its companions, ready to go.

    Attributes:
        request: what was asked.
        main: the run itself.
        companions: other ablations and doses, by the name of their folder.
    """

    request: RunRequest
    main: Task
    companions: Mapping[str, Task]


def prepare_runs(
    request: RunRequest, model: Model, prompts: PromptSet, ablations: Sequence[Ablation] | None = None
) -> Runs:
    """Check a run and its companions before the first number is computed.

    Args:
        request: what is asked.
        model: the opened model.
        prompts: at least one prompt.
        ablations: the request's ablations, where they are at hand.

    Raises:
        HydrascopeError: what cannot be done, and what to do about it.
    """
    chosen, *others = ablations or request.ablations()
    full, *lower = request.dose
    main = prepare(model, prompts, chosen, request.options, dose=full)
    companions = {ablation.name: replace(main, ablation=ablation) for ablation in others}
    companions |= {f"dose-{dose:g}": replace(main, dose=dose) for dose in lower}
    return Runs(request, main, companions)


def execute_runs(
    runs: Runs,
    out: Path | None,
    *,
    overwrite: bool = False,
    progress: Progress = lambda stage, done, total: None,
    tell: Tell = lambda lines: None,
) -> tuple[xr.Dataset, RunDirectory | None]:
    """Make a run and its companions, or what is left of them.

    Args:
        runs: what to do.
        out: the run's folder, made or continued; None keeps nothing on disk afterwards.
        overwrite: throw away the run that is in `out`, with its companions.
        progress: takes stage, number done and total.
        tell: takes what the run says before its first number.

    Returns:
        The run's finished ledger and its folder, if any.

    Raises:
        SettingsChanged: a run that is there was made with other settings.
        HydrascopeError: what goes wrong on the way; the runs that are finished are kept.
    """
    if out is None and (runs.companions or runs.request.freeze):
        raise RunError("companions of a run are kept in its folder; say where with out")
    dataset, directory = execute(
        runs.main, out, request=runs.request, overwrite=overwrite, progress=progress, tell=tell
    )
    if directory is not None:
        frozen = freezing(runs.main, dataset) if runs.request.freeze else {}
        execute_companions(directory, {**runs.companions, **frozen}, runs.request, progress=progress)
    return dataset, directory


def execute_companions(
    directory: RunDirectory,
    tasks: Mapping[str, Task],
    request: RunRequest,
    *,
    progress: Progress = lambda stage, done, total: None,
    tell: Tell = lambda lines: None,
) -> None:
    """Make companion runs one after the other, or what is left of them.

    Args:
        directory: folder of the main run.
        tasks: companions by name.
        request: what was asked; its command makes all of them.
        progress: takes stage (behind the companion's name), number done and total.
        tell: takes what each companion says before its first number.
    """
    with locked(directory.path):
        for name, task in tasks.items():
            told = partial(_named, progress, name)
            execute(task, directory.companion(name), command=request.command_line(), progress=told, tell=tell)


@contextmanager
def folder_of_companions(
    out: Path, request: RunRequest, task: Task, settings: Mapping[str, Any], first: str, *, overwrite: bool = False
) -> Iterator[RunDirectory]:
    """The folder of what is measured in companion runs alone, made or continued.

    An error that comes before the first companion has begun leaves nothing behind.

    Args:
        out: the folder.
        request: what was asked.
        task: a companion, with the model and the prompts of all.
        settings: everything that the numbers depend on.
        first: name of the first companion.
        overwrite: throw away what is in `out`.

    Raises:
        SettingsChanged: what is there was made with other settings.
    """
    with locked(out):
        facts = {"versions": versions(), **record_of(request, task.model, task.prompts)}
        directory = open_run_directory(out, settings, facts, overwrite=overwrite)
        store_prompts(directory, task.prompts)
    try:
        yield directory
    except HydrascopeError:
        if not directory.companion(first).exists():
            directory.discard()
        raise


def _named(progress: Progress, name: str, stage: str, done: int, total: int) -> None:
    progress(f"{name}: {stage}", done, total)


def freezing(task: Task, ds: xr.Dataset) -> dict[str, Task]:
    """The companion that shows who is needed: responders frozen while what they respond to is out.

    Args:
        task: the main run.
        ds: the main run's finished ledger.

    Returns:
        The task by the name of its folder; none where the ledger shows no repair, or keeps only sums by kind.
    """
    if task.options.detail != "full":
        return {}
    findings = Findings(ds).by_layer
    chosen = choose_freezes(findings.ds, findings.repair, task.options.seed)
    return {FREEZE: _frozen(task, chosen)} if chosen else {}


def freeze_at_most(task: Task) -> dict[str, Task]:
    """The largest task that `freezing` could find, before the run is made: the first parts repaired.

    Args:
        task: the main run, before it is made.

    Returns:
        The task by the name of its folder; none where nothing could be frozen whatever the ledger shows.
    """
    if task.options.detail != "full":
        return {}
    writers = [writer.component for writer in task.model.anatomy.writers]
    chosen: list[str] = []
    alone = [knockout.parts[0] for knockout in task.knockouts if _alone(knockout)]
    behind = {one: _behind(one, writers) for one in sorted(alone, key=lambda one: one.layer)}
    for one in [one for one, later in behind.items() if later][:FREEZE_MOST]:  # the first are the dearest
        names = behind[one]
        chosen += freezes_of(str(one), names, names[2:][:FREEZE_CONTROLS] or names[1:])
    return {FREEZE: _frozen(task, list(dict.fromkeys(chosen)))} if chosen else {}


def _behind(one: Component, writers: Sequence[Component]) -> list[str]:
    """Of later attention and later MLPs, whichever are more."""
    later = [
        [str(other) for other in writers if other.kind == kind and other.layer > one.layer] for kind in ("attn", "mlp")
    ]
    return max(later, key=len)


def _frozen(task: Task, chosen: Sequence[str]) -> Task:
    components = ",".join(chosen)
    knockouts = tuple(parse_knockouts(components, task.model.anatomy.inventory))
    options = task.options.but(components=components, null_draws=0, split_attention=False)
    return replace(task, options=options, knockouts=knockouts, heads=())


def _alone(knockout: Knockout) -> bool:
    return len(knockout.parts) == 1 and not knockout.frozen and knockout.sender is None
