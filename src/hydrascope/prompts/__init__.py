"""Prompts: what they are, where they come from, and what they become for one model.

`load` turns files, built-in names and lists into a `PromptSet`; `encode` turns that into the tokens
of one model; `pose` chooses which of its logits is read and keeps what it completes correctly;
`choose_donors` says whose activation stands in for whose.
"""

from hydrascope.prompts.builtin import builtin_names
from hydrascope.prompts.donors import choose_donors
from hydrascope.prompts.encode import Bos, Encoded, EncodedPrompt, SingleToken, encode
from hydrascope.prompts.files import load
from hydrascope.prompts.filters import Kept, answered_correctly, target_above_foil, told_apart
from hydrascope.prompts.questions import LEADING, CleanAnswers, Questions, TargetPolicy, pose
from hydrascope.prompts.sets import Prompt, PromptSet

__all__ = [
    "LEADING",
    "Bos",
    "CleanAnswers",
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
    "encode",
    "load",
    "pose",
    "target_above_foil",
    "told_apart",
]
