"""Facts: CounterFact and the known facts (Meng et al. 2022, arXiv 2202.05262)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hydrascope.errors import MalformedPrompt
from hydrascope.prompts._hub import HubTable
from hydrascope.prompts._prompt_set import Prompt
from hydrascope.prompts._records import Record
from hydrascope.prompts._tokenizer import Tokenizer, bare_ids
from hydrascope.prompts.tasks._task import PromptTask, TaskPrompts, partners


class _Fact(NamedTuple):
    prompt: str
    template: str
    relation: str
    answer: str
    foil: str | None


def counterfact(rows: Iterable[Record], tokenizer: Tokenizer | None = None) -> TaskPrompts:
    """Read CounterFact, with `requested_rewrite` as published or with flat columns.

    Flat columns are `prompt`, `relation_id`, `target_true` and `target_false`, and optionally `relation_prefix` and
    `relation_suffix`.

    The foil is the false answer that comes with the fact. The counterfactual is a fact with another answer: if possible
    the same sentence about another subject, otherwise one of the same relation, otherwise any.
    """
    facts = [_rewrite(row) if "requested_rewrite" in row.values else _flat(row) for row in rows]
    return _prompts(facts, tokenizer)


def known(rows: Iterable[Record], tokenizer: Tokenizer | None = None) -> TaskPrompts:
    """Read known facts: `subject`, `attribute`, `template`, `prompt` and `relation_id`.

    The counterfactual is chosen as for CounterFact; the foil is its answer.
    """
    return _prompts(
        [
            _Fact(row.text("prompt"), row.text("template"), row.text("relation_id"), row.text("attribute"), None)
            for row in rows
        ],
        tokenizer,
    )


def _flat(row: Record) -> _Fact:
    template = f"{row.values.get('relation_prefix', '')}{{}}{row.values.get('relation_suffix', '')}"
    return _Fact(
        row.text("prompt"), template, row.text("relation_id"), row.text("target_true"), row.text("target_false")
    )


def _rewrite(row: Record) -> _Fact:
    inside = row.values["requested_rewrite"]
    try:
        template, subject = str(inside["prompt"]), str(inside["subject"])
        true, false = str(inside["target_true"]["str"]), str(inside["target_new"]["str"])
        return _Fact(template.replace("{}", subject), template, str(inside["relation_id"]), true, false)
    except (KeyError, TypeError):
        raise MalformedPrompt(
            f"{row.where}: 'requested_rewrite' lacks prompt, subject, relation_id, target_true or target_new; give the "
            "file as it is published"
        ) from None


def _prompts(facts: list[_Fact], tokenizer: Tokenizer | None) -> TaskPrompts:
    """Make prompts, with counterfactuals of the same length where possible."""
    kinds = [(fact.relation, fact.template) for fact in facts], [fact.relation for fact in facts], [0] * len(facts)
    lengths = [0 if tokenizer is None else len(bare_ids(tokenizer, fact.prompt)) for fact in facts]
    answers = [fact.answer for fact in facts]
    chosen = partners(answers, *kinds, alike=lambda i, j: lengths[i] == lengths[j])
    for fact, other in zip(facts, chosen, strict=True):
        yield Prompt(
            fact.prompt,
            target=fact.answer,
            foil=facts[other].answer if fact.foil is None and other is not None else fact.foil,
            counterfactual=None if other is None else facts[other].prompt,
            group=fact.relation,
        )


COUNTERFACT = PromptTask(
    name="counterfact",
    description="facts of the world, each with a false answer as foil",
    input_format="FILE, CounterFact as JSON or CSV",
    read=counterfact,
    hub=HubTable("NeelNanda/counterfact-tracing", "train", rows=21919),
)
KNOWN = PromptTask(
    name="known-facts",
    description="facts of the world, with another answer of the relation as foil",
    input_format="FILE, the known facts as JSON",
    read=known,
)
