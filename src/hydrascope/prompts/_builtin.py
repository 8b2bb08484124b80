"""Names of the built-in prompt sets: facts of the real world, and those that go with the bundled model."""

from __future__ import annotations

import importlib
from pathlib import Path

from hydrascope.errors import PromptError

_DATA = Path(__file__).parent / "data"


def builtin_names() -> list[str]:
    """Names under which prompt sets are bundled, sorted."""
    return sorted(_registry())


def builtin_file(name: str) -> Path:
    """The file of a bundled prompt set.

    Args:
        name: `world` for facts of the real world, or the stem of a `.jsonl` file of the default model.

    Returns:
        Path of a JSON lines file that exists.

    Raises:
        PromptError: there is no such set; the message lists those there are.
    """
    registry = _registry()
    if name not in registry:
        there = f"choose from {', '.join(sorted(registry))}, or" if registry else "choose"
        raise PromptError(
            f"there is no prompt set '{name}'; {there} a task that 'hydrascope tasks' lists, "
            "or give a .jsonl, .json or .csv file"
        )
    return registry[name]


def _registry() -> dict[str, Path]:
    # Imported late and by name: the bundled models stand to the right of the prompts.
    general = {path.stem: path for path in _DATA.glob("*.jsonl")}
    default: Path = importlib.import_module("hydrascope.zoo").default().prompts
    return general | {path.stem: path for path in default.parent.glob("*.jsonl")}
