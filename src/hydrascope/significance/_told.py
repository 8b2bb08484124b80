"""What a ranking found, in plain sentences with the numbers in them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from hydrascope.analysis import digits, listed, percent
from hydrascope.resilience import Verdict
from hydrascope.significance._findings import Significance
from hydrascope.significance._flips import LARGEST
from hydrascope.significance._scores import EXACT

NAMED = 4
"""Most parts that a sentence names."""

Said = Iterator[tuple[str, dict[str, Any]]]


def told(found: Significance) -> Verdict:
    """Say what a ranking found."""
    sayings = (_backups, _flips, _sets, _finding, _agreement, _misjudged)
    (headline, numbers), *rest = [said for saying in sayings for said in saying(found)]
    for _, more in rest:
        numbers |= more
    return Verdict(headline, tuple(sentence for sentence, _ in rest), numbers)


def _backups(found: Significance) -> Said:
    out, table = listed(list(found.primaries)), found.freezing
    needed = table[table["needed"].astype(bool)]
    if len(needed):
        first = needed.iloc[int(needed["gone"].abs().argmax())]
        several = f"{len(needed)} parts" if len(needed) > 1 else "one part"
        much = _ends(first, "removed", share=True) if _clear(first, "repair") else f"{_ends(first, 'gone')} logits"
        yield (
            f"What comes back when {out} is lost clearly depends on {several}; freezing {first['frozen']} removes "
            f"most, {much}.",
            {"needed": len(needed), "frozen": str(first["frozen"]), "removed": float(first["removed"])},
        )
    else:
        yield f"What comes back when {out} is lost clearly depends on no single part.", {"needed": 0}
    backups = found.backups[found.backups["conditional_lo"] > 0].sort_values("conditional", ascending=False)
    if len(backups):
        first, more = backups.iloc[0], len(backups) - NAMED
        names = [str(part) for part in backups["part"]]
        names = names if more <= 1 else [*names[:NAMED], f"{more} more parts"]
        yield (
            f"Losing {listed(names)} matters clearly more once {out} is out: the "
            f"loss of {first['part']} then moves the answer by {digits(math.sqrt(first['energy_given']))} logits, "
            f"alone by {digits(math.sqrt(first['energy']))} (root mean square).",
            {"backup": str(first["part"]), "conditional": float(first["conditional"])},
        )


def _flips(found: Significance) -> Said:
    for prompt, steps in found.flip_table.groupby("prompt", sort=False):
        row = steps.iloc[-1]
        answer = f"The answer '{str(row['answer']).strip()}' of prompt {prompt}"
        if not row["flipped"]:
            yield f"{answer} stays first whichever sets of up to {LARGEST} parts a greedy search takes away.", {}
            continue
        parts = str(row["parts"]).split("+")
        said = f"{answer} flips when {listed(parts)} {'is' if len(parts) == 1 else 'are'} lost"
        said += "" if math.isnan(row["others"]) else f", which also flips {percent(row['others'])} of the other prompts"
        said += "" if len(parts) == 1 else "; none of them can be spared, but a smaller set may exist"
        yield f"{said}.", {f"flips {prompt}": str(row["parts"])}


def _sets(found: Significance) -> Said:
    table = found.freezing
    mine, random = (table[table["chosen_by"] == name] for name in ("conditional score", "random"))
    if mine.empty or random.empty:
        return
    row = mine.iloc[0]
    if not _clear(row, "repair"):
        yield f"Without {listed(list(found.primaries))} nothing clearly comes back, so there is no share to remove.", {}
        return
    said = (
        f"Freezing the first {found.top} by conditional score ({row['frozen'].replace(',', ', ')}) removes "
        f"{_ends(row, 'removed', share=True)} of the repair"
    )
    control = table[table["chosen_by"] == "co-activation"]
    said += f", by co-activation {percent(float(control['removed'].iloc[0]))}" if len(control) else ""
    mean = float(random["removed"].mean())
    yield f"{said}, random ones of their kinds {percent(mean)}.", {"set_removed": float(row["removed"]), "random": mean}


def _finding(found: Significance) -> Said:
    for labels, table in found.detection.groupby("labels", sort=False):
        first = table.iloc[0]
        exact = table[table["score"] == EXACT]
        best = [str(score) for score in table.loc[table["auc"] == first["auc"], "score"]]
        what = "on which the repair depends" if labels != "given" else "that were labelled"
        said = f"Of all scores, {listed(best)} {'find' if len(best) > 1 else 'finds'} the {first['positives']} of "
        said += f"{first['parts']} parts {what} best, with an AUC of "
        said += _ends(first, "auc") if len(best) == 1 else f"{digits(float(first['auc']))} each"
        if len(exact) and EXACT not in best:
            said += f"; the total effect alone has {_ends(exact.iloc[0], 'auc')}"
        yield f"{said}.", {f"auc {labels}": float(first["auc"])}


def _agreement(found: Significance) -> Said:
    cheap = [score.name for score in found.scores if score.cheap]
    table = found.agreement
    rows = table[(table["score"] == EXACT) & table["other"].isin(cheap) & table["tau"].notna()]
    said = [f"{row['other']} {_ends(row, 'tau')}" for row in rows.to_dict("records")]
    if said:
        numbers = {f"tau {row['other']}": float(row["tau"]) for row in rows.to_dict("records")}
        yield f"Kendall's tau of cheap scores with the exact total effects, over the parts: {listed(said)}.", numbers


def _misjudged(found: Significance) -> Said:
    for _, table in found.misjudged.groupby("score", sort=False):
        row = table.iloc[0]
        yield (
            f"By {row['score']}, {row['part']} is misjudged most: {digits(row['estimate'])} logits against "
            f"{digits(row['total'])}; repair is {digits(row['repair'])}.",
            {f"misjudged {row['score']}": str(row["part"])},
        )


def _clear(row: Any, name: str) -> bool:
    return bool(row[f"{name}_lo"] > 0 or row[f"{name}_hi"] < 0)


def _ends(row: Any, name: str, *, share: bool = False) -> str:
    form = percent if share else digits
    value, lo, hi = (float(row[f"{name}{end}"]) for end in ("", "_lo", "_hi"))
    return form(value) if math.isnan(lo) or math.isnan(hi) else f"{form(value)} [{form(lo)}, {form(hi)}]"
