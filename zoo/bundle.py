"""Export a trained model into the package: weights, tokenizer, prompts, measurements, model card.

Usage: ``python -m zoo.bundle checkpoints/NAME [--as BUNDLED_NAME] [--sibling OTHER] [--default]``.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from zoo.card import write_card
from zoo.corpus import IGNORED, Corpus
from zoo.documents import Mixture
from zoo.evaluate import answers, evaluate
from zoo.prompts import (
    Prompt,
    all_fact_prompts,
    indirect_prompts,
    retrieval_prompts,
    spread,
    text_prompts,
    write_prompts,
)
from zoo.recipe import load_recipe_record

PACKAGE = Path(__file__).parent.parent / "src" / "hydrascope" / "zoo"
PROMPT_SEED = 30_000


def prompt_sets() -> dict[str, list[Prompt]]:
    """Draw the prompt sets that ship with every model; they do not depend on the model."""
    return {
        "facts": spread(all_fact_prompts(), per_group=8, seed=PROMPT_SEED),
        "retrieval": retrieval_prompts(per_group=12, seed=PROMPT_SEED),
        "indirect": indirect_prompts(per_group=20, seed=PROMPT_SEED),
        "text": text_prompts(320, seed=PROMPT_SEED),
    }


def newest_snapshot(run: Path) -> Path:
    """Return the folder of the last weights a run has written."""
    return max(path for path in run.glob("step-*") if path.is_dir())


def stages(run: Path, steps: int) -> list[dict[str, Any]]:
    """List the stages that led to a run's weights, the first one first.

    Args:
        run: Folder of the run; the runs it started from lie beside it.
        steps: Steps of the run that count.

    Returns:
        For every stage its recipe, its steps and the tokens that were predicted in them, counted by
        drawing its batches again.
    """
    recipe = load_recipe_record(run / "recipe.json")
    corpus = Corpus(recipe.seed, recipe.mixture, recipe.rows, recipe.length)
    batches = (corpus.batch(step, min(1.0, step / recipe.curriculum)) for step in range(steps))
    tokens = sum(int((batch.labels != IGNORED).sum()) for batch in batches)
    stage = {"recipe": recipe.as_dict(), "steps": steps, "tokens": tokens}
    if not recipe.start:
        return [stage]
    before, _, snapshot = recipe.start.partition("/step-")
    return [*stages(run.parent / before, int(snapshot)), stage]


@dataclass(frozen=True)
class Entry:
    """A line of the package's catalogue."""

    name: str
    description: str
    prompts: str
    sibling: str | None


def enter(entry: Entry, *, first: bool) -> None:
    """Add or replace a model in the catalogue; the first one is the default."""
    file = PACKAGE / "catalogue.json"
    entries: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    entries = [known for known in entries if known["name"] != entry.name]
    entries.insert(0 if first else len(entries), entry.__dict__)
    file.write_text(json.dumps(entries, indent=1) + "\n")


def bundle(run: Path, entry: Entry, *, first: bool) -> Path:
    """Copy the newest weights of a run into the package, measure them and write the card.

    Args:
        run: Folder of the run, with its log and snapshots.
        entry: Name, description and sibling.
        first: Make it the default model.

    Returns:
        The model's folder in the package.
    """
    folder = PACKAGE / entry.name
    shutil.rmtree(folder, ignore_errors=True)
    snapshot = newest_snapshot(run)
    shutil.copytree(snapshot, folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    measured = evaluate(model, thorough=True)
    corpus = Corpus(0, Mixture(), rows=1, length=64)
    for name, prompts in prompt_sets().items():
        write_prompts(prompts, folder / f"{name}.jsonl")
        right = [result for result, _ in answers(model, prompts, corpus)]
        measured[f"{name}_bundled_prompts"] = len(right)
        measured[f"{name}_bundled_right"] = sum(right)
    facts = {
        "name": entry.name,
        "sibling": entry.sibling,
        "stages": stages(run, int(snapshot.name.removeprefix("step-"))),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "vocabulary": model.config.vocab_size,
        "measured": measured,
    }
    (folder / "measured.json").write_text(json.dumps(facts, indent=1) + "\n")
    write_card(folder, facts)
    enter(entry, first=first)
    return folder


def main() -> None:
    """Bundle a run."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--as", dest="name", help="name in the package; the run's name if left out")
    parser.add_argument("--description", required=True)
    parser.add_argument("--prompts", default="facts", help="set that a run takes when none is named")
    parser.add_argument("--sibling")
    parser.add_argument("--default", action="store_true")
    options = parser.parse_args()
    entry = Entry(options.name or options.run.name, options.description, options.prompts, options.sibling)
    print(bundle(options.run, entry, first=options.default))


if __name__ == "__main__":
    main()
