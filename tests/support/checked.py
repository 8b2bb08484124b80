"""The type checker of the tests: every function of the package checks the types and shapes that it states.

Switched on by `conftest.py` before the package is imported; a user's process never sees it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from beartype import BeartypeConf, beartype
from jaxtyping import _import_hook, jaxtyped

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


def shapeless(one: Any) -> Any:
    """A function or class that states no shapes with its types checked, in a fraction of the time."""
    if isinstance(one, type):
        if is_dataclass(one) and "__init__" in vars(one):
            one.__init__ = shapeless(one.__init__)
        return one
    try:
        get_type_hints(one)
    except (NameError, TypeError, AttributeError):  # names that only a type checker has, which jaxtyping leaves out
        return jaxtyped(one, typechecker=typed)
    return typed(one)


class _Shapeless(_import_hook.Typechecker):
    """Decorates with `shapeless`."""

    def __init__(self) -> None:
        self.hash = shapeless.__name__

    def get_ast(self) -> ast.expr:
        """The decorator."""
        return ast.parse(f"jaxtyping._import_hook.Typechecker.lookup['{self.hash}']", mode="eval").body


_import_hook.Typechecker.lookup[shapeless.__name__] = shapeless
_visit_module = _import_hook.JaxtypingTransformer.visit_Module


def _by_shapes(visitor: Any, node: ast.Module) -> ast.Module:
    """Calls in modules that state no shapes need no memory of dimensions."""
    if not any(isinstance(one, ast.ImportFrom) and one.module == "jaxtyping" for one in ast.walk(node)):
        visitor._typechecker = _Shapeless()
    return _visit_module(visitor, node)


def _only_outermost(visitor: ast.NodeVisitor, node: ast.AST) -> None:
    """Functions inside functions stay as they are: made anew at every call, each would be prepared anew."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        ast.NodeVisitor.generic_visit(visitor, node)


_import_hook.JaxtypingTransformer.generic_visit = _only_outermost  # type: ignore[assignment]
_import_hook.JaxtypingTransformer.visit_Module = _by_shapes  # type: ignore[assignment]
