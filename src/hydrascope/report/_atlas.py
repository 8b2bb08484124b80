"""The page of an atlas: many runs side by side, each number a link to the run that it is from."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from hydrascope import figures
from hydrascope.analysis import Survey, count, listed, summarise_survey
from hydrascope.report._comparison import Block
from hydrascope.report._facts import Pairs
from hydrascope.report._html import filled, write
from hydrascope.report._listing import Cell, Columns, Listing, Row, estimate, named, named_value
from hydrascope.report._listing import listed as as_listing
from hydrascope.report._numbers import NONE, fixed, interval, percent, tied
from hydrascope.report._section import Draft, Section

ROWS = 200
"""Most parts printed, those that lose most; the CSV has them all."""

Link = Callable[[Row], str]
"""Where a row's report is; empty without one."""

MEANING = (
    "The share is −compensation / own change of all attention layers at 40 % to 85 % of the depth together, a ratio of "
    "sums, so that no layer is picked out: later layers alone (McGrath et al., equation 33), or with the final norm "
    "(Rushing & Nanda). Below 0 more is lost in response."
)
COUNTED = (
    "Each verdict is that of one run by its own 95 % intervals. Which layers are looked at, and whether the best of "
    "several is corrected for, stands with each claim; the number of runs is not corrected for. A bound of 10 % is for "
    "the estimate, whose interval need only exclude zero; every other bound is for the interval. Runs with random "
    "weights show what is said to hold where nothing was learned."
)


def write_atlas(found: Survey, path: Path, folder: Path) -> Path:
    """Write the page that shows many runs side by side.

    Args:
        found: the tables.
        path: path of the HTML file.
        folder: what the runs lie in, from which links to their reports are told.

    Raises:
        OutputError: the file cannot be written.
    """

    def link(row: Row) -> str:
        return quote(Path(os.path.relpath(folder / row["report"], path.parent)).as_posix()) if row["report"] else ""

    said, sections = summarise_survey(found), _sections(found, link)
    about = f"Atlas of {count(len(found.runs), 'run')}"
    text = filled(
        "several.html.j2",
        kind="atlas",
        title=about,
        about="what holds where",
        facts=_facts(found),
        blocks=(Block("found", "What was found", tied(said.headline), tuple(map(tied, said.sentences)), sections),),
        commands=tuple(dict.fromkeys(found.runs["command"])),
        version=version("hydrascope"),
    )
    return write(text, path)


def _facts(found: Survey) -> Pairs:
    runs = found.runs
    trained, drawn = runs[~runs["random_weights"]], runs[runs["random_weights"]]
    facts = (
        ("Trained models", listed(list(dict.fromkeys(trained["shape"]))) if len(trained) else NONE),
        ("Tasks", f"{runs['task'].nunique()}"),
        ("Knock-outs", f"{len(found.parts):,}"),
        ("Runs with random weights", f"{len(drawn)}"),
        ("Left out", f"{len(found.left_out)}" if found.left_out else ""),
    )
    return tuple((name, value) for name, value in facts if value)


def _sections(found: Survey, link: Link) -> tuple[Section, ...]:
    made = (
        _claims(found, link),
        _middle(found, link),
        _across(found),
        _depth(found),
        _parts(found, link),
        _what_was_left_out(found),
    )
    return tuple(section for section in made if section is not None)


