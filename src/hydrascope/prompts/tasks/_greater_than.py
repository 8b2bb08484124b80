"""Years that come later (greater-than; Hanna et al. 2023, arXiv 2305.00586).

A span that began in 1732 ends in 17 and two more digits. The target is the year after, 33, the foil the year before,
31. Where the tokenizer writes digits one by one the next digit is asked: the target is that of the decade after, 4, the
foil that of the decade before, 2. In the counterfactual the span begins in the year 01, so that every other is later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product

import numpy as np

from hydrascope.errors import EmptyPrompts, MalformedPrompt, PromptError
from hydrascope.prompts._prompt_set import Prompt
from hydrascope.prompts._records import Record
from hydrascope.prompts._tokenizer import Tokenizer, bare_ids
from hydrascope.prompts.tasks._task import N_GENERATED, PromptTask, TaskPrompts

_SPANS = (
    "war", "siege", "strike", "reign", "truce", "drought", "dispute", "voyage", "trial", "famine", "project", "revolt",
)  # fmt: skip
_SENTENCES = (
    "The {span} began in the year {century}{year} and ended in the year {century}",
    "The {span} went on from the year {century}{year} until the year {century}",
    "Records of the {span} start in the year {century}{year} and stop in the year {century}",
)
_CENTURIES = range(11, 20)


def generate(tokenizer: Tokenizer | None = None) -> TaskPrompts:
    """Generate prompts with years written as a century and one more token, or else digit by digit.

    Raises:
        EmptyPrompts: the tokenizer writes no year in either way.
        PromptError: there is no tokenizer.
    """
    tokenizer = _required(tokenizer)
    rng = np.random.default_rng(0)
    # not 02 or 99, as the year before 02 is the counterfactual's and the year after 99 is in the next century
    wanted = [f"{century}{year:02d}" for century in _CENTURIES for year in range(3, 99)]
    years = [
        year
        for year in wanted
        if all(_apart(tokenizer, other) for other in (*(f"{int(year) + step}" for step in (-1, 0, 1)), f"{year[:2]}01"))
    ] or [year for year in wanted if "19" < year[2:] < "90" and _digit_by_digit(tokenizer, year)]
    if not years:
        raise EmptyPrompts(
            "the model's tokenizer writes no year as its century and two digits, nor digit by digit, which "
            "greater-than needs; take another task"
        )
    possible = list(product(range(len(_SENTENCES)), _SPANS, years))
    for chosen in rng.permutation(len(possible))[:N_GENERATED]:
        sentence, span, year = possible[chosen]
        text, other = (
            _SENTENCES[sentence].format(span=span, century=year[:2], year=digits) for digits in (year[2:], "01")
        )
        yield _prompt(tokenizer, text, other, year)


def read(rows: Iterable[Record], tokenizer: Tokenizer | None = None) -> TaskPrompts:
    """Read rows with `clean`, `corrupted` and `label`, the year's last two digits.

    Raises:
        MalformedPrompt: a text does not name a first year, or does not end in a century.
        PromptError: there is no tokenizer.
    """
    tokenizer = _required(tokenizer)
    for row in rows:
        text = row.text("clean")
        span = re.search(r"\b(\d\d)(\d\d)\b.*\b(\d\d)$", text)
        label = str(row.values.get("label") or "").strip()
        if span is None or (label and label.zfill(2) != span[2]):
            raise MalformedPrompt(
                f"{row.where}: 'clean' must name a year that ends in the label and end in a century; correct it"
            )
        yield _prompt(tokenizer, text, row.text("corrupted"), span[1] + span[2]) if span[3] == span[1] else None


def _prompt(tokenizer: Tokenizer, text: str, other: str, year: str) -> Prompt | None:
    """Make a prompt, in one group with those that differ only in the years."""
    later, earlier = (_following(tokenizer, text, digits) for digits in _beside(tokenizer, year))
    if later is None or earlier is None:
        return None
    return Prompt(text, target_id=later, foil_id=earlier, counterfactual=other, group=re.sub(r"\d+", "…", text))


def _required(tokenizer: Tokenizer | None) -> Tokenizer:
    if tokenizer is None:
        raise PromptError(
            "greater-than chooses years by how the model writes them; give its tokenizer, "
            "load_prompts('greater-than', tokenizer=model.tokenizer)"
        )
    return tokenizer


def _beside(tokenizer: Tokenizer, year: str) -> tuple[str, str]:
    """What one token after the century makes a later and an earlier year; empty where none does."""
    tens, rest = divmod(int(year[2:]), 10)
    if 0 < 10 * tens + rest < 99 and _apart(tokenizer, year):
        return f"{int(year[2:]) + 1:02d}", f"{int(year[2:]) - 1:02d}"
    if 0 < tens < 9 and _digit_by_digit(tokenizer, year):
        return str(tens + 1), str(tens - 1)
    return "", ""


def _apart(tokenizer: Tokenizer, year: str) -> bool:
    """Whether the year is the tokens of its century and one more."""
    century = bare_ids(tokenizer, f"year {year[:2]}")
    whole = bare_ids(tokenizer, f"year {year}")
    return whole[:-1] == century and str(tokenizer.decode(whole[-1:])).strip() == year[2:]


def _digit_by_digit(tokenizer: Tokenizer, year: str) -> bool:
    """Whether each digit of the year is a token."""
    digits = bare_ids(tokenizer, f"year {year}")[-len(year) :]
    return [str(tokenizer.decode([one])).strip() for one in digits] == list(year)


def _following(tokenizer: Tokenizer, text: str, digits: str) -> int | None:
    """The one token of some digits directly after the text, or None."""
    before, joined = bare_ids(tokenizer, text), bare_ids(tokenizer, text + digits)
    return joined[-1] if joined[:-1] == before else None


GREATER_THAN = PromptTask(
    name="greater-than",
    description="a later year of the century, an earlier one as foil",
    input_format="FILE, CSV or JSON with clean, corrupted and label",
    read=read,
    generate=generate,
)
