"""`hydrascope show`: what a finished run found, again."""

from __future__ import annotations

from hydrascope.cli._options import AsJson, Finished


def show(run: Finished, as_json: AsJson = False) -> None:
    """Say again what a finished run found; of one that kept only sums by kind, list its knock-outs."""
    from hydrascope.cli import _terminal
    from hydrascope.cli._finished import open_finished
    from hydrascope.cli._prune import show_prune
    from hydrascope.cli._rank import show_rank
    from hydrascope.cli._stress import show_stress
    from hydrascope.faults import Stress
    from hydrascope.pruning import Prune
    from hydrascope.results import Ledger
    from hydrascope.run_directory import REPORT

    found = open_finished(run)
    assert found.path is not None
    page = found.path / REPORT
    if isinstance(found, Ledger):
        _terminal.warn_of_damage(found)
        _terminal.show_result(found, page, as_json, listed=True)
    elif isinstance(found, Stress):
        show_stress(found, page, as_json)
    elif isinstance(found, Prune):
        show_prune(found, page, None, as_json)
    else:
        show_rank(found, page, as_json)
