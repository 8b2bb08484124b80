"""Sections about the runs that belong to a run, where there are such: smaller doses, and other ablations."""

from __future__ import annotations

from hydrascope import figures
from hydrascope.report.numbers import fixed, interval, percent
from hydrascope.report.section import Draft, Section, finished
from hydrascope.report.tables import Tables

LISTED = 12
"""Knock-outs whose curves can be chosen."""


def doses(t: Tables) -> Section | None:
    """Dose and response."""
    if t.findings.doses.empty:
        return None
    strongest = t.repair.loc[t.repair["own_change"].abs().nlargest(LISTED).index].sort_index()
    names = list(dict.fromkeys([t.featured, *map(str, strongest["ablated"])]))
    draft = Draft("dose")
    draft.add(figures.dose_curves(t.findings.doses, names, shown=t.featured, unit=t.quantity.axis), "wide")
    worth = t.findings.linearity[t.findings.linearity["ablated"].isin(t.repair.loc[t.repair["meaningful"], "ablated"])]
    notes = [
        "The part’s own change is a straight line by construction, unless something follows it inside its layer, as a "
        "norm does; bends are the others’ doing."
    ]
    if len(worth):
        draft.add(figures.half_share(worth, layers=t.layers), "wide")
        median = float(worth["half_share"].median())
        notes.append(
            f"Half the dose has {percent(median)} of the total effect in the median of {len(worth)} knock-outs that "
            f"lose something; the bend is {fixed(float(worth['bend'].median()))} (0 is straight, {fixed(-1, 0)} if all "
            "comes at the end)."
        )
    row = t.findings.linearity[t.findings.linearity["ablated"] == t.featured].iloc[0]
    notes.append(
        f"{t.featured}: {percent(float(row['half_share']))} at half the dose "
        f"({interval(100 * float(row['half_share_lo']), 100 * float(row['half_share_hi']), 0)} %)."
    )
    return finished(
        draft,
        "Dose and response",
        "The part is replaced more and more: at dose 0 its output is its own, at dose 1 the replacement, in between a "
        "mixture. Where the total lags behind its straight line, small disturbances are absorbed.",
        notes=tuple(notes),
    )


def ablations(t: Tables) -> Section | None:
    """How far the run's ablations agree."""
    table = t.findings.agreement
    if table.empty:
        return None
    draft = Draft("ablations")
    draft.add(figures.rank_agreement(table, "total_effect", "Ranked by total effect"))
    draft.add(figures.rank_agreement(table, "compensation", "Ranked by compensation"))
    low = table[table["measure"] == "compensation"].sort_values("spearman").iloc[0]
    return finished(
        draft,
        "Do the ablations agree?",
        "Zeros, means, learned constants and other prompts’ values are different questions about the same part. Each "
        "number is the rank correlation of the knock-outs’ mean effects under two of them, its interval below.",
        notes=(
            f"{int(low['n'])} knock-outs, the same prompts throughout; intervals from drawing prompts. Compensation "
            f"agrees least between {low['first']} and {low['second']}: {fixed(float(low['spearman']))}. A finding that "
            "only one ablation shows is a finding about that ablation. The rest of the page is about the first.",
        ),
    )
