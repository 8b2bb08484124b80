"""`hydrascope prune`: which parts can go, what that costs, and the smaller model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hydrascope.cli._options import AsJson, Trust, with_options
from hydrascope.cli._streams import say
from hydrascope.errors import HydrascopeError, OutputError
from hydrascope.progress import bars, loading

if TYPE_CHECKING:
    from hydrascope.exporting import Exported
    from hydrascope.pruning import Prune, PruneRequest

NAMES = (
    *(
        "model",
        "prompts",
        "units",
        "ranking",
        "scores",
        "remove",
        "shares",
        "keep_loss",
        "replace",
        "calibrate",
        "test",
        "exhaustive",
        "draws",
        "tasks",
    ),
    *("length", "limit", "bos", "seed", "memory", "device", "dtype"),
)
"""Fields that are options, in the order of the help."""


def _request() -> type[PruneRequest]:
    from hydrascope.pruning import PruneRequest

    return PruneRequest


@with_options(NAMES, request=_request)
def prune(
    export: Annotated[str | None, typer.Option(metavar="PATH", help="Write the smaller model to this folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="The pruning's folder; the same command continues it.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Throw away the pruning in that folder.")] = False,
    trust_remote_code: Trust = False,
    as_json: AsJson = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    **given: Any,
) -> None:
    """Say which blocks, heads or neurons can go and what that costs; write the smaller model."""
    loading(quiet=as_json)
    from hydrascope.cli import _terminal
    from hydrascope.exporting import require_free
    from hydrascope.pruning import (
        Prune,
        Subject,
        default_prune_folder,
        estimate_prune,
        execute_prune,
        prepare_prune,
        require_exportable,
    )
    from hydrascope.run import open_request
    from hydrascope.run_directory import folder_named

    named = None if out is None else folder_named(out)
    target = None if export is None else folder_named(export)
    if target is not None:
        require_free(target)
    request = _request()(**given)
    _terminal.quiet()
    model, prompts = open_request(request, trust_remote_code=trust_remote_code)
    pruning = prepare_prune(request, model, prompts)
    folder = named or default_prune_folder(pruning)
    if target is not None:
        require_exportable(pruning)
        if folder.resolve().is_relative_to(target.resolve()):
            raise OutputError(f"'{target}' is the pruning's own folder, or around it; choose another one (--export)")
    plan = estimate_prune(pruning)
    if dry_run:
        say(json.dumps(plan.as_dict(), indent=1) if as_json else "\n".join(plan.lines()))
        return
    with bars(quiet=as_json) as progress:
        found, directory = execute_prune(pruning, folder, overwrite=overwrite, progress=progress)
        assert directory is not None
        result = Prune(found, Subject.read(directory.path), directory.path)
        _terminal.write_page(result, directory.report, progress)
        exported, refused = None, None
        if target is not None:
            try:
                exported = result.export(model, target)
                _terminal.write_page(result, directory.report, progress)  # the page tells what it saves
            except HydrascopeError as error:
                refused = error  # what was found is shown first
    show_prune(result, directory.report, exported, as_json)
    if refused is not None:
        raise refused


def show_prune(result: Prune, page: Path, exported: Exported | None, as_json: bool) -> None:
    """Say what a pruning found.

    Args:
        result: the finished pruning.
        page: path of its report.
        exported: the smaller model, if it was written.
        as_json: everything as JSON instead.
    """
    from hydrascope.cli import _terminal
    from hydrascope.cli._console import Terminal

    said = result.summary()
    if as_json:
        tables = {name: _terminal.records(table) for name, table in result.tables().items()}
        written = None if exported is None else {**asdict(exported), "path": str(exported.path)}
        facts = {"tables": tables, "folder": str(result.path), "report": str(page), "exported": written}
        say(json.dumps({"headline": said.headline, "sentences": said.sentences, "numbers": said.numbers, **facts}))
        return
    _terminal.show_sentences(said.headline, said.sentences)
    Terminal().print(_listing(result))
    say("Rise of the loss in nats a token on text that no ranking saw, with 95 % intervals over documents.")
    say(page)
    if exported is not None:
        say(exported.path)


def _listing(result: Prune) -> Any:
    """Every ranking at every size, the one that costs least at the largest size first."""
    from rich.table import Table

    from hydrascope.pruning import spread

    table = result.costs()
    sizes = sorted(table["size"].unique())
    listing = Table("ranking", *(f"{size} gone" for size in sizes), box=None, pad_edge=False)
    rows = {(row["ranking"], row["size"]): row for row in table.to_dict("records")}
    for name in table.query("size == @sizes[-1]").sort_values("rise")["ranking"]:
        listing.add_row(name, *(spread(rows[name, size], "rise") for size in sizes))
    return listing
