"""The verbs of a notebook: `knock_out` makes a ledger, `freeze` adds to a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydrascope.ablations import Ablation
from hydrascope.analysis import require_writers
from hydrascope.anatomy import Model
from hydrascope.progress import bars
from hydrascope.prompts import PromptSet
from hydrascope.results import Ledger
from hydrascope.run import (
    Options,
    Progress,
    RunRequest,
    execute_companions,
    execute_runs,
    freezing,
    open_model,
    prepare,
    prepare_runs,
    recorded_request,
    stored_prompts,
)
from hydrascope.run_directory import reopen


def knock_out(
    model: Model,
    prompts: PromptSet,
    components: str | None = None,
    ablation: Ablation | Sequence[Ablation] = (),
    *,
    dose: float | Sequence[float] = 1.0,
    seed: int | None = None,
    options: Options | None = None,
    freeze: bool = False,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Ledger:
    """Knock out parts of a model one by one, and account for what the rest does.

    Args:
        model: model that `hydrascope.load` opened.
        prompts: prompts from `hydrascope.load_prompts`, or texts from `hydrascope.cut`.
        components: what is ablated, for example `attn,mlp` or `head.9.*`; overrides `options`.
        ablation: what replaces an ablated output; 15 resampled donors by default. Of several the first is the run, and
            the others make companion runs, whose ledgers are in `Ledger.also`, by name.
        dose: how far parts are knocked out, from 0 to 1. Of several the largest is the run, and the others make
            companion runs, as `dose-0.5` and so on.
        seed: seed of donors, noise and random-direction controls; overrides `options`.
        options: how the run is made.
        freeze: also freeze the strongest responders of repaired parts; see `Ledger.freeze`.
        out: folder that keeps the run; the same call with the same folder continues it.
        overwrite: throw away the run that is in `out`.
        progress: takes stage, number done and total; if None, bars in a notebook or a terminal.

    Returns:
        The finished ledger.

    Raises:
        HydrascopeError: what cannot be done, and what to do about it.
    """
    chosen = (options or Options()).but(components=components, seed=seed)
    ablations = (ablation,) if isinstance(ablation, Ablation) else tuple(ablation)
    doses = (dose,) if isinstance(dose, int | float) else tuple(dose)
    folder = None if out is None else Path(out)
    request = RunRequest.of(model, prompts, ablations, doses, chosen, freeze=freeze, out=folder)
    runs = prepare_runs(request, model, prompts, ablations)
    with bars(quiet=progress is not None) as shown:
        dataset, directory = execute_runs(runs, folder, overwrite=overwrite, progress=progress or shown)
    return Ledger(dataset, None if directory is None else directory.path)


def freeze(
    run: str | Path,
    model: Model | None = None,
    ablation: Ablation | None = None,
    *,
    device: str | None = None,
    memory: str | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Ledger:
    """Freeze the strongest responders of a finished run, to find who is needed.

    Args:
        run: folder of the run.
        model: the run's model, if it is at hand, or was never on disk; otherwise it is opened anew.
        ablation: the run's ablation, if it is none of this package's.
        device: where the model goes; as in the run, if left out.
        memory: budget such as `4GB`; as in the run, if left out.
        trust_remote_code: run code that comes with the weights. It is never taken from the run's record, which may come
            from somebody else.
        progress: takes stage, number done and total; if None, bars in a notebook or a terminal.

    Returns:
        The run's ledger; `Ledger.freeze` has what was found, and is empty where nothing is repaired.

    Raises:
        SettingsChanged: model or ablation are not those of the run.
        HydrascopeError: what cannot be done, and what to do about it.
    """
    ledger = Ledger.open(run)
    assert ledger.path is not None
    require_writers(ledger.dataset, "learning who is needed")
    request = recorded_request(ledger.path).but(device=device, memory=memory, freeze=True)
    prompts = stored_prompts(ledger.path)
    chosen = request.ablations()[0] if ablation is None else ablation
    opened = open_model(request, trust_remote_code=trust_remote_code) if model is None else model
    task = prepare(opened, prompts, chosen, request.options, dose=request.dose[0])
    directory = reopen(ledger.path, task.settings)
    with bars(quiet=progress is not None) as shown:
        execute_companions(directory, freezing(task, ledger.dataset), request, progress=progress or shown)
    return Ledger(ledger.dataset, ledger.path)
