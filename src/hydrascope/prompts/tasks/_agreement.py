"""Subject-verb agreement (files of Marks et al. 2024, arXiv 2403.19647).

The generated sentences are our own. The foil is the verb in the other number.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import numpy as np

from hydrascope.prompts._prompt_set import Prompt
from hydrascope.prompts._records import Record
from hydrascope.prompts._tokenizer import Tokenizer, bare_ids
from hydrascope.prompts.tasks._task import N_GENERATED, PromptTask, TaskPrompts

_SUBJECTS = (
    "teacher", "doctor", "farmer", "student", "singer", "painter", "driver", "soldier", "neighbor", "writer",
    "dancer", "guard", "pilot", "king", "girl", "boy",
)  # fmt: skip
_BETWEEN = ("table", "house", "horse", "river", "garden", "car", "tree", "boat")
_JOINS = ("near", "behind", "beside")
_VERBS = ((" is", " are"), (" was", " were"), (" has", " have"), (" does", " do"))


def pairs(rows: Iterable[Record], tokenizer: Tokenizer | None = None) -> TaskPrompts:
    """Read rows with `clean_prefix`, `clean_answer`, `patch_prefix` and `patch_answer`.

    The counterfactual is the sentence in the other number. A sentence in both numbers and with all verbs is one group.
    """
    for row in rows:
        text, other = row.text("clean_prefix"), row.text("patch_prefix")
        yield Prompt(
            text,
            target=row.text("clean_answer"),
            foil=row.text("patch_answer"),
            counterfactual=other,
            group=" / ".join(sorted((text, other))),
        )


def generate(tokenizer: Tokenizer | None = None) -> TaskPrompts:
    """Generate sentences up to the verb, some with a noun after the subject.

    Subjects that the tokenizer writes in equally many tokens in both numbers are taken, if there are any, so that a
    sentence and its counterfactual have the same length. The sentences of one subject are one group.
    """
    rng = np.random.default_rng(0)
    subjects = [subject for subject in _SUBJECTS if tokenizer is not None and _alike(tokenizer, subject)] or _SUBJECTS
    simple = [(subject, "") for subject in subjects]
    apart = [
        (subject, f" {join} the {noun}{end}")
        for subject, join, noun, end in product(subjects, _JOINS, _BETWEEN, ("", "s"))
    ]
    chosen = simple + [apart[i] for i in rng.permutation(len(apart))[: N_GENERATED - len(simple)]]
    for number, (subject, between) in enumerate(chosen):
        plural, verb = number % 2, _VERBS[(number // 2) % len(_VERBS)]
        both = (f"The {subject}{between}", f"The {subject}s{between}")
        yield Prompt(
            both[plural],
            target=verb[plural],
            foil=verb[1 - plural],
            counterfactual=both[1 - plural],
            group=subject,
        )


def _alike(tokenizer: Tokenizer, subject: str) -> bool:
    one, many = (len(bare_ids(tokenizer, f"The {word}")) for word in (subject, f"{subject}s"))
    return one == many


AGREEMENT = PromptTask(
    name="agreement",
    description="the verb in the number of its subject, the other number as foil",
    input_format="FILE, JSON lines with clean_prefix, clean_answer, patch_prefix, patch_answer",
    read=pairs,
    generate=generate,
)
