"""`hydrascope freeze`: who is needed in a finished run."""

from __future__ import annotations

from typing import Any

from hydrascope.cli._options import AsJson, Finished, Trust, with_options
from hydrascope.cli._streams import say


@with_options(("device", "memory"), usual="as in the run")
def freeze(run: Finished, trust_remote_code: Trust = False, as_json: AsJson = False, **given: Any) -> None:
    """Learn who is needed in a finished run: freeze its strongest responders, without making it again."""
    from hydrascope import knockout
    from hydrascope.cli import _terminal
    from hydrascope.run_directory import REPORT

    _terminal.quiet()
    with _terminal.progress_bars(quiet=as_json) as progress:
        # a folder may come from someone else: what it says must not be enough to run code
        ledger = knockout.freeze(run, trust_remote_code=trust_remote_code, progress=progress, **given)
        assert ledger.path is not None
        page = ledger.path / REPORT
        ledger = _terminal.reported(ledger.dataset, ledger.path, progress)
    _terminal.show_result(ledger, page, as_json)
    if ledger.findings.by_layer.freeze.empty and not as_json:
        say("Nothing was frozen: later attention clearly makes up for none of the attention layers.")