def _claims(found: Survey, link: Link) -> Section:
    draft, table = Draft("claims", "The claims of McGrath et al., run by run"), found.claims
    if table.empty:
        return draft.absent("no run knocks out layers at the last token.")
    draft.add(figures.claims_by_run(table), "wide")
    by_run = {(row["run"], row["claim"]): row for row in table.to_dict("records")}
    names = list(dict.fromkeys(table["claim"]))
    runs = found.runs[found.runs["run"].isin(table["run"])]
    columns: Columns = {"run": _run(runs, link), **{name: _verdict(by_run, name, link) for name in names}}
    each = table.drop_duplicates("claim")
    words = tuple(
        (
            row["claim"],
            f"{row['says']} ({row['source']}; in the paper: {row['paper']}). Asked of several: {row['search']}.",
        )
        for row in each.to_dict("records")
    )
    caption = (
        "Verdict, its number with the 95 % interval, and where that stands; press one for the run’s report. Slopes are "
        "of compensation on own change, so the paper’s 0.7 reads −0.7."
    )
    return draft.finished(
        "A tile is a claim in a run: green with +, it holds; purple with −, it does not; with ?, the interval lies "
        "on both sides of the bound. No tile: the run clearly loses nothing that the claim speaks of.",
        [COUNTED],
        words=words,
        listing=as_listing(runs, columns, caption, "Claim by claim"),
    )


def _run(table: pd.DataFrame, link: Link) -> Callable[[Row], Cell]:
    """Cells with a run's model, its task in small print; a link to its report."""
    place = named(table, "label")

    def made(row: Row) -> Cell:
        model, task = str(row["label"]).split(" · ", 1)
        return Cell(model, place(row).value, task, link(row))

    return made


def _verdict(by_run: dict[tuple[str, str], Row], claim: str, link: Link) -> Callable[[Row], Cell]:
    def made(row: Row) -> Cell:
        one = by_run[row["run"], claim]
        if not math.isfinite(one["value"]):
            return Cell(NONE, math.nan)
        ends = interval(one["value_lo"], one["value_hi"])
        small = f"{fixed(one['value'])}{'' if ends == NONE else f' ({ends})'}, {one['where']}"
        return Cell(str(one["verdict"]), float(one["value"]), small, link(row))

    return made


def _middle(found: Survey, link: Link) -> Section:
    draft, table = Draft("middle", "What comes back at middle depth, by model and task"), found.runs
    for share in ("restored", "restored_with_norm"):
        if table[f"pooled_{share}"].notna().any():
            draft.add(figures.shares_by_run(table, share))
    columns: Columns = {
        "run": _run(table, link),
        "prompts": lambda row: Cell(f"{row['prompts']:,}", row["prompts"], f"{row['groups']:,} groups"),
        "knock-outs": lambda row: Cell(f"{row['knockouts']:,}", row["knockouts"]),
        "clear losses": lambda row: Cell(f"{row['lost']:,}", row["lost"]),
        "repaired": lambda row: Cell(f"{row['repaired']:,}", row["repaired"]),
        "answered by attention": lambda row: Cell(f"{row['answered']:,}", row["answered"]),
        "made worse": lambda row: Cell(f"{row['made_worse']:,}", row["made_worse"]),
        "parts together": lambda row: Cell(f"{row['pooled_parts']:,}", row["pooled_parts"]),
        "mean own change": estimate("pooled_own_change"),
        "given back": _share("pooled_restored"),
        "with norm": _share("pooled_restored_with_norm"),
    }
    caption = (
        "How many knock-outs clearly lose something, and of these how many are repaired, corrected over all knock-outs "
        "of a run; then the parts at middle depth together. Of whole texts these are all parts of the second half, on "
        "the top tokens of each."
    )
    if not draft.charts:
        section = draft.absent("no run clearly loses anything at middle depth.")
        return Section(section.slug, section.title, reason=section.reason, listing=_listing(table, columns, caption))
    return draft.finished(
        "Each point is a run, with its 95 % interval over groups of prompts; filled: a trained model, hollow: random "
        "weights of the same shape. At the dashed line all of the loss comes back.",
        [MEANING, "Runs in which these layers lose nothing for certain, or lose and gain alike, have no point."],
        listing=_listing(table, columns, caption),
    )


def _listing(table: pd.DataFrame, columns: Columns, caption: str) -> Listing:
    return as_listing(table, columns, caption, "Run by run")


