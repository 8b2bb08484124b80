"""The command line: one verb per file, no logic of its own."""

from hydrascope.cli._app import main

__all__ = ["main"]
