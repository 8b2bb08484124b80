"""Sections on ordinary text, where every position is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from hydrascope import figures
from hydrascope.analysis import (
    SELECTIONS,
    TOP_SHARE,
    WHOLE,
    Array,
    Tokens,
    count,
    divide,
    mechanisms_by_depth,
    names,
    noun,
)
from hydrascope.report._account import NOTHING_REMOVED
from hydrascope.report._listing import Cell, Listing, estimate, listed, share
from hydrascope.report._literature import STRETCHES as PUBLISHED
from hydrascope.report._numbers import percent
from hydrascope.report._run import Run
from hydrascope.report._section import Draft, Section

CHOICES = 6
"""Most knock-outs whose tokens can be shown."""
DRAWN = 400
"""Most top tokens shown of one knock-out, and most others."""
BINS = 30
STRETCHES = ("first quarter", "second", "third", "last", "last layer", "half to last but one")
_MECHANISMS = {"suppression": "{} that wrote against the target", "promotion": "{} that wrote for it", "": "{}"}


def mechanisms(run: Run) -> Section | None:
    """Self-repair by mechanism: who gives back, and how."""
    if not run.of_tokens:
        return None
    draft = Draft("mechanisms", "Self-repair by mechanism")
    lines = mechanisms_by_depth(run.tables.mechanisms, run.layers)
    if lines.empty:
        return draft.absent(NOTHING_REMOVED)
    for i, selection in enumerate(figures.SELECTED):
        draft.add(figures.mechanisms_by_depth(lines, selection, n_layers=run.layers, givers=i == 0, ways=i > 0))
    return draft.finished(
        "Each bar is a layer’s parts knocked out one at a time, its colours what the rest gives back on average: full "
        "colours are writers that wrote against the target in the clean run (above zero they let go), pale ones those "
        "that wrote for it (above zero they write more); the diamond is the sum.",
        [
            "The norm’s part is measured by re-reading the ablated stream with the clean and with the ablated scale, "
            "not left over from the others."
        ],
        listing=None if run.tables.pooled_mechanisms.empty else _pooled(run),
    )


def _pooled(run: Run) -> Listing:
    table = run.tables.pooled_mechanisms
    order = list(dict.fromkeys(table["mechanism"]))
    top, every = (table[table["selection"] == selection] for selection in SELECTIONS)
    beside = {str(row["mechanism"]): row for row in every.to_dict("records")}
    parts = count(int(table["parts"].iloc[0]), noun(run.ds))
    return listed(
        top,
        {
            "mechanism": lambda row: Cell(_named(row["mechanism"]), order.index(row["mechanism"])),
            "top tokens": estimate("mean", 3),
            "share": share("share"),
            "all tokens": lambda row: estimate("mean", 3)(beside[row["mechanism"]]),
            "share of all": lambda row: share("share")(beside[row["mechanism"]]),
        },
        f"Means over {parts} of the second half and their tokens, in logits, and shares of what they lost (ratios of "
        "sums, unclipped); no share where gains and losses of the parts themselves cancel.",
        "The second half of the layers together",
    )


def _named(mechanism: str) -> str:
    giver, _, way = mechanism.partition("_")
    return "all together" if mechanism == WHOLE else _MECHANISMS[way].format(figures.GIVERS[giver])


def tokens(run: Run) -> Section | None:
    """Direct effect against the change of the logit, token by token."""
    if not run.of_tokens:
        return None
    draft = Draft("tokens", "Token by token")
    names = run.strongest(CHOICES)
    draft.add(figures.effect_against_change(token_points(run, names), names, run.focus), "wide")
    return draft.finished(
        "Each point is one token of the texts: on the dashed line its logit changes by exactly minus the direct "
        "effect, as without any self-repair; above the line the loss is repaired, below it more breaks.",
        [
            f"Drawn are at most {DRAWN} of the top tokens and as many of the others, evenly spread. The line is exact "
            "where the replacement takes the direct effect away altogether; a donor leaves or adds some of its own."
        ],
    )


def norm(run: Run) -> Section | None:
    """The scale of the final norm."""
    if not run.of_tokens:
        return None
    draft = Draft("norm", "Norm effect: the scale of the final norm")
    names = run.strongest(CHOICES)
    draft.add(figures.norm_ratio(norm_bins(run, names), names, run.focus), "wide")
    shrinks = float(run.losses.set_index("ablated")["share_norm_shrinks"][run.focus])
    return draft.finished(
        "Right of the line the stream is smaller without the part, so the norm makes more of everything that is left; "
        "left of it less.",
        [
            f"Without {run.focus} this holds on {percent(shrinks)} of its top tokens. What lies far out is counted in "
            "the outermost bars."
        ],
    )


def comparison(run: Run) -> Section | None:
    """The run beside published models, by depth."""
    if not run.of_tokens:
        return None
    here = {f"{run.ds.attrs['model_name']} (this run)": _by_stretch(run)}
    rows = tuple(
        (Cell(name, i - 1.0), *(Cell(percent(value), float(value)) for value in values))
        for i, (name, values) in enumerate((here | PUBLISHED).items())
    )
    return Draft("comparison", "Beside published models").finished(
        f"Each number is the share of the loss that comes back on top tokens, all {noun(run.ds)}s of a stretch of "
        "layers together; negative where loss brings more loss.",
        [
            "Ratios of sums over parts and tokens, unclipped. Published models: heads with one donor, self-repair over "
            "direct effect, from the authors’ result files; this run: over what was really lost."
        ],
        listing=Listing(
            "The last layer is part of the last quarter; the last column leaves it out.",
            ("model", *STRETCHES),
            rows,
            "Share restored by depth",
        ),
    )


def token_points(run: Run, ablated: Sequence[str]) -> pd.DataFrame:
    """Tokens of some knock-outs: even selections of the top ones and of the others.

    Args:
        run: a run over texts.
        ablated: addresses of the knock-outs.

    Returns:
        Columns `ablated`, `which`, `direct_effect` and `total_effect` in logits, `text`, `target`.
    """
    found = Tokens.of(run.ds)
    text, target = (np.array(names(run.ds, name), dtype=object) for name in ("text", "target"))
    tables = []
    for name, k, top in _columns(run, found, ablated):
        for which, rows in ((figures.REST, _evenly(top == 0)), (figures.TOP, _evenly(top != 0))):  # these above those
            values = {"direct_effect": found.direct[rows, k], "total_effect": found.total[rows, k]}
            words = {"text": [_end(str(words)) for words in text[rows]], "target": target[rows]}
            tables.append(pd.DataFrame({"ablated": name, "which": which, **values, **words}))
    return pd.concat(tables, ignore_index=True)


def _evenly(wanted: Bool[np.ndarray, " tokens"]) -> Int[np.ndarray, " drawn"]:
    """Indices of what is wanted, or as many of them as can be shown."""
    found: Int[np.ndarray, " tokens"] = np.flatnonzero(wanted)
    return np.take(found, figures.evenly(len(found), DRAWN))


def norm_bins(run: Run, ablated: Sequence[str]) -> pd.DataFrame:
    """Histogram of the clean over the ablated scale of the final norm.

    Args:
        run: a run over texts.
        ablated: addresses of the knock-outs.

    Returns:
        Columns `ablated`, `selection`, `low`, `high` and `share` of the tokens of that selection; the outer bins count
        what is far out.
    """
    found, tables = Tokens.of(run.ds), []
    for name, k, top in _columns(run, found, ablated):
        ratio = found.scale_ratio[:, k]
        ends = np.quantile(ratio, [0.005, 0.995])
        low, high = min(float(ends[0]), 0.999), max(float(ends[1]), 1.001)
        edges = np.linspace(low, high, BINS + 1)
        for selection in SELECTIONS:
            weight = top if selection == "top" else np.ones(len(ratio))
            counts, _ = np.histogram(np.clip(ratio, low, high), edges, weights=weight)
            share = counts / weight.sum()
            table = {"low": edges[:-1], "high": edges[1:], "share": share}
            if selection == "all":  # drawn as a line, which ends where the last bin does
                table = {"low": edges, "high": [*edges[1:], edges[-1]], "share": [*share, share[-1]]}
            tables.append(pd.DataFrame({"ablated": name, "selection": selection, **table}))
    return pd.concat(tables, ignore_index=True)


def _columns(run: Run, found: Tokens, ablated: Sequence[str]) -> list[tuple[str, int, Array]]:
    """Of some knock-outs: address, column of `found`, weights of top tokens."""
    known = [str(name) for name in found.columns()["ablated"]]
    weight = found.chosen("top", TOP_SHARE, run.tables.resampling).weight
    return [(name, known.index(name), weight[:, known.index(name)]) for name in ablated]


def _by_stretch(run: Run) -> tuple[float, ...]:
    """Share restored on top tokens in each of `STRETCHES`."""
    rows, n = run.losses[run.losses["removed"]], run.layers
    layer = rows["ablated_layer"].to_numpy()
    stretches = [(4 * layer // n) == quarter for quarter in range(4)]
    stretches += [layer == n - 1, (2 * layer >= n) & (layer < n - 1)]
    back, own = rows["self_repair"].to_numpy(), rows["own_change"].to_numpy()
    return tuple(float(divide(back[some].sum(keepdims=True), -own[some].sum(keepdims=True))[0]) for some in stretches)


def _end(text: str, most: int = 60) -> str:
    """The end of a context on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"… {line[-most:]}"
