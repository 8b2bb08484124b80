"""The page on two or more runs side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydrascope import analysis, figures
from hydrascope.analysis import Comparison, summarise_comparison
from hydrascope.report._facts import versions
from hydrascope.report._html import filled, write
from hydrascope.report._listing import Cell, Listing, Row, estimate, listed, named, named_value
from hydrascope.report._numbers import NONE, fixed, interval, percent, tied
from hydrascope.report._section import Draft, Section


@dataclass(frozen=True)
class Block:
    """What the page says of one run beside the first.

    Attributes:
        slug: name in the page's addresses.
        title: both runs.
        headline: the largest difference.
        sentences: what supports and limits that.
        sections: charts and tables.
    """

    slug: str
    title: str
    headline: str
    sentences: tuple[str, ...]
    sections: tuple[Section, ...]


def write_comparison(found: Sequence[Comparison], path: Path) -> Path:
    """Write the page that compares the first run with the others.

    Args:
        found: comparisons of one first run with each of the others.
        path: path of the HTML file.

    Returns:
        The path.

    Raises:
        OutputError: the file cannot be written.
    """
    blocks = tuple(_block(one, place) for place, one in enumerate(found, start=1))
    ledgers = [found[0].first, *(one.second for one in found)]
    text = filled(
        "several.html.j2",
        kind="comparison",
        title=analysis.listed([found[0].names[0], *(one.names[1] for one in found)]),
        about="what is repaired more or less",
        facts=(),
        blocks=blocks,
        commands=tuple(str(ds.attrs["command"]) for ds in ledgers),
        version=versions(found[0].first).get("hydrascope", ""),
    )
    return write(text, path)


def _block(found: Comparison, place: int) -> Block:
    told, slug = summarise_comparison(found), f"run-{place}"
    made = (_repair(found, slug), _costs(found, slug), _matrix(found, slug), _depth(found, slug))
    title = f"{found.names[1]} beside {found.names[0]}"
    sections = tuple(one for one in made if one is not None)
    return Block(slug, title, tied(told.headline), tuple(map(tied, told.sentences)), sections)


def _repair(found: Comparison, slug: str) -> Section | None:
    """What comes back of the losses that are clear in a run."""
    if not found.pairing.shared:
        return None
    draft, table = Draft(f"{slug}-repair", "What is repaired more, what less"), found.knockouts
    listing = _listing(found)
    both = table.dropna(subset=["restored_with_norm"])
    if both.empty:
        section = draft.absent("no knock-out clearly loses something in both runs.")
        return Section(section.slug, section.title, reason=section.reason, listing=listing)
    draft.add(figures.first_against_second(both, "restored_with_norm", found.names), "tall")
    draft.add(figures.difference_by_layer(both, "restored_with_norm", layers=_layers(found), legend=False))
    draft.add(figures.difference_by_layer(both, "slope", layers=_layers(found), legend=False))
    return draft.finished(
        "Each point is one knock-out that clearly loses something in both runs: below the dashed line less of it comes "
        f"back, norm included, in {found.names[1]} than in {found.names[0]}. On the right the differences, second "
        "minus first, over the layers; a slope that grows towards zero is less repair.",
        ["Bands and bars are 95 % intervals over groups of shared prompts."],
        listing=listing,
    )


def _costs(found: Comparison, slug: str) -> Section | None:
    """What every knock-out costs in both."""
    if not found.pairing.shared:
        return None
    draft = Draft(f"{slug}-costs", "What every knock-out costs")
    draft.add(figures.first_against_second(found.knockouts, "own_change", found.names))
    draft.add(figures.first_against_second(found.knockouts, "total_effect", found.names, legend=False))
    return draft.finished(
        "Each point is one knock-out. Own change: what it directly takes away; total effect: what is left of that "
        f"after all others have answered. Below the dashed line more is lost in {found.names[1]}."
    )


def _matrix(found: Comparison, slug: str) -> Section | None:
    """Differences of every answer."""
    table = found.responders
    if table.empty:
        return None
    draft = Draft(f"{slug}-matrix", "Who answers differently")
    for place, kind in enumerate(kind for kind in ("attn", "mlp", "mixer") if kind in set(table["writer_kind"])):
        draft.add(figures.compensation_matrix(table, kind, legend=place == 0))
    return draft.finished(
        f"Each cell is the answer of one writer (across) to one knock-out (down) in {found.names[1]}, minus that in "
        f"{found.names[0]}. Dots mark answers that differ: of these, one in twenty is expected to be chance."
    )


def _depth(found: Comparison, slug: str) -> Section:
    """Both runs over relative depth."""
    draft, table = Draft(f"{slug}-depth", "Over relative depth"), found.by_depth
    kinds = [kind for kind in dict.fromkeys(table["kind"]) if (table["own_change_hi"][table["kind"] == kind] < 0).any()]
    if not kinds:
        return draft.absent("no stretch of either model clearly loses anything.")
    for place, kind in enumerate(kinds[:2]):
        draft.add(figures.runs_by_depth(table, str(kind), legend=place == 0))
    return draft.finished(
        "Share of the loss that comes back, norm included, all knock-outs of a fifth of the depth together; stretches "
        "that lose nothing for certain are left out, and what lies beyond the axis is not drawn.",
        ["Each run is on all of its own prompts, so that nothing here is paired."],
    )


def _listing(found: Comparison) -> Listing:
    table = found.knockouts
    order = table["total_effect"].abs().sort_values(ascending=False).index
    columns = {
        "knocked out": named(table, "ablated"),
        "own change": _both("own_change"),
        "total effect": _both("total_effect"),
        "difference": estimate("total_effect"),
        "restored with norm": _both_shares,
        "difference of shares": _share_difference,
        "slope": _both("slope"),
        "repaired": named_value("outcome"),
    }
    caption = (
        f"{found.names[0]} → {found.names[1]}: means over shared prompts in logits, differences with 95 % intervals in "
        "small print. Shares and slopes are given of clear losses; “repaired” says where the difference of shares is "
        "certain, all losses taken together. Those whose total effect differs most come first."
    )
    return listed(table.loc[order], columns, caption, "The numbers")


def _both(name: str) -> Callable[[Row], Cell]:
    def made(row: Row) -> Cell:
        values = [float(row[f"{name}_{which}"]) for which in ("first", "second")]
        return _changed(values, fixed)

    return made


def _both_shares(row: Row) -> Cell:
    values = [float(row[f"restored_with_norm_{which}"]) for which in ("first", "second")]
    return _changed(values, percent)


def _changed(values: list[float], form: Callable[[float], str]) -> Cell:
    """From one value to another; a dash where neither is known."""
    known = any(map(math.isfinite, values))
    return Cell(" → ".join(map(form, values)) if known else NONE, values[1] - values[0])


def _share_difference(row: Row) -> Cell:
    value = float(row["restored_with_norm"])
    if not math.isfinite(value):
        return Cell(NONE, math.nan)
    low, high = (100 * float(row[f"restored_with_norm_{end}"]) for end in ("lo", "hi"))
    return Cell(percent(value), value, f"{interval(low, high, 0)} %")


def _layers(found: Comparison) -> int:
    return int(found.first.attrs["n_layers"])
