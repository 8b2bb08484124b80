"""From a template to one HTML file, which loads nothing and opens from disk."""

from __future__ import annotations

import json
import os
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from hydrascope.errors import OutputError
from hydrascope.figures import DARK, LIGHT, recolouring, vega_config
from hydrascope.report._scripts import bundle

SCRIPTS = ("charts.js", "downloads.js", "tables.js", "prompts.js", "cells.js", "choice.js")
"""Scripts of every page in the order in which they run; the last one draws the charts."""


def filled(template: str, **values: Any) -> str:
    """A template of `assets/` with styles, scripts and both themes inside.

    Args:
        template: name of its file.
        values: what it prints, by name.
    """
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_asset),
    )
    themes = {
        "light": {"config": vega_config(LIGHT), "colours": {}},
        "dark": {"config": vega_config(DARK), "colours": recolouring(LIGHT, DARK)},
    }
    return environment.get_template(template).render(
        themes=in_script(json.dumps(themes)),
        css=Markup(_asset("page.css")),
        js=Markup("\n".join(map(_asset, SCRIPTS))),
        bundle=Markup(bundle()),
        in_script=in_script,
        **values,
    )


def in_script(text: str) -> Markup:
    """JSON in which no character can end the script element around it."""
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def write(text: str, path: Path) -> Path:
    """Write a page; an existing file is replaced only once the new one is complete.

    Raises:
        OutputError: the file cannot be written.
    """
    half = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            half = Path(file.name)
            file.write(text)
        half.chmod(0o666 & ~_umask())
        half.replace(path)
    except OSError as error:
        if half is not None:
            half.unlink(missing_ok=True)
        raise OutputError(
            f"the report cannot be written to {path} ({error.strerror}): make room, or choose another place"
        ) from error
    return path


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
