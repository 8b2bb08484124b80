"""The page of a ranking."""

from __future__ import annotations

import math
from pathlib import Path

from hydrascope import figures
from hydrascope.analysis import listed as in_words
from hydrascope.analysis import quantity
from hydrascope.report import _facts
from hydrascope.report._facts import Pairs
from hydrascope.report._html import write
from hydrascope.report._listing import Cell, Columns, Listing, estimate, listed, named, named_value
from hydrascope.report._numbers import fixed, percent
from hydrascope.report._of_ledgers import Told, render_told
from hydrascope.report._section import Draft, Section
from hydrascope.significance import EXACT, Significance, told

LISTED = 60
"""Most rows of a table."""
WORST = 5
"""Worst misjudged parts of each score."""

WORDS = (
    ("primaries", "the parts whose backups are sought; lost together"),
    ("conditional score", "how much more the loss of a part moves the answer once the primaries are out, mean square"),
    ("coupling", "mean square of the difference of the two changes: also above zero where a loss changes its sign"),
    ("amplification", "mean square beside the primaries over that alone"),
    ("repair", "what comes back when the primaries are lost: total effect minus own change"),
    ("needed", "freezing it clearly removes repair, at a false discovery rate of 5 %"),
    ("cheap score", "an estimate of the total effect from the clean run, or from gradients, without a knock-out"),
)

_SHOWN = {
    "alone": "parts that are needed",
    "conditional score": "sets of the first by conditional score",
    "co-activation": "sets of the first by co-activation",
    "random": "random sets of parts of the same kinds",
}
"""What is frozen, by what it was chosen by."""

_OPENING = """import hydrascope as hs
found = hs.Rank.open(".")
found.backups(), found.freezing(), found.ranking()"""


def write_rank_report(found: Significance, path: Path, command: str = "") -> Path:
    """Write the report of a ranking.

    Args:
        found: its tables.
        path: path of the HTML file.
        command: command that makes the ranking.

    Raises:
        OutputError: the file cannot be written.
    """
    return write(render_rank(found, command), path)


def render_rank(found: Significance, command: str = "") -> str:
    """The report of a ranking as the text of one HTML file.

    Args:
        found: its tables.
        command: command that makes the ranking.
    """
    page = Told(
        said=told(found),
        facts=_headline_facts(found),
        hero=_backups(found),
        sections=tuple(made(found) for made in (_conditional, _freezing, _flips, _agreement, _cheap)),
        table=_ranking(found),
        run=_run_facts(found),
        caveats=_caveats(found),
        opening=_OPENING,
        example=_facts.example(found.ds),
    )
    return render_told(found.account, found.resampling, page, command)


def _backups(found: Significance) -> Section:
    draft = Draft("backups", "Who backs the primaries up")
    draft.add(figures.conditional_scores(found.backups), "wide")
    return draft.finished(
        f"Each part is lost alone, and once {in_words(list(found.primaries))} is out. A backup moves the answer only "
        "then.",
        words=WORDS,
    )


def _conditional(found: Significance) -> Section:
    draft, table = Draft("conditional", "Conditional co-ablation"), found.backups.nlargest(LISTED, "conditional")
    columns: Columns = {
        "lost": named(table, "part"),
        "conditional score": estimate("conditional"),
        "energy alone": estimate("energy"),
        "beside the primaries": estimate("energy_given"),
        "coupling": estimate("coupling"),
        "amplification": estimate("amplification"),
        "interaction": estimate("interaction"),
    }
    return draft.finished(
        "The scores behind the first chart. A high conditional score: the loss matters more without the primaries; a "
        "high coupling: it does something else then, more or less.",
        listing=listed(
            table,
            columns,
            "Energies are mean squares of the change of the answer’s logit, with 95 % intervals in small print; the "
            "interaction is its mean growth in logits, below zero where both losses cost more together.",
            "Scores of every part",
        ),
    )


def _freezing(found: Significance) -> Section:
    draft, table = Draft("freezing", "What of the repair goes while a part cannot answer"), found.freezing
    if table.empty:
        return draft.absent("no part reads what the primaries write, so that none can be frozen.")
    single = table["chosen_by"] == "alone"
    draft.add(figures.frozen_repair(table[single]), "wide")
    clear = bool(table["repair_lo"].iloc[0] > 0 or table["repair_hi"].iloc[0] < 0)
    shown = table[~single | table["needed"].astype(bool)]
    together = [said for by, said in _SHOWN.items() if (shown["chosen_by"] == by).any()]
    columns: Columns = {
        "frozen": lambda row: Cell(str(row["frozen"]).replace(",", ", "), math.nan),
        "chosen by": named_value("chosen_by"),
        "repair": estimate("repair"),
        "gone": estimate("gone"),
        **({"share": estimate("removed")} if clear else {}),
    }
    return draft.finished(
        "The primaries are out, and one part is held at its clean output. Coloured points are needed: repair clearly "
        "goes with them.",
        ["" if clear else "Nothing clearly comes back on the whole, so that no shares are given."],
        listing=listed(shown, columns, f"In logits: {in_words(together)}.", "Frozen alone and together")
        if together
        else None,
    )


