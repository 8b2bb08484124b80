"""What pruning found, in plain sentences; a difference is one only where its interval is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hydrascope.analysis import listed, percent, with_ends
from hydrascope.pruning._findings import Findings
from hydrascope.pruning._judged import share_drawn
from hydrascope.pruning.rankings import RANKINGS
from hydrascope.resilience import Verdict

Row = Mapping[Any, Any]
Said = tuple[str, Mapping[str, Any]]
"""A sentence, empty where there is nothing to say, with the numbers in it by name."""


def told(found: Findings) -> Verdict:
    """Say what pruning found.

    Args:
        found: the tables.
    """
    size = found.size_asked
    compared = [_compared(found, one) for one in found.sizes]
    if size is None:
        sayings = [_nothing_goes(found), *compared]
    else:
        row = found.row(found.best(size), size)
        sayings = [_headline(found, row), *compared, _gap(found, row), _exposed(found, row)]
    sayings.append(_without_intervals(found))
    numbers: dict[str, Any] = {}
    for _, more in sayings:
        numbers |= more
    (headline, _), *rest = sayings
    return Verdict(headline, tuple(sentence for sentence, _ in rest if sentence), numbers)


NEAREST = "whose set stays nearest to the whole model on the text that rankings saw, "
"""How one of several rankings is chosen."""

NAMED = 3
"""Most parts of a set that a sentence names."""


def _nothing_goes(found: Findings) -> Said:
    most, least = _bound(found), found.sizes[0]
    tried = f"without {least:,} of {len(found.parts):,} {found.units}"
    todo = f"even {tried}" if least == 1 else f"at any size that was tried, the least {tried}; try fewer"
    return f"No ranking stays within {most} times the loss {todo}.", {"size": 0}


def _headline(found: Findings, row: Row) -> Said:
    why = NEAREST if found.costs["ranking"].nunique() > 1 else ""
    kept = ""
    if found.keep_loss is not None:
        where = "there" if why else "on the text that it saw"
        why += f"the most that keeps the loss {where} within {_bound(found)} times the whole model's, "
        kept = f"; {_kept(found, row)}"
    direction, sign = ("rises", 1) if round(row["rise"], 3) >= 0 else ("falls", -1)
    return (
        f"Without {row['size']:,} of {len(found.parts):,} {found.units} ({percent(row['share'])}), chosen by "
        f"{listed(found.alike(row['size'], row['ranking']))}, {why}the loss on text that no ranking saw {direction} by "
        f"{spread(row, 'rise', sign=sign)} nats a token; perplexity goes from {row['whole_perplexity']:.2f} to "
        f"{row['perplexity']:.2f}{kept}.",
        {"size": row["size"], "best": row["ranking"], "rise": row["rise"], "perplexity": row["perplexity"]},
    )


def _bound(found: Findings) -> str:
    return f"{found.keep_loss:.12g}"


def _kept(found: Findings, row: Row) -> str:
    """Whether unseen text keeps the bound, too."""
    assert found.keep_loss is not None
    kept = row["loss_ratio"] <= found.keep_loss
    clear = row["loss_ratio_hi"] <= found.keep_loss if kept else row["loss_ratio_lo"] > found.keep_loss
    ratio = spread(row, "loss_ratio", max(3, len(_bound(found).partition(".")[2])))
    return (
        f"that is {ratio} times the loss, {'within' if kept else 'beyond'} the bound of {_bound(found)}"
        f"{'' if clear else ', though not clearly'}"
    )


def _compared(found: Findings, size: int) -> Said:
    """The order of the rankings at a size: whose set is cheapest, who cannot be told from it, who is clearly worse."""
    table = found.costs.query("size == @size").sort_values("rise", kind="stable")
    if len(table) < 2:
        return "", {}
    first, sets = table.to_dict("records")[0], {name: found.chosen[name].sets[size] for name in table["ranking"]}
    best = first["ranking"]
    names = found.alike(size, best)
    rows = found.differences.query("size == @size and other == @best")
    worse = [row["ranking"] for row in rows.to_dict("records") if row["difference_lo"] > 0]
    told = found.test.resampling.conclusive  # else no ranking has an interval, and none can be told from another
    unsure = list(rows.loc[rows["difference_lo"].isna(), "ranking"]) if told else []
    alike = [name for name in sets if name not in (*names, *worse, *unsure)]
    cost = f"on that text ({spread(first, 'rise')})"
    if len(names) == 1:
        said = f"At {size:,}, {best} costs least {cost}"
    else:
        how = "at the same cost" if len(names) == len(sets) else "which costs least"
        word = "both" if len(names) == 2 else "all"
        said = f"At {size:,}, {listed(names)} {word} remove {_named(sets[best][0])}, {how} {cost}"
    if alike:
        said += f"; {listed(alike)} cannot be told from it"
    if worse and (alike or unsure or len(worse) == 1):
        said += f"; clearly worse: {listed(worse)}"
    elif worse:
        said += "; all others are clearly worse"
    return f"{said}.", {f"least at {size}": best, f"worse at {size}": worse}


def _named(parts: Sequence[str]) -> str:
    return listed(parts) if len(parts) <= NAMED else f"the same {len(parts):,}"


def _gap(found: Findings, row: Row) -> Said:
    """Whether the chosen set is clearly dearer on unseen text, and whether sets that saw nothing are so, too."""
    name, size = row["ranking"], row["size"]
    if not (row["gap_lo"] > 0 and found.chosen[name].kind.sees):
        return "", {}
    said = (
        f"The set of {name} costs {spread(row, 'gap')} more on text that no ranking saw than on the text that it was "
        f"chosen on ({fixed(row['calibration_rise'])})"
    )
    # what takes the place of a part is made on that text, so that no set is without knowledge of it
    made = found.replace in ("mean", "optimal")
    others = [other for other, one in found.chosen.items() if other in RANKINGS and not one.kind.sees and not made]
    gaps = {other: found.row(other, size)["gap_lo"] for other in others}
    clear = [other for other in others if gaps[other] > 0]
    if clear:
        who = f"{listed(clear)}, which saw neither"
        said += f"; so {'does that' if len(clear) == 1 else 'do those'} of {who}: it need not be due to the choice"
    elif others:
        said += (
            f"; of {listed(others)}, which saw neither, that is not clear: choosing on it may have made it look cheaper"
        )
    else:
        said += "; whether the choice or the texts make the difference, no ranking that saw neither tells"
    return f"{said}.", {"gap": row["gap"], "gap_lo": row["gap_lo"]}


def _exposed(found: Findings, row: Row) -> Said:
    """Which part of the chosen set is clearly cheap only because of the others."""
    name, size = row["ranking"], row["size"]
    table = found.exposure.query("ranking == @name and size == @size and significant")
    if table.empty:
        return "", {}
    most = table.sort_values("exposure", ascending=False).to_dict("records")[0]
    others = [part for part in found.chosen[name].sets[size][0] if part != most["part"]]
    beside = others[0] if len(others) == 1 else f"the other {len(others):,}"
    return (
        f"{most['part']} costs {fixed(most['alone'])} alone and {fixed(most['beside'])} beside {beside} that "
        f"{'goes' if len(others) == 1 else 'go'}, {spread(most, 'exposure')} more on the text that rankings saw: its "
        f"cheapness rests on {'it' if len(others) == 1 else 'them'}.",
        {"exposed": most["part"], "exposure": most["exposure"]},
    )


def _without_intervals(found: Findings) -> Said:
    """Where random sets say too little about the others of their size."""
    sizes = [
        f"{size:,}"
        for size in found.sizes
        for chosen in found.chosen.values()
        if chosen.kind.draws and math.isnan(share_drawn(chosen.sets[size], len(found.parts)))
    ]
    if not sizes or not found.test.resampling.conclusive:
        return "", {}
    return (
        f"At {listed(sizes)}, the mean of random sets has no interval: they are too few, or some parts are in none of "
        "them, and such sets may cost anything; more draws (--draws) would tell.",
        {},
    )


def fixed(value: float, digits: int = 3) -> str:
    """A number with so many digits behind the point; never minus zero.

    Args:
        value: the number.
        digits: digits behind the point.
    """
    return f"{round(value, digits) + 0.0:.{digits}f}"


def spread(row: Row, name: str, digits: int = 3, sign: int = 1) -> str:
    """A number of a table with its interval, if it has one.

    Args:
        row: a row of the table.
        name: name of the column.
        digits: digits behind the point.
        sign: -1 for the opposite.
    """
    value, *ends = (sign * row[one] for one in with_ends(name))
    lo, hi = (fixed(end, digits) for end in sorted(ends))
    return fixed(value, digits) + (f" [{lo}, {hi}]" if ends[0] == ends[0] else "")
