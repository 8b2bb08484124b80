"""The findings of a run in plain sentences, each chosen by the numbers that it states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import telling
from hydrascope.analysis.confirming import tell_confirmation
from hydrascope.analysis.findings import Findings
from hydrascope.analysis.question import AttentionAnswers, Finding, Row, ask_attention, find
from hydrascope.analysis.statistics import DRAWS
from hydrascope.analysis.wording import count, digits


@dataclass(frozen=True)
class Verdict:
    """What a run shows; of ordinary text, see `analysis.text_verdict`.

    Attributes:
        finding: `repair`: later attention makes up for at least one attention layer (or head,
            where no attention layer was knocked out by itself); `breakage`:
            for none, and after at least one it makes things worse; `none`: neither can be told
            from chance; `nothing lost`: no attention knock-out clearly lowers the target directly;
            `too few prompts`: fewer than six independent groups; `not tested`: no attention layer
            with attention after it was knocked out.
        headline: the finding in one sentence.
        focus: the knock-out that the sentences describe: the strongest finding, or else the
            largest own change.
        leading: what was lost, who answered, how it grows, what late MLPs do; one fact each.
        details: what supports and limits that.
        numbers: every number that the sentences use, by name; all finite.
    """

    finding: Finding
    headline: str
    focus: str
    leading: tuple[str, ...]
    details: tuple[str, ...]
    numbers: dict[str, telling.Number]

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of them, leading ones first."""
        return (*self.leading, *self.details)


def verdict(ds: xr.Dataset | Findings, *, draws: int = DRAWS, seed: int = 0) -> Verdict:
    """State what a ledger shows, in sentences that hold whatever the signs are.

    Args:
        ds: the ledger, or its tables where they are at hand, with their draws.
        draws: bootstrap draws.
        seed: of the draws.

    Returns:
        The verdict.
    """
    findings = ds if isinstance(ds, Findings) else Findings(ds, draws, seed)
    ds, resampling, table = findings.ds, findings.resampling, findings.repair
    attention = ask_attention(ds, table, resampling)
    finding, strongest = find(attention)
    focus = _focus(table, attention, strongest)

    told = telling.Told(ds, focus, resampling)
    told.number("prompts", ds.sizes["prompt"])
    told.number("groups", resampling.units)
    telling.tell_account(told, attention)
    telling.tell_control(told)
    telling.tell_responders(told, findings.who_repairs, findings.concentration)
    tell_confirmation(told, findings.freeze)
    telling.tell_shares(told)
    telling.tell_line(told)
    telling.tell_other_layers(told, attention, finding)
    telling.tell_late_mlps(told, findings)
    telling.tell_distribution(told, table)
    telling.tell_closing(told, findings.closing)
    telling.tell_donors(told)
    telling.tell_caution(told)
    headline = _headline(finding, strongest, told, attention)
    return Verdict(finding, headline, told.ablated, tuple(told.leading), tuple(told.details), told.numbers)


def _focus(table: pd.DataFrame, attention: AttentionAnswers, strongest: Row | None) -> Row:
    if strongest is not None:
        return table.loc[strongest.row]
    asked = attention.table
    rows = np.arange(len(table)) if asked.empty else asked["row"].to_numpy()
    size = table["own_change"].abs().to_numpy()[rows]
    return table.loc[rows[int(size.argmax())]]


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _headline(finding: Finding, strongest: Row | None, told: telling.Told, attention: AttentionAnswers) -> str:
    prompts, noun, resampling = count(told.ds.sizes["prompt"], "prompt"), attention.noun, told.resampling
    if strongest is not None and finding == "repair":
        top, change = told.numbers.get("top_responder"), told.numbers.get("top_responder_change", 0.0)
        most = isinstance(change, float) and change > strongest.answer / 2
        return (
            f"With {strongest.ablated} knocked out, later attention gives back {digits(strongest.answer)} "
            f"logits for the {digits(-strongest.own)} lost{f', most of it through {top}' if most else ''}."
        )
    if strongest is not None:
        return (
            f"No clear loss of {_a(noun)} is repaired by later attention; with "
            f"{strongest.ablated} knocked out ({digits(-strongest.own)} logits lost), later attention loses "
            f"a further {digits(-strongest.answer)}."
        )
    if finding == "none":
        return f"No clear loss of {_a(noun)} is repaired by later attention beyond chance, in {prompts}."
    if finding == "nothing lost":
        return (
            f"No {noun} that was knocked out clearly lowers the {told.quantity.subject} directly, so there is no loss "
            f"that later attention could repair, in {prompts}."
        )
    if finding == "too few prompts":
        groups = f" in {count(resampling.units, 'group')}" if resampling.by_group else ""
        return f"We cannot tell from {prompts}{groups} whether later attention repairs anything."
    return (
        f"No {noun} with attention after it was knocked out by itself, so this run says nothing "
        "about repair by attention."
    )
