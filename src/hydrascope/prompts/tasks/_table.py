"""The table of tasks, and how the prompts of a task are found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from hydrascope.errors import EmptyPrompts, PromptError
from hydrascope.prompts._builtin import builtin_file, builtin_names
from hydrascope.prompts._columns import prompt_from_row
from hydrascope.prompts._hub import HubTable, hub_records
from hydrascope.prompts._prompt_set import PromptSet
from hydrascope.prompts._records import Record, at
from hydrascope.prompts._tokenizer import Tokenizer
from hydrascope.prompts.tasks._agreement import AGREEMENT
from hydrascope.prompts.tasks._facts import COUNTERFACT, KNOWN
from hydrascope.prompts.tasks._greater_than import GREATER_THAN
from hydrascope.prompts.tasks._ioi import IOI
from hydrascope.prompts.tasks._lambada import LAMBADA
from hydrascope.prompts.tasks._relations import RELATIONS
from hydrascope.prompts.tasks._task import N_GENERATED, PromptTask, TaskPrompts


def _as_they_are(rows: Iterable[Record], tokenizer: Tokenizer | None = None) -> TaskPrompts:
    return (at(row.where, prompt_from_row, row.values) for row in rows)


def _named_table(path: Path) -> Iterator[Record]:
    return hub_records(HubTable.parse(path.as_posix()))


HUB = PromptTask(
    name="hub",
    description="whatever a table of the Hugging Face hub asks under 'prompt', 'target' ...",
    input_format="OWNER/NAME or hub:OWNER/NAME:SPLIT",
    read=_as_they_are,
    rows=_named_table,
)

TASKS: dict[str, PromptTask] = {
    task.name: task for task in (IOI, GREATER_THAN, AGREEMENT, COUNTERFACT, KNOWN, RELATIONS, LAMBADA, HUB)
}
"""All tasks by name."""


def named_task(spec: str) -> PromptTask | None:
    """The task that `NAME` or `NAME:FILE` names, or None."""
    return TASKS.get(spec.partition(":")[0])


def load_task(spec: str, tokenizer: Tokenizer | None = None, name: str | None = None) -> PromptSet:
    """Generate, read or download the prompts of a task.

    Args:
        spec: `NAME`, or `NAME:FILE` with a file, folder or built-in set.
        tokenizer: the model's tokenizer; needed by tasks that choose words by how it writes them.
        name: name of the set; by default that of the task and the file.

    Returns:
        The prompts; `unfit` counts those that the tokenizer does not write as the task needs.

    Raises:
        EmptyPrompts: no prompt is left.
        PromptError: there is no such file or table, or no tokenizer where one is needed.
    """
    task_name, _, where = spec.partition(":")
    task = TASKS[task_name]
    found, source, label = _found(task, where, tokenizer)
    prompts = list(found)
    fit = tuple(prompt for prompt in prompts if prompt is not None)
    unfit = len(prompts) - len(fit)
    if not fit:
        why = f"the model's tokenizer writes none of {unfit} as it needs" if unfit else "there is none to be had"
        raise EmptyPrompts(f"no prompt is left of '{spec}', since {why}; give another file or task")
    return PromptSet(name or label, fit, source, unfit)


def listed_tasks() -> Iterator[str]:
    """A line for each task: its name, what it asks, and where its prompts come from."""
    for task in TASKS.values():
        yield f"{task.name}: {task.description}; {_origin(task)}{task.name}:{task.input_format}"


def _origin(task: PromptTask) -> str:
    if task.generate is not None:
        return f"{N_GENERATED} generated prompts, or "
    if task.hub is not None:
        return f"{task.hub.rows:,} prompts from the Hugging Face hub ({task.hub.dataset}), or "
    return ""


def _found(task: PromptTask, where: str, tokenizer: Tokenizer | None) -> tuple[TaskPrompts, str, str]:
    """Prompts of a task, their source and the name of their set."""
    if where:
        bundled = where in builtin_names() and not Path(where).exists()
        path = builtin_file(where) if bundled else Path(where)
        source = f"{HUB.name}:{where}" if task is HUB else str(path)
        return task.read(task.rows(path), tokenizer), source, f"{task.name}-{path.stem}"
    if task.generate is not None:
        return task.generate(tokenizer), "generated", task.name
    if task.hub is not None:
        return task.read(hub_records(task.hub), tokenizer), f"hub:{task.hub.dataset}", task.name
    raise PromptError(f"the task '{task.name}' reads what you give it; write {task.name}:{task.input_format}")
