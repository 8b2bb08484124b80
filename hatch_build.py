"""Gives the package's page on an index the address of its repository, which only a release knows.

`HYDRASCOPE_REPOSITORY=https://... pip wheel .` makes the README's links and picture absolute and names the URLs.
Without it they are left as they are, to be read in a clone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LOCAL = re.compile(r"(?P<picture>!?)\[(?P<text>[^]]*)]\((?P<path>(?!https?:|#)[^)]+)\)")
"""A Markdown link or picture whose address is a path in the repository."""


def absolute(text: str, repository: str) -> str:
    """Markdown whose links and pictures no longer need the files beside it."""

    def moved(found: re.Match[str]) -> str:
        view = "raw" if found["picture"] else "blob"
        return f"{found['picture']}[{found['text']}]({repository}/{view}/main/{found['path']})"

    return LOCAL.sub(moved, text)


class Addresses(MetadataHookInterface):  # type: ignore[misc]
    """The fields of the metadata that hold addresses."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in the README, and the URLs where they are known."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = os.environ.get("HYDRASCOPE_REPOSITORY", "").rstrip("/")
        if repository:
            text = absolute(text, repository)
            metadata["urls"] = {
                "Repository": repository,
                "Issues": f"{repository}/issues",
                "Changes": f"{repository}/blob/main/CHANGELOG.md",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
