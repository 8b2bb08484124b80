"""Tasks by name: `--prompts ioi` makes or downloads prompts, `--prompts relations:FOLDER` reads them.

One module a family; this table is all that knows them.
"""

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
from hydrascope.prompts.tasks._spacing import with_final_space
from hydrascope.prompts.tasks._task import MADE, PromptTask, TaskPrompts


def _as_they_are(rows: Iterable[Record], tokenizer: Tokenizer | None = None) -> TaskPrompts:
    return (at(row.where, prompt_from_row, row.values) for row in rows)


def _named_table(path: Path) -> Iterator[Record]:
    dataset, _, split = path.as_posix().partition(":")
    return hub_records(HubTable(dataset, split or "train"))


HUB = PromptTask(
    name="hub",
    asks="whatever a table of the Hugging Face hub asks under 'prompt', 'target' ...",
    takes="OWNER/NAME or hub:OWNER/NAME:SPLIT",
    read=_as_they_are,
    rows=_named_table,
)

TASKS: dict[str, PromptTask] = {
    family.name: family for family in (IOI, GREATER_THAN, AGREEMENT, COUNTERFACT, KNOWN, RELATIONS, LAMBADA, HUB)
}
"""All families by what to type."""


def named_task(spec: str) -> PromptTask | None:
    """The task that `NAME` or `NAME:FILE` names, if it names one."""
    return TASKS.get(spec.partition(":")[0])


def load_task(spec: str, tokenizer: Tokenizer | None = None, name: str | None = None) -> PromptSet:
    """Make, read or download the prompts of a task.

    Args:
        spec: `NAME`, or `NAME:FILE` with a file, folder or built-in set.
        tokenizer: the model's; needed by tasks that choose what they ask by how it is written.
        name: label of the set.

    Returns:
        The prompts. Those that the tokenizer does not write as the task needs are counted in `unfit`.

    Raises:
        EmptyPrompts: none is left.
        PromptError: no such file or table, or no tokenizer where one is needed.
    """
    task, _, where = spec.partition(":")
    family = TASKS[task]
    found, source, label = _found(family, where, tokenizer)
    prompts = list(found)
    fit = tuple(prompt for prompt in prompts if prompt is not None)
    unfit = len(prompts) - len(fit)
    if not fit:
        why = f"the model's tokenizer writes none of {unfit} as it needs" if unfit else "there is none to be had"
        raise EmptyPrompts(f"no prompt is left of '{spec}', since {why}; give another file or task")
    fit = fit if tokenizer is None else with_final_space(fit, tokenizer)
    return PromptSet(name or label, fit, source, unfit)


def listed_tasks() -> Iterator[str]:
    """A line for each task: its name, what it asks, where its prompts come from and how many there are."""
    for family in TASKS.values():
        yield f"{family.name}: {family.asks}; {_origin(family)}{family.name}:{family.takes}"


def _origin(family: PromptTask) -> str:
    if family.generate is not None:
        return f"{MADE} made prompts, or "
    if family.hub is not None:
        return f"{family.hub.rows:,} prompts from the Hugging Face hub ({family.hub.dataset}), or "
    return ""


def _found(family: PromptTask, where: str, tokenizer: Tokenizer | None) -> tuple[TaskPrompts, str, str]:
    """Prompts, where they come from, and what to call them."""
    if where:
        bundled = where in builtin_names() and not Path(where).exists()
        path = builtin_file(where) if bundled else Path(where)
        source = f"{HUB.name}:{where}" if family is HUB else str(path)
        return family.read(family.rows(path), tokenizer), source, f"{family.name}-{path.stem}"
    if family.generate is not None:
        return family.generate(tokenizer), "generated", family.name
    if family.hub is not None:
        return family.read(hub_records(family.hub), tokenizer), f"hub:{family.hub.dataset}", family.name
    raise PromptError(f"the task '{family.name}' reads what you give it; write {family.name}:{family.takes}")
