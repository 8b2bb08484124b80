"""The verb of a notebook: `rank` makes a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydrascope.ablations import Ablation, Resample
from hydrascope.anatomy import Model
from hydrascope.prompts import PromptSet
from hydrascope.ranking._execution import execute_rank, prepare_rank
from hydrascope.ranking._rank import Rank
from hydrascope.ranking._request import RankRequest
from hydrascope.run import Options, Progress


def rank(
    model: Model,
    prompts: PromptSet,
    components: str | None = None,
    ablation: Ablation | None = None,
    *,
    primaries: str | Sequence[str] | None = None,
    labels: str | Path | None = None,
    cheap: bool | None = None,
    top: int | None = None,
    stress: str | Path | None = None,
    why: int | None = None,
    seed: int | None = None,
    options: Options | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> Rank:
    """Find who backs up some parts, and hold scores of importance to the exact effects.

    Args:
        model: model that `hydrascope.load` opened.
        prompts: prompts from `hydrascope.load_prompts`, or texts from `hydrascope.cut`.
        components: the parts that are ranked, for example `attn,mlp` or `head`; overrides `options`.
        ablation: what replaces an ablated output; one resampled donor by default.
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
        progress: takes stage, number done and total.

    Returns:
        The finished ranking.

    Raises:
        HydrascopeError: what cannot be done, and what to do about it.
    """
    chosen = (options or Options()).but(components=components, seed=seed)
    folder, how = None if out is None else Path(out), ablation or Resample(donors=1)
    request = RankRequest.of(model, prompts, (how,), (1.0,), chosen, freeze=False, out=folder)
    request = request.but(
        primaries=primaries if primaries is None or isinstance(primaries, str) else ",".join(primaries),
        labels=None if labels is None else str(labels),
        cheap=cheap,
        top=top,
        stress=None if stress is None else str(stress),
        why=why,
    )
    found, directory = execute_rank(
        prepare_rank(request, model, prompts, how), folder, overwrite=overwrite, progress=progress
    )
    return Rank(found, None if directory is None else directory.path)
