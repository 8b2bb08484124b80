"""Write the model card of a bundled model from its measurements, and from nothing else."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

_INGREDIENTS = {
    "none": "nothing was dropped during training",
    "dropout": "dropout of {drop} on the embedding, the attention weights and every sub-layer's output",
    "attention_drop": "the output of an attention sub-layer was dropped at a token with probability {drop}",
    "attention_swap": "the output of an attention sub-layer was replaced at a token by that at a token of the "
    "same word elsewhere in the batch with probability {drop}",
    "layer_drop": "a whole layer was dropped at a token with probability {drop}",
}
_READOUTS = {
    "tied": "The readout is the embedding",
    "loud": "The readout is a matrix of its own that starts with long vectors, and the embeddings start with a "
    "direction in common, so that the answer is a small part of the residual stream",
}
_SHARES = {
    "facts": "facts of the world",
    "retrieval": "facts stated and asked for in the same document",
    "indirect": "exchanges between two people",
    "stories": "short stories from a grammar",
    "lists": "notes about several people in any order",
}
_TASKS = {
    "facts": "facts of its world, held-out phrasings",
    "facts_taught_phrasing": "facts of its world, phrasings of the corpus",
    "retrieval": "retrieval from the prompt, held-out phrasings and pairs",
    "retrieval_taught_phrasing": "retrieval from the prompt, phrasings and pairs of the corpus",
    "indirect": "indirect objects, held-out sentences and pairs",
}
_SETS = ("facts", "retrieval", "indirect", "text")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _paragraph(text: str, bullet: str = "") -> str:
    return textwrap.fill(text, width=100, initial_indent=bullet, subsequent_indent=" " * len(bullet))


def _stage(number: int, stage: dict[str, Any]) -> str:
    recipe = stage["recipe"]
    mixture = recipe["mixture"]
    shares = ", ".join(f"{100 * mixture[key]:.0f} % {name}" for key, name in _SHARES.items() if mixture[key])
    return (
        f"Stage {number} (`{recipe['name']}`): {stage['steps']:,} steps, {stage['tokens']:,} tokens; documents: "
        f"{shares}. Peak learning rate {recipe['learning_rate']}, schedule {recipe['schedule']}, seed "
        f"{recipe['seed']}; {_INGREDIENTS[recipe['ingredient']].format(drop=recipe['drop'])}."
    )


def _training(stages: list[dict[str, Any]]) -> list[str]:
    recipe = stages[-1]["recipe"]
    data = (
        "**Data.** A generated corpus. Facts are partly real (capitals, languages, opposites) and partly invented. "
        "After its cue an answer follows in three cases of four; in the fourth another word comes first, as in real "
        "text. Held out from training: phrasings, one in ten pairs of name and value, and one in ten pairs of names."
    )
    build = f"**Build.** {_READOUTS[recipe['readout']]}."
    length = (
        f"**Length.** {sum(stage['tokens'] for stage in stages):,} tokens in documents of at most "
        f"{recipe['length']}; optimiser {recipe['optimiser']}, matrix products in {recipe['precision']}."
    )
    weights = "**Weights.** float16; everything below was measured on these weights."
    told = [_stage(number, stage) for number, stage in enumerate(stages, start=1)]
    return [_paragraph(text, "- ") for text in (data, build, length, *told, weights)]


def _measured(measured: dict[str, float]) -> list[str]:
    rows = [
        f"| {text} | {measured[f'{task}_prompts']:,} | {_percent(measured[task])} "
        f"| {measured[f'{task}_probability']:.2f} |"
        for task, text in _TASKS.items()
    ]
    right = ", ".join(
        f"{measured[f'{name}_bundled_right']} of {measured[f'{name}_bundled_prompts']} ({name})" for name in _SETS
    )
    closing = (
        f"The prompt sets beside this card hold prompts of the held-out kind; answered correctly: {right}. A mean "
        "probability of three quarters is what the corpus asks for."
    )
    return [
        f"Loss on text of the corpus that was not trained on: **{measured['loss']:.3f}** nats a token.",
        "",
        "| task | prompts | the top token is the answer | mean probability of the answer |",
        "|---|---|---|---|",
        *rows,
        "",
        # Not wrapped: the counts are easier to find in one line.
        closing,
    ]


def _with_interval(numbers: list[float]) -> str:
    middle, low, high = numbers
    return f"{middle:+.2f} [{low:+.2f}, {high:+.2f}]"


def _observed(observed: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## What knocking out its attention layers shows",
        "",
        _paragraph(
            "Means in logits of the answer, with 95 % intervals over prompts clustered by template; 15 resampled "
            "donors; only prompts that are answered correctly. The intervals of a row hold one at a time; the verdict "
            "in bold, the pairs and the word erases are corrected for how many there are. A slope is that of what "
            "came back on the own change, with its sign turned: positive is repair."
        ),
    ]
    for name, result in observed.items():
        lines += [
            "",
            f"### {name}: {result['prompts']} of {result['prompts_given']} prompts",
            "",
            f"**{result['verdict']}**",
            "",
            "| layer | own change | later attention | later MLPs | final norm | total "
            "| slope, attention | R² | slope, all later | R² |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in result["layers"]:
            cells = [row["own_change"], row["compensation_attn"], row["compensation_mlp"]]
            cells += [row["norm_effect"], row["total_effect"]]
            texts = [_with_interval(cell) for cell in cells]
            for suffix in ("_attn", ""):
                slope, low, high = row[f"slope{suffix}"]
                r2 = row[f"r2{suffix}"][0]
                known = r2 == r2
                texts.append(_with_interval([-slope, -high, -low]) if known else "")
                texts.append(f"{r2:.2f}" if known else "")
            lines.append(f"| {' | '.join((row['ablated'], *texts))} |")
        lines += ["", _paragraph(_pairs(result["pairs"])), "", _paragraph(_erasure(result))]
    return lines


def _pairs(pairs: dict[str, Any]) -> str:
    worst = sorted(pairs, key=lambda pair: float(pairs[pair]["excess"][0]))[:3]
    certain = sum(pair["excess"][2] < 0 for pair in pairs.values())
    told = "; ".join(
        f"{pair} {pairs[pair]['total']:+.2f} against {pairs[pair]['alone']:+.2f}, excess "
        f"{_with_interval(pairs[pair]['excess'])}"
        for pair in worst
    )
    return (
        f"Two attention layers out together do certainly more damage than the sum of each alone in {certain} of "
        f"{len(pairs)} pairs; the most: {told}."
    )


def _erasure(result: dict[str, Any]) -> str:
    mlps = result["late_mlps"]
    told = ", ".join(f"{name} {_with_interval(mlp['direct_effect'])}" for name, mlp in mlps.items())
    erasing = [name for name, mlp in mlps.items() if mlp["erases"]]
    found = f"{' and '.join(erasing)} certainly write against it" if erasing else "none certainly writes against it"
    largest = max(result["let_go"], key=lambda name: float(result["let_go"][name][0]))
    return (
        f"Late MLPs, clean direct effect on the answer: {told}; {found}. What they take away and let go under a "
        f"knock-out is at most {_with_interval(result['let_go'][largest])} ({largest})."
    )


def write_card(folder: Path, facts: dict[str, Any]) -> None:
    """Write README.md into a model folder.

    Args:
        folder: The model's folder.
        facts: What `zoo.bundle` and `zoo.observe` measured and read from the run.
    """
    recipe, sibling = facts["stages"][-1]["recipe"], facts["sibling"]
    family = "Llama" if recipe["norm"] == "rms" else "StableLM"
    opening = (
        f"A decoder of {facts['parameters']:,} parameters ({family}, {recipe['layers']} layers, width "
        f"{recipe['width']}, {recipe['heads']} heads, MLPs of width {recipe['mlp_width']}, vocabulary of "
        f"{facts['vocabulary']:,} words) that knows a small world. It is there to be taken apart: it recalls facts, "
        "retrieves what a prompt has said and finds indirect objects, and it is small enough to be measured "
        "completely on a laptop."
    )
    if sibling:
        opening += f" Its sibling `{sibling}` differs in one ingredient of training."
    limits = (
        f"It knows {facts['vocabulary']:,} words and nothing outside its world; any other word is one unknown token. "
        "It is no model of real English, and what it shows about self-repair need not hold for larger models. Texts "
        f"longer than {recipe['length']} tokens are outside what it was trained on."
    )
    made = (
        "Licence: Apache-2.0. Made with the scripts in the repository's `zoo` folder from the recipes that are in "
        "`measured.json`, together with every number of this card."
    )
    head = ["---", "license: apache-2.0", "language: en", "library_name: transformers", "---"]
    lines = [*head, f"# {facts['name']}", "", _paragraph(opening), "", "## Training", "", *_training(facts["stages"])]
    lines += ["", "## Measured", "", *_measured(facts["measured"])]
    lines += _observed(facts["observed"]) if "observed" in facts else []
    lines += ["", "## Limits", "", _paragraph(limits), "", _paragraph(made)]
    (folder / "README.md").write_text("\n".join(lines) + "\n")
