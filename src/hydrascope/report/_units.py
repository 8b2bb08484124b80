"""Sections on single heads and single neurons."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from hydrascope import figures
from hydrascope.analysis import ALL_MLPS, has_heads, has_neurons, neuron_curves
from hydrascope.report._listing import Cell, Listing, Row, estimate, listed, named
from hydrascope.report._numbers import NONE, fixed, interval, number, percent
from hydrascope.report._run import Run
from hydrascope.report._section import Draft, Section

CHOICES = 12
"""Most knock-outs that can be chosen in a chart of neurons."""
LISTED = 15
"""Most neurons in the table."""


def heads(run: Run) -> Section | None:
    """What every head writes, what its loss costs, who compensates; how heads respond."""
    findings = run.findings
    if run.of_tokens or not has_heads(run.ds):
        return None
    table, draft, notes = findings.heads, Draft("heads", "Head by head"), []
    written, asked = table["direct_effect"].notna().any(), table["knocked_out"].any()
    if written or asked:
        draft.add(figures.head_grid(table, "direct_effect" if written else "own_change"))
    if asked:
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
        found = run.head_answers
        if names := run.strongest(CHOICES, set(found["ablated"])):
            draft.add(figures.head_answers(found, table, names, run.focus))
    if asked:
        notes.append(_most_repaired(table))
    return draft.finished(
        "A row is a layer, a cell one of its heads: green adds to the answer’s logit or compensates, purple takes from "
        "it; hover over a head for its other numbers and for who compensates for it.",
        [" ".join(filter(None, notes))],
    )


def _most_repaired(table: pd.DataFrame) -> str:
    known = table[table["meaningful"] & (table["repairer"] != "")]
    if known.empty:
        return ""
    row = known.iloc[int(known["own_change"].abs().to_numpy().argmax())]
    return (
        f"The loss that weighs most is that of {row['head']}: own change {fixed(row['own_change'])}, total effect "
        f"{fixed(row['total_effect'])}, {percent(row['restored_with_norm'])} restored; no other writer "
        f"compensates for more of it than {row['repairer']} ({fixed(row['repairer_change'])})."
    )


def neurons(run: Run) -> Section | None:
    """Neurons that respond, and how few of them carry the self-repair."""
    if run.of_tokens or not has_neurons(run.ds):
        return None
    draft, sparsity = Draft("neurons", "Neuron by neuron"), one_scope(run.findings.neuron_sparsity)
    if sparsity.empty:
        return draft.absent("no MLP whose neurons are kept apart comes after what was knocked out.")
    names = run.strongest(CHOICES, set(sparsity["ablated"]))
    shown, table = run.first(names), run.findings.neurons
    drawn = pd.concat([neuron_curves(run.ds, name) for name in names], ignore_index=True)
    draft.add(figures.neuron_scatter(table, names, shown))
    draft.add(figures.carried_by_few(drawn, names, shown))
    draft.add(figures.nth_neuron(drawn, names, shown))
    draft.add(figures.half_by_layer(sparsity, layers=run.layers))
    return draft.finished(
        "Each mark is one neuron, left of the upright line if it wrote against the answer in the clean run, above the "
        "level line if it now adds to it: anti-erasure, top left, lets go of what it held back; promotion, top right, "
        "newly writes for the answer.",
        [_in_words(sparsity[sparsity["ablated"] == shown].iloc[0])],
        listing=_listing(table[table["ablated"] == shown].head(LISTED), shown),
    )


def one_scope(table: pd.DataFrame) -> pd.DataFrame:
    """One row per knock-out: all split MLPs together where several can respond."""
    several = set(table.loc[table["scope"] == ALL_MLPS, "ablated"])
    return table[(table["scope"] == ALL_MLPS) | ~table["ablated"].isin(several)]


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
    order = named(table, "neuron")

    def part(name: str) -> Callable[[Row], Cell]:
        return lambda row: Cell(fixed(row[name], places), float(row[name]))

    return listed(
        table,
        {
            "neuron": order,
            "what it does": lambda row: Cell(str(row["class"]), order(row).value),
            "direct effect": estimate("direct_effect", places),
            "change": estimate("change", places),
            "let go": part("relaxed"),
            "newly written": part("promoted"),
            "lost": part("lost"),
            "held back more": part("strengthened"),
            "in the half": lambda row: Cell(percent(row["share_in_half"]), float(row["share_in_half"])),
        },
        f"Of all neurons kept apart, the {len(table)} that change most without {shown}: means over prompts in logits, "
        "with 95 % intervals in small print. The four parts are taken prompt by prompt and sum to the change; the last "
        "column is the share of prompts on which a neuron is among the fewest that carry half of the repair.",
        f"The neurons that move most without {shown}",
    )
