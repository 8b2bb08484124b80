"""The page of a pruning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hydrascope import figures
from hydrascope.report._facts import Pairs
from hydrascope.report._html import filled, write
from hydrascope.report._listing import Cell, Columns, Listing, Row, estimate, listed, named, named_value
from hydrascope.report._numbers import NONE, fixed, percent, tied
from hydrascope.report._page import Page
from hydrascope.report._section import Draft, Section
from hydrascope.resilience import Verdict

LISTED = 100
"""Most parts in the picture of what goes, those that the most rankings remove."""

_OPENING = """import hydrascope as hs
pruned = hs.Prune.open(".")
pruned.costs(), pruned.exposure()
pruned.export(hs.load("MODEL"), "smaller")"""

_SCOPE = (
    "What is measured is the loss on ordinary text of one kind, without any training after the removal. Tasks can lose "
    "more or less than text does, and a short training can change the order of rankings."
)


@dataclass(frozen=True)
class PruningPage:
    """What the page of a pruning is made of.

    Attributes:
        model: name of the model.
        text: name of the text.
        units: what could go, in a word.
        left: what a part leaves in its place, in words.
        parts: addresses of the parts that could go, in the order of the forward pass.
        said: the findings in sentences.
        tables: `costs`, `order`, `tasks`, `exports`, `exposure`, `agreement` and
            `regret`.
        meanings: what each ranking removes first.
        tokens: predicted tokens that rankings saw, and those that they were judged on.
        documents: documents of the first, and of the second.
        conclusive: whether there are enough documents for intervals.
        command: command that makes the pruning.
        versions: versions of what the numbers depend on.
    """

    model: str
    text: str
    units: str
    left: str
    parts: Sequence[str]
    said: Verdict
    tables: Mapping[str, pd.DataFrame]
    meanings: Mapping[str, str]
    tokens: tuple[int, int]
    documents: tuple[int, int]
    conclusive: bool
    command: str
    versions: Mapping[str, str]

    @property
    def rankings(self) -> list[str]:
        """Names of the rankings, the one that costs least at the largest size first."""
        costs = self.tables["costs"]
        return [str(name) for name in costs[costs["size"] == costs["size"].max()].sort_values("rise")["ranking"]]


def write_prune_report(page: PruningPage, path: Path) -> Path:
    """Write the report of a pruning.

    Args:
        page: what it is made of.
        path: path of the HTML file.

    Raises:
        OutputError: the file cannot be written.
    """
    said = page.said
    text = filled(
        "page.html.j2",
        page=Page(
            model=page.model,
            headline=tied(said.headline),
            facts=_facts(page),
            leading=tuple(map(tied, said.sentences)),
            details=(),
            hero=_curve(page),
            sections=(_order(page), _exports(page), _tasks(page), _exposure(page), _agreement(page), _regret(page)),
            table=_costs(page),
            run=tuple((name, tied(meaning)) for name, meaning in page.meanings.items()),
            closes=True,
            closing_title="How it was measured",
            closing="Each cost is a forward of the model without the parts, to the last logit; nothing is estimated.",
            caveats=_caveats(page),
            command=page.command,
            versions=", ".join(f"{name} {version}" for name, version in page.versions.items()) + ".",
            opening=_OPENING,
            scope_title="What it tells",
            scope=_SCOPE,
            version=str(page.versions.get("hydrascope", "")),
        ),
    )
    return write(text, path)


def _facts(page: PruningPage) -> Pairs:
    return (
        ("Text", page.text),
        ("Could go", f"{len(page.parts):,} {page.units}"),
        ("Left in a part’s place", page.left),
        ("Rankings", f"{len(page.rankings)}"),
        ("Tokens that they saw", f"{page.tokens[0]:,} of {page.documents[0]:,} documents"),
        ("Tokens that judged them", f"{page.tokens[1]:,} of {page.documents[1]:,} others"),
    )


def _curve(page: PruningPage) -> Section:
    draft = Draft("curve", "What each ranking costs")
    draft.add(figures.pruning_curve(page.tables["costs"]), "wide")
    return draft.finished(
        "A line is a ranking; it chose on other documents than those that it is judged on here. Orange: it knows that "
        "other parts go too. Point at a dot for its interval, and for what it cost on the text that it saw."
    )


def _order(page: PruningPage) -> Section:
    draft, table = Draft("order", "What goes"), page.tables["order"]
    gone = table[table["gone_at"].notna()]
    few = len(page.parts) <= LISTED
    most = set(page.parts if few else gone["part"].value_counts().head(LISTED).index)
    shown = [part for part in page.parts if part in most]
    draft.add(figures.removal_order(table, shown, [n for n in page.rankings if n in set(table["ranking"])]), "wide")
    how = "A row is a ranking, a column a part; the stronger the colour, the earlier it goes. Random sets are left out."
    rest = "" if few else f" Of {len(page.parts):,} {page.units} the {LISTED} that most rankings remove."
    return draft.finished(how + rest)


def _exposure(page: PruningPage) -> Section:
    draft, table = Draft("exposure", "Whose cheapness rests on others"), page.tables["exposure"]
    if table.empty:
        return draft.absent("no set was run with and without one of its parts.")
    columns: Columns = {
        "part": named_value("part"),
        "removed by": named_value("ranking"),
        "of a set of": lambda row: Cell(str(row["size"]), row["size"]),
        "cost alone": estimate("alone", 3),
        "cost beside them": estimate("beside", 3),
        "exposure": estimate("exposure", 3),
    }
    rows = table.sort_values("exposure", ascending=False)
    listing = listed(
        rows,
        columns,
        "Rise of the loss in nats a token, on the text that rankings saw, when the part goes alone and when it goes "
        "beside the others of its set, with 95 % intervals over documents in small print.",
        order=("exposure", "descending"),
    )
    section = draft.finished("A part that costs more beside the others than alone was cheap because they were there.")
    return Section(section.slug, section.title, section.how, listing=listing)


def _gone(row: Row) -> Cell:
    return Cell(str(row["size"]), row["size"])


def _agreement(page: PruningPage) -> Section:
    draft, table = Draft("agreement", "Who foretells what random sets cost"), page.tables["agreement"]
    if table.empty:
        return draft.absent("no random sets were run, or no ranking has scores.")
    columns: Columns = {
        "ranking": named_value("ranking"),
        "gone": _gone,
        "random sets": lambda row: Cell(str(row["sets"]), row["sets"]),
        "Spearman": lambda row: Cell(fixed(row["spearman"]), row["spearman"]),
    }
    rows = table.sort_values(["size", "spearman"], ascending=[True, False])
    listing = listed(rows, columns, "Rank correlation of the sum of scores of a random set with what it costs.")
    how = "1: the sum of a ranking’s scores orders random sets as they cost."
    return Section(draft.slug, draft.title, how, listing=listing)


def _exports(page: PruningPage) -> Section:
    draft, table = Draft("exports", "What a smaller model saves"), page.tables["exports"]
    if table.empty:
        return draft.absent("no smaller model was written, which is when bytes and speed are measured (--export).")
    columns: Columns = {
        "chosen by": named_value("ranking"),
        "gone": _gone,
        "MB": lambda row: Cell(f"{row['bytes'] / 2**20:,.1f}", row["bytes"]),
        "of": lambda row: Cell(f"{row['whole_bytes'] / 2**20:,.1f}", row["whole_bytes"]),
        "saved": lambda row: Cell(percent(row["bytes_saved"]), row["bytes_saved"]),
        "tokens a second": lambda row: Cell(fixed(row["tokens_per_second"], 0), row["tokens_per_second"]),
        "whole model": lambda row: Cell(fixed(row["whole_tokens_per_second"], 0), row["whole_tokens_per_second"]),
        "times as fast": lambda row: Cell(fixed(row["speed_up"]), row["speed_up"], _quartiles(row)),
    }
    how = (
        "Weights in bytes; forwards without a cache of both models in turn on one machine, the median of rounds, with "
        "their quartiles in small print. A model of as many bytes is as fast."
    )
    listing = listed(table, columns, how)
    return Section(draft.slug, draft.title, "Measured when the folder was written.", listing=listing)


def _quartiles(row: Row) -> str:
    ends = [fixed(row[name]) for name in ("speed_up_q1", "speed_up_q3")]
    return "" if NONE in ends else " to ".join(ends)


def _tasks(page: PruningPage) -> Section:
    draft, table = Draft("tasks", "What is lost on tasks"), page.tables["tasks"]
    if table.empty:
        return draft.absent("no tasks were asked for (--tasks facts,ioi).")
    columns: Columns = {
        "ranking": named_value("ranking"),
        "task": lambda row: Cell(f"{row['task']} ({row['prompts']})", math.nan),
        "gone": _gone,
        "right, whole": lambda row: Cell(percent(row["whole_right"]), row["whole_right"]),
        "right": lambda row: Cell(percent(row["right"]), row["right"]),
        "change": estimate("right_change", 3),
        "change of the logit difference": estimate("logit_difference_change", 2),
    }
    rows = table.sort_values(["size", "task", "right"], ascending=[True, True, False])
    how = (
        "Shares of prompts, and changes against the whole model, prompt by prompt, with 95 % intervals over groups of "
        "prompts in small print."
    )
    listing = listed(rows, columns, how, order=("gone", "ascending"))
    why = "Right: the target is above the foil where prompts have one, and the first choice elsewhere."
    return Section(draft.slug, draft.title, why, listing=listing)


def _regret(page: PruningPage) -> Section:
    draft, table = Draft("regret", "What the best of all sets would have spared"), page.tables["regret"]
    if table.empty:
        return draft.absent("not all sets of any size were judged (--exhaustive 2).")
    columns: Columns = {
        "ranking": named_value("ranking"),
        "gone": _gone,
        "regret": estimate("regret", 3),
        "better sets": lambda row: Cell(f"{row['better_sets']:,} of {row['sets']:,}", row["better_sets"]),
        "the best": lambda row: Cell(str(row["best"]).replace("+", ", "), math.nan),
    }
    rows = table.sort_values(["size", "regret"])
    how = "Loss of a ranking’s set minus that of the best of all sets of its size, nats a token, on unseen text."
    listing = listed(rows, columns, how, order=("gone", "ascending"))
    why = "The best set is the best on this very text, so that a ranking that is as good has some regret on average."
    return Section(draft.slug, draft.title, why, listing=listing)


def _costs(page: PruningPage) -> Listing:
    table = page.tables["costs"].sort_values(["size", "rise"])

    def removed(row: Row) -> Cell:
        parts = str(row["removed"]).split("+")
        return Cell(", ".join(parts[:12]) + (" …" if len(parts) > 12 else ""), math.nan)

    columns: Columns = {
        "ranking": named(table, "ranking"),
        "gone": lambda row: Cell(f"{row['size']} ({percent(row['share'])})", row["size"]),
        "rise of the loss": estimate("rise", 3),
        "perplexity": lambda row: Cell(fixed(row["perplexity"]), row["perplexity"]),
        "KL": estimate("kl", 3),
        "same first choice": lambda row: Cell(percent(row["agreed"]), row["agreed"]),
        "rise on its own text": lambda row: Cell(fixed(row["calibration_rise"], 3), row["calibration_rise"]),
        "gap": estimate("gap", 3),
        "removed": removed,
    }
    return listed(
        table,
        columns,
        "Means over tokens of text that no ranking saw, nats, with 95 % intervals over documents in small print. Gap: "
        "rise there minus rise on the text that the ranking saw. Press a heading to sort.",
        order=("gone", "ascending"),
    )


def _caveats(page: PruningPage) -> tuple[str, ...]:
    said = [
        "Intervals hold one at a time, and allow for which documents were drawn, not for which text the rankings saw: "
        "another half of the documents can give another order.",
        "Two rankings whose intervals overlap can still differ clearly, since both are judged on the same texts; their "
        "differences are the table “differences”.",
    ]
    if not page.conclusive:
        said.append("There are too few documents for intervals, so none are given.")
    return tuple(said)
