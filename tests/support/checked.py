"""The type checker of the tests: every function of the package checks the types and shapes that it states.

Switched on by `conftest.py` before the package is imported; a user's process never sees it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import _import_hook

ASKED_TO_REFUSE = tuple(
    f"hydrascope.{name}"
    for name in (
        *(
            "prompts._prompt_set",
            "prompts._files",
            "prompts._documents",
            "prompts._encode",
            "engine._positions",
            "knockout",
            "checking._expectations",
        ),
        *("run._execution", "run._given", "run._options", "run._request", "run._task"),
        *("ablations._base", "ablations._noise", "ablations._optimal", "ablations._resample", "results"),
        *(
            "run_directory",
            "faults._request",
            "faults._verb",
            "attribution._scores",
            "ranking._request",
            "ranking._verb",
            "pruning._prune",
            "pruning._request",
            "pruning._verb",
            "exporting._export",
            "exporting._given",
        ),
    )
)
"""Modules that take what a user wrote, of whatever type, and answer with a sentence of their own."""

_STRICT = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as for every type checker


def typed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its types checked."""
    return function if function.__module__ in ASKED_TO_REFUSE else _STRICT(function)


def _only_outermost(visitor: ast.NodeVisitor, node: ast.AST) -> None:
    """Functions inside functions stay as they are: made anew at every call, each would be prepared anew."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        ast.NodeVisitor.generic_visit(visitor, node)


_import_hook.JaxtypingTransformer.generic_visit = _only_outermost  # type: ignore[assignment]