def _flips(found: Significance) -> Section:
    draft, table = Draft("flips", "Why this answer"), found.flip_table
    if table.empty:
        return draft.absent(
            "no prompt was asked about; asking about one (--why) searches the parts that its answer needs."
        )
    columns: Columns = {
        "prompt": lambda row: Cell(str(row["prompt"]), row["prompt"], str(row["answer"]).strip()),
        "lost": lambda row: Cell(str(row["parts"]).replace("+", ", "), math.nan),
        "log-probability": lambda row: Cell(fixed(row["log_prob"]), row["log_prob"]),
        "still first": lambda row: Cell(percent(row["first"]), row["first"]),
        "others flipped": lambda row: Cell(percent(row["others"]), row["others"]),
    }
    return draft.finished(
        "Step by step the part is added that leaves the answer least; then parts are left out while it stays flipped. "
        "The last row of a prompt is what was found: no part of it can be spared, but a smaller set may exist.",
        listing=listed(
            table,
            columns,
            "Still first: share of the donors for which the answer is the most probable token. Others flipped: share "
            "of the other prompts that the same loss flips.",
        ),
    )


def _agreement(found: Significance) -> Section:
    draft, table = Draft("scores", "How far scores agree, and what they find"), found.agreement
    scores = [score.name for score in found.scores]
    apart = found.resampling.conclusive and bool((table["tau"].notna() & table["tau_lo"].isna()).any())
    draft.add(figures.score_agreement(table, scores), "wide")
    columns: Columns = {
        "score": named_value("score"),
        "finds": lambda row: Cell("labelled parts" if row["labels"] == "given" else "needed parts", math.nan),
        "of": lambda row: Cell(f"{row['positives']} of {row['parts']}", row["positives"]),
        "AUC": estimate("auc"),
        "average precision": estimate("average_precision"),
        "precision": estimate("precision"),
    }
    return draft.finished(
        "Green: two scores order the parts alike; purple: against each other. Dots mark values whose interval excludes "
        "zero.",
        ["The stress test kept other prompts, so that tau of its scores has no interval." if apart else ""],
        listing=listed(
            found.detection,
            columns,
            "AUC: probability that a part to be found scores above another one. Needed parts are measured on the same "
            "prompts, so that areas compare scores and prove none.",
            "What each score finds",
        )
        if len(found.detection)
        else None,
    )


def _cheap(found: Significance) -> Section:
    draft, table = Draft("cheap", "Where cheap scores are wrong"), found.misjudged
    if table.empty:
        return draft.absent("no cheap score estimates effects here.")
    draft.add(figures.cheap_against_exact(table), "wide")
    worst = table.groupby("score", sort=False).head(WORST)
    columns: Columns = {
        "score": named_value("score"),
        "lost": named_value("part"),
        "estimate": lambda row: Cell(fixed(row["estimate"]), row["estimate"]),
        "total effect": lambda row: Cell(fixed(row["total"]), row["total"]),
        "missed by": estimate("missed"),
        "beyond its own change": lambda row: Cell(fixed(row["beyond_own"]), row["beyond_own"]),
        "repair": lambda row: Cell(fixed(row["repair"]), row["repair"]),
    }
    lines = [
        f"{row['score']} {fixed(row['slope'])} [{fixed(row['slope_lo'])}, {fixed(row['slope_hi'])}]"
        for row in found.calibration.dropna(subset="slope").to_dict("records")
    ]
    return draft.finished(
        "A point is a part by one score; on the dashed line the estimate is right.",
        [f"For each logit estimated the exact effects change by, over the parts: {in_words(lines)}." if lines else ""],
        listing=listed(
            worst,
            columns,
            "Missed by: estimate minus exact total effect, which is what it makes of the part’s own change (such as "
            f"saturation) minus repair. The {WORST} worst of each score, in logits.",
            "Parts that are misjudged most",
        ),
    )


def _ranking(found: Significance) -> Listing:
    table, names = found.ranking, [score.name for score in found.scores]
    table = table.loc[table[EXACT].abs().nlargest(LISTED).index]
    columns: Columns = {"part": named(table, "part"), **{name: estimate(name) for name in names}}
    more = f" The {LISTED} parts with the largest total effect are listed." if len(found.parts) > LISTED else ""
    return listed(
        table,
        columns,
        f"Effects in {quantity(found.ds).axis}, conditional scores and coupling in their squares, with 95 % intervals "
        f"in small print. Press a heading to sort.{more}",
    )


def _headline_facts(found: Significance) -> Pairs:
    return (("Parts", f"{len(found.parts):,}"), ("Primaries", in_words(list(found.primaries))))


def _run_facts(found: Significance) -> Pairs:
    steps = [ds for searched in found.flips.values() for ds in searched]
    seconds = sum(float(ds.attrs["seconds"]) for ds in (found.ds, found.joint, found.frozen, *steps) if ds is not None)
    cheap = "" if found.cheap is None else f"{float(found.cheap['seconds'].sum()):,.1f} s"
    mine = (("All runs took", f"{seconds:,.0f} s"), ("Gradients took", cheap))
    return tuple((name, value) for name, value in mine if value)


def _caveats(found: Significance) -> tuple[str, ...]:
    return (
        "The conditional score is that of Gong et al. (arXiv 2607.01940) with the energy of the answer’s logit in "
        "place of the Fisher metric of the whole next-token distribution.",
        "Intervals hold one at a time; what is called needed among many candidates has a false discovery rate of 5 %.",
    )
