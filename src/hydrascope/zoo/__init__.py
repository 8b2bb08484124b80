"""Small bundled models with prompts, so that a first run needs no network.

The scripts in the repository's `zoo` folder trained them; each model's README.md says how, and what was measured on it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_CATALOGUE = _HERE / "catalogue.json"


@dataclass(frozen=True)
class BundledModel:
    """A model that ships with hydrascope.

    Attributes:
        name: name to give where a model is asked for.
        path: folder with the weights, the tokenizer and the model card.
        prompts: file of its default prompt set; other sets lie beside it.
        description: what the model is, in one sentence.
        sibling: name of the bundled model that differs in one ingredient of training, or None.
    """

    name: str
    path: Path
    prompts: Path
    description: str
    sibling: str | None


def bundled() -> tuple[BundledModel, ...]:
    """List the bundled models, the default one first."""
    return tuple(
        BundledModel(
            name=entry["name"],
            path=_HERE / entry["name"],
            prompts=_HERE / entry["name"] / f"{entry['prompts']}.jsonl",
            description=entry["description"],
            sibling=entry["sibling"],
        )
        for entry in json.loads(_CATALOGUE.read_text(encoding="utf-8"))
    )


def default() -> BundledModel:
    """Return the model that is used when none is named."""
    return bundled()[0]


def find(name: str) -> BundledModel | None:
    """Return the bundled model of that name, or None."""
    return next((model for model in bundled() if model.name == name), None)
