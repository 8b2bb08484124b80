"""The page of a stress test."""

from __future__ import annotations

import math
from pathlib import Path

from hydrascope.analysis import listed as in_words
from hydrascope.analysis import quantity
from hydrascope.report import _stress_charts as charts
from hydrascope.report._facts import Pairs
from hydrascope.report._html import write
from hydrascope.report._listing import Cell, Columns, Listing, Row, estimate, listed, named, named_value
from hydrascope.report._numbers import NONE, fixed, percent
from hydrascope.report._of_ledgers import Told, render_told
from hydrascope.report._section import Draft, Section
from hydrascope.resilience import Resilience, overtaken, secure_parts, verdict

LISTED = 60
"""Most parts printed."""
PAIRS = 20
"""Most pairs printed."""
NAMED = 4
"""Most parts named in a caveat."""
FLAT = 1e-4
"""Width below which an interval has none but that of rounding, in logits."""

WORDS = (
    ("failure rate", "how probable it is that a part is knocked out; each part by itself, all at once"),
    ("damage", "what the failures take from the answer, clean minus failed"),
    ("importance under failure", "what losing a part costs while each other part fails with a probability"),
    (
        "Shapley value",
        "importance under failure, averaged over all failure rates; all together add up to the whole damage",
    ),
    ("exposure", "by how much a part’s loss grows, at first, with the failure rate of the others"),
    ("interaction", "what two losses together take beyond their sum; below zero: they cost more together"),
    ("active repair", "of two parts that depend on each other, the later one answers the loss of the earlier one"),
    ("passive redundancy", "neither answers the other: they do the same work, or a third part covers for either"),
    ("load transfer", "share of a part’s lost direct effect that another writer takes over"),
)

_OPENING = """import hydrascope as hs
test = hs.Stress.open(".")
test.curve(), test.ranking(), test.pairs()"""


def write_stress_report(found: Resilience, path: Path, command: str = "") -> Path:
    """Write the report of a stress test.

    Args:
        found: its tables.
        path: path of the HTML file.
        command: command that makes the test.

    Raises:
        OutputError: the file cannot be written.
    """
    return write(render_stress(found, command), path)


def render_stress(found: Resilience, command: str = "") -> str:
    """The report of a stress test as the text of one HTML file.

    Args:
        found: its tables.
        command: command that makes the test.
    """
    page = Told(
        said=verdict(found),
        facts=_headline_facts(found),
        hero=_survival(found),
        sections=tuple(made for made in (_importance(found), _pairs(found), _load(found), _worst(found)) if made),
        table=_ranking(found),
        run=_run_facts(found),
        caveats=_caveats(found),
        opening=_OPENING,
    )
    return render_told(found.account, found.resampling, page, command)


def _survival(found: Resilience) -> Section:
    draft = Draft("survival", "What the model survives")
    draft.add(charts.degradation_curve(found), "wide" if found.survived is None else "")
    if found.survived is not None:
        draft.add(charts.accuracy_curve(found))
    return draft.finished(
        "Each part fails by itself with the probability on the horizontal axis. Bands are 95 % intervals over groups "
        "of prompts and over the random sets of parts; the thin dashed line is the share of right answers asked for.",
        [
            "Where losses added up, the measured curve would lie on the dashed line. Both ends are measured: nothing "
            "fails on the left, all parts on the right."
        ],
        words=WORDS,
    )


def _importance(found: Resilience) -> Section:
    draft, leading = Draft("importance", "Importance when others fail too"), charts.leading(found)
    draft.add(charts.importance_curves(found, leading), "wide")
    return draft.finished(
        "On the left the ordinary knock-out, where nothing else fails; on the right all other parts have failed. A "
        "curve that rises belongs to a part that others cover for. Diamonds: a part clearly overtakes others.",
        [
            f"The {len(leading)} parts with the largest importance at any rate are drawn. Their mean over all rates is "
            "the Shapley value, at one half the Banzhaf value.",
            _crossings(found),
        ],
        listing=_agreement(found),
    )


