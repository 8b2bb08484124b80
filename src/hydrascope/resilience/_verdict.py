"""What a stress test found, in plain sentences; each is said only where its interval is clear."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hydrascope.analysis import count, digits, listed, noun, percent, quantity, reads_each
from hydrascope.resilience._communities import CLEAR, NETWORKS
from hydrascope.resilience._findings import ALLOWED, Resilience
from hydrascope.resilience._ranking import USUAL

NAMED = 4
"""Most parts, or pairs, that a sentence names."""

ORDERED = {"alone": "losses alone", "direct effect": "direct effects"}
"""Orders of the parts that are held to the Shapley values, and what they are called."""

KINDS = {
    "active repair": "the later part answers as much",
    "passive redundancy": "neither answers the other",
}
"""Kinds of pairs that are counted, and what they mean."""

Row = Mapping[Any, Any]
Said = Iterator[tuple[str, dict[str, Any]]]
"""Sentences with the numbers in them, by name."""


@dataclass(frozen=True)
class Verdict:
    """The findings of a stress test.

    Attributes:
        headline: what the model survives.
        sentences: everything else, most important first.
        numbers: the numbers that the sentences state, by name.
    """

    headline: str
    sentences: tuple[str, ...]
    numbers: Mapping[str, Any]


def verdict(found: Resilience) -> Verdict:
    """Say what a stress test found."""
    sayings = (_survival, _damage, _importance, _pairs, _orders, _communities, _singles, _worst, _additivity, _load)
    (headline, numbers), *rest = [said for saying in sayings for said in saying(found)]
    for _, more in rest:
        numbers |= more
    return Verdict(headline, tuple(sentence for sentence, _ in rest), numbers)


def _survival(found: Resilience) -> Said:
    what = f"{len(found.parts)} {noun(found.ds)}s"
    if found.survived is None:
        value, *ends = found.area()
        yield (
            f"Averaged over all failure rates of the {what}, the {quantity(found.ds).logit} is "
            f"{_spread(value, *ends)}.",
            {"area": value},
        )
        return
    rate, lo, hi = found.survived
    accuracy, rows = percent(found.accuracy), _rows(found)
    numbers = {"survived": rate, "survived_lo": lo, "survived_hi": hi}
    if math.isnan(rate):
        yield f"Fewer than {accuracy} of the {rows} are right even where none of the {what} fail.", numbers
    elif rate == 1:
        yield f"At least {accuracy} of the {rows} stay right at every failure rate of the {what}.", numbers
    else:
        until = _spread(rate, lo, hi, percent)
        yield f"At least {accuracy} of the {rows} stay right until {until} of the {what} fail at random.", numbers


def _damage(found: Resilience) -> Said:
    curve = found.curve()
    row = curve.iloc[int((curve["rate"] - USUAL).abs().argmin())]
    numbers = {name: float(row[name]) for name in ("rate", "damage", "singles", "beyond")}
    said = (
        f"Where each fails with probability {percent(row['rate'])}, the {quantity(found.ds).logit} falls by "
        f"{_ends(row, 'damage')}; the losses of single parts add up to {digits(row['singles'])}"
    )
    if row["beyond_lo"] > 0:
        said += ", so that what single knock-outs show is too little"
    elif row["beyond_hi"] < 0:
        said += ", so that what single knock-outs show is too much"
    elif found.resampling.conclusive:
        said += ", which it cannot be told from"
    yield f"{said}.", numbers


def _importance(found: Resilience) -> Said:
    table = found.ranking
    rate = percent(float(table["rate"].iloc[0]))
    sure = table[table["under_failure_lo"] > 0] if found.resampling.conclusive else table
    if len(sure):
        first = _largest(sure, "under_failure")
        yield (
            f"When {rate} of the others fail, {first['part']} matters most: losing it costs "
            f"{_ends(first, 'under_failure')} logits, alone {_ends(first, 'alone')}.",
            {"first": first["part"], "under_failure": float(first["under_failure"]), "alone": float(first["alone"])},
        )
    exposed = table[table["exposure_lo"] > 0]
    if len(exposed):
        row = _largest(exposed, "exposure")
        tenth = _spread(row["exposure"] / 10, row["exposure_lo"] / 10, row["exposure_hi"] / 10)
        yield (
            f"The most exposed part is {row['part']}: for each tenth of the others that fail, its loss grows by "
            f"{tenth} logits at first.",
            {"exposed": row["part"], "exposure": float(row["exposure"])},
        )
    crossing = found.crossings
    if len(crossing):
        part = str(crossing["overtaken_by"].value_counts().index[0])
        named = list(crossing.loc[crossing["overtaken_by"] == part, "part"])
        row = _of(table, part)
        covered = f"; {row['covered_by']} covers for it" if row["covered_by"] else ""
        yield (
            f"A ranking by single knock-outs underrates {part} most: alone it clearly matters less, and among failures "
            f"clearly more, than {overtaken(crossing, part)}{covered}.",
            {"underrated": part, "overtaken": named, "crossings": len(crossing)},
        )


def overtaken(crossings: pd.DataFrame, part: str) -> str:
    """The parts that one overtakes, and at which failure rates of the others that is clear.

    Args:
        crossings: from `crossings`.
        part: the one that overtakes.
    """
    mine = crossings[crossings["overtaken_by"] == part]
    told: list[str] = []
    for rate in sorted(mine["rate"].unique()):
        where = percent(rate) if told else f"when {percent(rate)} of the others fail"
        told.append(f"{listed(list(mine.loc[mine['rate'] == rate, 'part']))} ({where})")
    *first, last = told
    return f"{', '.join(first)}, and {last}" if first else last


def _rows(found: Resilience) -> str:
    return "tokens" if reads_each(found.ds) else "prompts"


def _of(table: pd.DataFrame, part: Any) -> Row:
    """The row of a part."""
    found: Row = table[table["part"] == part].to_dict("records")[0]
    return found


def _largest(table: pd.DataFrame, column: str) -> Row:
    """The row with the largest value in a column."""
    found: Row = table.to_dict("records")[int(table[column].argmax())]
    return found


def _orders(found: Resilience) -> Said:
    against = {row["order"]: row for row in found.agreement.to_dict("records") if row["other"] == "Shapley value"}
    # parts that all cost the same have no order
    known = {name: against[name] for name in ORDERED if not math.isnan(against[name]["tau"])}
    if not known:
        return
    first, *others = known
    said = f"{ORDERED[first]} order the parts as the Shapley values do with tau {_ends(known[first], 'tau')}"
    for name in others:
        said += f", {ORDERED[name]} with tau {_ends(known[name], 'tau')}"
    yield f"{said[0].upper()}{said[1:]}.", {f"tau_{name.split()[0]}": float(row["tau"]) for name, row in known.items()}


def _pairs(found: Resilience) -> Said:
    table = found.pairs
    if table.empty or not found.resampling.conclusive:
        return
    clear = table[table["significant"]]
    worse = clear[clear["interaction"] < 0]
    less = len(clear) - len(worse)
    kinds = {kind: int((worse["kind"] == kind).sum()) for kind in KINDS}
    yield (
        f"{_interacting(len(table), len(worse), less)}{_of_kinds(len(worse), kinds)}.",
        {"pairs": len(table), "worse_together": len(worse), "less_together": less, **kinds},
    )
    if len(worse):
        row = _largest(worse.assign(size=-worse["interaction"]), "size")
        kind = f" ({row['kind']})" if row["kind"] not in ("", "redundancy") else ""
        yield (
            f"{row['part']} and {row['other']} depend on each other most{kind}: together they cost "
            f"{_ends(row, 'joint_loss')} logits, alone {digits(row['alone'])} and {digits(row['other_alone'])}.",
            {"pair": f"{row['part']}+{row['other']}", "joint_loss": float(row["joint_loss"])},
        )


def _interacting(pairs: int, worse: int, less: int) -> str:
    told = [
        f"{number} clearly {'costs' if number == 1 else 'cost'} {word}"
        for number, word in ((worse, "more"), (less, "less"))
        if number
    ]
    found = listed(told or ["none clearly costs more or less"])
    return f"Of {count(pairs, 'pair')}, {found} together than alone"


def _of_kinds(worse: int, kinds: Mapping[str, int]) -> str:
    there = {f"{kind} ({KINDS[kind]})": number for kind, number in kinds.items() if number}
    if worse == 1 and there:
        return f"; it is {listed(list(there))}"
    told = [f"{number} {'is' if number == 1 else 'are'} {kind}" for kind, number in there.items()]
    return f"; of those that cost more, {listed(told)}" if told else ""


def _communities(found: Resilience) -> Said:
    if not found.resampling.conclusive:
        return
    for name, some in found.communities.groupby("network", sort=False):
        row = some.iloc[0]
        what = NETWORKS[str(name)]
        numbers = {f"{name}_{column}": float(row[column]) for column in ("modularity", "shuffled", "p")}
        beside = (
            f"modularity {digits(row['modularity'])}, of shuffled ones {digits(row['shuffled'])}, p = {row['p']:.2f}"
        )
        if row["p"] <= CLEAR:
            members = row["parts"].split("+")
            more = len(members) - NAMED
            named = listed([*members[:NAMED], *([count(more, "other")] if more > 0 else [])])
            said = f"{what} fall into {len(some)} communities ({beside}); the largest holds {named}"
            numbers[f"{name}_communities"] = len(some)
        else:
            said = f"{what} fall no more into communities than shuffled ones do ({beside})"
        yield f"{said[0].upper()}{said[1:]}.", numbers


def _singles(found: Resilience) -> Said:
    numbers: dict[str, Any] = {"secure": int(found.single_faults["secure"].sum())}
    if len(hidden := found.hidden_pairs):
        numbers["hidden"] = int(hidden["hidden"].sum())
    yield secure_parts(found), numbers


def secure_parts(found: Resilience) -> str:
    """Say how many parts can be lost one at a time, and which pairs of those cannot be lost together."""
    table = found.single_faults
    secure, many = int(table["secure"].sum()), len(table)
    lose = f"{percent(ALLOWED)} of the {_rows(found)} lose {digits(found.loss)} logits or more"
    if secure == 0:
        said = f"None of the {many} parts can be lost, even one at a time: whichever is out, more than {lose}"
    elif secure == 1:
        said = f"1 of {many} parts can be lost: without it, at most {lose}"
    else:
        which = f"All {many}" if secure == many else f"{secure} of {many}"
        said = f"{which} parts can be lost one at a time: whichever of them is out, at most {lose}"
    return f"{said}{_hidden(found.hidden_pairs)}."


def _hidden(table: pd.DataFrame) -> str:
    if table.empty:
        return ""
    pairs = table.sort_values("hit", ascending=False, kind="stable")
    named = [f"{row['part']} with {row['other']}" for row in pairs[pairs["hidden"]].to_dict("records")]
    if len(table) == 1:
        row = table.iloc[0]
        can = "cannot" if row["hidden"] else "can"
        return f"; the only measured pair of such parts, {row['part']} with {row['other']}, {can} be lost together"
    if not named:
        return f"; all {len(table)} measured pairs of such parts can be lost together"
    said = f"; of the {len(table)} measured pairs of such parts, {len(named)} cannot be lost together"
    more = len(named) > NAMED
    return f"{said}, {listed(named[:NAMED])} first of all" if more else f"{said}: {listed(named)}"


def _worst(found: Resilience) -> Said:
    table = found.worst
    if table.empty:
        return
    row = table.iloc[-1]
    several = "single part" if row["size"] == 1 else f"{row['size']} parts"
    yield (
        f"Without the worst {several} that a search found, {row['parts'].replace('+', ', ')}, the "
        f"{quantity(found.ds).logit} is {_ends(row, 'value')}, without random ones {digits(row['random'])}; there may "
        "be worse.",
        {"worst": row["parts"], "worst_value": float(row["value"]), "random_value": float(row["random"])},
    )


def _additivity(found: Resilience) -> Said:
    if found.additivity.empty or math.isnan((row := found.additivity.iloc[-1])["singles"]):
        return
    said = f"Losses of single parts, added up, predict those of random sets with R² {_ends(row, 'singles')}"
    if not math.isnan(row["pairs"]):
        said += f", with the interactions of pairs R² {_ends(row, 'pairs')}"
    if not math.isnan(row["line"]):
        said += (
            f"; a line through the sums of single losses, which allows for saturation, reaches {digits(row['line'])}"
        )
    numbers = {f"r2_{name}": float(row[name]) for name in ("singles", "pairs", "line")}
    yield f"{said}.", numbers


def _load(found: Resilience) -> Said:
    table, sure = found.loads, found.transfers
    sure = sure[sure["significant"] & (sure["transfer_lo"] > 0)]
    if table.empty or sure.empty:
        return
    row = _largest(sure, "transfer")
    load = _of(table, row["part"])
    yield (
        f"The largest share of a load is taken over by {row['taker']}, {_ends(row, 'transfer', percent)} of what "
        f"{row['part']} loses; the effective number of writers that take some of it is {load['takers']:.1f}.",
        {"taker": row["taker"], "transfer": float(row["transfer"]), "takers": float(load["takers"])},
    )


def _ends(row: Any, name: str, form: Callable[[float], str] = digits) -> str:
    return _spread(float(row[name]), float(row[f"{name}_lo"]), float(row[f"{name}_hi"]), form)


def _spread(value: float, lo: float, hi: float, form: Callable[[float], str] = digits) -> str:
    """A number with its interval, where there is one."""
    return form(value) if math.isnan(lo) or math.isnan(hi) else f"{form(value)} [{form(lo)}, {form(hi)}]"
