"""The list of sentences, and the headline."""

from __future__ import annotations

from dataclasses import dataclass

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._attention_repair import Finding
from hydrascope.analysis._findings import Findings
from hydrascope.analysis._mechanisms import WHOLE
from hydrascope.analysis.summary import _losses, _responders, _trust
from hydrascope.analysis.summary._told import Number, Tell, Told
from hydrascope.analysis.summary._words import TOP_TOKENS, count, digits, percent

SENTENCES: tuple[Tell, ...] = (
    _losses.tell_account,
    _losses.tell_top_tokens,
    _losses.tell_all_tokens,
    _losses.tell_extremes,
    _losses.tell_counts,
    _losses.tell_norm,
    _responders.tell_control,
    _responders.tell_responders,
    _responders.tell_freeze,
    _losses.tell_shares,
    _losses.tell_line,
    _losses.tell_other_layers,
    _responders.tell_late_mlps,
    _losses.tell_distribution,
    _trust.tell_closing,
    _trust.tell_donors,
    _trust.tell_prompts,
    _trust.tell_documents,
)
"""In the order of telling; each is silent about ledgers that did not record its subject."""

_GIVERS = {"norm": "the final norm", "mlp": "MLPs", "attn": "attention", "mixer": "mixers"}
_NEXT_TO_NOTHING = 0.005
"""Shares that round to 0 %."""


@dataclass(frozen=True)
class Summary:
    """What a run shows.

    Attributes:
        finding: `repair`: later attention makes up for at least one attention layer (or head, where no attention layer
            was knocked out by itself); `breakage`: for none, and after at least one it makes things worse; `none`:
            neither can be told from chance; `nothing lost`: no attention knock-out clearly lowers the target directly;
            `too few prompts`: fewer than six independent groups; `not tested`: no attention layer with attention after
            it was knocked out. Where each position of texts was read, it is about the parts of the second half of the
            layers, on their top tokens.
        headline: the finding in one sentence.
        focus: the knock-out that the sentences describe: the strongest finding, or else the largest own change.
        leading: sentences on what was lost, who answered, how it grows, what late MLPs do; one fact each.
        details: sentences that support and limit the leading ones.
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


def summarise(findings: Findings) -> Summary:
    """State what a ledger shows, in sentences that hold whatever the signs are.

    They speak of layers, also where the account keeps heads or neurons apart; of texts, of whatever was knocked out.

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
    finding, headline = _of_tokens(told) if access.reads_each(told.ds) else _of_prompts(told)
    return Summary(finding, headline, told.ablated, tuple(told.leading), tuple(told.details), told.numbers)


def _of_prompts(told: Told) -> tuple[Finding, str]:
    (finding, strongest), noun, resampling = told.found, told.attention.noun, told.findings.resampling
    prompts, a_noun = count(told.ds.sizes["prompt"], "prompt"), f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    if strongest is not None and finding == "repair":
        top, change = told.numbers.get("top_responder"), told.numbers.get("top_responder_change", 0.0)
        most = isinstance(change, float) and change > strongest.answer / 2
        return finding, (
            f"With {strongest.ablated} knocked out, later attention gives back {digits(strongest.answer)} "
            f"logits for the {digits(-strongest.own)} lost{f', most of it through {top}' if most else ''}."
        )
    if strongest is not None:
        return finding, (
            f"No clear loss of {a_noun} is repaired by later attention; with "
            f"{strongest.ablated} knocked out ({digits(-strongest.own)} logits lost), later attention loses "
            f"a further {digits(-strongest.answer)}."
        )
    if finding == "none":
        return finding, f"No clear loss of {a_noun} is repaired by later attention beyond chance, in {prompts}."
    if finding == "nothing lost":
        return finding, (
            f"No {noun} that was knocked out clearly lowers the {told.quantity.subject} directly, so there is no loss "
            f"that later attention could repair, in {prompts}."
        )
    if finding == "too few prompts":
        groups = f" in {count(resampling.units, 'group')}" if resampling.by_group else ""
        return finding, f"We cannot tell from {prompts}{groups} whether later attention repairs anything."
    return finding, (
        f"No {noun} with attention after it was knocked out by itself, so this run says nothing "
        "about repair by attention."
    )


def _of_tokens(told: Told) -> tuple[Finding, str]:
    many, documents = f"{told.noun}s", count(told.documents, "document")
    if told.nothing_pooled:
        return "nothing lost", f"No {told.noun} of the second half was really removed, in {documents}."
    top = told.pooled("top")
    mean, share = told.column("mean", top), told.column("share", top)
    told.number("restored_top", share.mean)
    told.number("self_repair_top", mean.mean)
    if not told.conclusive:
        return "too few prompts", f"We cannot tell from {documents} whether losses of {many} are repaired."
    where = f"On {TOP_TOKENS} where each {told.noun} matters most"
    if mean.sign == 0 or not top["meaningful"]:
        said = f"whether losses of {many} in the second half are repaired cannot be told from chance"
        return "none", f"{where}, {said}; {_on_all_tokens(told)}."
    if abs(share.mean) < _NEXT_TO_NOTHING:
        said = f"the rest gives back next to nothing of what {many} of the second half lose"
        return "none", f"{where}, {said}; {_on_all_tokens(told)}."
    givers = _by_giver(told)
    for name, value in givers.items():
        told.number(f"restored_top_{name}", value)
    largest_first = sorted(givers.items(), key=lambda item: -abs(item[1]))
    how = ", ".join(f"{_GIVERS[name]} {percent(value)}" for name, value in largest_first)
    if mean.sign > 0:
        said = f"the rest gives back {percent(share.mean)} of what {many} of the second half lose"
        return "repair", f"{where}, {said} ({how}); {_on_all_tokens(told)}."
    said = f"the rest loses a further {percent(-share.mean)} of what {many} of the second half lose"
    return "breakage", f"{where}, {said} ({how}); {_on_all_tokens(told)}."


def _on_all_tokens(told: Told) -> str:
    found = told.column("mean", told.pooled("all"))
    told.number("self_repair_all", found.mean)
    if found.sign == 0 or abs(found.mean) <= told.floor:
        return "on all tokens nothing can be told from zero"
    what = "it also gives back" if found.sign > 0 else "it makes things worse by"
    return f"on all tokens {what} {digits(abs(found.mean))} logits a {told.noun}"


def _by_giver(told: Told) -> dict[str, float]:
    """Shares given back on top tokens by attention, MLPs and norm."""
    table = told.findings.pooled_mechanisms
    rows = table[(table["selection"] == "top") & (table["mechanism"] != WHOLE)]
    summed = rows["share"].groupby(rows["mechanism"].str.split("_").str[0], sort=False).sum()
    return {name: float(summed[name]) for name in _GIVERS if name in summed}
