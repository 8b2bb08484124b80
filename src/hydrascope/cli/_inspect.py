"""`hydrascope inspect`: a model's anatomy and its proof."""

from __future__ import annotations

import json
from typing import Any

from hydrascope.cli._options import AsJson, Trust, with_options
from hydrascope.progress import loading


@with_options(("model", "device", "dtype", "adapter", "merge", "gguf", "allow_unused", "random_weights"))
def inspect(trust_remote_code: Trust = False, as_json: AsJson = False, **given: Any) -> None:
    """Show a model's anatomy, the proof of it, and what can be knocked out."""
    loading(quiet=as_json)
    from hydrascope.cli import _terminal
    from hydrascope.cli._console import Terminal
    from hydrascope.cli._inspection import examine, render
    from hydrascope.run import RunRequest, open_model

    _terminal.quiet()
    found = examine(open_model(RunRequest(**given), trust_remote_code=trust_remote_code))
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        Terminal().print(render(found))
