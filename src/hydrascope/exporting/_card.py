"""The model card of a pruned model: what went, what it cost, and how to heal it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import dedent

from hydrascope.anatomy import ModelSource
from hydrascope.components import Component


def card(source: ModelSource, missing: Sequence[Component], saved: str, measured: Mapping[str, str]) -> str:
    """The card in Markdown.

    Args:
        source: where the whole model came from.
        missing: the parts that went, in order.
        saved: what it saves, in words.
        measured: what removing them cost, by what was measured.
    """
    rows = "\n".join(f"| {what} | {value} |" for what, value in measured.items())
    cost = f"| measured | |\n|---|---|\n{rows}" if rows else "Not measured: `hydrascope prune` does."
    revision = f" at {source.revision}" if source.revision else ""
    head = dedent(f"""\
        ---
        library_name: transformers
        base_model: {source.name}
        pipeline_tag: text-generation
        tags: [pruned, hydrascope]
        ---

        # {source.label} without {len(missing)} of its parts

        Made from `{source.name}`{revision} by removing parts; no weight was trained. Its licence is that of the whole
        model. Removed, counted from 0 in the whole model: {", ".join(map(str, missing))}.

        {saved}

        ## What that cost
        """)
    tail = dedent("""\
        ## Healing

        Nothing was retrained. A short training on ordinary text gives back part of what was lost: open the folder with
        `AutoModelForCausalLM.from_pretrained`, put a LoRA adapter on all linear layers, and train it on the next token
        or on the whole model's own distribution with a small learning rate; then measure again on text that neither
        the choice of parts nor the training has seen.
        """)
    return f"{head}\n{cost}\n\n{tail}"
