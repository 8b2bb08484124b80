"""The section that tells who is needed from who changed."""

from __future__ import annotations

from hydrascope import figures
from hydrascope.report.numbers import fixed
from hydrascope.report.section import Draft, Section, finished
from hydrascope.report.tables import Tables
from hydrascope.report.text_tables import TextTables

TITLE = "Who is needed"
PARTS = {"attention": "By later attention", "with_norm": "By all, final norm included"}
"""Measure of repair to the title of its chart."""


def confirmation(t: Tables | TextTables) -> Section | None:
    """Responders held while what they answer is out; only in reports of runs that asked for it."""
    findings = t.findings.by_layer
    table = findings.freeze
    if table.empty:
        return None
    names = list(dict.fromkeys(table["ablated"]))
    shown = t.featured if t.featured in names else str(names[0])
    draft = Draft("confirmation")
    for measure, title in PARTS.items():
        draft.add(figures.repair_held(table, shown, measure, title, unit=t.unit))
    if table.loc[table["role"] == "responder", "ablated"].nunique() > 1:
        for measure in PARTS:
            draft.add(figures.removed_by_holding(table, measure))
    notes = ["Means are over all tokens."] if isinstance(t, TextTables) else []
    notes += [
        "What a layer changes by, elsewhere on this page, is what it writes on the answer directly; help that it gives "
        "by way of a later layer is credited to that layer. Holding takes both away.",
        "With all later attention held nothing is left in the first chart by construction, and holding one layer takes "
        "at least its own answer out of it unless others step in; the second chart is measured at the output.",
    ]
    excess = findings.interactions
    excess = excess[excess["ablated"] == shown]
    if len(excess):
        row = excess.iloc[0]
        notes.append(
            f"Knocking out {row['ablated']} and {row['responder']} together moves the answer by "
            f"{fixed(row['interaction'])} logits beyond the sum of both, norm left out; it would be "
            f"{fixed(-row['answer'])}, its own answer turned round, if {row['responder']} acted on the answer alone."
        )
    return finished(
        draft,
        TITLE,
        f"With {shown} knocked out, one or more of the layers that answer are held at their clean output, so that they "
        "cannot: the shorter the bar, the more of the repair hung on them. Others, drawn at random, are the control.",
        notes=tuple(notes),
    )
