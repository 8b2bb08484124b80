"""Tables that a reader can sort; `knockouts` makes the main one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hydrascope.analysis import TOP_TOKENS
from hydrascope.figures import GIVERS
from hydrascope.report._numbers import NONE, fixed, interval, percent, signed
from hydrascope.report._run import Run

SENTENCE = 36
"""Most characters of a cell that stays on one line."""
ROWS = 200
"""Most knock-outs printed, the strongest; the ledger has them all."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: text in the cell.
        value: sort key; NaN sorts last.
        small: small print below the text.
        link: address that the text leads to; empty for none.
    """

    text: str
    value: float
    small: str = ""
    link: str = ""


Row = dict[Any, Any]
"""A record of a table of the analysis."""


def in_words(number: object, text: object, answer: object) -> tuple[str, str, str]:
    """Number, text and answer of a prompt as cells of a table, each on one line."""
    return str(number), " ".join(str(text).split()), str(answer).strip()


Columns = Mapping[str, Callable[[Row], Cell]]
"""Heading to the cell that a row has below it."""


@dataclass(frozen=True)
class Listing:
    """A table ready to be printed.

    Attributes:
        caption: what the numbers are.
        columns: headings.
        rows: cells, row by row.
        title: heading of the table; empty where its section's is enough.
        order: heading of the column that the rows are sorted by, and its `aria-sort`.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    order: tuple[str, str] = ("", "")

    @property
    def wide(self) -> bool:
        """Whether the table needs more room than the text has."""
        return len(self.columns) > 8

    @property
    def wordy(self) -> frozenset[str]:
        """Headings of columns of sentences, which are set left and broken into lines."""
        cells = ((column, row[i]) for row in self.rows for i, column in enumerate(self.columns))
        return frozenset(column for column, cell in cells if len(cell.text) > SENTENCE)


def listed(
    table: pd.DataFrame, columns: Columns, caption: str, title: str = "", order: tuple[str, str] = ("", "")
) -> Listing:
    """A table of the analysis, row by row.

    Args:
        table: table of the analysis.
        columns: heading to cell; the first column names the row.
        caption: what the numbers are.
        title: heading, where the table is part of a section.
        order: heading of the column that the rows are sorted by, and its `aria-sort`.
    """
    rows = tuple(tuple(made(row) for made in columns.values()) for row in table.to_dict("records"))
    return Listing(caption, tuple(columns), rows, title, order)


def named(table: pd.DataFrame, column: str) -> Callable[[Row], Cell]:
    """Cells with a name, sorted in the order of the table."""
    order = {str(name): i for i, name in reversed(list(enumerate(table[column])))}
    return lambda row: Cell(str(row[column]), order[str(row[column])])


def named_value(column: str) -> Callable[[Row], Cell]:
    """Cells with a word, or a dash where there is none."""
    return lambda row: Cell(str(row[column]) or NONE, math.nan)


def estimate(name: str, places: int = 2) -> Callable[[Row], Cell]:
    """Cells with a mean and its interval."""

    def made(row: Row) -> Cell:
        small = interval(row[f"{name}_lo"], row[f"{name}_hi"], places)
        return Cell(fixed(row[name], places), float(row[name]), "" if small == NONE else small)

    return made


def proportion(name: str, *, spread: bool = True) -> Callable[[Row], Cell]:
    """Cells with a share in whole percent, and its interval."""

    def made(row: Row) -> Cell:
        ends = [percent(row[f"{name}{end}"]) for end in ("_lo", "_hi")] if spread else [NONE]
        small = "" if NONE in ends else f"{ends[0].rstrip('%').rstrip()} to {ends[1]}"
        return Cell(percent(row[name]), float(row[name]), small)

    return made


def share(name: str, *, spread: bool = True) -> Callable[[Row], Cell]:
    """Cells with a share of the loss and its interval; empty where it has no meaning."""
    known = proportion(name, spread=spread)
    return lambda row: known(row) if row["meaningful"] else Cell(NONE, math.nan)


def knockouts(run: Run) -> Listing:
    """One row per knock-out with every part of its total effect."""
    return _over_tokens(run) if run.of_tokens else _over_prompts(run)


_PARTS = {
    "direct_effect": "direct effect",
    "own_change": "own change",
    "compensation_attn": "attention",
    "compensation_mlp": "MLPs",
    "compensation_mixer": "mixers",
    "norm_effect": "final norm",
    "self_repair": "self-repair",
    "total_effect": "total effect",
}


