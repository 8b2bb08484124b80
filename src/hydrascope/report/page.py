"""Puts the report together: findings, figures, numbers, and what made them, in one file.

All scripts, styles and data are inside; the file loads nothing and opens from disk. Text that comes from
the ledger is escaped, also inside the JSON of the charts.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import xarray as xr
from markupsafe import Markup

from hydrascope.analysis.findings import Findings
from hydrascope.analysis.text_verdict import text_verdict
from hydrascope.analysis.tokens import is_text
from hydrascope.analysis.verdict import Verdict, verdict
from hydrascope.errors import OutputError
from hydrascope.figures.theme import DARK, LIGHT, recolouring, vega_config
from hydrascope.report import facts, text_facts, text_literature, text_sections
from hydrascope.report.facts import Pairs
from hydrascope.report.listing import Listing, listing
from hydrascope.report.literature import SCOPE
from hydrascope.report.numbers import tied
from hydrascope.report.scripts import bundle
from hydrascope.report.section import Section
from hydrascope.report.sections import SECTIONS
from hydrascope.report.tables import Tables
from hydrascope.report.text_tables import TextTables


@dataclass(frozen=True)
class Page:
    """Everything that the template prints, already in words."""

    model: str
    headline: str
    facts: Pairs
    leading: tuple[str, ...]
    details: tuple[str, ...]
    sibling: str
    sibling_command: str
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


def write_report(ds: xr.Dataset | Findings, path: Path) -> Path:
    """Writes the report of a ledger; an existing file is replaced only once the new one is complete.

    Args:
        ds: the ledger, or its tables where they are at hand.
        path: of the HTML file.

    Returns:
        The path.

    Raises:
        OutputError: the file cannot be written.
    """
    text = render(ds)
    half = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            half = Path(file.name)
            file.write(text)
        half.chmod(0o666 & ~_umask())
        half.replace(path)
    except OSError as error:
        if half is not None:
            half.unlink(missing_ok=True)
        raise OutputError(
            f"the report cannot be written to {path} ({error.strerror}): make room, or choose another place"
        ) from error
    return path


def render(ds: xr.Dataset | Findings) -> str:
    """The report of a ledger, or of its tables, as the text of one HTML file."""
    # a ledger opened from disk would be read anew for every table
    findings = ds if isinstance(ds, Findings) else Findings(ds.compute())
    themes = {
        "light": {"config": vega_config(LIGHT), "colours": {}},
        "dark": {"config": vega_config(DARK), "colours": recolouring(LIGHT, DARK)},
    }
    return _template().render(
        page=_text_page(findings) if is_text(findings.ds) else _page(findings),
        themes=in_script(json.dumps(themes)),
        css=Markup(_asset("page.css")),
        js=Markup(_asset("page.js")),
        bundle=Markup(bundle()),
        in_script=in_script,
    )


def in_script(text: str) -> Markup:
    """JSON that may stand inside a script element: no character in it can end the element."""
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _page(findings: Findings) -> Page:
    found = verdict(findings.by_layer)
    tables = Tables(findings, found.focus)
    return _assembled(
        findings,
        found,
        [made for section in SECTIONS if (made := section(tables)) is not None],
        facts=facts.headline_facts(findings.ds),
        table=listing(tables.repair, tables.who, tables.quantity, by_kl=findings.ds.attrs["target_policy"] == "kl"),
        run=facts.run_facts(findings.ds),
        caveats=facts.caveats(findings.ds, tables.repair, int((~tables.who["is_own"]).sum()) if len(tables.who) else 0),
        opening=facts.OPENING.format(ablated=tables.featured),
        scope=SCOPE,
    )


def _text_page(findings: Findings) -> Page:
    found = text_verdict(findings)
    tables = TextTables(findings, found.focus)
    return _assembled(
        findings,
        found,
        [made for section in text_sections.SECTIONS if (made := section(tables)) is not None],
        facts=text_facts.headline_facts(findings.ds),
        table=text_sections.heads_listing(tables),
        run=text_facts.run_facts(findings.ds),
        caveats=text_facts.caveats(tables),
        opening=text_facts.OPENING.format(ablated=found.focus),
        scope=text_literature.SCOPE,
    )


def _assembled(findings: Findings, found: Verdict, sections: Sequence[Section], **of_its_kind: Any) -> Page:
    """A page with what those of all kinds of run say in the same way."""
    ds, closed, versions = findings.ds, findings.closing, facts.versions(findings.ds)
    return Page(
        model=str(ds.attrs["model_name"]),
        headline=tied(found.headline),
        leading=tuple(map(tied, found.leading)),
        details=tuple(map(tied, found.details)),
        sibling=str(ds.attrs.get("sibling", "")),
        sibling_command=str(ds.attrs.get("sibling_command", "")),
        hero=sections[0],
        sections=tuple(sections[1:]),
        closes=closed.closes,
        closing=facts.closing_sentence(closed),
        command=str(ds.attrs["command"]),
        versions=", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        version=versions.get("hydrascope", ""),
        **of_its_kind,
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset("page.html.j2"))


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
