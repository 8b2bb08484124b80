"""Sections on how writers respond: attention split and routing."""

from __future__ import annotations

from hydrascope import figures
from hydrascope.analysis import has_attention_split, has_routing, mechanisms_by_depth
from hydrascope.report._account import NOTHING_REMOVED
from hydrascope.report._compensation import shape
from hydrascope.report._effects import IN_VIEW
from hydrascope.report._facts import edited
from hydrascope.report._run import Run
from hydrascope.report._section import Draft, Section

_SLUG, _TITLE = "attention-split", "Attention split: pattern effect and value effect"
_WAYS = (
    "An attention layer can respond to a knock-out in two ways: its weight moves to other tokens (pattern effect), or "
    "the tokens it looks at anyway have something else there (value effect)."
)
_SPLIT = (
    "Both sum exactly to the diamonds: each is what one change does with the other halfway done. The split says by "
    "which way a change came about, not what made weights or values change, nor what would be left without the other."
)
_FAR = "Weight can move far and change little, where the tokens have much the same to give: compare the charts."
_LAST = (
    "Knocked out at the last token only, all tokens before it keep their values; values change only where the last "
    "token looks at itself."
)


def attention_by_writer(run: Run) -> Section | None:
    """Pattern effect and value effect behind each knock-out."""
    if run.of_tokens or not has_attention_split(run.ds):
        return None
    draft, table, totals = Draft(_SLUG, _TITLE), run.tables.attention_split, run.tables.attention_split_totals
    names = [name for name in run.strongest(IN_VIEW) if name in set(table["ablated"])]
    if not names:
        return draft.absent("nothing that was knocked out has an attention layer behind it.")
    draft.add(figures.attention_by_writer(table, names, run.first(names), layers=run.layers), "wide")
    if kind := next((kind for kind in run.kinds if kind in set(totals["ablated_kind"])), None):
        room = shape(totals, kind)
        draft.add(figures.two_ways_by_layer(totals, figures.ATTENTION, kind, layers=run.layers, legend=False), room)
        draft.add(figures.moved_by_layer(totals, figures.ATTENTION, kind, layers=run.layers), room)
    last = edited(str(run.ds.attrs["positions"])) == edited("last")
    return draft.finished(
        f"{_WAYS} The first chart splits the compensation for one knock-out, the second what all attention behind each "
        "knock-out does, the third shows how much of its weight moved.",
        [_SPLIT, _FAR, _LAST if last else ""],
    )


def attention_by_depth(run: Run) -> Section | None:
    """Pattern effect and value effect on ordinary text."""
    if not run.of_tokens or not has_attention_split(run.ds):
        return None
    draft, lines = Draft(_SLUG, _TITLE), mechanisms_by_depth(run.tables.attention_split_on_tokens, run.layers)
    if lines.empty:
        return draft.absent(NOTHING_REMOVED)
    for i, selection in enumerate(figures.SELECTED):
        draft.add(figures.attention_by_depth(lines, selection, layers=run.layers, legend=i == 0))
    return draft.finished(
        f"{_WAYS} Each bar is a layer’s parts knocked out one at a time, and the mean compensation by all attention "
        "behind them.",
        [_SPLIT],
    )


def routing(run: Run) -> Section | None:
    """Same experts against re-routed ones, where the model routes."""
    if run.of_tokens or not has_routing(run.ds):
        return None
    draft, table = Draft("routing", "Routing: the same experts, or others"), run.tables.routing_totals
    kind = next((kind for kind in run.kinds if kind in set(table["ablated_kind"])), None)
    if kind is None:
        return draft.absent("nothing that was knocked out has a routed MLP behind it.")
    room = shape(run.tables.repair, kind)
    draft.add(figures.two_ways_by_layer(table, figures.ROUTING, kind, layers=run.layers), room)
    draft.add(figures.moved_by_layer(table, figures.ROUTING, kind, layers=run.layers), room)
    return draft.finished(
        "A routed MLP can respond to a knock-out in two ways: the experts it asked anyway write something else, or its "
        "router asks others, or weighs them anew. The first chart splits its change into the two; the second shows "
        "how many of the experts asked are new.",
        [
            "Same experts: the changed state sent where the clean run sent it. Re-routed: what the changed routing "
            "adds to that. Both sum to the diamonds, over all routed MLPs behind the knock-out."
        ],
    )
