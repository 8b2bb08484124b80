"""The scripts that draw the charts, made once by vl-convert and cached."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

ENDING = "\n/* whole */\n"
"""End of every complete file in the cache."""


@functools.cache
def bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that may stand inside a page."""
    file = cache_folder() / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        kept = file.read_text(encoding="utf-8")
        if kept.endswith(ENDING):
            return kept
    import vl_convert

    scripts: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    scripts = scripts.replace("</script", "<\\/script").replace("<!--", "<\\!--") + ENDING
    with suppress(OSError):  # a cache that cannot be written is none
        _keep(file, scripts)
    return scripts


def cache_folder() -> Path:
    """Where this user's system keeps what can be made again."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "hydrascope"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", tempfile.gettempdir())) / "hydrascope" / "cache"
    with suppress(RuntimeError):  # no home
        return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "hydrascope"
    return Path(os.devnull)


def _keep(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=file.parent, prefix=".vega-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(draft, file)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise
