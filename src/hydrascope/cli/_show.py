"""`hydrascope show`: what a finished run found, again."""

from __future__ import annotations

from hydrascope.cli._options import AsJson, Finished


def show(run: Finished, as_json: AsJson = False) -> None:
    """Say again what a finished run found; of one that kept only sums by kind, list its knock-outs."""
    from hydrascope.cli import _terminal
    from hydrascope.results import Ledger
    from hydrascope.run_directory import REPORT

    ledger = Ledger.open(run)
    assert ledger.path is not None
    _terminal.warn_of_damage(ledger)
    _terminal.show_result(ledger, ledger.path / REPORT, as_json, listed=True)
