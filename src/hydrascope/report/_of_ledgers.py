"""The page of what is made of several ledgers, such as a stress test: the parts that all such pages have in common."""

from __future__ import annotations

from dataclasses import dataclass

import xarray as xr

from hydrascope.analysis import Findings, Resampling, reads_each
from hydrascope.report import _facts
from hydrascope.report._facts import Pairs
from hydrascope.report._html import filled
from hydrascope.report._listing import Listing
from hydrascope.report._literature import SCOPE
from hydrascope.report._numbers import tied
from hydrascope.report._page import Page
from hydrascope.report._section import Section
from hydrascope.resilience import Verdict

LEADING = 5
"""Most sentences above the fold."""
NO_INTERVALS = "There are too few independent groups of prompts for intervals, so none are given."


@dataclass(frozen=True)
class Told:
    """What the page of one kind of result says of its own.

    Attributes:
        said: the findings in sentences.
        facts: facts under the title, that stand behind the prompts.
        hero: the section above the fold.
        sections: the others.
        table: the table of all parts.
        run: how it was made, behind what the account of single knock-outs says.
        caveats: what readers must know.
        opening: how it is opened in Python.
        example: a prompt and its answer.
    """

    said: Verdict
    facts: Pairs
    hero: Section
    sections: tuple[Section, ...]
    table: Listing
    run: Pairs
    caveats: tuple[str, ...]
    opening: str
    example: tuple[str, str] = ("", "")


def render_told(account: Findings, resampling: Resampling, told: Told, command: str) -> str:
    """The page as the text of one HTML file.

    Args:
        account: tables of the knock-outs of single parts.
        resampling: whether there are enough groups for intervals.
        told: what the page says.
        command: command that makes it; empty for the account's own.
    """
    ds: xr.Dataset = account.ds
    closed, versions = account.closing, _facts.versions(ds)
    first, *others = (fact for fact in _facts.headline_facts(ds) if fact[0] != "Knock-outs")
    few = () if resampling.conclusive else (NO_INTERVALS,)
    return filled(
        "page.html.j2",
        page=Page(
            model=str(ds.attrs["model_name"]),
            headline=tied(told.said.headline),
            facts=(first, *told.facts, *others),
            leading=tuple(map(tied, told.said.sentences[:LEADING])),
            details=tuple(map(tied, told.said.sentences[LEADING:])),
            hero=told.hero,
            sections=told.sections,
            table=told.table,
            run=(*_facts.run_facts(ds), *told.run),
            closes=closed.closes,
            closing=_facts.closing_sentence(closed, "token" if reads_each(ds) else "prompt"),
            caveats=(*told.caveats, *few),
            command=command or str(ds.attrs["command"]),
            versions=", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
            opening=told.opening,
            scope=SCOPE,
            version=versions.get("hydrascope", ""),
            example=told.example,
        ),
    )
