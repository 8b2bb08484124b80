"""The main verb for a notebook: model and prompts in, finished ledger out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hydrascope.ablation import Ablation
from hydrascope.anatomy import Model
from hydrascope.prompts import PromptSet
from hydrascope.results import Ledger
from hydrascope.run import Progress, execute
from hydrascope.task import Options, prepare


def knock_out(
    model: Model,
    prompts: PromptSet,
    components: str | None = None,
    ablation: Ablation | None = None,
    *,
    seed: int | None = None,
    options: Options | None = None,
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
    folder = None if out is None else Path(out)
    dataset, directory = execute(
        task, folder, overwrite=overwrite, command="hydrascope.knock_out(...)", progress=progress
    )
    return Ledger(dataset, None if directory is None else directory.path)
