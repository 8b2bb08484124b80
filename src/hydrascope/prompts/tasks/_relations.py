"""Subjects and objects of relations (LRE; Hernandez et al. 2023, arXiv 2308.09124)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from hydrascope.errors import MalformedPrompt, PromptError
from hydrascope.prompts._folders import files_below
from hydrascope.prompts._prompt_set import Prompt
from hydrascope.prompts._records import Record, as_object, at, parse_json, read_text
from hydrascope.prompts._tokenizer import Tokenizer, bare_ids
from hydrascope.prompts.tasks._task import PromptTask, TaskPrompts, partners

Samples = list[tuple[str, str]]
"""Pairs of subject and object."""


def relation_files(path: Path) -> Iterator[Record]:
    """Read a relation's file, or all of a folder and its subfolders, sorted by path.

    Raises:
        PromptError: there is no such file, or it cannot be read.
    """
    files = files_below(path, (".json",)) if path.is_dir() else [path]
    if not files:
        raise PromptError(f"'{path}' holds no .json file; give a relation's file or a folder of them")
    for file in files:
        text = read_text(file, (".json",))
        yield Record(str(file), at(str(file), as_object, parse_json(file, 1, text)))


def relations(rows: Iterable[Record], tokenizer: Tokenizer | None = None) -> TaskPrompts:
    """Make a prompt of every sample, taking the relation's templates in turn.

    Zero-shot templates are used where there are any. The counterfactual is the same template with the next subject of
    the relation that has another object (if possible one that keeps the prompt's length); the foil is that object.

    Raises:
        MalformedPrompt: a file has no samples, or a template has no place for the subject.
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
    """A test whether a sample's prompt keeps its length with the subject of another."""

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
    description="the object of a relation, with that of another subject as foil",
    input_format="FILE or FOLDER, JSON with prompt_templates and samples, a relation each",
    read=relations,
    rows=relation_files,
)
