"""Sentences on whether the ledger may be trusted, and how much stands behind it."""

from __future__ import annotations

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._statistics import CONCLUSIVE_FROM, MORE_GROUPS
from hydrascope.analysis.summary._told import Told, reads_once, where
from hydrascope.analysis.summary._words import count, digits


@where(reads_once)
def tell_closing(told: Told) -> None:
    """Whether the account of every prompt adds up."""
    result = told.findings.closing
    error = max(result.error, result.clean_error)
    told.number("closing_error", result.error)
    told.number("clean_closing_error", result.clean_error)
    told.number("closing_tolerance", result.tolerance)
    if result.closes:
        told.detail(
            f"The ledger closes: effects and clean logits are the sums of their parts within {digits(error)} "
            f"(tolerance {digits(result.tolerance)})."
        )
    else:
        told.say(
            f"The ledger does not close, so nothing here can be trusted: sums miss by {digits(error)} "
            f"(tolerance {digits(result.tolerance)}), among the total effects most at {result.ablated}, "
            f"prompt {result.prompt}."
        )


@where(reads_once)
def tell_donors(told: Told) -> None:
    """Donors that could not be kept from naming a token of the prompt's pair."""
    sharing = int(told.ds.attrs.get("donors_sharing", 0))
    if not sharing:
        return
    donors = int(told.ds.attrs["donors"]) * told.ds.sizes["prompt"]
    told.number("donors_sharing", sharing)
    told.detail(
        f"For want of others, {sharing:,} of {donors:,} donors have a prompt's answer or foil among their own: these "
        f"turn the {told.quantity.subject} round, or leave half of it, instead of taking it away, so what is lost is "
        "not what unrelated prompts would show."
    )


@where(reads_once)
def tell_prompts(told: Told) -> None:
    """Few groups of prompts, or a single one."""
    resampling, prompts = told.findings.resampling, count(told.ds.sizes["prompt"], "prompt")
    told.number("prompts", told.ds.sizes["prompt"])
    told.number("groups", resampling.units)
    units = f"{prompts} in {count(resampling.units, 'group')}" if resampling.by_group else prompts
    if not resampling.conclusive:
        told.say(f"{units}: too few to call any sign certain, and for intervals; {MORE_GROUPS}.")
    else:
        told.detail(f"Brackets are 95 % intervals over {units}.")
    if "group" in told.ds.coords and 1 == len(set(access.names(told.ds, "group"))) < told.ds.sizes["prompt"]:
        told.detail("All prompts are of one group, so the intervals speak for prompts of that group only.")


@where(access.reads_each)
def tell_documents(told: Told) -> None:
    """Whether the account of every token adds up, and over how many documents."""
    closing = told.findings.closing
    for name, value in {
        "closing_error": closing.error,
        "tokens": told.ds.sizes["prompt"],
        "documents": told.documents,
    }.items():
        told.number(name, value)
    held = "closes" if closing.closes else "does not close"
    told.detail(f"The ledger {held}: on every token the parts sum to the total within {digits(closing.error)}.")
    if told.documents < CONCLUSIVE_FROM:
        told.detail(f"There are fewer than {CONCLUSIVE_FROM} documents, too few for intervals.")
