"""The sections of the report that show something: their figures, words and references.

Each section is made from the ledger's tables. A section with nothing to show keeps its place and says why.
"""

from __future__ import annotations

from collections.abc import Callable

from hydrascope import figures
from hydrascope.analysis import Quantity, effect_points
from hydrascope.report.attention import redistributed
from hydrascope.report.confirmation import confirmation
from hydrascope.report.numbers import fixed, number, summands
from hydrascope.report.relatives import ablations, doses
from hydrascope.report.section import Draft, Section, finished
from hydrascope.report.tables import Tables
from hydrascope.report.units import heads, neurons


def balance(t: Tables) -> Section:
    """The account of one knock-out, in a chart and in numbers."""
    draft = Draft("balance")
    draft.add(figures.balance(t.repair, t.featured, unit=t.quantity.axis), "wide")
    steps = figures.balance_steps(t.repair)
    steps = steps[steps["ablated"] == t.featured]
    *parts, total = (float(value) for value in steps["value"])
    names = [str(name) for name in steps["part"]]
    terms = [*zip(names[:-1], summands(parts, 3), strict=True), (names[-1], f"= {fixed(total, 3)}")]
    left = abs(sum(parts) - total)
    return finished(
        draft,
        "The balance of one knock-out",
        "The first bar is what the knocked-out part itself no longer writes; each bar below starts where the one "
        "above ended, and the last, measured on its own at the model’s output, ends where they end.",
        equation=tuple(terms),
        notes=(
            f"Means over {t.ds.sizes['prompt']:,} prompts, in {t.quantity.axis}, for {t.featured}; the sum "
            f"misses the measured total by {number(left, 2)}. Any other knock-out can be chosen.",
        ),
        words=_words(t.quantity),
    )


def effects(t: Tables) -> Section:
    """Direct and total effects over the layers, or of every unit but heads, which have a section of their own."""
    if t.effects.empty:
        grid = figures.has_unit_grid(t.repair) and "head" not in t.kinds
        return _unit_effects(t) if grid else Section("effects", EFFECTS, reason=NO_WHOLE_WRITERS)
    draft = Draft("effects")
    draft.add(figures.effect_by_layer(t.effects, "direct_effect", layers=t.layers, unit=t.quantity.axis))
    draft.add(figures.effect_by_layer(t.effects, "drop", layers=t.layers, legend=False, unit=t.quantity.axis))
    return finished(
        draft,
        EFFECTS,
        f"The first chart shows how much each layer’s output adds to the {t.quantity.answer} when the unembedding "
        "reads it alone, the second how much that falls when the output is replaced: if nothing answered, "
        "both would be alike.",
        notes=(_bands(t),),
    )


def _unit_effects(t: Tables) -> Section:
    draft = Draft("effects")
    draft.add(figures.unit_grid(t.repair, "own_change"))
    draft.add(figures.unit_grid(t.repair, "total_effect"))
    if "compensation_attn" in t.repair:
        draft.add(figures.unit_grid(t.repair, "compensation_attn"))
    notes = ["The ledger knows the direct effect of a whole layer, so the own change stands for it here."]
    if t.repair["meaningful"].any():
        draft.add(figures.unit_grid(t.repair, "restored_with_norm"))
        notes.append(
            "Shares are ratios of sums over prompts, given only where the part really lost something; "
            "what lies beyond the colours is in the table."
        )
    return finished(
        draft,
        UNIT_EFFECTS,
        f"Each cell is one knock-out, layers downwards: purple, the {t.quantity.answer} falls; green, it rises. Own "
        "change "
        "is what the part itself no longer writes, total effect what the output shows in the end.",
        notes=(" ".join(notes),),
    )


def agreement(t: Tables) -> Section:
    """Whether the direct effect tells what a knock-out costs."""
    if t.effects.empty:
        return Section("agreement", AGREEMENT, reason=NO_WHOLE_WRITERS)
    if t.ds.sizes["prompt"] < FEW:
        return Section("agreement", AGREEMENT, reason=f"agreement over prompts needs {FEW} prompts or more.")
    draft = Draft("agreement")
    points = effect_points(t.ds)
    draft.add(figures.unembed_against_drop(points), "tall")
    draft.add(figures.agreement_by_layer(t.effects, "r2", layers=t.layers))
    draft.add(figures.agreement_by_layer(t.effects, "share_exceeds", layers=t.layers))
    return finished(
        draft,
        AGREEMENT,
        "Each point is one prompt and one layer; below the dashed line a knock-out costs less than the direct "
        "effect promises, as it does when something makes up for the loss.",
        notes=(_bands(t), *_thinned(len(points), figures.MARKS, "points")),
    )


