"""The verdict: how many losses are repaired, the clearest one, the Hydra effect proper, and what to try next."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._outcomes import FLOOR, LEAST_SHARE
from hydrascope.analysis.summary._told import Row, Told, extreme
from hydrascope.analysis.summary._words import count, digits, listed, percent, spread

GIVERS = {
    "compensation_attn": "later attention",
    "compensation_mlp": "later MLPs",
    "compensation_mixer": "later mixers",
    "norm_effect": "the final norm",
}
"""Column to who answers, as sentences call it."""
NAMED = 3
"""Most answers of attention that are told one by one."""
MOST = 8
"""Most knock-outs with one label that are named."""


def tell_counts(told: Told) -> None:
    """How many clear losses there are, and what became of them."""
    if not told.conclusive:
        return
    counts = {"knockouts": len(told.table), "lost": int(told.table["lost"].sum())}
    counts |= {name: len(told.rows("outcome", name)) for name in ("repaired", "made worse", "norm")}
    for name, value in counts.items():
        told.number(name.replace(" ", "_"), value)
    size = FLOOR * float(told.findings.resampling.mean(np.abs(access.numbers(told.ds, "clean_logit"))))
    told.number("floor", size)
    if counts["lost"]:
        beyond = " beyond a random direction" if "null_change" in told.ds else ""
        told.say(
            f"Clear losses: {counts['lost']} of {count(counts['knockouts'], 'knock-out')}; repaired on the whole"
            f"{beyond}: {counts['repaired']}; made worse: {counts['made worse']}; given back by the final norm alone: "
            f"{counts['norm']}."
        )
    told.detail(
        f"Losses below {digits(size)} logits ({percent(FLOOR)} of the clean logit) and answers below "
        f"{percent(LEAST_SHARE)} of their loss are called negligible; signs are corrected over all knock-outs, "
        "brackets are for one number."
    )


def tell_clearest(told: Told) -> None:
    """What was lost where the most came back, or went, for certain; what share came back, and from whom."""
    told.number("focus", told.ablated)
    own = told.reading("own_change", told.column("own_change"))
    for name in ("self_repair", "total_effect", "restored", "restored_with_norm", *GIVERS):
        if name in told.focus:
            told.reading(name, told.column(name))
    if not told.conclusive or not told.focus["lost"]:
        return
    lost, outcome = f"{spread(own, -1)} logits", str(told.focus["outcome"])
    share = spread(told.column("restored_with_norm"), form=percent)
    if outcome == "repaired":
        told.say(f"Repaired most clearly: {told.ablated} loses {lost}, of which {share} come back{_from_whom(told)}.")
    elif outcome == "made worse":
        further = spread(told.column("self_repair"), -1)
        told.say(f"Made worse most clearly: {told.ablated} loses {lost}, and {further} more go with it.")
    else:
        whole = spread(told.column("self_repair"))
        told.detail(f"{told.ablated} loses {lost}; the rest moves the {told.quantity.subject} by {whole} in response.")


def _from_whom(told: Told) -> str:
    """Who gives back and who takes further, of those that clearly do and that are not negligible."""
    least = -LEAST_SHARE * float(told.focus["own_change"])
    seen = {label: told.column(name) for name, label in GIVERS.items() if name in told.focus}
    seen = {label: one for label, one in seen.items() if abs(one.mean) >= least}
    ordered = sorted(seen.items(), key=lambda item: -item[1].mean)
    back = [f"{spread(one)} from {label}" for label, one in ordered if one.sign > 0]
    gone = [
        f"{label} take{'s' * (not label.endswith('s'))} {spread(one, -1)}" for label, one in ordered if one.sign < 0
    ]
    return (f": {listed(back)}" if back else "") + (f"; {listed(gone)} more" if gone else "")


def tell_hidden(told: Told) -> None:
    """What hides each clear loss from the total effect."""
    lost = told.rows("lost")
    if not told.conclusive or lost.empty:
        return
    pieces = []
    for label, words in _HIDDEN.items():
        names = [str(name) for name in lost.loc[lost["hidden_by"] == label, "ablated"]]
        told.number(f"hidden_by_{label}", len(names))
        more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
        pieces += [f"{words} {', '.join(names[:MOST])}{more}"] if names else []
    told.detail(f"What hides the clear losses: {'; '.join(pieces)}.")


_HIDDEN = {
    "active": "later writers (active repair)",
    "norm": "the final norm",
    "passive": "a part that does the same (passive redundancy)",
    "nothing": "nothing that is told here",
}


def tell_hydra(told: Told) -> None:
    """Attention answering attention: where it is seen, or how much of it is excluded."""
    asked = told.table[told.table["attn_below"].notna()]
    if not told.conclusive or asked.empty:
        return
    told.number("hydra_asked", len(asked))
    seen = answered(told)
    if seen.empty:
        bound = max(0.0, float(asked["attn_below"].max()))
        told.number("attn_below", bound)
        told.say(
            "The Hydra effect proper, attention answering attention, is not seen: after each of "
            f"{count(len(asked), 'clear loss', 'clear losses')} of attention it is below {digits(bound)} logits."
        )
        return
    told.number("hydra", ",".join(seen["ablated"]))
    rows = [row for _, row in seen.head(NAMED).iterrows()]
    for row in rows:
        told.reading(f"hydra_{row['ablated']}", told.column("compensation_attn", row))
    more = [f"{len(seen) - NAMED} more"] if len(seen) > NAMED else []
    told.say(
        "The Hydra effect proper, attention answering attention, is seen at "
        f"{listed([*(_one_answer(told, row) for row in rows), *more])}."
    )


def _one_answer(told: Told, row: Row) -> str:
    answer, lost = told.column("compensation_attn", row), -float(row["own_change"])
    net = "" if row["outcome"] == "repaired" else ", not repaired on the whole"
    return f"{row['ablated']} (+{spread(answer)} logits for {digits(lost)} lost{net})"


def answered(told: Told) -> pd.DataFrame:
    """Losses of attention that later attention answers: repaired ones first, then the largest answer."""
    rows = told.rows("hydra")
    rows = rows.assign(repaired=rows["outcome"] == "repaired")
    return rows.sort_values(["repaired", "compensation_attn"], ascending=False)


def tell_next(told: Told) -> None:
    """What to try where nothing was found at this grain."""
    if not told.conclusive:
        return
    if told.finding == "repair" or len(told.rows("hydra")):
        return
    lost = told.rows("lost")
    say = told.detail if told.finding == "breakage" else told.say
    layers = lost[lost["ablated_kind"].isin(["attn", "mlp"])]
    if len(layers):
        row = extreme(layers, "own_change", -1)
        unit = {"attn": "head", "mlp": "neuron"}[str(row["ablated_kind"])]
        say(
            f"Next: {unit}s can cancel inside {row['ablated']}, so knock them out one by one "
            f"(--components {unit}.{row['ablated_layer']}.*)."
        )
    elif len(lost):
        say("Next: parts can share one job, so knock out several together (--components A+B), or whole layers.")
    else:
        say("Next: choose prompts that the model answers with a clear margin, or another --ablation.")
