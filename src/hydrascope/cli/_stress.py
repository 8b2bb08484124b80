"""`hydrascope stress`: many faults at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hydrascope.cli._options import AsJson, Trust, with_options
from hydrascope.progress import bars, loading

if TYPE_CHECKING:
    from hydrascope.faults import Stress, StressRequest

NAMES = (
    *("model", "prompts", "limit", "components", "rates", "masks", "pairs", "worst", "accuracy", "loss"),
    *("protocol", "length", "texts", "ablation", "donors", "positions", "read", "skip", "target", "keep_wrong"),
    *("answer", "delimiter", "bos", "seed", "writers", "detail", "distribution", "memory", "device", "dtype"),
    *("adapter", "merge", "gguf", "allow_unused"),
)
"""Fields that are options, in the order of the help."""


def _request() -> type[StressRequest]:
    from hydrascope.faults import StressRequest

    return StressRequest


@with_options(NAMES, request=_request)
def stress(
    out: Annotated[Path | None, typer.Option(help="The test's folder; the same command continues it.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Throw away the test in that folder.")] = False,
    trust_remote_code: Trust = False,
    as_json: AsJson = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    **given: Any,
) -> None:
    """Knock out random sets of parts, pairs and the worst sets: what does the model survive?"""
    loading(quiet=as_json)
    from hydrascope.cli import _terminal
    from hydrascope.faults import Stress, default_stress_folder, estimate_stress, execute_stress, prepare_stress
    from hydrascope.run import open_request
    from hydrascope.run_directory import folder_named

    named = None if out is None else folder_named(out)
    request = _request()(**given)
    request.ablations()
    _terminal.quiet()
    test = prepare_stress(request, *open_request(request, trust_remote_code=trust_remote_code))
    if dry_run:
        first, *others = estimate_stress(test).items()
        _terminal.show_estimates(first[1], dict(others), {}, as_json=as_json)
        return
    folder = named or default_stress_folder(test)
    with bars(quiet=as_json) as progress:
        tell = _terminal.silent if as_json else _terminal.introduce
        found, directory = execute_stress(test, folder, overwrite=overwrite, progress=progress, tell=tell)
        assert directory is not None
        result = Stress(found, directory.path)
        _terminal.write_page(result, directory.report, progress)
    show_stress(result, directory.report, as_json)


def show_stress(result: Stress, page: Path, as_json: bool) -> None:
    """Say what a stress test found.

    Args:
        result: the finished test.
        page: path of its report.
        as_json: everything as JSON instead.
    """
    from hydrascope.cli import _terminal

    _terminal.show_tables(result, page, {"report": str(page)}, as_json)
