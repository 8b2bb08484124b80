"""The main verb for a notebook: model and prompts in, finished ledger out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hydrascope.ablations import Ablation
from hydrascope.anatomy import Model
from hydrascope.confirmation import confirming
from hydrascope.errors import RunError
from hydrascope.prompts import PromptSet
from hydrascope.results import Ledger
from hydrascope.run import Progress, belonging, execute, execute_belonging
from hydrascope.task import Options, prepare


def knock_out(
    model: Model,
    prompts: PromptSet,
    components: str | None = None,
    ablation: Ablation | None = None,
    *,
    seed: int | None = None,
    options: Options | None = None,
    also: Sequence[Ablation] = (),
    doses: Sequence[float] = (),
    confirm: bool = False,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> Ledger:
    """Knock out parts of a model, one after the other, and account for what the rest does about it.

    Args:
        model: from `hydrascope.load`.
        prompts: from `hydrascope.load_prompts`.
        components: what is ablated, for example `attn,mlp` or `head.9.*`; overrides `options`.
        ablation: what replaces an ablated output; 15 resampled donors by default.
        seed: of donors, noise and null; overrides `options`.
        options: everything else.
        also: other ablations of the same parts on the same prompts; their ledgers are in `Ledger.also`, by name.
        doses: smaller doses of the same; their ledgers are there too, as `dose-0.5` and so on.
        confirm: also hold the strongest responders of repaired attention layers at their clean output; see
            `Ledger.freeze`.
        out: folder that keeps the run; the same call with the same folder continues it.
        overwrite: throw away the run that is in `out`.
        progress: told how far it is.

    Returns:
        The finished ledger.

    Raises:
        HydrascopeError: what cannot be done, and what to do about it.
    """
    options = options or Options()
    if components is not None:
        options = replace(options, components=components)
    if seed is not None:
        options = replace(options, seed=seed)
    task = prepare(model, prompts, ablation, options)
    others = belonging(task, also, doses)
    if (others or confirm) and out is None:
        raise RunError("runs that belong to a run are kept in its folder; say where with out")
    folder, command = None if out is None else Path(out), "hydrascope.knock_out(...)"
    dataset, directory = execute(task, folder, overwrite=overwrite, command=command, progress=progress)
    if directory is not None:
        if confirm:
            others |= confirming(task, dataset)
        execute_belonging(directory, others, command=command, progress=progress)
    return Ledger(dataset, None if directory is None else directory.path)
