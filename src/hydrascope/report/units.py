"""The sections about single heads and single neurons, for runs that knock them out or keep them apart."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from hydrascope import figures
from hydrascope.analysis import ALL_MLPS, has_heads, has_neurons, head_answers, neuron_curves
from hydrascope.report.listing import Cell, Listing
from hydrascope.report.numbers import NONE, fixed, interval, number, percent
from hydrascope.report.section import Draft, Section, finished
from hydrascope.report.tables import Tables

CHOICES = 12
"""Most knock-outs that can be chosen in a chart of neurons."""
LISTED = 15
"""Neurons in the table."""


def heads(t: Tables) -> Section | None:
    """Every head: what it writes, what its loss costs, who repairs it; and how heads answer."""
    if not has_heads(t.apart.ds):
        return None
    table, draft, notes = t.apart.heads, Draft("heads"), []
    written, asked = table["direct_effect"].notna().any(), table["knocked_out"].any()
    if written:
        draft.add(figures.head_grid(table, "direct_effect"))
    if asked:
        if not written:
            draft.add(figures.head_grid(table, "own_change"))
        draft.add(figures.head_grid(table, "total_effect"))
        if table["meaningful"].any():
            draft.add(figures.head_grid(table, "restored_with_norm"))
            notes.append(
                "Shares restored count the final norm, are ratios of sums over prompts, and are given only where the "
                "head really lost something; what lies beyond the colours is in the table of numbers."
            )
        if not written:
            notes.append(
                "The account keeps attention layers whole, so the own change stands for a head’s direct effect; "
                "--writers heads keeps heads apart."
            )
    if written:
        found = head_answers(t.apart.ds, **t.apart.settings)
        if names := _choices(t, set(found["ablated"])):
            draft.add(figures.head_answers(found, table, names, t.featured))
    if asked:
        notes.append(_most_repaired(table))
    return finished(
        draft,
        "Head by head",
        "A row is a layer, a cell one of its heads: green adds to the answer’s logit or gives it back, purple takes "
        "from it; hover over a head for its other numbers and for who makes up for it.",
        notes=(" ".join(filter(None, notes)),) if any(notes) else (),
    )


def _most_repaired(table: pd.DataFrame) -> str:
    known = table[table["meaningful"] & (table["repairer"] != "")]
    if known.empty:
        return ""
    row = known.iloc[int(known["own_change"].abs().to_numpy().argmax())]
    return (
        f"The loss that weighs most is that of {row['head']}: own change {fixed(row['own_change'])}, total effect "
        f"{fixed(row['total_effect'])}, {percent(row['restored_with_norm'])} restored; no other writer makes up "
        f"for more of it than {row['repairer']} ({fixed(row['repairer_change'])})."
    )


def neurons(t: Tables) -> Section | None:
    """The neurons that answer, and how few of them carry the repair."""
    title = "Neuron by neuron"
    if not has_neurons(t.apart.ds):
        return None
    sparsity = _one_scope(t.apart.neuron_sparsity)
    if sparsity.empty:
        return Section("neurons", title, reason="no MLP whose neurons are kept apart comes after what was knocked out.")
    names = _choices(t, set(sparsity["ablated"]))
    shown = t.featured if t.featured in names else names[0]
    table = t.apart.neurons
    draft = Draft("neurons")
    draft.add(figures.neuron_scatter(table, names, shown))
    drawn = pd.concat([neuron_curves(t.apart.ds, name) for name in names], ignore_index=True)
    draft.add(figures.carried_by_few(drawn, names, shown))
    draft.add(figures.nth_neuron(drawn, names, shown))
    draft.add(figures.half_by_layer(sparsity, layers=t.layers))
    return finished(
        draft,
        title,
        "Each mark is one neuron, left of the upright line if it wrote against the answer in the clean run, above the "
        "level line if it now adds to it: anti-erasure, top left, lets go of what it held back; promotion, top right, "
        "newly writes for the answer.",
        notes=(_in_words(sparsity[sparsity["ablated"] == shown].iloc[0]),),
        listing=_listing(table[table["ablated"] == shown].head(LISTED), shown),
    )


def _one_scope(table: pd.DataFrame) -> pd.DataFrame:
    """One row per knock-out: all split MLPs together where several can answer."""
    several = set(table.loc[table["scope"] == ALL_MLPS, "ablated"])
    return table[(table["scope"] == ALL_MLPS) | ~table["ablated"].isin(several)]


def _choices(t: Tables, among: set[str]) -> list[str]:
    """Of the knock-outs that can be shown those that lose most, and the featured one, in the ledger's order."""
    rows = t.repair[t.repair["ablated"].isin(among)]
    most = set(rows.loc[rows["own_change"].abs().nlargest(CHOICES).index, "ablated"]) | ({t.featured} & among)
    return [str(name) for name in rows["ablated"] if name in most]


def _in_words(row: pd.Series[Any]) -> str:
    where = "the MLPs kept apart" if row["scope"] == ALL_MLPS else row["scope"]
    spread = interval(row["overlap_lo"], row["overlap_hi"])
    overlap = fixed(row["overlap"]) + ("" if spread == NONE else f" ({spread})")
    alike = (
        f" The sets that carry half overlap between two prompts by {overlap} on average (Jaccard index; "
        f"{number(row['overlap_chance'], 2)} by chance)."
        if math.isfinite(row["overlap"])
        else ""
    )
    return (
        f"Without {row['ablated']}, half of the repair by {where} is carried by {row['half']:g} of "
        f"{row['neurons']:,} neurons on the median prompt (quartiles {row['half_q1']:g} and {row['half_q3']:g}), 90 % "
        f"by {row['most']:g}; of the mean over prompts, half is carried by {row['half_of_mean']:,}. The strongest 1 % "
        f"carry {percent(row['top_share'])} on average, and {fixed(row['above_10'], 1)} neurons repair more than 10 % "
        f"of the own change each, {fixed(row['above_1'], 1)} more than 1 %.{alike} Dashed: half; bands and bars: "
        "quartiles over prompts."
    )


def _listing(table: pd.DataFrame, shown: str) -> Listing:
    places = 2 if table["change"].abs().max() >= 0.5 else 3

    def estimate(row: dict[Any, Any], name: str) -> Cell:
        small = interval(row[f"{name}_lo"], row[f"{name}_hi"], places)
        return Cell(fixed(row[name], places), float(row[name]), "" if small == NONE else small)

    rows = tuple(
        (
            Cell(str(row["neuron"]), i),
            Cell(str(row["class"]), i),
            estimate(row, "direct_effect"),
            estimate(row, "change"),
            *(
                Cell(fixed(row[part], places), float(row[part]))
                for part in ("relaxed", "promoted", "lost", "strengthened")
            ),
            Cell(percent(row["share_in_half"]), float(row["share_in_half"])),
        )
        for i, row in enumerate(table.to_dict("records"))
    )
    columns = ("neuron", "what it does", "direct effect", "change", "let go", "newly written", "lost", "held back more")
    return Listing(
        f"Of all neurons kept apart, the {len(rows)} that change most without {shown}: means over prompts in logits, "
        "with 95 % intervals in small print. The four parts are taken prompt by prompt and sum to the change; the last "
        "column is the share of prompts on which a neuron is among the fewest that carry half of the repair.",
        (*columns, "in the half"),
        rows,
        title="The neurons that move most",
    )
