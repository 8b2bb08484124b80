"""The verb of a notebook: `prune` says what can go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydrascope.progress import bars, require_callable
from hydrascope.pruning._estimate import estimate_prune
from hydrascope.pruning._execution import execute_prune, prepare_prune
from hydrascope.pruning._prune import Prune
from hydrascope.pruning._request import PruneRequest, Replace, Units
from hydrascope.pruning._subject import Subject
from hydrascope.run import (
    ModelLike,
    Options,
    PathLike,
    Progress,
    PromptsLike,
    given_model,
    given_options,
    given_prompts,
)
from hydrascope.run_directory import folder_named


def prune(
    model: ModelLike,
    prompts: PromptsLike,
    units: Units = "blocks",
    ranking: str | Sequence[str] | None = None,
    *,
    scores: PathLike | Mapping[str, float] | None = None,
    remove: int | None = None,
    shares: float | Sequence[float] | None = None,
    keep_loss: float | None = None,
    replace: Replace = "removal",
    calibrate: int | None = None,
    test: int | None = None,
    exhaustive: int | None = None,
    draws: int | None = None,
    tasks: str | Sequence[str] = (),
    seed: int | None = None,
    options: Options | Mapping[str, Any] | None = None,
    out: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Prune:
    """Choose parts that can go by every ranking, and judge the choices on text that no ranking saw.

    Args:
        model: model that `hydrascope.load` opened, or what it takes: a name, a folder, a module.
        prompts: texts from `hydrascope.cut`, or what it is made from: a text file, a folder, what
            `hydrascope.documents` returned, or a list or table of rows with a column `text`, cut into texts of 128
            tokens or the model's context; or prompts whose groups are documents.
        units: what can go: `blocks`, `sublayers`, `kvgroups` (heads that share a key and a value), `heads` or
            `neurons`.
        ranking: names of rankings: `random`, `last`, `magnitude`, `influence`, `angular`, `direct`, `own change`,
            `taylor`, `kl`, `loss`, `greedy`, `importance`, `elimination`, `pairs`, with `scores` also `scores`; or
            `all`, the default.
        scores: scores of your own by address, the lowest of which goes first, as the ranking `scores`; or a JSON or CSV
            file with them.
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
        progress: takes stage, number done and total; if None, bars in a notebook or a terminal.

    Returns:
        The finished pruning; its `export` writes the smaller model.

    Raises:
        HydrascopeError: what cannot be done, and what to do about it.
    """
    require_callable(progress)
    chosen = given_options(options, protocol="text")
    folder = None if out is None else folder_named(out)
    opened = given_model(model)
    asked = given_prompts(prompts, opened, chosen)
    own = scores if isinstance(scores, Mapping) else None
    request = PruneRequest.of(opened, asked, (), (1.0,), chosen.but(seed=seed), freeze=False, out=folder)
    request = request.but(
        units=units,
        ranking=ranking,
        scores=None if scores is None or own is not None else str(scores),
        in_memory=request.in_memory if own is None else (*request.in_memory, "scores"),
        remove=remove,
        shares=shares,
        keep_loss=keep_loss,
        replace=replace,
        calibrate=calibrate,
        test=test,
        exhaustive=exhaustive,
        draws=draws,
        tasks=tasks,
    )
    pruning = prepare_prune(request, opened, asked, own)
    estimate_prune(pruning)
    with bars(quiet=progress is not None) as drawn:
        found, directory = execute_prune(pruning, folder, overwrite=overwrite, progress=progress or drawn)
    if directory is None:
        return Prune(found, Subject.of(pruning))
    return Prune(found, Subject.read(directory.path), directory.path)
