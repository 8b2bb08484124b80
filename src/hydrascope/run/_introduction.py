"""What a run says before its first number: on what it is made, and on what it is not.

The same facts are attributes of the ledger, from which the report tells them again.
"""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from hydrascope.prompts import EncodedPrompt, LeftOut
from hydrascope.run._task import Task, caution

LISTED = 5
"""Most prompts left out that are listed before a run; the ledger lists `RECORDED`."""

RECORDED = 200
"""Most prompts left out that the ledger lists."""

CONTEXT = 24
"""Most tokens shown of the example."""


Tokens = tuple[int, ...]


def introduction(
    task: Task, kept: Sequence[EncodedPrompt], tokens: Sequence[Tokens], left_out: Sequence[LeftOut]
) -> list[str]:
    """The run in a few lines: model, prompts, what is left out and why, an example, and groups.

    Args:
        task: the run.
        kept: prompts that stay, at least one.
        tokens: tokens that are read of each.
        left_out: prompts that do not stay.
    """
    source, given = task.model.source, len(task.prompts) + task.prompts.unfit
    taken = f" (spread over all {task.prompts.spread_over:,})" if task.prompts.spread_over else ""
    what = textwrap.shorten(task.options.components, 60, placeholder="…")
    return [
        f"model: {source.label}, {task.model.anatomy.n_layers} layers, {source.dtype} on {task.model.device.type}",
        f"task: {len(task.knockouts):,} knock-outs ({what}) on {len(kept):,} of {given:,} {task.noun}s of "
        f"'{task.prompts.name}'{taken}, by {task.ablation.name}, reading {_reading(task)}",
        *_reasons(task, len(kept), given, left_out),
        *_listed(task, left_out),
        *_tokenised(kept, task.noun),
        f"example: {_example(task, kept, tokens)}",
        f"groups: {caution(kept) or _enough(kept, task.noun)}",
    ]


def recorded(
    task: Task, kept: Sequence[EncodedPrompt], tokens: Sequence[Tokens], left_out: Sequence[LeftOut]
) -> dict[str, Any]:
    """The ledger's attributes that say so.

    Args:
        task: the run.
        kept: prompts that stay, at least one.
        tokens: tokens that are read of each.
        left_out: prompts that do not stay.
    """
    rows = [{**asdict(one), "said": _said(task, one)} for one in left_out[:RECORDED]]
    return {
        "left_out": json.dumps(rows, ensure_ascii=False),
        "example": _example(task, kept, tokens),
        "prompts_dropped_joined": len(task.encoded.left_out),
        "bos_named": sum(prompt.named_bos for prompt in kept),
    }


def _reading(task: Task) -> str:
    if task.positions.read == "each":
        return "each next token"
    if task.options.answer == "whole":
        return "the sum of the logits of the answer's tokens"
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


def _tokenised(kept: Sequence[EncodedPrompt], noun: str) -> Iterator[str]:
    """What the tokenizer made of prompts and answers otherwise than a reader may think."""
    for count, what in (
        (sum(p.named_bos for p in kept), "name the beginning-of-sequence token, which is put in front once"),
        (sum(p.moved > 0 for p in kept), "end in the delimiter, since the tokenizer writes it apart from the answer"),
        (sum(p.trimmed for p in kept), "lose their final space, which the tokenizer writes with the answer"),
        (sum(p.target_truncated for p in kept), "have a target or foil of several tokens, of which the first is read"),
    ):
        if count:
            yield f"tokens: {count:,} of {len(kept):,} {noun}s {what}"


def _example(task: Task, kept: Sequence[EncodedPrompt], tokens: Sequence[Tokens]) -> str:
    """The first of the file, token by token, and what is read of it."""
    prompt, read = min(zip(kept, tokens, strict=True), key=lambda pair: pair[0].index)
    before = prompt.ids[: len(prompt.ids) + 1 - prompt.span]
    ids = before[-CONTEXT:]
    front = "" if len(ids) == len(before) else "…"
    answer = "|".join(_text(task, token) for token in read)
    target = "its own next tokens" if task.positions.read == "each" else repr(answer)
    return f"{task.noun} {prompt.index}, {front}{'|'.join(_text(task, token) for token in ids)} -> {target}"


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