def prompts(t: Tables) -> Section:
    """Single prompts, clean and knocked out."""
    draft = Draft("prompts")
    views = t.views()
    shown = (next(text for text, _ in views), t.featured)
    draft.add(figures.prompt_views(views, layers=t.layers, shown=shown, unit=t.quantity.axis), "wide")
    count = len({text for text, _ in views})
    three = f"The prompts are those with the largest, the median and the smallest compensation without {t.featured}."
    two = f"The prompts are those with the larger and the smaller compensation without {t.featured}."
    rule = {1: "This is the only prompt.", 2: two}.get(count, three)
    donors = int(t.ds.attrs["donors"])
    band = f"Bands: ± one standard deviation over {donors} donors." if donors > 1 else "One donor, so no band."
    if t.apart is not t.findings:
        band += " There is none for layers that the account keeps unit by unit."
    return finished(
        draft,
        "One prompt at a time",
        "Dashed is what every layer writes for the answer in the clean run, solid the same with one part knocked "
        "out (dotted upright): where solid rises above dashed, a layer makes up for the loss.",
        notes=(f"{rule} {band}",),
    )


def compensation(t: Tables) -> Section:
    """Compensation against loss over prompts."""
    title = "Does more loss bring more help?"
    if t.ds.sizes["prompt"] < FEW:
        return Section("compensation", title, reason=f"a line over prompts needs {FEW} prompts or more.")
    draft = Draft("compensation")
    clouds = t.clouds()
    draft.add(figures.compensation_against_loss(clouds, t.repair, shown=t.featured), "tall")
    draft.add(figures.slope_by_layer(t.repair, "restoring_slope", layers=t.layers))
    draft.add(figures.slope_by_layer(t.repair, "r2", layers=t.layers, legend=False))
    null = int(t.ds.attrs.get("null_draws", 0)) > 0 and "null_change" in t.ds
    control = (
        "Hollow marks: the same part moved by a random vector of the same length; only what exceeds them is an "
        "answer to what was lost."
        if null
        else "The run has no random-direction control, so a slope may be partly the read-out saturating."
    )
    return finished(
        draft,
        title,
        "Each point is one prompt: across, what the knocked-out part lost; upwards, what all others gave back "
        "without the norm; on the dashed line the loss is made good, and the slope of the solid one is the share "
        "that comes back.",
        notes=(
            f"{control} {_bands(t)} {BEYOND}" if figures.is_curve(t.repair) else f"{control} {BEYOND}",
            *_thinned(len(clouds), figures.MARKS, "points"),
        ),
    )


def kinds(t: Tables) -> Section:
    """Who answers, by kind, over depth."""
    draft = Draft("kinds")
    for i, kind in enumerate(t.kinds):
        chart = figures.parts_by_layer(t.repair, kind, layers=t.layers, legend=i == 0, unit=t.quantity.axis)
        draft.add(chart, _shape(t, kind))
    told = [kind for kind in t.kinds if (t.repair["meaningful"] & (t.repair["ablated_kind"] == kind)).any()]
    alone = "wide" if len(told) < len(t.kinds) else ""
    for i, kind in enumerate(told):
        chart = figures.restored_by_layer(t.repair, kind, layers=t.layers, legend=i == 0)
        draft.add(chart, _shape(t, kind) or alone)
    notes = [
        "The short line across a bar is what was lost (below zero where the part wrote against the answer); a "
        "bar that reaches it has made the loss good."
    ]
    if told:
        notes.append(
            "Shares are ratios of sums over prompts, given only where the part was really removed and lost "
            "something; what lies beyond the axis is in the table."
        )
    else:
        notes.append("Shares are left out: no knock-out lost enough for a ratio to mean anything.")
    return finished(
        draft,
        "Who makes up for it, by depth",
        "Each bar is one knock-out, its colours the answers of later attention layers, later MLPs and the final "
        "norm; below, the share of the loss that comes back, counted with and without the norm.",
        notes=(" ".join(notes),),
    )


def who(t: Tables) -> Section:
    """The heat map of answers."""
    title = "Who answers whom"
    answers = t.who[~t.who["is_own"]] if len(t.who) else t.who
    if answers.empty:
        return Section(
            "responders",
            title,
            reason="nothing that was knocked out has an attention layer or MLP behind it.",
        )
    draft = Draft("responders")
    there = [kind for kind in ("attn", "mlp", "mixer") if kind in set(answers["writer_kind"])]
    for i, kind in enumerate(there):
        draft.add(figures.who_repairs(t.who, kind, legend=i == 0), "wide" if len(there) == 1 else "")
    shown, all_rows = len(figures.rows_shown(t.who)), t.who["ablated"].nunique()
    notes = [
        "Dots: different from zero after correction over all cells. Plain grey: the knocked-out part itself. A cell is "
        "what a layer writes on the answer directly: it shows who changed, not who was needed."
    ]
    if shown < all_rows:
        notes.append(f"The {shown} of {all_rows} knock-outs with the strongest answers are shown.")
    return finished(
        draft,
        title,
        "A row is a knock-out, a column a layer that can answer: green, it writes more for the answer than in "
        "the clean run; purple, less; empty, it comes earlier and cannot answer.",
        notes=(" ".join(notes),),
    )


