"""Prompts, where they come from, and the logit that is read after each.

`load` turns files, built-in names, tasks and lists into a `PromptSet`; `documents` and `cut` turn text into one.
`encode` tokenises a set for one model. `select_prompts` chooses the logit to read and leaves out what the model gets
wrong. `choose_donors` says whose activation replaces whose. Nothing here runs a model or imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydrascope._lazy import lazily

if TYPE_CHECKING:
    from hydrascope.prompts._builtin import builtin_names
    from hydrascope.prompts._documents import Cut, Document, cut, documents, given_documents, is_text
    from hydrascope.prompts._donors import choose_donors, count_shared_answers, require_donors
    from hydrascope.prompts._encode import Answers, Bos, Encoded, EncodedPrompt, LeftOut, SingleToken, encode
    from hydrascope.prompts._files import Table, load
    from hydrascope.prompts._prompt_set import Prompt, PromptSet
    from hydrascope.prompts._selection import (
        LEADING,
        CleanAnswers,
        Kept,
        SelectedPrompts,
        TargetPolicy,
        answered_correctly,
        require_distinct_foils,
        select_prompts,
        target_above_foil,
    )
    from hydrascope.prompts.tasks import listed_tasks, named_task

__all__ = [
    "LEADING",
    "Answers",
    "Bos",
    "CleanAnswers",
    "Cut",
    "Document",
    "Encoded",
    "EncodedPrompt",
    "Kept",
    "LeftOut",
    "Prompt",
    "PromptSet",
    "SelectedPrompts",
    "SingleToken",
    "Table",
    "TargetPolicy",
    "answered_correctly",
    "builtin_names",
    "choose_donors",
    "count_shared_answers",
    "cut",
    "documents",
    "encode",
    "given_documents",
    "is_text",
    "listed_tasks",
    "load",
    "named_task",
    "require_distinct_foils",
    "require_donors",
    "select_prompts",
    "target_above_foil",
]

__getattr__ = lazily(
    __name__,
    {
        "_builtin": "builtin_names",
        "_documents": "Cut Document cut documents given_documents is_text",
        "_donors": "choose_donors count_shared_answers require_donors",
        "_encode": "Answers Bos Encoded EncodedPrompt LeftOut SingleToken encode",
        "_files": "Table load",
        "_prompt_set": "Prompt PromptSet",
        "_selection": "LEADING CleanAnswers Kept SelectedPrompts TargetPolicy answered_correctly "
        "require_distinct_foils select_prompts target_above_foil",
        "tasks": "listed_tasks named_task",
    },
)
