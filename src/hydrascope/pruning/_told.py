"""What pruning found, in plain sentences; a difference is one only where its interval is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from hydrascope.analysis import listed, percent
from hydrascope.pruning._findings import Findings
from hydrascope.resilience import Verdict


def told(found: Findings) -> Verdict:
    """Say what pruning found.

    Args:
        found: the tables.
    """
    sayings = [_headline(found), *(_compared(found, size) for size in found.sizes), _gap(found), _exposed(found)]
    numbers: dict[str, Any] = {}
    for _, more in sayings:
        numbers |= more
    (headline, _), *rest = sayings
    return Verdict(headline, tuple(sentence for sentence, _ in rest if sentence), numbers)


NEAREST = "whose set stays nearest to the whole model on the text that rankings saw, "
"""How one of several rankings is chosen."""


def _headline(found: Findings) -> tuple[str, dict[str, Any]]:
    size = found.sizes[-1] if found.keep_loss is None else found.size_kept()
    if size is None:
        return (
            f"No ranking stays within {found.keep_loss:g} times the loss at any size that was tried; try fewer.",
            {"size": 0},
        )
    row = _row(found.costs, found.best(size), size)
    why = NEAREST if found.costs["ranking"].nunique() > 1 else ""
    return (
        f"Without {size} of {len(found.parts)} {found.units} ({percent(row['share'])}), chosen by {row['ranking']}, "
        f"{why}the loss on text that no ranking saw rises by {spread(row, 'rise')} nats a token; perplexity goes from "
        f"{row['whole_perplexity']:.2f} to {row['perplexity']:.2f}.",
        {"size": size, "best": row["ranking"], "rise": row["rise"], "perplexity": row["perplexity"]},
    )


def _compared(found: Findings, size: int) -> tuple[str, dict[str, Any]]:
    """The order of the rankings at a size, and which of them are clearly worse than the best."""
    table = found.costs.query("size == @size").sort_values("rise")
    if len(table) < 2:
        return "", {}
    first = table.iloc[0]
    rows = found.differences.query("size == @size and other == @first.ranking")
    worse = [row["ranking"] for row in rows.to_dict("records") if row["difference_lo"] > 0]
    alike = [name for name in table["ranking"] if name != first["ranking"] and name not in worse]
    rest = f"cannot be told from {listed(alike)}" if alike else "is clearly better than all others"
    return (
        f"At {size}, {first['ranking']} costs least on that text ({first['rise']:.3f}) and {rest}"
        + (f"; clearly worse: {listed(worse)}." if worse and alike else "."),
        {f"least at {size}": first["ranking"], f"worse at {size}": worse},
    )


def _gap(found: Findings) -> tuple[str, dict[str, Any]]:
    """How much worse things are on unseen text than a ranking could see."""
    table = found.costs.sort_values("gap", ascending=False)
    row = table.iloc[0]
    if not row["gap"] > 0:
        return "", {}
    return (
        f"What a ranking saw is kinder than what it did not: at {row['size']}, {row['ranking']} costs "
        f"{row['calibration_rise']:.3f} on its own text and {row['rise']:.3f} on the other.",
        {"gap": row["gap"]},
    )


def _exposed(found: Findings) -> tuple[str, dict[str, Any]]:
    """Which removed part was cheap only because of another one."""
    table = found.exposure.sort_values("exposure", ascending=False)
    if not len(table) or not table.iloc[0]["exposure"] > 0:
        return "", {}
    row = table.iloc[0]
    return (
        f"{row['part']} costs {row['alone']:.3f} alone and {row['beside']:.3f} beside the other "
        f"{int(row['size']) - 1} that {row['ranking']} removes: its cheapness rests on them.",
        {"exposed": row["part"], "exposure": row["exposure"]},
    )


def _row(table: pd.DataFrame, ranking: str, size: int) -> dict[str, Any]:
    return {str(name): value for name, value in table.query("ranking == @ranking and size == @size").iloc[0].items()}


def spread(row: Mapping[Any, Any], name: str, digits: int = 3) -> str:
    """A number of a table with its interval, if it has one.

    Args:
        row: a row of the table.
        name: name of the column.
        digits: digits behind the point.
    """
    value, lo, hi = (row[one] for one in (name, f"{name}_lo", f"{name}_hi"))
    return f"{value:.{digits}f}" + (f" [{lo:.{digits}f}, {hi:.{digits}f}]" if lo == lo else "")
