"""`hydrascope rank`: who backs whom up, and which scores of importance can be believed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hydrascope.cli._options import AsJson, Trust, with_options
from hydrascope.progress import bars, loading

if TYPE_CHECKING:
    from hydrascope.ranking import Rank, RankRequest

NAMES = (
    *("model", "prompts", "limit", "components", "primaries", "labels", "cheap", "top", "stress", "why"),
    *("protocol", "length", "texts", "ablation", "donors", "positions", "read", "skip", "target", "keep_wrong"),
    *("answer", "delimiter", "bos", "seed", "writers", "memory", "device", "dtype"),
    *("adapter", "merge", "gguf", "allow_unused"),
)
"""Fields that are options, in the order of the help."""


def _request() -> type[RankRequest]:
    from hydrascope.ranking import RankRequest

    return RankRequest


@with_options(NAMES, request=_request)
def rank(
    out: Annotated[Path | None, typer.Option(help="The ranking's folder; the same command continues it.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Throw away the ranking in that folder.")] = False,
    trust_remote_code: Trust = False,
    as_json: AsJson = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    **given: Any,
) -> None:
    """Rank parts by every score beside the exact one, and find who backs up which."""
    loading(quiet=as_json)
    from hydrascope.cli import _terminal
    from hydrascope.ranking import Rank, default_rank_folder, estimate_rank, execute_rank, prepare_rank
    from hydrascope.run import open_request
    from hydrascope.run_directory import folder_named

    named = None if out is None else folder_named(out)
    request = _request()(**given)
    request.ablations()
    _terminal.quiet()
    ranking = prepare_rank(request, *open_request(request, trust_remote_code=trust_remote_code))
    if dry_run:
        first, *others = estimate_rank(ranking).items()
        _terminal.show_estimates(first[1], dict(others), {}, as_json=as_json)
        return
    folder = named or default_rank_folder(ranking)
    with bars(quiet=as_json) as progress:
        tell = _terminal.silent if as_json else _terminal.introduce
        found, directory = execute_rank(ranking, folder, overwrite=overwrite, progress=progress, tell=tell)
        assert directory is not None
        result = Rank(found, directory.path)
        _terminal.write_page(result, directory.report, progress)
    show_rank(result, directory.report, as_json)


def show_rank(result: Rank, page: Path, as_json: bool) -> None:
    """Say what a ranking found.

    Args:
        result: the finished ranking.
        page: path of its report.
        as_json: everything as JSON instead.
    """
    from hydrascope.cli import _terminal

    assert result.path is not None
    facts = {"primaries": list(result.primaries), "folder": str(result.path), "report": str(page)}
    _terminal.show_tables(result, page, facts, as_json)