def _over_prompts(run: Run) -> Listing:
    table, by_kl = run.tables.repair, run.ds.attrs["target_policy"] == "kl"
    total, in_the_run = len(table), named(table, "ablated")
    if by_kl:
        table = table.nlargest(ROWS, "kl")
    else:
        table = table.loc[table["own_change"].abs().nlargest(ROWS).index].sort_values("own_change", kind="stable")
    parts = {name: label for name, label in _PARTS.items() if name in table and table[name].notna().any()}
    # effects of a few hundredths need a third decimal to be told apart
    places = 2 if table[list(parts)].abs().max().max() >= 1 else 3
    strongest = _strongest(run.tables.who_repairs)

    columns: dict[str, Callable[[Row], Cell]] = {"knocked out": in_the_run}
    columns |= {"KL (nats)": estimate("kl", 3)} if by_kl else {}
    columns |= {label: estimate(name, places) for name, label in parts.items()}
    columns |= {"restored": share("restored"), "restored with norm": share("restored_with_norm")}
    columns |= {"slope": estimate("slope"), "R²": estimate("r2")}
    columns["hidden by"] = named_value("hidden_by")
    columns["responds most"] = lambda row: strongest.get(str(row["ablated"]), Cell(NONE, math.nan))
    caption = (
        f"Means over prompts in {run.unit}, ablated minus clean, with 95 % intervals in small print. Shares are given "
        "where the part was really removed and lost something; the slope is that of compensation on own change, "
        "negative where loss is repaired. “Responds most” is the writer with the largest change that differs from zero "
        "after correction. “Hidden by”: what keeps a clear loss out of the total effect, later writers (active), the "
        "norm, a part that does the same (passive, seen in joint knock-outs), or nothing. Press a heading to sort."
    )
    if by_kl:
        caption += " Those that change the distribution most, by KL divergence from the clean one, come first."
    else:
        caption += " Those that lose most come first, by own change."
    if total > ROWS:
        caption += f" The {ROWS} of {total:,} knock-outs that {'change' if by_kl else 'lose'} most are listed."
    return listed(table, columns, caption, order=("KL (nats)", "descending") if by_kl else ("own change", "ascending"))


def _over_tokens(run: Run) -> Listing:
    table = run.tables.self_repair
    top, every = (table[table["selection"] == selection] for selection in ("top", "all"))
    total = len(top)
    top = top.loc[top["self_repair"].abs().nlargest(ROWS).index].sort_values("own_change", kind="stable")
    beside = {str(row["ablated"]): row for row in every.to_dict("records")}
    order = {str(name): i for i, name in enumerate(run.ds["ablated"].values)}

    def on_all(name: str) -> Callable[[Row], Cell]:
        return lambda row: estimate(name)(beside[str(row["ablated"])])

    shown = {"direct_effect": "direct effect", "own_change": "own change", "total_effect": "total effect"}
    shown |= {"self_repair": "self-repair"}
    shown |= {f"repair_{name}": label for name, label in GIVERS.items() if f"repair_{name}" in top}
    columns: dict[str, Callable[[Row], Cell]] = {
        "knocked out": lambda row: Cell(str(row["ablated"]), order[str(row["ablated"])])
    }
    columns |= {label: estimate(name) for name, label in shown.items()}
    columns |= {"restored": share("restored"), "median": share("restored_median", spread=False)}
    columns |= {"on all: total effect": on_all("total_effect"), "on all: self-repair": on_all("self_repair")}
    caption = (
        f"Means over each part’s top tokens ({TOP_TOKENS} with the largest direct effect), ablated minus clean, in "
        "logits of the text’s next token, with 95 % intervals in small print; the last two columns are of all tokens. "
        "Own change and self-repair sum to the total effect. “Median” is that of single tokens’ shares. No share where "
        "the replacement left the part in place. Those that lose most come first, by own change. Press a "
        "heading to sort."
    )
    if total > ROWS:
        caption += f" The {ROWS} of {total:,} with the largest self-repair are listed."
    return listed(top, columns, caption, order=("own change", "ascending"))


def _strongest(who: pd.DataFrame) -> dict[str, Cell]:
    """Knock-out to the writer that significantly responds most."""
    if who.empty:
        return {}
    sure = who[who["significant"] & ~who["is_own"]]
    best = sure.loc[sure["change"].abs().groupby(sure["ablated"]).idxmax()] if len(sure) else sure
    return {
        str(row["ablated"]): Cell(str(row["writer"]), row["change"], signed(row["change"]))
        for row in best.to_dict("records")
    }
