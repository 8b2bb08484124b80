"""Sections on direct and total effects over prompts."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from hydrascope import figures
from hydrascope.analysis import compensation_points, effect_points, prompt_view
from hydrascope.report._listing import Row
from hydrascope.report._run import Run
from hydrascope.report._section import Draft, Section

FEW = 3
"""Fewest prompts for a line through them."""
VIEWS = 3
"""Single prompts shown: largest, median and smallest compensation."""
IN_VIEW = 12
"""Most knock-outs that can be chosen for a single prompt."""
_NO_WHOLE_WRITERS = "no whole attention layer or MLP was knocked out on its own in this run."


def effects(run: Run) -> Section | None:
    """Direct and total effects over depth, or of single units other than heads."""
    if run.of_tokens:
        return None
    table = run.tables.layer_effects
    if table.empty:
        return _unit_effects(run)
    draft = Draft("effects", "Direct and total effect, layer by layer")
    draft.add(figures.effect_by_layer(table, "direct_effect", layers=run.layers, unit=run.unit))
    draft.add(figures.effect_by_layer(table, "drop", layers=run.layers, legend=False, unit=run.unit))
    return draft.finished(
        f"The first chart shows how much each layer’s output adds to the {run.quantity.answer} when the unembedding "
        "reads it alone, the second how much that falls when the output is replaced: without any compensation both "
        "would be alike.",
        [bands(run)],
    )


def _unit_effects(run: Run) -> Section:
    draft, table = Draft("effects", "Own change and total effect, part by part"), run.tables.repair
    if "head" in run.kinds or not figures.has_unit_grid(table):
        return Draft("effects", "Direct and total effect, layer by layer").absent(_NO_WHOLE_WRITERS)
    draft.add(figures.unit_grid(table, "own_change"))
    draft.add(figures.unit_grid(table, "total_effect"))
    if "compensation_attn" in table:
        draft.add(figures.unit_grid(table, "compensation_attn"))
    note = "The ledger knows the direct effect of a whole layer, so the own change stands for it here."
    if table["meaningful"].any():
        draft.add(figures.unit_grid(table, "restored_with_norm"))
        note += (
            " Shares are ratios of sums over prompts, given only where the part really lost something; what lies "
            "beyond the colours is in the table."
        )
    return draft.finished(
        f"Each cell is one knock-out, layers downwards: purple, the {run.quantity.answer} falls; green, it rises. Own "
        "change is what the part itself no longer writes, total effect what the output shows in the end.",
        [note],
    )


def agreement(run: Run) -> Section | None:
    """Whether the direct effect predicts the total effect."""
    if run.of_tokens:
        return None
    draft = Draft("agreement", "Total effect against direct effect")
    table = run.tables.layer_effects
    if table.empty:
        return draft.absent(_NO_WHOLE_WRITERS)
    if run.ds.sizes["prompt"] < FEW:
        return draft.absent(f"agreement over prompts needs {FEW} prompts or more.")
    points = effect_points(run.tables.ds)
    draft.add(figures.direct_against_total(points), "tall")
    draft.add(figures.agreement_by_layer(table, "r2", layers=run.layers, legend=False))
    draft.add(figures.agreement_by_layer(table, "share_exceeds", layers=run.layers, legend=False))
    return draft.finished(
        "Each point is one prompt and one layer; below the dashed line the output loses less than the direct effect "
        "promises, as it does when others compensate.",
        [bands(run), thinned(len(points))],
    )


def prompts(run: Run) -> Section | None:
    """Single prompts, clean and knocked out."""
    if run.of_tokens:
        return None
    draft, shown_views = Draft("prompts", "Single prompts"), views(run, run.strongest(IN_VIEW))
    shown = (next(text for text, _ in shown_views), run.focus)
    draft.add(figures.prompt_views(shown_views, layers=run.layers, shown=shown, unit=run.unit), "wide")
    count = len({text for text, _ in shown_views})
    which = {2: "larger and the smaller"}.get(count, "largest, the median and the smallest")
    rule = f"The prompts are those with the {which} compensation without {run.focus}."
    donors = int(run.ds.attrs["donors"])
    band = f"Bands: ± one standard deviation over {donors} donors." if donors > 1 else "One donor, so no band."
    if run.tables is not run.findings:
        band += " There is none for layers that the account keeps unit by unit."
    return draft.finished(
        "Dashed is what every layer writes for the answer in the clean run, solid the same with one part knocked out "
        "(dotted upright): where solid rises above dashed, a layer compensates.",
        [f"{'This is the only prompt.' if count == 1 else rule} {band}"],
    )


def views(run: Run, names: Sequence[str]) -> dict[tuple[str, str], pd.DataFrame]:
    """Prompt in words and knock-out, one of `names`, to the table of `analysis.prompt_view`."""
    ds = run.tables.ds
    points = compensation_points(ds, run.focus).sort_values("compensation", ascending=False)
    ranks = figures.evenly(len(points), VIEWS)
    return {
        (_in_words(row), name): prompt_view(ds, row["prompt"], name)
        for row in points.iloc[ranks].to_dict("records")
        for name in names
    }


def _in_words(row: Row, most: int = 72) -> str:
    """A prompt on one line: its number, the end of its text, its answer."""
    text = " ".join(str(row["text"]).split())
    text = text if len(text) <= most else f"…{text[-most:]}"
    return f"#{row['prompt']}  {text} → {str(row['target']).strip()}"


def bands(run: Run) -> str:
    """What the bands of a chart are, in words."""
    if run.tables.repair["own_change_lo"].isna().all():
        return "There are too few prompts for intervals."
    return "Bands are 95 % intervals over independent groups of prompts."


def thinned(count: int) -> str:
    """A sentence on the points that a chart leaves out, if it does."""
    if count <= figures.MARKS:
        return ""
    return f"The picture shows an even selection of {count:,} points; every statistic uses all."
