"""The verb of a notebook: `prune` says what can go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydrascope.anatomy import Model
from hydrascope.prompts import PromptSet
from hydrascope.pruning._estimate import estimate_prune
from hydrascope.pruning._execution import execute_prune, prepare_prune
from hydrascope.pruning._prune import Prune
from hydrascope.pruning._request import PruneRequest, Replace, Units
from hydrascope.run import Options, Progress


def prune(
    model: Model,
    prompts: PromptSet,
    units: Units = "blocks",
    ranking: str | Sequence[str] | None = None,
    *,
    scores: str | Path | None = None,
    remove: int | None = None,
    shares: Sequence[float] | None = None,
    keep_loss: float | None = None,
    replace: Replace = "removal",
    calibrate: int | None = None,
    test: int | None = None,
    exhaustive: int | None = None,
    draws: int | None = None,
    tasks: Sequence[str] = (),
    seed: int | None = None,
    options: Options | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> Prune:
    """Choose parts that can go by every ranking, and judge the choices on text that no ranking saw.

    Args:
        model: model that `hydrascope.load` opened.
        prompts: texts from `hydrascope.cut`, or prompts whose groups are documents.
        units: what can go: `blocks`, `sublayers`, `kvgroups` (heads that share a key and a value), `heads` or
            `neurons`.
        ranking: names of rankings; all by default.
        scores: JSON or CSV file with scores of your own.
        remove: how many parts go; a curve by default.
        shares: shares of the parts that go (0.1, 0.2, 0.3).
        keep_loss: remove as much as keeps the loss within this multiple of the whole model's.
        replace: what a part leaves in its place: `removal` (nothing), `zero`, `mean` or `optimal`.
        calibrate: predicted tokens that rankings see (4096).
        test: predicted tokens of other documents that they are judged on (8192).
        exhaustive: largest size for which all sets are judged, to tell what each ranking misses (0).
        tasks: names of tasks on which chosen sets are judged, too, such as `facts` and `ioi`.
        draws: random sets of each size, on which scores are held to costs (20).
        seed: of random orders and of the choice of documents; overrides `options`.
        options: how text is read.
        out: folder that keeps the pruning; the same call with the same folder continues it.
        overwrite: throw away the pruning that is in `out`.
        progress: takes stage, number done and total.

    Returns:
        The finished pruning; its `export` writes the smaller model.

    Raises:
        HydrascopeError: what cannot be done, and what to do about it.
    """
    chosen = (options or Options(protocol="text")).but(seed=seed)
    folder = None if out is None else Path(out)
    request = PruneRequest.of(model, prompts, (), (1.0,), chosen, freeze=False, out=folder).but(
        units=units,
        ranking=ranking,
        scores=None if scores is None else str(scores),
        remove=remove,
        shares=shares,
        keep_loss=keep_loss,
        replace=replace,
        calibrate=calibrate,
        test=test,
        exhaustive=exhaustive,
        draws=draws,
        tasks=tuple(tasks),
    )
    pruning = prepare_prune(request, model, prompts)
    estimate_prune(pruning)
    found, directory = execute_prune(pruning, folder, overwrite=overwrite, progress=progress)
    return Prune(found, None if directory is None else directory.path)
