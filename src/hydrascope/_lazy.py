"""Names that are imported when they are first used: torch takes seconds, and a command's help must not wait for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package.

    Args:
        package: its name.
        homes: public name to the module in the package that has it; `module:other` where it is called otherwise there.
    """

    def found(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        home, _, inner = homes[name].partition(":")
        return getattr(import_module(f"{package}.{home}"), inner or name)

    return found
