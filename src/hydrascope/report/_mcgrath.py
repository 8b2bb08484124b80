"""The section that asks whether the claims of McGrath et al. hold in this model."""

from __future__ import annotations

from hydrascope.report._listing import Cell, Row, listed, named
from hydrascope.report._numbers import NONE, fixed, interval
from hydrascope.report._run import Run
from hydrascope.report._section import Draft, Section


def claims(run: Run) -> Section | None:
    """Claim by claim: whether it holds, with this model's number beside the paper's."""
    if run.of_tokens or "attn" not in set(run.tables.repair["ablated_kind"]):
        return None
    table = run.findings.mcgrath
    columns = {
        "claim": named(table, "claim"),
        "here": lambda row: Cell(str(row["verdict"]), 0.0),
        "number": _number,
        "where": lambda row: Cell(str(row["where"]) or NONE, 0.0),
        "in the paper": lambda row: Cell(str(row["paper"]), 0.0),
        "asked of": lambda row: Cell(str(row["asked"]), row["asked"], str(row["search"]) if row["asked"] else ""),
        "what it says": lambda row: Cell(str(row["says"]), 0.0),
    }
    caption = (
        "Each number stands with its interval in the other tables; the paper has one 7B model and one set of facts. "
        "“Asked of”: how many layers, or writers, and whether a verdict on one of several is corrected for that."
    )
    return Draft("mcgrath", "The claims of McGrath et al., in this model").finished(
        "A claim holds, or does not, where the interval lies on one side of its bound; all else cannot be told from "
        "this run. A bound of 10 % is for the estimate, whose interval need only exclude zero. Slopes "
        "are of compensation on own change, so the paper’s 0.7 reads −0.7.",
        listing=listed(table, columns, caption, "Claim by claim"),
    )


def _number(row: Row) -> Cell:
    ends = interval(row["value_lo"], row["value_hi"])
    return Cell(fixed(row["value"]), float(row["value"]), "" if ends == NONE else ends)
