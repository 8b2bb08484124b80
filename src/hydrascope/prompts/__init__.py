"""Prompts: what they are, where they come from, and what they become for one model.

`load` turns files, built-in names, tasks and lists into a `PromptSet`, and `documents` turns text into documents;
`encode` turns prompts into the tokens of one model; `pose` chooses which of its logits is read and keeps what it
completes correctly; `choose_donors` says whose activation stands in for whose.
"""

from hydrascope.prompts.builtin import builtin_names
from hydrascope.prompts.chunks import Cut, cut
from hydrascope.prompts.documents import Document, documents, is_text
from hydrascope.prompts.donors import choose_donors, sharing
from hydrascope.prompts.encode import Bos, Encoded, EncodedPrompt, SingleToken, encode
from hydrascope.prompts.files import load
from hydrascope.prompts.filters import Kept, answered_correctly, target_above_foil, told_apart
from hydrascope.prompts.questions import LEADING, CleanAnswers, Questions, TargetPolicy, pose
from hydrascope.prompts.sets import Prompt, PromptSet
from hydrascope.prompts.tasks import listed as listed_tasks
from hydrascope.prompts.tasks import named_task

__all__ = [
    "LEADING",
    "Bos",
    "CleanAnswers",
    "Cut",
    "Document",
    "Encoded",
    "EncodedPrompt",
    "Kept",
    "Prompt",
    "PromptSet",
    "Questions",
    "SingleToken",
    "TargetPolicy",
    "answered_correctly",
    "builtin_names",
    "choose_donors",
    "cut",
    "documents",
    "encode",
    "is_text",
    "listed_tasks",
    "load",
    "named_task",
    "pose",
    "sharing",
    "target_above_foil",
    "told_apart",
]
