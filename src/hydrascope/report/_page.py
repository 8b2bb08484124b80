"""Put the report together: sections, numbers, facts, in one file.

All scripts, styles and data are inside; the file loads nothing and opens from disk. Text from the ledger is escaped,
also inside the JSON of the charts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from hydrascope.analysis import Findings, summarise
from hydrascope.report import (
    _account,
    _companions,
    _compensation,
    _effects,
    _facts,
    _mcgrath,
    _tokens,
    _two_ways,
    _units,
)
from hydrascope.report._caveats import caveats
from hydrascope.report._choice import Choices, PromptTable, all_prompts, choices
from hydrascope.report._facts import Pairs
from hydrascope.report._html import filled, write
from hydrascope.report._listing import Listing, knockouts
from hydrascope.report._literature import SCOPE, SCOPE_OF_TOKENS
from hydrascope.report._numbers import tied
from hydrascope.report._run import Run
from hydrascope.report._section import Section

SECTIONS: tuple[Callable[[Run], Section | None], ...] = (
    _account.balance,
    _account.self_repair,
    _effects.effects,
    _tokens.mechanisms,
    _two_ways.attention_by_depth,
    _tokens.tokens,
    _tokens.norm,
    _tokens.comparison,
    _units.heads,
    _effects.agreement,
    _effects.prompts,
    _compensation.compensation,
    _compensation.kinds,
    _compensation.matrix,
    _companions.freeze,
    _compensation.erasure,
    _mcgrath.claims,
    _units.neurons,
    _two_ways.attention_by_writer,
    _two_ways.routing,
    _companions.dose,
    _companions.ablations,
)
"""Sections in the order of the page; each is left out where the ledger does not record it."""


@dataclass(frozen=True)
class Page:
    """Everything that the template prints, in words."""

    model: str
    headline: str
    facts: Pairs
    leading: tuple[str, ...]
    details: tuple[str, ...]
    hero: Section
    sections: tuple[Section, ...]
    table: Listing
    run: Pairs
    closes: bool
    closing: str
    caveats: tuple[str, ...]
    command: str
    versions: str
    opening: str
    scope: str
    version: str
    sibling: str = ""
    sibling_command: str = ""
    example: tuple[str, str] = ("", "")
    choices: Choices | None = None
    prompts: PromptTable | None = None
    closing_title: str = "Does the ledger close?"
    scope_title: str = "About the values from the literature"

    @property
    def drawn(self) -> tuple[Section, ...]:
        """Sections that have something to show."""
        return tuple(one for one in self.sections if not one.reason)

    @property
    def absent(self) -> tuple[Section, ...]:
        """Sections that are told of in one place, each with its reason."""
        return tuple(one for one in self.sections if one.reason)


def write_report(ds: xr.Dataset | Findings, path: Path) -> Path:
    """Write the report of a ledger.

    An existing file is replaced only once the new one is complete. Takes seconds
    that `Findings` may have taken already.

    Args:
        ds: the ledger, or its tables where they are at hand.
        path: path of the HTML file.

    Returns:
        The path.

    Raises:
        OutputError: the file cannot be written.
    """
    return write(render(ds), path)


def render(ds: xr.Dataset | Findings) -> str:
    """The report of a ledger, or of its tables, as the text of one HTML file."""
    # a ledger opened from disk would be read anew for every table
    findings = ds if isinstance(ds, Findings) else Findings(ds.compute())
    return filled("page.html.j2", page=_page(findings))


def _page(findings: Findings) -> Page:
    ds, closed, versions = findings.ds, findings.closing, _facts.versions(findings.ds)
    found = summarise(findings)
    run = Run(findings, found.focus)
    offered = choices(run)
    hero, *sections = [made for section in SECTIONS if (made := section(run)) is not None]
    return Page(
        model=str(ds.attrs["model_name"]),
        headline=tied(found.headline),
        facts=_facts.headline_facts(ds),
        leading=tuple(map(tied, found.leading)),
        details=tuple(map(tied, found.details)),
        sibling=str(ds.attrs.get("sibling", "")),
        sibling_command=str(ds.attrs.get("sibling_command", "")),
        hero=hero,
        sections=tuple(sections),
        table=knockouts(run),
        run=_facts.run_facts(ds),
        closes=closed.closes,
        closing=_facts.closing_sentence(closed, "token" if run.of_tokens else "prompt"),
        caveats=caveats(run),
        command=str(ds.attrs["command"]),
        versions=", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        opening=_facts.opening(ds, run.focus),
        scope=SCOPE_OF_TOKENS if run.of_tokens else SCOPE,
        version=versions.get("hydrascope", ""),
        example=_facts.example(ds),
        choices=offered,
        prompts=all_prompts(run, offered),
    )
