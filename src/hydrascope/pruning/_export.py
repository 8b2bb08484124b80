"""The smaller model of a finished pruning: which set goes, and what its card says of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hydrascope.anatomy import Model
from hydrascope.errors import RunError
from hydrascope.exporting import Exported, export, require_savable
from hydrascope.pruning._constants import LEFT
from hydrascope.pruning._findings import Findings
from hydrascope.pruning._subject import Subject
from hydrascope.pruning._told import spread
from hydrascope.pruning.rankings import Random

if TYPE_CHECKING:
    from hydrascope.pruning._execution import Pruning


def chosen_set(found: Findings, size: int | None, ranking: str | None) -> tuple[int, str]:
    """The size and the ranking whose set goes.

    Args:
        found: the tables.
        size: how many parts go; the largest that was tried if left out, or what `keep_loss` allows.
        ranking: by which ranking; the one that moves the distribution least on the text that it saw if left out.

    Raises:
        RunError: this was not measured, is no single set, or nothing can go.
    """
    if size is None:
        size = found.size_asked
    if size is None:
        few = "" if found.sizes[0] == 1 else ", or try fewer"
        raise RunError(f"nothing can go within {found.keep_loss:.12g} times the loss; allow more{few}")
    if size not in found.sizes:
        raise RunError(f"{size} was not measured; choose from {', '.join(map(str, found.sizes))}")
    name = ranking or found.best(size)
    if name not in found.chosen:
        raise RunError(f"no ranking '{name}' was measured; choose from {', '.join(found.chosen)}")
    if (count := len(found.chosen[name].sets[size])) > 1:
        raise many_sets(name, count)
    return size, name


def many_sets(ranking: str, count: int) -> RunError:
    """The refusal of a ranking that is no single set."""
    return RunError(f"'{ranking}' is {count} sets, none of which is its choice; name another ranking to export")


def require_exportable(pruning: Pruning) -> None:
    """Refuse, before anything is computed, a pruning of which no smaller model can be written.

    Args:
        pruning: what would be done.

    Raises:
        RunError: no ranking chooses a single set.
        ExportRefused: parts, or what takes their place, cannot be saved.
    """
    asked, sizes = pruning.request, pruning.sizes
    count = sizes[-1] if asked.keep_loss is None else sizes[0]
    require_savable(pruning.model, pruning.parts, count, constant=asked.replace in ("mean", "optimal"))
    counts = {name: one.number if isinstance(one, Random) else 1 for name, one in pruning.rankings.items()}
    if min(counts.values()) > 1:
        raise many_sets(*counts.popitem())


def export_chosen(found: Findings, subject: Subject, model: Model, folder: Path, size: int, ranking: str) -> Exported:
    """Write the model without what a ranking chose.

    Args:
        found: the tables.
        subject: what was pruned.
        model: it, opened.
        folder: where to write; nothing may be there.
        size: how many parts go.
        ranking: by which ranking.

    Raises:
        RunError: another model was pruned.
        ExportRefused: the folder would compute something else; nothing is left behind.
    """
    subject.require(model)
    row = found.row(ranking, size)
    documents, tokens = len(set(found.test.documents)), int(found.test.predicted.sum())
    measured = {
        "text that no ranking saw": f"{tokens:,} tokens in {documents:,} documents of {subject.text}",
        "perplexity": f"{row['whole_perplexity']:.3f} whole, {row['perplexity']:.3f} without",
        "rise of the loss, nats a token": spread(row, "rise", 4),
        "KL divergence from the whole model, nats a token": f"{row['kl']:.4f}",
        "tokens at which both have the same first choice": f"{row['agreed']:.1%}",
        "chosen by": ", ".join(found.alike(size, ranking)),
        "left in its place": LEFT[found.replace],
        **_on_tasks(found, size, ranking),
        "made by": f"`{subject.command}`, hydrascope {subject.record['versions']['hydrascope']}",
    }
    (parts,) = found.chosen[ranking].sets[size]
    return export(
        model,
        parts,
        folder,
        texts=subject.prompts,
        measured=measured,
        constants=found.constants,
    )


def _on_tasks(found: Findings, size: int, ranking: str) -> dict[str, str]:
    """Right answers on each task, if any was asked for."""
    rows = found.tasks.query("ranking == @ranking and size == @size").to_dict("records")
    return {
        f"right answers of {row['prompts']} on {row['task']}": f"{row['whole_right']:.1%} whole, "
        f"{row['right']:.1%} without"
        for row in rows
    }
