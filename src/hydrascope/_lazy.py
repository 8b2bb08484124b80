"""Names that are imported when they are first used: torch takes seconds, and a command's help must not wait for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package.

    Args:
        package: its name.
        homes: module of the package to the names it has, with spaces between; `public=own` where they differ.
    """
    found = {
        public: (module, own or public)
        for module, names in homes.items()
        for public, _, own in (name.partition("=") for name in names.split())
    }

    def get(name: str) -> Any:
        if name not in found:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module, own = found[name]
        return getattr(import_module(f"{package}.{module}"), own)

    return get
