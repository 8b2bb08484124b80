"""The verbs of a notebook: `knock_out` makes a ledger, `freeze` adds to a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydrascope.analysis import require_writers
from hydrascope.errors import RunError
from hydrascope.progress import bars, require_callable
from hydrascope.results import Ledger
from hydrascope.run import (
    AblationsLike,
    ModelLike,
    Options,
    PathLike,
    Progress,
    PromptsLike,
    RunRequest,
    alone_with,
    execute_companions,
    execute_runs,
    freezing,
    given_ablations,
    given_model,
    given_options,
    given_prompts,
    open_model,
    prepare,
    prepare_runs,
    recorded_request,
    stored_prompts,
)
from hydrascope.run_directory import folder_named, reopen


def knock_out(
    model: ModelLike,
    prompts: PromptsLike,
    components: str | Sequence[str] | None = None,
    ablation: AblationsLike = None,
    *,
    dose: float | Sequence[float] = 1.0,
    seed: int | None = None,
    options: Options | Mapping[str, Any] | None = None,
    freeze: bool = False,
    out: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Ledger:
    """Knock out parts of a model one by one, and account for what the rest does.

    A model is knocked out by one thread at a time; others wait.

    Args:
        model: model that `hydrascope.load` opened, or what it takes: a name, a folder, a module.
        prompts: prompts from `hydrascope.load_prompts`, or what it takes: a file, a task's name, a list of texts, a
            table; or texts from `hydrascope.cut`; with the protocol `text` also a text file.
        components: what is ablated, for example `attn,mlp` or `["head.9.*", "mlp.5"]`; overrides `options`.
        ablation: what replaces an ablated output, or its name; 15 resampled donors by default. Of several the first is
            the run, and the others make companion runs, whose ledgers are in `Ledger.also`, by name.
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
    chosen = given_options(options).but(components=components, seed=seed)
    require_callable(progress)
    folder = None if out is None else folder_named(out)
    ablations = given_ablations(ablation, chosen)
    opened = given_model(model)
    asked = given_prompts(prompts, opened, chosen)
    request = RunRequest.of(opened, asked, ablations, dose, chosen, freeze=freeze, out=folder)
    with alone_with(opened), bars(quiet=progress is not None) as drawn:
        opened.require_unchanged()
        runs = prepare_runs(request, opened, asked, ablations)
        dataset, directory = execute_runs(runs, folder, overwrite=overwrite, progress=progress or drawn)
    return Ledger(dataset, None if directory is None else directory.path)


def freeze(
    run: PathLike | Ledger,
    model: ModelLike | None = None,
    ablation: AblationsLike = None,
    *,
    device: str | None = None,
    memory: str | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Ledger:
    """Freeze the strongest responders of a finished run, to find who is needed.

    Args:
        run: the run's folder, or its ledger.
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
    require_callable(progress)
    ledger = run if isinstance(run, Ledger) else Ledger.open(run)
    if ledger.path is None:
        raise RunError("this ledger's run was not kept, so nothing can be added to it; run it again with out")
    require_writers(ledger.dataset, "learning who is needed")
    request = recorded_request(ledger.path).but(device=device, memory=memory, freeze=True)
    prompts = stored_prompts(ledger.path)
    chosen = (given_ablations(ablation, request) or request.ablations())[0]
    if model is None:
        opened = open_model(request, trust_remote_code=trust_remote_code)
    else:
        opened = given_model(model, trust_remote_code=trust_remote_code)
    with alone_with(opened), bars(quiet=progress is not None) as drawn:
        opened.require_unchanged()
        task = prepare(opened, prompts, chosen, request.options, dose=request.dose[0])
        directory = reopen(ledger.path, task.settings)
        execute_companions(directory, freezing(task, ledger.dataset), request, progress=progress or drawn)
    return Ledger(ledger.dataset, ledger.path)