def _share(name: str) -> Callable[[Row], Cell]:
    def made(row: Row) -> Cell:
        ends = [percent(row[f"{name}{end}"]) for end in ("_lo", "_hi")]
        small = "" if NONE in ends else f"{ends[0].rstrip('%').rstrip()} to {ends[1]}"
        return Cell(percent(row[name]), float(row[name]), small)

    return made


def _across(found: Survey) -> Section:
    draft, table = Draft("size", "Over size and training"), found.runs
    for across in ("parameters", "step"):
        if table.loc[table["pooled_restored_with_norm"].notna(), across].dropna().nunique() > 1:
            draft.add(figures.shares_over(table, across), "wide" if not draft.charts else "")
    if not draft.charts:
        return draft.absent("all models that lose something are of one size, and of one step of training.")
    return draft.finished(
        "Each point is a run, coloured by task. Points of one model stand side by side, lest they hide each other.",
        ["No line is drawn: a few models differ in data, width, depth and tokenizer as much as in size.", MEANING],
    )


def _depth(found: Survey) -> Section:
    draft, table = Draft("depth", "Over relative depth, part by part"), found.parts
    for unit in units(table):
        for value in ("own_change", "restored_with_norm"):
            if drawable(table, unit, value):
                draft.add(figures.over_depth(table, unit, value))
    return draft.finished(
        "Each point is a part of a model, with its 95 % interval, coloured by model; hollow: random weights. Choose "
        "the task above each chart. Own change is what the part’s loss directly takes from the answer; the share that "
        "comes back, norm included, is drawn for clear losses, corrected over all knock-outs of the run.",
        ["Intervals hold one at a time. Values beyond the axis are arrows at its edge."],
    )


def units(table: pd.DataFrame) -> list[str]:
    """Kinds of parts that are drawn: attention layers and MLPs first."""
    there = set(table["unit"])
    return [kind for kind in ("attn", "mlp", "mixer", "layer", "head", "kv", "neuron") if kind in there]


def drawable(table: pd.DataFrame, unit: str, value: str) -> bool:
    """Whether any part of a kind has a value that is drawn."""
    rows = table[(table["unit"] == unit) & table[value].notna()]
    return bool(rows["lost"].any() if value == "restored_with_norm" else len(rows))


def _parts(found: Survey, link: Link) -> Section:
    draft, table = Draft("parts", "The parts that lose most"), found.parts
    total = len(table)
    table = table[table["lost"].astype(bool)]
    losses = len(table)
    table = table.loc[table["own_change"].nsmallest(ROWS).index]
    if table.empty:
        return draft.absent("no knock-out clearly loses anything.")
    columns: Columns = {
        "part": lambda row: Cell(
            str(row["ablated"]),
            row["depth"],
            row["label"],
            f"{link(row)}#ablated={row['ablated']}" if link(row) else "",
        ),
        "depth": lambda row: Cell(fixed(row["depth"]), row["depth"]),
        "own change": estimate("own_change"),
        "attention": estimate("compensation_attn"),
        "MLPs": estimate("compensation_mlp"),
        "final norm": estimate("norm_effect"),
        "total effect": estimate("total_effect"),
        "with norm": _share("restored_with_norm"),
        "slope": estimate("slope"),
        "R²": estimate("r2"),
        "became": named_value("outcome"),
    }
    caption = (
        f"Clear losses, corrected over the knock-outs of their run; {min(losses, ROWS):,} of {losses:,} among "
        f"{total:,} knock-outs, those that lose most first. Means in logits with 95 % intervals; logits of different "
        "models, and of differences, are not one unit. Press a part for the run’s report with it chosen."
    )
    return draft.finished(
        "Own change, what later attention and MLPs and the final norm give back, and their sum, the total effect.",
        listing=as_listing(table, columns, caption, "Part by part", ("own change", "ascending")),
    )


def _what_was_left_out(found: Survey) -> Section | None:
    if not found.left_out:
        return None
    reasons = tuple(found.left_out.items())
    return Draft("left-out", "Left out").finished("Folders that are in no table, each with the reason.", words=reasons)
