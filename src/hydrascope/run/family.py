"""Runs that belong to a run: other ablations and doses of the same knock-outs on the same prompts, each in its folder.

A run and its relatives share model, prompts, filter, seed and components, so that their ledgers can be compared row by
row. Each is a run of its own below `also/` of the main run's folder: killed, it continues; changed, it is refused; and
it goes when the main run is overwritten. Those that are there and were not asked for this time stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from hydrascope.ablations import Ablation
from hydrascope.errors import RunError
from hydrascope.run._runner import Progress
from hydrascope.run.execution import execute
from hydrascope.run_directory import RunDirectory, locked
from hydrascope.task import Task


def doses(text: str) -> tuple[float, ...]:
    """Doses with commas between, the largest first: that of the run itself.

    Raises:
        RunError: one of them is no number, or stands there twice.
    """
    try:
        found = sorted((float(one) for one in text.split(",")), reverse=True)
    except ValueError:
        raise RunError(f"'{text}' is no list of doses; write for example 0.25,0.5,1") from None
    if len(set(found)) < len(found):
        raise RunError(f"a dose stands twice in '{text}'; name each once")
    return tuple(found)


def belonging(task: Task, ablations: Sequence[Ablation] = (), doses: Sequence[float] = ()) -> dict[str, Task]:
    """The tasks that belong to a task.

    Args:
        task: the main one.
        ablations: others of the same knock-outs, at the dose of the main one.
        doses: others of the main ablation.

    Returns:
        By name, which is that of their folder.

    Raises:
        RunError: two of them would have one name, or a dose is not below the main one's.
    """
    names = [task.ablation.name, *(ablation.name for ablation in ablations)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RunError(f"the {twice} ablation is asked for twice; name each once")
    if strange := next((dose for dose in doses if not 0 <= dose < task.options.dose), None):
        raise RunError(f"a dose of {strange:g} does not belong to a run at {task.options.dose:g}; give smaller ones")
    return {
        **{ablation.name: replace(task, ablation=ablation) for ablation in ablations},
        **{f"dose-{dose:g}": replace(task, options=replace(task.options, dose=dose)) for dose in doses},
    }


def execute_belonging(
    directory: RunDirectory,
    tasks: Mapping[str, Task],
    *,
    command: str = "",
    progress: Progress = lambda stage, done, total: None,
) -> None:
    """Run, one after the other, what belongs to a run, or what is left of it.

    Args:
        directory: of the main run.
        tasks: what belongs to it, by name.
        command: the command that reproduces all of them, for the record.
        progress: told how far each is, its name before the stage.

    Raises:
        SettingsChanged: a run of that name was made with other settings.
        HydrascopeError: what goes wrong on the way; the main run and those before are kept.
    """
    with locked(directory.path):
        for name, task in tasks.items():
            execute(task, directory.also(name), command=command, progress=partial(_named, progress, name))


def _named(progress: Progress, name: str, stage: str, done: int, total: int) -> None:
    progress(f"{name}: {stage}", done, total)
