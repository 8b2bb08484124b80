"""The config of a model with fewer blocks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_COUNTS = re.compile(r"(.*_)?(n_layers?|layers)")
"""Names of what counts all blocks."""
_FIRST = ("first_k_dense_replace", "first_k_dense", "num_dense_layers")
"""Names of what counts the blocks at the beginning that are of another kind."""
_REPEATED, _EACH = "attention_types", "attention_layers"
"""GPT-Neo saves lists of kinds, each with how often it is repeated, and makes the plain list of them."""
_NEVER = re.compile(r".*token_ids?")
"""Names of lists that can be as long as the model is deep, and are of something else."""


def shorten(config: Any, depth: int, kept: Sequence[int]) -> None:
    """Change a config to that of the model with some of its blocks.

    Whatever list is as long as the model is deep is taken for one of its blocks. Whether that was all there is to
    change, the comparison of the written folder tells.

    Args:
        config: the config of the text model.
        depth: number of blocks before.
        kept: indices of the blocks that stay, in order.
    """
    changed: dict[str, Any] = {}
    for name, value in vars(config).items():
        if isinstance(value, list | tuple) and len(value) == depth and not _NEVER.fullmatch(name):
            changed[name] = type(value)(value[i] for i in kept)
        elif type(value) is int and name in _FIRST:
            changed[name] = sum(i < value for i in kept)
        elif type(value) is int and value == depth and _COUNTS.fullmatch(name):
            changed[name] = len(kept)
    if _REPEATED in vars(config) and _EACH in changed:
        changed[_REPEATED] = [[list(changed[_EACH]), 1]]
    for name, value in changed.items():
        setattr(config, name, value)
