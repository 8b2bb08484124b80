"""How a part's importance depends on what the model is asked, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from hydrascope.analysis import digits, listed, percent
from hydrascope.resilience import Verdict
from hydrascope.significance.context._concordance import ALL
from hydrascope.significance.context._findings import Contexts
from hydrascope.significance.context._variance import LEVELS

NAMED = 4
"""Most parts that a sentence names."""

Said = Iterator[tuple[str, dict[str, Any]]]


def told_context(found: Contexts) -> Verdict:
    """Say how far the importance of parts depends on task, group, prompt and donor."""
    (headline, numbers), *rest = [said for saying in (_variance, _agreement, _somewhere) for said in saying(found)]
    for _, more in rest:
        numbers |= more
    return Verdict(headline, tuple(sentence for sentence, _ in rest), numbers)


def _variance(found: Contexts) -> Said:
    table = found.variance
    row = table.iloc[int(table["effect"].abs().argmax())]
    known = [level for level in LEVELS if not math.isnan(row[level])]
    said = [f"{_ends(row, level)} {'between' if level != 'donor' else 'by'} {level}s" for level in known]
    yield (
        f"The loss of {row['part']} costs most, {digits(row['effect'])} logits on average, give or take "
        f"{digits(row['sd'])}; of this variance {listed(said)}.",
        {"part": str(row["part"]), **{f"share {level}": float(row[level]) for level in known}},
    )
    absent = [level for level in LEVELS if level not in known]
    if absent:
        yield f"{_WHY[absent[0]]}{''.join(f'; {_WHY[one][0].lower()}{_WHY[one][1:]}' for one in absent[1:])}.", {}


_WHY = {
    "task": "With one task nothing is said of tasks",
    "group": "No group has several prompts, so groups and prompts cannot be told apart",
    "prompt": "Prompts cannot be told apart",
    "donor": "With one replacement value a prompt, what donors add counts as the prompt's; --donors 4 tells them apart",
}


def _agreement(found: Contexts) -> Said:
    table = found.agreement
    if table.empty:
        return
    row = table.iloc[0]
    which = f"{len(found.ledgers)} tasks" if row["task"] == ALL else f"{row['task']} and {row['other']}"
    if math.isnan(row["agreement"]):
        yield (
            f"The rankings of {which} are too noisy to be compared (W {digits(row['w'])} as measured).",
            {"w": float(row["w"])},
        )
        return
    ends = f"{digits(row['agreement'])} [{digits(row['agreement_lo'])}, {digits(row['agreement_hi'])}]"
    yield f"The rankings of {which} agree with Kendall's W {ends}.", {"agreement": float(row["agreement"])}


def _somewhere(found: Contexts) -> Said:
    table = found.somewhere.drop_duplicates(["part", "task"])
    if table.empty:
        return
    parts = listed([str(part) for part in table["part"].unique()[:NAMED]])
    first = table.iloc[0]
    yield (
        f"{table['part'].nunique()} parts matter only somewhere, first {parts}: the loss of {first['part']} costs "
        f"{digits(first['effect'])} logits in {first['task']} and next to nothing in {first['idle_in']}.",
        {"somewhere": int(table["part"].nunique())},
    )


def _ends(row: Any, level: str) -> str:
    lo, hi = (float(row[f"{level}{end}"]) for end in ("_lo", "_hi"))
    return percent(row[level]) + ("" if math.isnan(lo) else f" [{percent(lo)}, {percent(hi)}]")
