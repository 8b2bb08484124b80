"""The model card of a pruned model: what went, what it cost, and how to heal it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent

from hydrascope.anatomy import Model
from hydrascope.components import Component
from hydrascope.run import versions

TAGS = "tags: [pruned, hydrascope]"
_BEFORE = "The model that it was made from, to which costs are held, had lost parts before. "
_MADE = re.compile(
    r"Made from `[^`\n]+`(?: at \w+)? by removing parts with hydrascope [\w.+-]+; no weight was trained\.\n"
    r"Its licence is that of the whole model\. Removed, counted from 0 in `[^`\n]+`: [\w., ]+\."
)
"""How a card says what its model was made from."""

WORDS = {
    "layer": "blocks",
    "attn": "attention layers",
    "mlp": "MLPs",
    "mixer": "mixers",
    "head": "heads",
    "kv": "key-value groups",
    "neuron": "neurons",
}
"""Kinds of parts, in words."""


def card(model: Model, missing: Sequence[Component], saved: str, measured: Mapping[str, str]) -> str:
    """The card in Markdown.

    Args:
        model: the whole model.
        missing: the parts that went, in order.
        saved: what it saves, in words.
        measured: what removing them cost, by what was measured.
    """
    source = model.source
    rows = "\n".join(f"| {what} | {value} |" for what, value in measured.items())
    cost = f"| measured | |\n|---|---|\n{rows}" if rows else "Not measured: `hydrascope prune` does."
    # only a model of the hub has a commit; where another one lies is nobody's business
    hub, commit = source.name.partition("@")[0], source.revision
    known, before = _made_before(source.name)
    base = f"base_model: {hub}\n" if commit else known
    made_from = f"`{hub}` at {commit}" if commit else f"`{source.label}`"
    made = (
        f"Made from {made_from} by removing parts with hydrascope {versions()['hydrascope']}; no weight was trained.\n"
        f"Its licence is that of the whole model. Removed, counted from 0 in `{source.label}`: "
        f"{', '.join(map(str, missing))}."
    )
    front = f"---\nlibrary_name: transformers\npipeline_tag: text-generation\n{TAGS}\n{base}---"
    title = f"# {source.label} without {_counted(model, missing)}"
    tail = dedent("""\
        ## Healing

        Nothing was retrained. A short training on ordinary text gives back part of what was lost: open the folder with
        `AutoModelForCausalLM.from_pretrained`, put a LoRA adapter on all linear layers, and train it on the next token
        or on the whole model's own distribution with a small learning rate; then measure again on text that neither
        the choice of parts nor the training has seen.
        """)
    return "\n\n".join([front, title, made, saved, *before, "## What that cost", cost, tail])


def _made_before(name: str) -> tuple[str, list[str]]:
    """What the card of a model says that was itself made by removing parts: its base model, and how it was made."""
    try:
        text = (Path(name) / "README.md").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return "", []
    front, _, body = text.removeprefix("---\n").partition("\n---\n")
    if TAGS not in front:
        return "", []
    base = re.search(r"^base_model: .+$", front, re.MULTILINE)
    return f"{base[0]}\n" if base else "", [_BEFORE + made for made in _MADE.findall(body)]


def _counted(model: Model, missing: Sequence[Component]) -> str:
    """How many of which parts went: `2 of its 8 blocks and 1 of its 8 MLPs`."""
    every = model.anatomy.inventory
    counts = Counter(part.kind for part in missing)
    return " and ".join(f"{count} of its {len(every.expand(kind))} {WORDS[kind]}" for kind, count in counts.items())
