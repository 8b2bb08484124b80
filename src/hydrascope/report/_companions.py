"""Sections on companion runs: frozen responders, doses, ablations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from hydrascope import figures
from hydrascope.analysis import FEWEST_RANKED, ablation_loss_sentence
from hydrascope.report._listing import Row
from hydrascope.report._numbers import fixed, interval, percent
from hydrascope.report._run import Run
from hydrascope.report._section import Draft, Section

CURVES = 12
"""Knock-outs whose curves can be chosen."""
_FREEZE = {
    "attn": {"attention": "By later attention", "with_norm": "By all, final norm included"},
    "": {"compensation": "By all later layers", "with_norm": "By all, final norm included"},
}
"""Kind of the frozen layers to the compensation that is drawn, with its title; those that are not attention share."""

_MEASURES = {"total_effect": "total effect", "compensation": "compensation", "self_repair": "self-repair"}
"""Measure of `rank_agreement` to its name in sentences."""


def freeze(run: Run) -> Section | None:
    """Responders frozen while the part they compensate for is knocked out."""
    findings = run.findings.by_layer
    if findings.freeze.empty:
        return None
    table, measures = frozen_kind(run)
    shown = run.first(list(dict.fromkeys(table["ablated"])))
    draft = Draft("freeze", "Freezing")
    for measure, title in measures.items():
        draft.add(figures.repair_frozen(table, shown, measure, frozen_title(shown, title), unit=run.unit))
    if table.loc[table["role"] == "responder", "ablated"].nunique() > 1:
        for measure in measures:
            draft.add(figures.removed_by_freezing(table, measure))
    excess = findings.interactions
    excess = excess[excess["ablated"] == shown]
    return draft.finished(
        f"With {shown} knocked out, one or more of the responders are frozen at their clean output, so that they "
        "cannot compensate: the shorter the bar, the more of the compensation depended on them. Others, drawn at "
        "random, are the control.",
        [
            "Means are over all tokens." if run.of_tokens else "",
            "What a layer changes by, elsewhere on this page, is what it writes on the answer directly; help that it "
            "gives by way of a later layer is credited to that layer. Freezing takes both away.",
            "With all later layers of a kind frozen nothing of theirs is left by construction, and freezing one "
            "layer takes at least its own change out of it unless others step in; the second chart is measured at the "
            "output.",
            _interaction(excess.iloc[0].to_dict()) if len(excess) else "",
        ],
    )


def frozen_title(ablated: str, measure: str) -> str:
    """Title of the chart of one knock-out's compensation, by responder frozen."""
    return f"{ablated}: {measure[:1].lower()}{measure[1:]}"


def frozen_kind(run: Run) -> tuple[pd.DataFrame, Mapping[str, str]]:
    """The table of freezing, of the kind of layer that is shown, and titles of what is drawn of it, by measure."""
    table = run.findings.by_layer.freeze
    shown = run.first(list(dict.fromkeys(table["ablated"])))
    kind = str(table.loc[table["ablated"] == shown, "kind"].iloc[0])
    return table[table["kind"] == kind], _FREEZE.get(kind, _FREEZE[""])


def _interaction(row: Row) -> str:
    excess, answer = float(row["interaction"]), float(row["answer"])
    return (
        f"Knocking out {row['ablated']} and {row['responder']} together moves the answer by {fixed(excess)} logits "
        f"beyond the sum of both, norm left out; it would be {fixed(-answer)}, its own change turned round, if "
        f"{row['responder']} acted on the answer alone."
    )


@dataclass(frozen=True)
class Selection:
    """What a chart counts: all prompts or, on ordinary text, top tokens or all.

    Attributes:
        losses: a row per knock-out: `ablated`, and `meaningful`, whether a share may be read.
        where: name of the selection in sentences; empty where there is but one.
    """

    losses: pd.DataFrame
    where: str = ""


def selections_of(run: Run) -> dict[str, Selection]:
    """Selections in the tables of companion runs, by their name there."""
    if not run.of_tokens:
        return {"all": Selection(run.tables.repair)}
    table = run.tables.self_repair
    names = {"top": "top tokens", "all": "all tokens"}
    return {name: Selection(table[table["selection"] == name], where) for name, where in names.items()}


