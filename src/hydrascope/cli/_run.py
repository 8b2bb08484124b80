"""`hydrascope run`: knock out, store, analyse, report."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hydrascope.cli._options import AsJson, Trust, with_options
from hydrascope.progress import bars, loading


@with_options()
def run(
    out: Annotated[
        str | None, typer.Option(metavar="PATH", help="The run's folder; the same command continues it.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw away the run in that folder, or with --shard that shard.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Compute a share, such as 2/3, into --out; without it, all are joined."),
    ] = None,
    trust_remote_code: Trust = False,
    as_json: AsJson = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    **given: Any,
) -> None:
    """Knock out, store, analyse and write the report. Run again, it continues."""
    loading(quiet=as_json)
    from hydrascope.cli import _terminal
    from hydrascope.errors import RunError
    from hydrascope.run import (
        RunRequest,
        Shard,
        default_folder,
        estimate,
        execute_runs,
        execute_shard,
        freeze_at_most,
        open_request,
        prepare_runs,
    )
    from hydrascope.run_directory import folder_named

    named = None if out is None else folder_named(out)
    request, share = RunRequest(**given), None if shard is None else Shard.read(shard)
    if share is not None and named is None:
        raise RunError("a shard needs the folder that it shares with the others; give it with --out")
    request.ablations()
    _terminal.quiet()
    runs = prepare_runs(request, *open_request(request, trust_remote_code=trust_remote_code))
    if dry_run and share is not None:
        _terminal.show_estimates(estimate(runs.main, share), {}, {}, as_json=as_json)
        return
    if dry_run:
        frozen = freeze_at_most(runs.main) if request.freeze else {}
        plans = ({name: estimate(one) for name, one in some.items()} for some in (runs.companions, frozen))
        _terminal.show_estimates(estimate(runs.main), *plans, as_json=as_json)
        return
    folder, tell = named or default_folder(runs.main), _terminal.silent if as_json else _terminal.introduce
    if share is not None:
        with bars(quiet=as_json) as progress:
            shared = execute_shard(runs.main, share, folder, request, overwrite=overwrite, progress=progress, tell=tell)
        _terminal.show_shard(share, shared, as_json)
        return
    with bars(quiet=as_json) as progress:
        dataset, directory = execute_runs(runs, folder, overwrite=overwrite, progress=progress, tell=tell)
        assert directory is not None
        ledger = _terminal.reported(dataset, directory.path, progress)
    _terminal.show_result(ledger, directory.report, as_json)
