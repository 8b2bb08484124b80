"""What a run says before its first number: on what it is made, and on what it is not.

The same facts are attributes of the ledger, from which the report tells them again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from hydrascope.prompts import EncodedPrompt, LeftOut
from hydrascope.run._task import Task

LISTED = 5
"""Most prompts left out that are listed before a run; the ledger lists `RECORDED`."""

RECORDED = 200
"""Most prompts left out that the ledger lists."""

CONTEXT = 24
"""Most tokens shown of the example."""


def introduction(
    task: Task, kept: Sequence[EncodedPrompt], tokens: Sequence[int], left_out: Sequence[LeftOut], noun: str
) -> list[str]:
    """The run in a few lines: model, prompts, what is left out and why, an example, and groups.

    Args:
        task: the run.
        kept: prompts that stay, at least one.
        tokens: target token of the first of them, or those of its read positions.
        left_out: prompts that do not stay.
        noun: `prompt` or `text`.
    """
    source, given = task.model.source, len(task.prompts) + task.prompts.unfit
    return [
        f"model: {source.label}, {task.model.anatomy.n_layers} layers, {source.dtype} on {task.model.device.type}",
        f"task: {len(task.knockouts):,} knock-outs ({task.options.components}) on {len(kept):,} of {given:,} {noun}s "
        f"of '{task.prompts.name}', by {task.ablation.name}, reading {_reading(task)}",
        *_reasons(task, len(kept), given, left_out),
        *_listed(task, left_out),
        *_tokenised(task, kept, noun),
        f"example: {noun} {kept[0].index}, {_example(task, kept[0], tokens)}",
        f"groups: {task.caution or _enough(kept, noun)}",
    ]


def recorded(
    task: Task, kept: Sequence[EncodedPrompt], tokens: Sequence[int], left_out: Sequence[LeftOut]
) -> dict[str, Any]:
    """The ledger's attributes that say so.

    Args:
        task: the run.
        kept: prompts that stay, at least one.
        tokens: target token of the first of them, or those of its read positions.
        left_out: prompts that do not stay.
    """
    rows = [{**asdict(one), "said": _said(task, one)} for one in left_out[:RECORDED]]
    return {
        "left_out": json.dumps(rows, ensure_ascii=False),
        "example": f"prompt {kept[0].index}, {_example(task, kept[0], tokens)}",
        "prompts_dropped_joined": len(task.encoded.left_out),
        "bos_named": sum(prompt.named_bos for prompt in kept),
    }


def _reading(task: Task) -> str:
    if task.positions.read == "each":
        return "each next token"
    return {
        "label": "the target's logit",
        "difference": "the target's logit minus the foil's",
        "top": "the logit of the model's first choice",
        "random-top": "the logit of a random one of the model's ten first choices",
        "kl": "the logit of the model's first choice",
    }[task.options.target]


def _reasons(task: Task, kept: int, given: int, left_out: Sequence[LeftOut]) -> Iterator[str]:
    counts = Counter(_kind(one) for one in left_out)
    if task.prompts.unfit:
        counts["the tokenizer does not write them as the task needs"] = task.prompts.unfit
    if rest := given - kept - sum(counts.values()):
        counts["too few donors of their length, or the tokens of another text"] = rest
    for why, count in counts.most_common():
        yield f"left out: {count:,}, {why}"


def _kind(one: LeftOut) -> str:
    """The reason without what is the prompt's own."""
    return one.why.split(" '")[0]


def _listed(task: Task, left_out: Sequence[LeftOut]) -> Iterator[str]:
    for one in left_out[:LISTED]:
        said = "" if one.said is None else f", the model says {_said(task, one)!r}"
        wanted = one.why if one.said is None else f"{one.target!r} wanted"
        yield f"  {one.index} {_end_of(one.text)!r}: {wanted}{said}"
    if len(left_out) > LISTED:
        yield f"  and {len(left_out) - LISTED:,} more, see the report"


def _tokenised(task: Task, kept: Sequence[EncodedPrompt], noun: str) -> Iterator[str]:
    """What the tokenizer made of prompts and answers otherwise than a reader may think."""
    for count, what in (
        (sum(p.named_bos for p in kept), "name the beginning-of-sequence token, which is put in front once"),
        (sum(p.moved > 0 for p in kept), "end in the delimiter, since the tokenizer writes it apart from the answer"),
        (sum(p.trimmed for p in kept), "lose their final space, which the tokenizer writes with the answer"),
        (sum(p.target_truncated for p in kept), "have a target or foil of several tokens, of which the first is read"),
    ):
        if count:
            yield f"tokens: {count:,} of {len(kept):,} {noun}s {what}"


def _example(task: Task, prompt: EncodedPrompt, tokens: Sequence[int]) -> str:
    ids = prompt.ids if len(prompt.ids) <= CONTEXT else prompt.ids[-CONTEXT:]
    front = "" if len(ids) == len(prompt.ids) else "…"
    target = "its own next tokens" if task.positions.read == "each" else repr(_text(task, tokens[0]))
    return f"{front}{'|'.join(_text(task, token) for token in ids)} -> {target}"


def _enough(kept: Sequence[EncodedPrompt], noun: str) -> str:
    groups = len({prompt.group for prompt in kept})
    return f"{groups:,} independent ones among {len(kept):,} {noun}s, enough for intervals"


def _said(task: Task, one: LeftOut) -> str | None:
    return None if one.said is None else _text(task, one.said)


def _text(task: Task, token: int) -> str:
    tokenizer = task.model.tokenizer
    text = str(token) if tokenizer is None else str(tokenizer.decode([token]))
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _end_of(text: str) -> str:
    return text if len(text) <= 60 else "…" + text[-59:]