def dose(run: Run) -> Section | None:
    """Dose and response, where the run has several doses."""
    doses = run.tables.doses
    if doses.empty:
        return None
    draft, selections = Draft("dose", "Dose and response"), selections_of(run)
    names, sentences = run.strongest(CURVES), []
    for name, one in selections.items():
        rows = doses[doses["selection"] == name]
        chart = figures.dose_curves(rows, names, shown=run.focus, unit=run.unit, counted=one.where)
        draft.add(chart, "wide" if len(selections) == 1 else "")
    for name, one in selections.items():
        table = worth(run, name)
        if len(table):
            draft.add(figures.half_share(table, layers=run.layers, counted=one.where), "wide")
        sentences.append(_halves(table, run.focus, one.where))
    return draft.finished(
        "The part named above each chart is replaced more and more: at dose 0 its output is its own, at dose 1 the "
        "replacement, in between a mixture. Where the total lags behind its straight line, small disturbances are "
        "absorbed.",
        [
            "The part’s own change is a straight line by construction, unless something follows it inside its layer, "
            "as a norm does; bends are the others’ doing.",
            *sentences,
        ],
    )


def worth(run: Run, selection: str) -> pd.DataFrame:
    """Rows of `linearity` of one selection whose total effect is worth a ratio."""
    table, losses = run.tables.linearity, selections_of(run)[selection].losses
    rows: pd.DataFrame = table[table["selection"] == selection]
    return rows[rows["ablated"].isin(losses.loc[losses["meaningful"], "ablated"])]


def _halves(table: pd.DataFrame, focus: str, where: str) -> str:
    """What half the dose does, over all meaningful shares and to the focus."""
    on = f"On {where} half" if where else "Half"
    if table.empty:
        why = "nothing lost enough there" if where else "nothing lost enough"
        return f"{on} the dose is not compared with the whole: {why} for a share of it to mean anything."
    said = (
        f"{on} the dose has {percent(float(table['half_share'].median()))} of the total effect in the median of "
        f"{len(table)} knock-outs that lose something; the bend is {fixed(float(table['bend'].median()))} (0 is "
        f"straight, {fixed(-1, 0)} if all comes at the end)."
    )
    if beyond := int((~table["half_share"].between(0, 1)).sum()):
        said += f" The shares of {beyond} lie beyond the axis, as arrows."
    for row in table[table["ablated"] == focus].to_dict("records"):
        ends = interval(100 * float(row["half_share_lo"]), 100 * float(row["half_share_hi"]), 0)
        said += f" {focus}: {percent(float(row['half_share']))} at half the dose ({ends} %)."
    return said


def ablations(run: Run) -> Section | None:
    """How far the run's ablations agree, where it has several."""
    table = run.tables.rank_agreement
    if table.empty:
        return None
    draft, selections = Draft("ablations", "Agreement between ablations"), selections_of(run)
    if (count := int(table["n"].max())) < FEWEST_RANKED:
        return draft.absent(
            f"a rank correlation needs {FEWEST_RANKED} knock-outs or more, and the runs have {count} in common."
        )
    measure = "self_repair" if run.of_tokens else "compensation"
    called = _MEASURES[measure]
    for shown in ("total_effect", measure):
        for name, one in selections.items():
            if len(rows := table[table["selection"] == name]):
                draft.add(figures.rank_agreement(rows, shown, ranked_by(shown, one.where)))
    counted, drawn = ("tokens", "documents") if run.of_tokens else ("prompts", "prompts")
    chosen = table[(table["measure"] == measure) & table["spearman"].notna()].sort_values("spearman")
    return draft.finished(
        "Zeros, means, learned constants and other prompts’ values are different questions about the same part. Each "
        "number is the rank correlation of the knock-outs’ mean effects under two of them, its interval below.",
        [
            f"{count} knock-outs, the same {counted} throughout; intervals from drawing {drawn}.",
            *(_least(chosen[chosen["selection"] == name], called, one.where) for name, one in selections.items()),
            ablation_loss_sentence(run.tables.ablation_loss),
            "A finding that only one ablation shows is a finding about that ablation. The rest of the page is about "
            f"{run.ds.attrs['ablation']}.",
        ],
    )


def ranked_by(measure: str, where: str) -> str:
    """Title of a matrix of rank correlations."""
    return ", ".join(filter(None, (f"Ranked by {_MEASURES[measure]}", where)))


def _least(rows: pd.DataFrame, called: str, where: str) -> str:
    """The two ablations that agree least, of rows sorted by rank correlation."""
    if rows.empty:
        return ""
    low, on = rows.iloc[0], f"On {where} {called}" if where else called.capitalize()
    return f"{on} agrees least between {low['first']} and {low['second']}: {fixed(float(low['spearman']))}."
