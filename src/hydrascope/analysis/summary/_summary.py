"""The list of sentences, and the headline."""

from __future__ import annotations

from dataclasses import dataclass

from hydrascope._card import card
from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._findings import Findings
from hydrascope.analysis.summary import _support, _texts, _trust, _verdict
from hydrascope.analysis.summary._told import Finding, Number, Tell, Told
from hydrascope.analysis.summary._words import a, count, digits, noun, percent, spread

SENTENCES: tuple[Tell, ...] = (
    _verdict.tell_counts,
    _verdict.tell_clearest,
    _verdict.tell_hydra,
    _verdict.tell_next,
    _verdict.tell_hidden,
    _support.tell_responder,
    _support.tell_freeze,
    _support.tell_line,
    _support.tell_kept,
    _support.tell_gains,
    _support.tell_late_mlps,
    _support.tell_claims,
    _support.tell_distribution,
    _texts.tell_mechanisms,
    _texts.tell_all_tokens,
    _texts.tell_kept_on_texts,
    _texts.tell_norm,
    _trust.tell_closing,
    _trust.tell_donors,
    _trust.tell_prompts,
    _trust.tell_documents,
)
"""In the order of telling; each is silent about ledgers that did not record its subject."""


@dataclass(frozen=True)
class Summary:
    """What a run shows.

    Attributes:
        finding: `repair`: at least one clear loss is repaired on the whole; `breakage`: none is, and at least one is
            made worse; `none`: there are clear losses, and neither can be told of any; `nothing lost`: no knock-out
            clearly lowers the target directly; `too few prompts`: fewer than six independent groups. Of texts it is
            about each part's top tokens.
        headline: the finding in one sentence, or two where attention answers attention.
        focus: the knock-out that the sentences describe: the clear loss whose net repair has the largest lower end; or
            else the largest further loss, the largest answer of attention to attention, the largest own change.
        leading: how many losses are repaired, the clearest, the Hydra effect proper, what to try next.
        details: what supports and limits that.
        numbers: every number that the sentences use, by name; all finite.
    """

    finding: Finding
    headline: str
    focus: str
    leading: tuple[str, ...]
    details: tuple[str, ...]
    numbers: dict[str, Number]

    @property
    def sentences(self) -> tuple[str, ...]:
        """All sentences, leading ones first."""
        return (*self.leading, *self.details)

    def _repr_html_(self) -> str:
        return card(self.headline, {}, self.leading)


def summarise(findings: Findings) -> Summary:
    """State what a ledger shows, in sentences that hold whatever the signs are.

    Args:
        findings: tables of the ledger.

    Returns:
        The summary.

    Raises:
        DetailDropped: the ledger keeps only sums by kind of writer or, on texts, no knock-out's direct effect.
    """
    told = Told(findings)
    for tell in SENTENCES:
        tell(told)
    headline = _texts.headline_of_texts(told) if access.reads_each(told.ds) else _headline(told)
    return Summary(told.finding, headline, told.ablated, tuple(told.leading), tuple(told.details), told.numbers)


def _headline(told: Told) -> str:
    resampling, prompts = told.findings.resampling, count(told.ds.sizes["prompt"], "prompt")
    finding, lost = told.finding, digits(-float(told.focus["own_change"]))
    if finding == "too few prompts":
        groups = f" in {count(resampling.units, 'group')}" if resampling.by_group else ""
        return f"We cannot tell from {prompts}{groups} whether anything is lost or repaired."
    if finding == "nothing lost":
        return f"No {noun(told.ds)} that was knocked out clearly lowers the {told.quantity.subject}, in {prompts}."
    if finding == "repair":
        share = spread(told.column("restored_with_norm"), form=percent)
        said = f"Of the {lost} logits lost without {told.ablated}, {share} come back{_mostly(told)}{_line(told)}."
    elif finding == "breakage":
        said = (
            f"No clear loss is repaired on the whole; without {told.ablated}, which loses {lost} logits, "
            f"{spread(told.column('self_repair'), -1)} more are lost."
        )
    else:
        only = len(told.rows("outcome", "norm"))
        by_norm = " by later layers: what comes back is the final norm’s" if only else " on the whole"
        said = f"No clear loss of {a(noun(told.ds))} is repaired{by_norm}, in {prompts}."
    return f"{said}{_hydra(told)}"


def _mostly(told: Told) -> str:
    """The one who gives back more than half of what comes back."""
    whole = float(told.focus["self_repair"])
    for name, label in _verdict.GIVERS.items():
        if name in told.focus and told.column(name).sign > 0 and told.column(name).mean > whole / 2:
            writer, change = told.numbers.get("top_responder"), told.numbers.get("top_responder_change", 0.0)
            most = isinstance(change, float) and change > whole / 2 and name != "norm_effect"
            return f", most through {writer}" if most else f", most through {label}"
    return ""


def _line(told: Told) -> str:
    slope = told.column("slope")
    return f" (slope {digits(slope.mean)}, R² {digits(float(told.focus['r2']))})" if slope.sign < 0 else ""


def _hydra(told: Told) -> str:
    seen = _verdict.answered(told)
    if seen.empty:
        return ""
    row = seen.iloc[0]
    answer = f"later attention answers with +{spread(told.column('compensation_attn', row))} logits"
    if row["ablated"] == told.ablated and told.finding == "repair":
        return f" {answer.capitalize()}: the Hydra effect proper."
    net = "" if row["outcome"] == "repaired" else ", though not repaired on the whole"
    return f" The Hydra effect proper: {answer} without {row['ablated']}{net}."
