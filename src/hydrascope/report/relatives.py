"""Sections about the runs that belong to a run, where there are such: smaller doses, and other ablations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from hydrascope import figures
from hydrascope.analysis import FEWEST_RANKED, Findings, ablation_loss_sentence
from hydrascope.report.numbers import fixed, interval, percent
from hydrascope.report.section import Draft, Section, finished
from hydrascope.report.tables import Tables
from hydrascope.report.text_tables import TextTables

CURVES = 12
"""Knock-outs whose curves can be chosen."""
AGREE = "Do the ablations agree?"
_SHOWN = {"total_effect": "Ranked by total effect", "compensation": "Ranked by compensation"}
_SHOWN_OF_TEXT = {"total_effect": "Ranked by total effect", "self_repair": "Ranked by self-repair"}


@dataclass(frozen=True)
class Counted:
    """What a chart counts: all prompts, or of ordinary text top tokens or all.

    Attributes:
        repair: a row per knock-out: `ablated`, `own_change`, and `meaningful`, whether a share may be read.
        where: how sentences call it; empty where there is but one selection.
    """

    repair: pd.DataFrame
    where: str = ""

    def titled(self, title: str) -> str:
        """A title that says what is counted."""
        return f"{title}, {self.where}" if self.where else title


def doses(t: Tables) -> Section | None:
    """Dose and response at the last token."""
    return _doses(t.findings, {"all": Counted(t.repair)}, t.featured, t.layers, t.unit)


def text_doses(t: TextTables) -> Section | None:
    """Dose and response over whole texts, on top tokens and on all."""
    return _doses(t.findings, _of_text(t), t.featured, t.layers, t.unit)


def ablations(t: Tables) -> Section | None:
    """How far the run's ablations agree."""
    return _ablations(t.findings, {"all": Counted(t.repair)}, _SHOWN, "compensation", "prompts", "prompts")


def text_ablations(t: TextTables) -> Section | None:
    """The same over whole texts, on top tokens and on all."""
    return _ablations(t.findings, _of_text(t), _SHOWN_OF_TEXT, "self_repair", "tokens", "documents")


def _of_text(t: TextTables) -> dict[str, Counted]:
    names = {"top": "top tokens", "all": "all tokens"}
    return {name: Counted(t.repair[t.repair["selection"] == name], where) for name, where in names.items()}


def _doses(
    findings: Findings, selections: Mapping[str, Counted], featured: str, layers: int, unit: str
) -> Section | None:
    if findings.doses.empty:
        return None
    draft, shape = Draft("dose"), "wide" if len(selections) == 1 else ""
    first = next(iter(selections.values())).repair
    strongest = first.loc[first["own_change"].abs().nlargest(CURVES).index].sort_index()
    names = list(dict.fromkeys([featured, *map(str, strongest["ablated"])]))
    for name, one in selections.items():
        rows = findings.doses[findings.doses["selection"] == name]
        draft.add(figures.dose_curves(rows, names, shown=featured, unit=unit, counted=one.where), shape)
    notes = [
        "The part’s own change is a straight line by construction, unless something follows it inside its layer, as a "
        "norm does; bends are the others’ doing."
    ]
    for name, one in selections.items():
        table = findings.linearity[findings.linearity["selection"] == name]
        worth = table[table["ablated"].isin(one.repair.loc[one.repair["meaningful"], "ablated"])]
        if len(worth):
            draft.add(figures.half_share(worth, layers=layers, counted=one.where), "wide")
        notes.append(_halves(worth, table[table["ablated"] == featured], one.where))
    return finished(
        draft,
        "Dose and response",
        "The part is replaced more and more: at dose 0 its output is its own, at dose 1 the replacement, in between a "
        "mixture. Where the total lags behind its straight line, small disturbances are absorbed.",
        notes=tuple(filter(None, notes)),
    )


def _halves(worth: pd.DataFrame, featured: pd.DataFrame, where: str) -> str:
    """What half the dose does: to all whose shares mean something, and to the one shown first."""
    on = f"On {where} half" if where else "Half"
    if worth.empty:
        why = "nothing lost enough there" if where else "nothing lost enough"
        return f"{on} the dose is not compared with the whole: {why} for a share of it to mean anything."
    said = (
        f"{on} the dose has {percent(float(worth['half_share'].median()))} of the total effect in the median of "
        f"{len(worth)} knock-outs that lose something; the bend is {fixed(float(worth['bend'].median()))} (0 is "
        f"straight, {fixed(-1, 0)} if all comes at the end)."
    )
    if beyond := int((~worth["half_share"].between(0, 1)).sum()):
        said += f" The shares of {beyond} lie beyond the axis."
    if featured.empty or str(featured["ablated"].iloc[0]) not in set(worth["ablated"]):
        return said
    row = featured.iloc[0]
    ends = interval(100 * float(row["half_share_lo"]), 100 * float(row["half_share_hi"]), 0)
    return f"{said} {row['ablated']}: {percent(float(row['half_share']))} at half the dose ({ends} %)."


def _ablations(
    findings: Findings,
    selections: Mapping[str, Counted],
    shown: Mapping[str, str],
    least: str,
    counted: str,
    drawn: str,
) -> Section | None:
    table = findings.rank_agreement
    if table.empty:
        return None
    if (count := int(table["n"].max())) < FEWEST_RANKED:
        return Section(
            "ablations",
            AGREE,
            reason=f"a rank correlation needs {FEWEST_RANKED} knock-outs or more, and the runs have {count} in common.",
        )
    draft, notes = Draft("ablations"), []
    for measure, title in shown.items():
        for name, one in selections.items():
            rows = table[table["selection"] == name]
            if len(rows):
                draft.add(figures.rank_agreement(rows, measure, one.titled(title)))
    for name, one in selections.items():
        notes.append(_least(table[table["selection"] == name], least, one.where))
    return finished(
        draft,
        AGREE,
        "Zeros, means, learned constants and other prompts’ values are different questions about the same part. Each "
        "number is the rank correlation of the knock-outs’ mean effects under two of them, its interval below.",
        notes=(
            f"{count} knock-outs, the same {counted} throughout; intervals from drawing {drawn}.",
            *filter(None, (*notes, ablation_loss_sentence(findings.ablation_loss))),
            "A finding that only one ablation shows is a finding about that ablation. The rest of the page is about "
            "the first.",
        ),
    )


def _least(table: pd.DataFrame, measure: str, where: str) -> str:
    rows = table[(table["measure"] == measure) & table["spearman"].notna()].sort_values("spearman")
    if rows.empty:
        return ""
    low = rows.iloc[0]
    what = {"compensation": "compensation", "self_repair": "self-repair"}[measure]
    on = f"On {where} {what}" if where else what.capitalize()
    return f"{on} agrees least between {low['first']} and {low['second']}: {fixed(float(low['spearman']))}."