def _crossings(found: Resilience) -> str:
    table = found.crossings
    told = [f"{part} overtakes {overtaken(table, part)}" for part in table["overtaken_by"].unique()]
    if not told:
        return "No part clearly overtakes another one." if found.resampling.conclusive else ""
    return f"{'; '.join(told)}."


def _agreement(found: Resilience) -> Listing:
    columns: Columns = {
        "order": lambda row: Cell(str(row["order"]), math.nan),
        "other order": named_value("other"),
        "tau": estimate("tau"),
    }
    return listed(
        found.agreement,
        columns,
        "Kendall’s tau of each two orders of the parts; 1 where they agree, 0 where they have nothing in common.",
        "How far orders of importance agree",
    )


def _pairs(found: Resilience) -> Section:
    draft, table = Draft("pairs", "Parts that fail together"), found.pairs
    if table.empty:
        return draft.absent("no pairs were knocked out.")
    draft.add(charts.pair_matrix(found), "wide")
    shown = table[table["significant"]]
    shown = shown.loc[shown["interaction"].abs().nlargest(PAIRS).index]
    columns: Columns = {
        "pair": lambda row: Cell(f"{row['part']} + {row['other']}", math.nan),
        "interaction": estimate("interaction"),
        "without the norm": estimate("still_norm"),
        "loss together": estimate("joint_loss"),
        "losses alone": lambda row: Cell(f"{fixed(row['alone'])}, {fixed(row['other_alone'])}", math.nan),
        "answer of the later": estimate("answer"),
        "kind": named_value("kind"),
    }
    return draft.finished(
        "Purple: both cost more together than alone; green: less, as on one path. Dots mark interactions that differ "
        "from zero, at a false discovery rate of 5 %.",
        [
            "Communities are those that Louvain’s search finds in the network of interactions’ sizes, or of answers’ "
            "sizes; p says how often shuffled networks are as modular, in which every part keeps the sum of its sizes."
        ],
        listing=listed(
            shown,
            columns,
            f"The clear interactions, {PAIRS} at most, the largest first, in logits. Where the later part acts on the "
            "logits alone, its answer is minus the interaction without the norm: active repair.",
            "The strongest pairs",
        ),
    )


def _load(found: Resilience) -> Section:
    draft = Draft("load", "Who takes over whose load")
    if found.transfers.empty:
        return draft.absent("no part clearly lost something of its own that a writer of the account could take over.")
    draft.add(charts.load_transfer(found), "wide")
    loads = found.loads
    columns: Columns = {
        "lost": named(loads, "part"),
        "own change": lambda row: Cell(fixed(row["own_change"]), row["own_change"]),
        "takes most": lambda row: Cell(str(row["first_taker"]) or NONE, math.nan),
        "its share": lambda row: Cell(percent(row["first_share"]), row["first_share"]),
        "effective takers": lambda row: Cell(fixed(row["takers"], 1), row["takers"]),
        "shift of shares": lambda row: Cell(fixed(row["shift"]), row["shift"]),
        "clear changes": lambda row: Cell(str(row["blast_writers"]), row["blast_writers"]),
        "blast": lambda row: Cell(fixed(row["blast"]), row["blast"]),
    }
    return draft.finished(
        "A row is a part that is out, a column a writer behind it. Green: it takes over some of the loss; purple: it "
        "loses too. Dots mark writers whose change is clear.",
        listing=listed(
            loads,
            columns,
            "Effective takers: 1 over the sum of squared shares of what is taken. Shift of shares: Jensen-Shannon "
            "distance of all writers’ shares before and after, from 0 to 1. Blast: all changes’ sizes over the loss.",
            "Where each load goes",
        ),
    )


def _worst(found: Resilience) -> Section | None:
    table = found.worst
    if table.empty:
        return None
    draft = Draft("worst", "Faults that are worst")
    columns: Columns = {
        "size": lambda row: Cell(str(row["size"]), row["size"]),
        "worst set found": lambda row: Cell(str(row["parts"]).replace("+", ", "), math.nan),
        "leaves": estimate("value"),
        "random sets leave": estimate("random"),
    }
    return draft.finished(
        "Greedy search with swaps, on one half of the groups; values are from the other half. There may be "
        "worse sets. Of 30 random sets the mean is given, and the range of the middle 95 %.",
        [secure_parts(found)],
        listing=listed(table, columns, f"What is left, in {quantity(found.ds).axis}.", "The worst sets found"),
    )