def erased(t: Tables) -> Section:
    """Erasure by late MLPs."""
    title = "Do late MLPs hold back?"
    if t.late_mlps.empty:
        return Section("erasure", title, reason="the ledger has no MLP in the second half of the model.")
    draft = Draft("erasure")
    draft.add(figures.late_mlp_effects(t.late_mlps, layers=t.layers, unit=t.quantity.axis))
    kind = next((kind for kind in t.kinds if len(t.released) and kind in set(t.released["ablated_kind"])), None)
    if kind:
        draft.add(figures.released_by_layer(t.released, kind, layers=t.layers), _shape(t, kind))
    return finished(
        draft,
        title,
        "The first chart is what MLPs of the second half write in the clean run, against the answer where below "
        "zero; the second is how that changes under each knock-out, where letting go of what was held back (dark "
        "green) is not the same as newly writing for the answer (pale green).",
        notes=("Noise alone fills both green and purple, so read the diamonds: the sums.",),
    )


def routed(t: Tables) -> Section | None:
    """Same experts against re-routed ones; only in reports of models that route."""
    if not t.routes:
        return None
    title = "Same experts, or others?"
    kind = next((kind for kind in t.kinds if kind in set(t.routing["ablated_kind"])), None)
    if kind is None:
        return Section("routing", title, reason="nothing that was knocked out has a routed MLP behind it.")
    draft = Draft("routing")
    draft.add(figures.rerouted_by_layer(t.routing, kind, layers=t.layers), _shape(t, kind))
    draft.add(figures.routing_change_by_layer(t.routing, kind, layers=t.layers), _shape(t, kind))
    return finished(
        draft,
        title,
        "A routed MLP can answer a knock-out in two ways: the experts it asked anyway write something else, or its "
        "router asks others, or weighs them anew. The first chart splits its change into the two; the second shows "
        "how many of the experts asked are new.",
        notes=(
            "Same experts: the changed state sent where the clean run sent it. Re-routed: what the changed routing "
            "adds to that. Both sum to the diamonds, over all routed MLPs behind the knock-out.",
        ),
    )


def _words(quantity: Quantity) -> tuple[tuple[str, str], ...]:
    return (
        (
            "direct effect",
            f"what a part’s output adds to the {quantity.answer} when the unembedding reads it, everything else fixed",
        ),
        ("own change", "what the knocked-out part itself writes less once its output is replaced"),
        ("compensation", "what all later attention layers and MLPs write more, or less, than in the clean run"),
        ("final norm", "what the last normalisation adds by scaling everything differently"),
        ("total effect", f"how much the {quantity.answer} changes in the end: the sum of all of these"),
    )


def _shape(t: Tables, kind: str) -> str:
    """Knock-outs placed by address need room for their names."""
    table = t.repair[t.repair["ablated_kind"] == kind]
    return "" if figures.is_curve(table) or len(table) <= ROOM else "wide"


def _bands(t: Tables) -> str:
    if t.repair["own_change_lo"].isna().all():
        return "There are too few prompts for intervals."
    return "Bands are 95 % bootstrap intervals over prompts."


def _thinned(count: int, most: int, what: str) -> tuple[str, ...]:
    return (
        (f"The picture shows an even selection of {count:,} {what}; every statistic uses all.",) if count > most else ()
    )


BEYOND = "What lies beyond an axis is in the table of numbers."
FEW = 3
"""Fewest prompts for a line through them."""
ROOM = 8
"""Names that fit under half a row."""
EFFECTS = "Direct and total effect, layer by layer"
UNIT_EFFECTS = "Loss and total effect, part by part"
AGREEMENT = "Does the direct effect tell the cost?"
NO_WHOLE_WRITERS = "no whole attention layer or MLP was knocked out on its own in this run."

SECTIONS: tuple[Callable[[Tables], Section | None], ...] = (
    balance,
    effects,
    heads,
    agreement,
    prompts,
    compensation,
    kinds,
    who,
    confirmation,
    erased,
    neurons,
    redistributed,
    routed,
    doses,
    ablations,
)
"""The sections in the order of the page; None is one that the run did not ask for."""
