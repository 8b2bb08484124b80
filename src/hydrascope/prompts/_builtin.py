"""The built-in prompt sets: facts, and those of the default model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hydrascope import zoo
from hydrascope.errors import PromptError, did_you_mean

_DATA = Path(__file__).parent / "data"


def builtin_names() -> list[str]:
    """Names of the built-in prompt sets, sorted."""
    return sorted(_registry())


def builtin_file(name: str, tasks: Iterable[str] = ()) -> Path:
    """Find the file of a built-in prompt set.

    Args:
        name: `world` for facts of the real world, or the stem of a `.jsonl` file of the default model.
        tasks: names of tasks, one of which may have been meant.

    Returns:
        Path of an existing JSON lines file.

    Raises:
        PromptError: there is no such set; the error lists those there are.
    """
    registry = _registry()
    if name not in registry:
        there = f"choose from {', '.join(sorted(registry))}, or" if registry else "choose"
        raise PromptError(
            f"there is no prompt set '{name}'{did_you_mean(name, (*registry, *tasks))}; {there} a task that "
            "'hydrascope tasks' lists, or give a .jsonl, .json or .csv file"
        )
    return registry[name]


def _registry() -> dict[str, Path]:
    folders = (_DATA, zoo.default().prompts.parent)
    return {path.stem: path for folder in folders for path in folder.glob("*.jsonl")}
