"""Relations between subjects and objects, one to a file (LRE; Hernandez et al. 2023, arXiv 2308.09124)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from hydrascope.errors import MalformedPrompt, PromptError
from hydrascope.prompts._prompt_set import Prompt
from hydrascope.prompts._records import Record, as_object, at, parse_json, read_text
from hydrascope.prompts._tokenizer import Tokenizer, bare_ids
from hydrascope.prompts.tasks._counterfactuals import partners
from hydrascope.prompts.tasks._task import PromptTask, TaskPrompts

Samples = list[tuple[str, str]]
"""Subjects and objects."""


def relation_files(path: Path) -> Iterator[Record]:
    """A relation's file, or those of a folder and the folders in it, by name.

    Raises:
        PromptError: there is none, or it cannot be read.
    """
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    if not files:
        raise PromptError(f"'{path}' holds no .json file; give a relation's file or a folder of them")
    for file in files:
        text = read_text(file, (".json",))
        yield Record(str(file), at(str(file), as_object, parse_json(file, 1, text)))


def relations(rows: Iterable[Record], tokenizer: Tokenizer | None = None) -> TaskPrompts:
    """Every sample of every relation, in turn with each of its templates.

    Templates for prompts without examples are taken where there are any. Counterfactual and foil are the next subject
    of the relation with another object, in the same template, and that object; where the tokenizer is known, the next
    such subject that makes a prompt of the same length, if there is one.

    Raises:
        MalformedPrompt: a file without samples, or with a template that has no place for the subject.
    """
    for row in rows:
        templates, samples = _templates(row), _samples(row)
        alike = _alike(tokenizer, templates, samples)
        for i, other in enumerate(partners([answer for _, answer in samples], [0] * len(samples), alike=alike)):
            template, (subject, answer) = templates[i % len(templates)], samples[i]
            yield Prompt(
                template.replace("{}", subject),
                target=answer,
                foil=None if other is None else samples[other][1],
                counterfactual=None if other is None else template.replace("{}", samples[other][0]),
                group=row.text("name"),
            )


def _templates(row: Record) -> list[str]:
    templates = row.values.get("prompt_templates_zs") or row.values.get("prompt_templates") or []
    if not templates or not all(isinstance(template, str) and "{}" in template for template in templates):
        raise MalformedPrompt(
            f"{row.where}: 'prompt_templates' must be a list of texts with {{}} for the subject; correct it"
        )
    return list(templates)


def _alike(tokenizer: Tokenizer | None, templates: Sequence[str], samples: Samples) -> Callable[[int, int], bool]:
    """Whether a sample's prompt stays as long with the subject of another one."""

    @cache
    def length(template: str, subject: str) -> int:
        return 0 if tokenizer is None else len(bare_ids(tokenizer, template.replace("{}", subject)))

    def alike(i: int, j: int) -> bool:
        template = templates[i % len(templates)]
        return length(template, samples[i][0]) == length(template, samples[j][0])

    return alike


def _samples(row: Record) -> Samples:
    samples = row.values.get("samples")
    try:
        found = [(str(sample["subject"]), str(sample["object"])) for sample in samples or []]
    except (KeyError, TypeError):
        found = []
    if not found:
        raise MalformedPrompt(f"{row.where}: 'samples' must be a list of objects with subject and object; correct it")
    return found


RELATIONS = PromptTask(
    name="relations",
    asks="the object of a relation, with that of another subject as foil",
    takes="FILE or FOLDER, JSON with prompt_templates and samples, a relation each",
    read=relations,
    rows=relation_files,
)
