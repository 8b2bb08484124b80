"""The sections of the report of a run over ordinary text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hydrascope import figures
from hydrascope.analysis import TOP_TOKENS as TOP
from hydrascope.analysis import WHOLE
from hydrascope.figures.texts import SELECTED
from hydrascope.report.attention import redistributed_on_text
from hydrascope.report.confirmation import confirmation
from hydrascope.report.listing import Cell, Listing
from hydrascope.report.numbers import NONE, fixed, interval, percent, summands, tied
from hydrascope.report.relatives import text_ablations, text_doses
from hydrascope.report.section import Draft, Section
from hydrascope.report.text_literature import QUARTERS as THERE
from hydrascope.report.text_literature import REFERENCES
from hydrascope.report.text_tables import QUARTERS, TextTables

NOTHING_REMOVED = "donors left the direct effect of everything that was knocked out as it was."
_GIVERS = {"attn": "attention", "mlp": "MLPs", "mixer": "mixers", "norm": "final norm", "bias": "biases"}
_MECHANISMS = {
    "suppression": "{} that wrote against the target",
    "promotion": "{} that wrote for it",
    "": "{}",
}


def repair(t: TextTables) -> Section:
    """Self-repair over relative depth, on the top tokens and on all."""
    title = "How much comes back, by depth"
    if t.repair_lines.empty:
        return Section("self-repair", title, reason=NOTHING_REMOVED, words=_words(t))
    draft = Draft("self-repair")
    for selection in SELECTED:
        draft.add(figures.repair_by_depth(t.repair, t.repair_lines, selection, n_layers=t.layers))
    notes = ["The two charts have scales of their own. " + _left_out(t)]
    if len(t.pooled):
        parts = int(t.pooled["parts"].iloc[0])
        notes.insert(0, f"The sum: means over {parts} {t.many} of the second half, on their top tokens, in logits.")
    return _finished(
        draft,
        title,
        f"Each point is one of the {t.many}: above zero the target’s logit falls by less than it directly lost, below "
        f"zero by more; the line joins the means of the layers. Left are {TOP} on which each matters most, right are "
        "all tokens.",
        notes=tuple(note for note in notes if note),
        equation=_equation(t),
        words=_words(t),
    )


def mechanisms(t: TextTables) -> Section:
    """Who gives back, and how."""
    title = "By which mechanism"
    if t.mechanism_lines.empty:
        return Section("mechanisms", title, reason=NOTHING_REMOVED)
    draft = Draft("mechanisms")
    for i, selection in enumerate(SELECTED):
        chart = figures.mechanisms_by_depth(t.mechanism_lines, selection, n_layers=t.layers, ways=i > 0)
        draft.add(chart)
    return _finished(
        draft,
        title,
        "Each bar is a layer’s parts knocked out one at a time, its colours what the rest gives back on average: full "
        "colours are writers that wrote against the target in the clean run (above zero they let go), pale ones those "
        "that wrote for it (above zero they write more); the diamond is the sum.",
        notes=(
            "The norm’s part is measured by re-reading the ablated stream with the clean and with the ablated scale, "
            "not left over from the others.",
        ),
        listing=_pooled_listing(t) if len(t.pooled) else None,
    )


def tokens(t: TextTables) -> Section:
    """Direct effect against the change of the logit, token by token."""
    draft = Draft("tokens")
    draft.add(figures.effect_against_change(t.points(), t.names, t.focus), "wide")
    return _finished(
        draft,
        "Token by token",
        "Each point is one token of the texts: on the dashed line its logit changes by exactly minus the direct "
        "effect, as if nobody answered; above the line the loss is repaired, below it more breaks.",
        notes=(
            "Drawn are all top tokens and an even selection of the others. The line is exact where the replacement "
            "takes the direct effect away altogether; a donor leaves or adds some of its own.",
        ),
    )


def norm(t: TextTables) -> Section:
    """The scale of the final norm."""
    draft = Draft("norm")
    draft.add(figures.norm_ratio(t.bins(), t.names, t.focus), "wide")
    rows = t.repair[(t.repair["ablated"] == t.focus) & (t.repair["selection"] == "top")]
    share = float(rows["share_norm_shrinks"].iloc[0])
    return _finished(
        draft,
        "What the final norm does",
        "Right of the line the stream is smaller without the part, so the norm makes more of everything that is left; "
        "left of it less.",
        notes=(
            f"Without {t.focus} this holds on {percent(share)} of its top tokens. What lies far out is counted in "
            "the outermost bars.",
        ),
    )


def comparison(t: TextTables) -> Section:
    """The run beside the published models, by depth."""
    here = [Cell(str(t.ds.attrs["model_name"]) + " (this run)", -1.0), *map(_share, t.quarters())]
    rows = [tuple(here)]
    rows += [(Cell(name, i), *map(_share, values)) for i, (name, values) in enumerate(THERE.items())]
    return _finished(
        Draft("comparison"),
        "Beside the literature",
        f"Each number is the share of the loss that comes back on top tokens, all {t.many} of a stretch of layers "
        "together; negative where loss brings more loss.",
        notes=(
            "Ratios of sums over parts and tokens, unclipped. Published models: heads with one donor, self-repair over "
            "direct effect, from the authors’ result files; this run: over what was really lost.",
        ),
        listing=Listing(
            "The last layer is part of the last quarter; the last column leaves it out.",
            ("model", *QUARTERS),
            tuple(rows),
            title="Share restored by depth",
        ),
    )


def heads_listing(t: TextTables) -> Listing:
    """One row per knock-out: its account on the top tokens, and beside it what all tokens say."""
    top, every = (t.repair[t.repair["selection"] == selection] for selection in ("top", "all"))
    total = len(top)
    top = top.loc[top["self_repair"].abs().nlargest(ROWS).index]
    answers = [name for name in _GIVERS if f"repair_{name}" in top]
    shown = {"direct_effect": "direct effect", "own_change": "own change", "total_effect": "total effect"}
    shown |= {"self_repair": "self-repair"} | {f"repair_{name}": _GIVERS[name] for name in answers}
    columns = ("knocked out", *shown.values(), "restored", "median", "on all: total effect", "on all: self-repair")
    order = {str(name): i for i, name in enumerate(t.ds["ablated"].values)}
    rows = []
    beside = {str(row["ablated"]): row for row in every.to_dict("records")}
    for row in top.to_dict("records"):
        name = str(row["ablated"])
        cells = [Cell(name, order[name]), *(_estimate(row, column) for column in shown)]
        cells.append(_restored(row) if row["meaningful"] else Cell(NONE, math.nan))
        cells.append(_share(row["restored_median"]) if row["meaningful"] else Cell(NONE, math.nan))
        rows.append((*cells, *(_estimate(beside[name], column) for column in ("total_effect", "self_repair"))))
    caption = (
        f"Means over each part’s top tokens ({TOP} with the largest direct effect), ablated minus clean, in logits of "
        "the text’s next token, with 95 % intervals in small print; the last two columns are of all tokens. Own change "
        "and self-repair sum to the total effect. “Median” is that of single tokens’ shares. No share where donors "
        "left the part in place. Press a heading to sort."
    )
    if total > ROWS:
        caption += f" The {ROWS} of {total:,} with the largest self-repair are listed."
    return Listing(caption, columns, tuple(rows))


def _pooled_listing(t: TextTables) -> Listing:
    rows = []
    mechanisms = list(dict.fromkeys(t.pooled["mechanism"]))
    by_name = {(row["selection"], row["mechanism"]): row for row in t.pooled.to_dict("records")}
    for i, mechanism in enumerate(mechanisms):
        cells = [Cell("all together" if mechanism == WHOLE else _named(mechanism), i)]
        for selection in SELECTED:
            row = by_name[(selection, mechanism)]
            cells.append(_estimate(row, "mean", 3))
            cells.append(_restored(row, "share") if row["meaningful"] else Cell(NONE, math.nan))
        rows.append(tuple(cells))
    parts = int(t.pooled["parts"].iloc[0])
    return Listing(
        f"Means over {parts} {t.many} of the second half and their tokens, in logits, and shares of what they lost "
        "(ratios of sums, unclipped); no share where gains and losses of the parts themselves cancel.",
        ("mechanism", "top tokens", "share", "all tokens", "share of all"),
        tuple(rows),
        title="The second half of the layers together",
    )


def _named(mechanism: str) -> str:
    giver, _, way = mechanism.partition("_")
    return _MECHANISMS[way].format(_GIVERS[giver])


def _equation(t: TextTables) -> tuple[tuple[str, str], ...]:
    if t.pooled.empty:
        return ()
    rows = t.pooled[t.pooled["selection"] == "top"].set_index("mechanism")
    given = {
        label: float(rows.loc[[name for name in rows.index if name.split("_")[0] == giver], "mean"].sum())
        for giver, label in _GIVERS.items()
        if any(name.split("_")[0] == giver for name in rows.index)
    }
    own = float(rows["own_change"].iloc[0])
    values = [own, *given.values()]
    names = ["own change", *given]
    total = own + float(rows["mean"][WHOLE])
    return (*zip(names, summands(values, 3), strict=True), ("total effect", f"= {fixed(total, 3)}"))


def _words(t: TextTables) -> tuple[tuple[str, str], ...]:
    return (
        ("target", "the token that the text really goes on with, at every position that was read"),
        (
            "direct effect",
            "what a part’s output adds to the target’s logit when the unembedding reads it, everything else fixed",
        ),
        ("own change", "what the knocked-out part itself writes less once its output is replaced"),
        (
            "self-repair",
            "how much less the target’s logit falls than the part itself takes away: total effect minus own",
        ),
        ("top tokens", f"{TOP} on which the part’s direct effect is largest, chosen in the clean run"),
    )


def _left_out(t: TextTables) -> str:
    kept = int((~t.repair.loc[t.repair["selection"] == "top", "removed"]).sum())
    return f"{kept} of the {t.many} are left out because donors did not remove them." if kept else ""


def _estimate(row: Any, name: str, places: int = 2) -> Cell:
    small = interval(row[f"{name}_lo"], row[f"{name}_hi"], places)
    return Cell(fixed(row[name], places), float(row[name]), "" if small == NONE else small)


def _restored(row: Any, name: str = "restored") -> Cell:
    low, high = percent(row[f"{name}_lo"]), percent(row[f"{name}_hi"])
    small = "" if NONE in (low, high) else f"{low.rstrip('%').rstrip()} to {high}"
    return Cell(percent(row[name]), float(row[name]), small)


def _share(value: float) -> Cell:
    return Cell(percent(value), float(value))


def _finished(draft: Draft, title: str, how: str, **more: Any) -> Section:
    references = tuple(replace(reference, text=tied(reference.text)) for reference in REFERENCES[draft.slug])
    return Section(draft.slug, title, tied(how), draft.panels(), references, **more)


ROWS = 200
"""Most rows of the table."""

SECTIONS: tuple[Callable[[TextTables], Section | None], ...] = (
    repair,
    mechanisms,
    redistributed_on_text,
    tokens,
    norm,
    comparison,
    confirmation,
    text_doses,
    text_ablations,
)
"""The sections in the order of the page; None is one that the run did not ask for."""
