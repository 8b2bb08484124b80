"""The verb of a notebook: `rank` makes a ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydrascope.ablations import Ablation
from hydrascope.progress import bars, require_callable
from hydrascope.ranking._execution import execute_rank, prepare_rank
from hydrascope.ranking._rank import Rank
from hydrascope.ranking._request import RankRequest
from hydrascope.run import (
    ModelLike,
    Options,
    PathLike,
    Progress,
    PromptsLike,
    alone_with,
    given_for_sets,
    given_model,
    given_options,
    given_prompts,
)
from hydrascope.run_directory import folder_named


def rank(
    model: ModelLike,
    prompts: PromptsLike,
    components: str | Sequence[str] | None = None,
    ablation: Ablation | str | None = None,
    *,
    primaries: str | Sequence[str] | None = None,
    labels: PathLike | None = None,
    cheap: bool | None = None,
    top: int | None = None,
    stress: PathLike | None = None,
    why: int | None = None,
    seed: int | None = None,
    options: Options | Mapping[str, Any] | None = None,
    out: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Rank:
    """Find who backs up some parts, and hold scores of importance to the exact effects.

    Args:
        model: model that `hydrascope.load` opened, or what it takes: a name, a folder, a module.
        prompts: prompts from `hydrascope.load_prompts`, or what it takes: a file, a task's name, a list of texts, a
            table; or texts from `hydrascope.cut`; with the protocol `text` also a text file.
        components: the parts that are ranked, for example `attn,mlp` or `head`; overrides `options`.
        ablation: what replaces an ablated output, or its name; one resampled donor by default.
        primaries: parts whose backups are sought, lost together; the part whose loss is repaired most by default.
        labels: JSON or CSV file that says which parts are to be found.
        cheap: also estimate every effect from gradients (True).
        top: parts that are frozen together, and first parts that are compared (3).
        stress: folder of a stress test of the same parts and prompts, whose scores join the table.
        why: number of a prompt; also search the smallest set of parts whose loss flips its answer.
        seed: seed of donors, noise and random sets; overrides `options`.
        options: how the runs are made.
        out: folder that keeps the ranking; the same call with the same folder continues it.
        overwrite: throw away the ranking that is in `out`.
        progress: takes stage, number done and total; if None, bars in a notebook or a terminal.

    Returns:
        The finished ranking.

    Raises:
        HydrascopeError: what cannot be done, and what to do about it.
    """
    require_callable(progress)
    chosen = given_options(options).but(components=components, seed=seed)
    folder = None if out is None else folder_named(out)
    how = given_for_sets(ablation, chosen)
    opened = given_model(model)
    asked = given_prompts(prompts, opened, chosen)
    request = RankRequest.of(opened, asked, how, (1.0,), chosen, freeze=False, out=folder).but(
        primaries=primaries if primaries is None or isinstance(primaries, str) else ",".join(primaries),
        labels=None if labels is None else str(labels),
        cheap=cheap,
        top=top,
        stress=None if stress is None else str(stress),
        why=why,
    )
    with alone_with(opened), bars(quiet=progress is not None) as drawn:
        opened.require_unchanged()
        found, directory = execute_rank(
            prepare_rank(request, opened, asked, how[0]), folder, overwrite=overwrite, progress=progress or drawn
        )
    return Rank(found, None if directory is None else directory.path)