def _ranking(found: Resilience) -> Listing:
    table, ranked = found.ranking, ("direct", "alone", "under", "shapley")
    rate = percent(float(table["rate"].iloc[0]))
    table = table.loc[table["shapley"].fillna(table["under_failure"]).nlargest(LISTED).index]

    def ranks(row: Row) -> Cell:
        places = [row[f"rank_{name}"] for name in ranked]
        return Cell(", ".join(NONE if math.isnan(place) else f"{place:.0f}" for place in places), row["rank_shapley"])

    columns: Columns = {
        "part": named(table, "part"),
        "direct effect": estimate("direct_effect"),
        "own change": estimate("own_change"),
        "loss alone": estimate("alone"),
        f"loss, {rate} fail": estimate("under_failure"),
        "Shapley value": estimate("shapley"),
        "exposure": estimate("exposure"),
        "ranks": ranks,
        "covered by": named_value("covered_by"),
    }
    return listed(
        table,
        columns,
        f"In {quantity(found.ds).axis}, with 95 % intervals in small print. Ranks: by direct effect, loss alone, loss "
        "under failure, Shapley value. Covered by: the writer that clearly gives most back when the part is out. Press "
        f"a heading to sort.{f' The {LISTED} most important parts are listed.' if len(found.parts) > LISTED else ''}",
    )


def _headline_facts(found: Resilience) -> Pairs:
    sets = sum(ds.sizes["ablated"] for ds in found.ledgers)
    return (("Parts", f"{len(found.parts):,}"), ("Sets knocked out", f"{sets:,}"))


def _run_facts(found: Resilience) -> Pairs:
    plan, seconds = found.plan, sum(float(ds.attrs["seconds"]) for ds in found.ledgers)
    return (
        ("Random sets", f"{plan.masks:,} at each rate of {', '.join(percent(rate) for rate in plan.rates)}, nested"),
        ("Pairs", f"{len(found.paired):,}, of the parts that lose or cost most alone"),
        ("Worst sets", f"up to {plan.worst} parts" if plan.worst else "not searched"),
        ("All runs took", f"{seconds:,.0f} s"),
    )


def _caveats(found: Resilience) -> tuple[str, ...]:
    said = [
        "At high failure rates the model is far from anything it was trained on; what happens there says how it "
        "breaks, not what the parts do.",
        "Intervals allow for which prompts and which sets were drawn. Those of single numbers hold one at a time; what "
        "is called clear among many pairs, writers or crossings has a false discovery rate of 5 %.",
    ]
    if not math.isfinite(found.area()[0]):
        said.append(
            "The failure rates leave much of 0 to 1 open, so that no Shapley value is given; the usual rates are dense "
            "enough."
        )
    if flat := _unshaken(found):
        said.append(
            f"Among failures the importance of {_some(flat)} has an interval without width at some rate, since no "
            "random set drawn there made a difference to it. What only a set would show that was not drawn, the "
            "interval does not know; more masks (--masks) show more."
        )
    if str(found.ds.attrs["ablation"]) == "resample" and int(found.ds.attrs["donors"]) == 1:
        said.append(
            "All parts of a set are replaced from the same donor, one for each prompt; with all parts out the last "
            "position is the donor’s."
        )
    return tuple(said)


def _unshaken(found: Resilience) -> list[str]:
    """Parts whose importance no random set of some rate changed."""
    table = found.importance()
    inside = table[(table["rate"] > 0) & (table["rate"] < 1)]
    return list(dict.fromkeys(inside.loc[inside["importance_hi"] - inside["importance_lo"] < FLAT, "part"]))


def _some(parts: list[str]) -> str:
    """The first parts by name, and how many more there are."""
    more = len(parts) - NAMED
    return in_words([*parts[:NAMED], *([f"{more} more"] if more > 0 else [])])
