"""Prompts: what they are, where they come from, and what they become for one model.

`load` turns files, built-in names and lists into a `PromptSet`; `encode` turns that into the tokens
of one model; `answered_correctly` keeps what the model completes correctly; `choose_donors` says
whose activation stands in for whose.
"""

from hydrascope.prompts.builtin import builtin_names
from hydrascope.prompts.donors import choose_donors
from hydrascope.prompts.encode import Bos, Encoded, EncodedPrompt, SingleToken, encode
from hydrascope.prompts.files import load
from hydrascope.prompts.filters import Kept, answered_correctly
from hydrascope.prompts.sets import Prompt, PromptSet

__all__ = [
    "Bos",
    "Encoded",
    "EncodedPrompt",
    "Kept",
    "Prompt",
    "PromptSet",
    "SingleToken",
    "answered_correctly",
    "builtin_names",
    "choose_donors",
    "encode",
    "load",
]
