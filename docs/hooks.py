"""What mkdocs adds as it builds the site: pages from elsewhere in the repository, and references made from the code.

The command's reference is made from the very commands that `--help` prints, Python's from `hydrascope.__all__`, so that
neither is written twice.
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import hydrascope as hs
from hydrascope.cli._app import app
from hydrascope.cli._options import add_options

ROOT = Path(__file__).parent.parent
ELSEWHERE = {
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "zoo/README.md": "making.md",
    "src/hydrascope/zoo/lerna/README.md": "cards/lerna.md",
    "src/hydrascope/zoo/iolaus/README.md": "cards/iolaus.md",
}
"""Files outside `docs/` to the pages that they are on the site."""
TABLE = ("| | what it does | default |", "|---|---|---|")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Keep progress bars, and warnings that name places on this machine, out of the notebook's page."""
    os.environ.update({"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere."""
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the references, and turn links into the repository into links within the site."""
    for source, target in ELSEWHERE.items():
        markdown = markdown.replace(f"](../{source})", f"]({target})")
    if page.file.src_uri == "reference/command.md":
        return markdown + commands()
    if page.file.src_uri == "reference/python.md":
        return markdown + names()
    return markdown


def commands() -> str:
    """Every verb of the command line with its arguments and options, as Markdown."""
    for verb in _group().commands:
        add_options(verb)
    group = _group()
    return "\n".join(["", *_choices(group), *(_verb(*each) for each in group.commands.items())])


def _group() -> Any:
    return typer.main.get_command(app)


def _verb(name: str, command: Any) -> str:
    arguments = [_argument(one) for one in command.params if one.param_type_name == "argument"]
    usage = " ".join(["hydrascope", name, "[OPTIONS]", *arguments])
    head = [f"\n## `{name}`\n", f"{command.help}\n", f"```\n{usage}\n```\n"]
    return "\n".join([*head, *_choices(command), ""])


def _choices(command: Any) -> list[str]:
    shown = [one for one in command.params if not getattr(one, "hidden", False)]
    rows = [f"| {_spelled(one)} | {_cell(one.help)} | {_default(one)} |" for one in shown]
    return [*TABLE, *rows] if rows else []


def _argument(one: Any) -> str:
    name = one.name.upper() + ("..." if one.nargs == -1 else "")
    return name if one.required else f"[{name}]"


def _spelled(option: Any) -> str:
    if option.param_type_name == "argument":
        return f"`{option.name.upper()}`"
    return ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))


def _default(option: Any) -> str:
    if isinstance(option.show_default, str):
        return _cell(option.show_default)
    if option.default is True:
        return f"`{option.opts[0]}`"
    return "" if option.default in (None, False) or callable(option.default) else f"`{option.default}`"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def names() -> str:
    """Every name of the package under its heading, for mkdocstrings."""
    return "\n".join(
        f"\n## {heading}\n\n" + "\n".join(f"::: hydrascope.{name}\n{_fields(name)}" for name in listed)
        for heading, listed in _grouped().items()
    )


def _fields(name: str) -> str:
    """The choices that `hs.Options` has, which are data and not docstrings."""
    if name != "Options":
        return ""
    rows = [
        f"| `{field}` | {_cell(it.description)} | {'by protocol' if it.default_factory else f'`{it.default!r}`'} |"
        for field, it in hs.Options.model_fields.items()
    ]
    return "\n".join(["", *TABLE, *rows, ""])


def _grouped() -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {"Verbs": [], "Classes": [], "Ablations": [], "Errors": []}
    for name in hs.__all__:
        it = getattr(hs, name)
        if not inspect.isclass(it):
            groups["Verbs"].append(name)
        elif issubclass(it, hs.HydrascopeError):
            groups["Errors"].append(name)
        else:
            groups["Ablations" if issubclass(it, hs.Ablation) else "Classes"].append(name)
    return groups
