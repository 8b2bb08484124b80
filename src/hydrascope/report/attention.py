"""The sections on how attention answers: by looking elsewhere, or by what it finds where it looks."""

from __future__ import annotations

from hydrascope import figures
from hydrascope.analysis import has_attention_split, mechanisms_by_depth
from hydrascope.figures.texts import SELECTED
from hydrascope.report.section import Draft, Section, finished
from hydrascope.report.tables import Tables
from hydrascope.report.text_tables import TextTables

TITLE = "Does attention look elsewhere?"
SLUG = "redistribution"
ROOM = 8
"""Names that fit under half a row."""

_WAYS = (
    "An attention layer can answer a knock-out in two ways: its weight moves to other tokens, or the tokens it looks "
    "at anyway have something else there."
)
_SPLIT = (
    "Both sum exactly to the diamonds: each is what one change does with the other halfway done. The split says by "
    "which way an answer came about, not what made weights or values change, nor what would be left without the other."
)
_FAR = "Weight can move far and change little, where the tokens have much the same to give: compare the charts."
_LAST = (
    "Knocked out at the last token only, all tokens before it keep their values; values change only where the last "
    "token looks at itself."
)


def redistributed(t: Tables) -> Section | None:
    """Moved weight against changed values; only in reports of runs that were asked for it."""
    if not t.attention_split:
        return None
    behind = set(t.redistribution["ablated"])
    names = [name for name in t.in_view if name in behind]
    if not names:
        return Section(SLUG, TITLE, reason="nothing that was knocked out has an attention layer behind it.")
    draft = Draft(SLUG)
    shown = t.featured if t.featured in names else names[0]
    draft.add(figures.redistribution_by_answer(t.redistribution, names, shown, layers=t.layers), "wide")
    totals = t.redistribution_totals
    kind = next((kind for kind in t.kinds if kind in set(totals["ablated_kind"])), None)
    if kind is not None:
        table = totals[totals["ablated_kind"] == kind]
        shape = "" if figures.is_curve(table) or len(table) <= ROOM else "wide"
        draft.add(figures.redistributed_by_layer(totals, kind, layers=t.layers, legend=False), shape)
        draft.add(figures.moved_weight_by_layer(totals, kind, layers=t.layers), shape)
    notes = [_SPLIT, _FAR]
    if str(t.ds.attrs.get("positions", "last")) == "last":
        notes.append(_LAST)
    return finished(
        draft,
        TITLE,
        f"{_WAYS} The first chart splits the answers to one knock-out, the second what all attention behind each "
        "knock-out does, the third shows how much of its weight moved.",
        notes=tuple(notes),
    )


def redistributed_on_text(t: TextTables) -> Section | None:
    """The same on ordinary text."""
    if not has_attention_split(t.ds):
        return None
    lines = mechanisms_by_depth(t.findings.attention_split_on_tokens, t.layers)
    if lines.empty:
        return Section(
            SLUG, TITLE, reason="donors left the direct effect of everything that was knocked out as it was."
        )
    draft = Draft(SLUG)
    for i, selection in enumerate(SELECTED):
        draft.add(figures.redistribution_by_depth(lines, selection, layers=t.layers, legend=i == 0))
    return finished(
        draft,
        TITLE,
        f"{_WAYS} Each bar is a layer’s parts knocked out one at a time, and what all attention behind them gives back "
        "on average.",
        notes=(_SPLIT,),
    )
