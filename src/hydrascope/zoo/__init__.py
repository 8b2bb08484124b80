"""The bundled models: small decoders with their prompts, so that the first run needs no network.

They are made by the scripts in the repository's `zoo` folder; each model's README.md says how it was
trained and what was measured on it.
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
        name: What to type where a model is asked for.
        path: Folder with the weights, the tokenizer and the model card.
        prompts: The prompt set that goes with it; other sets lie beside it.
        description: What it is, in one sentence.
        sibling: Name of the model that differs from it in one ingredient of training.
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
    """Return the bundled model of that name, or `None`."""
    return next((model for model in bundled() if model.name == name), None)
