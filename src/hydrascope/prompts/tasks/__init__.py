"""Prompts of published tasks: generated, read or downloaded.

`--prompts ioi` generates the prompts of a task, `--prompts relations:FOLDER` reads them. To add a task, write a module
with a `PromptTask` and name it in `_table.py`.
"""

from hydrascope.prompts.tasks._table import TASKS, listed_tasks, load_task, named_task
from hydrascope.prompts.tasks._task import PromptTask, TaskPrompts

__all__ = ["TASKS", "PromptTask", "TaskPrompts", "listed_tasks", "load_task", "named_task"]
