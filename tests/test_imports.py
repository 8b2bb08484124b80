"""Who may import whom: everything flows from the model to the ledger and from the ledger to the report."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hydrascope
from hydrascope import errors

ROOT = Path(hydrascope.__file__).parent

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "_digests": set(),
    "_lazy": set(),
    "_tables": {"errors", "_card", "ledger", "run_directory"},
    "_card": set(),
    "progress": {"errors"},
    "components": {"errors"},
    "zoo": {"errors"},
    "prompts": {"errors", "_card", "_lazy", "components", "zoo"},
    "anatomy": {"errors", "_card", "components", "zoo"},
    "ablations": {"errors", "components", "prompts"},
    "engine": {"errors", "_digests", "components", "prompts", "anatomy", "ablations"},
    "ledger": {"errors", "_digests"},
    "run_settings": set(),
    "run_directory": {"errors", "ledger", "run_settings"},
    "analysis": {"errors", "_card", "components"},
    "resilience": {"errors", "analysis"},
    "significance": {"errors", "components", "analysis", "resilience"},
    "figures": {"errors", "analysis"},
    "report": {"errors", "analysis", "figures", "resilience", "significance"},
    "run": {
        *("errors", "components", "zoo", "prompts", "anatomy", "ablations", "engine", "ledger", "run_directory"),
        *("analysis", "_lazy", "run_settings"),
    },
    "attribution": {"errors", "components", "anatomy", "ablations", "engine", "analysis", "run"},
    "exporting": {"errors", "components", "prompts", "anatomy", "engine", "run", "run_directory"},
    "faults": {
        *("errors", "components", "prompts", "anatomy", "ablations", "engine", "ledger", "run_directory", "analysis"),
        *("resilience", "report", "run", "_lazy", "_tables", "progress"),
    },
    "ranking": {
        *("errors", "components", "prompts", "anatomy", "ablations", "ledger", "run_directory", "analysis", "_lazy"),
        *("_tables", "attribution", "faults", "progress", "report", "resilience", "run", "run_settings"),
        "significance",
    },
    "pruning": {
        *("errors", "_digests", "_lazy", "_tables", "components", "zoo", "prompts", "anatomy", "engine", "ledger"),
        *("run_directory", "ablations", "analysis", "resilience", "report", "run", "exporting", "progress"),
    },
    "checking": {"errors", "comparison", "faults", "ledger", "resilience", "results", "run", "run_directory"},
    "sweeping": {
        *("errors", "_lazy", "zoo", "prompts", "anatomy", "ledger", "run_directory", "run", "results", "progress"),
    },
    "pytest_plugin": {"errors", "checking"},
    "comparison": {"errors", "analysis", "report", "results", "run_directory"},
    "contexts": {"errors", "_tables", "ledger", "report", "resilience", "results", "run_directory", "significance"},
    "atlases": {"errors", "_tables", "analysis", "ledger", "progress", "report", "results", "run_directory"},
    "results": {"errors", "_card", "components", "analysis", "ledger", "report", "run_directory"},
    "knockout": {
        *("errors", "ablations", "analysis", "anatomy", "progress", "prompts", "results", "run", "run_directory"),
    },
}
"""For each room, the rooms it may import. Whoever is not named (the command line and its helpers) may import all."""

FRONT = {"__init__", "__main__", "cli"}
FACES = (
    "ablations",
    "analysis",
    "anatomy",
    "attribution",
    "checking",
    "cli",
    "components",
    "engine",
    "exporting",
    "faults",
    "figures",
    "ledger",
    "prompts",
    "pruning",
    "ranking",
    "report",
    "resilience",
    "run",
    "significance",
    "sweeping",
)
"""Rooms whose modules are private."""

NO_MODELS = (
    "errors",
    "components",
    "zoo",
    "ledger",
    "run_directory",
    "analysis",
    "resilience",
    "significance",
    "figures",
    "report",
    "results",
    "comparison",
    "contexts",
    "atlases",
)
"""Rooms that work where torch and transformers are not installed."""


def files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room(file: Path) -> str:
    return file.relative_to(ROOT).with_suffix("").parts[0]


def imports(file: Path, at_runtime: bool = False) -> Iterator[str]:
    """Full names of the modules that a file imports anywhere; `at_runtime` leaves `TYPE_CHECKING` blocks out."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if at_runtime and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: line {node.lineno} imports relatively"
            assert node.module is not None
            if node.module == "hydrascope":
                yield from (f"hydrascope.{name.name}" for name in node.names)
            else:
                yield node.module


def rooms_of(file: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(file) if name.startswith("hydrascope.")}


def test_every_room_has_a_rule():
    assert {room(file) for file in files()} == {*ALLOWED, *FRONT}


@pytest.mark.parametrize("name", ALLOWED)
def test_a_room_imports_only_what_lies_to_its_left(name):
    own = [file for file in files() if room(file) == name]
    assert own
    for file in own:
        forbidden = rooms_of(file) - ALLOWED[name] - {name}
        assert not forbidden, f"{file.relative_to(ROOT)} imports {', '.join(sorted(forbidden))}"


@pytest.mark.parametrize("name", FACES)
def test_others_enter_a_room_by_its_face(name):
    private = f"hydrascope.{name}."
    assert all(file.name.startswith("_") for file in (ROOT / name).rglob("*.py"))
    for file in files():
        if room(file) != name:
            behind = [module for module in imports(file) if module.startswith(private)]
            assert not behind, f"{file.relative_to(ROOT)} imports {', '.join(behind)}"


def test_the_rules_have_no_circle():
    left = dict(ALLOWED)
    while left:
        free = [name for name, needs in left.items() if not needs & left.keys()]
        assert free, f"circle among {sorted(left)}"
        for name in free:
            del left[name]


def test_only_the_entry_point_imports_the_command_line():
    for file in files():
        if room(file) not in ("cli", "__main__"):
            assert not rooms_of(file) & {"cli", "__main__"}, file


@pytest.mark.parametrize("name", NO_MODELS)
def test_rooms_beside_the_engine_know_no_models(name):
    for file in files():
        if room(file) == name:
            outside = {module.split(".")[0] for module in imports(file)}
            assert not outside & {"torch", "transformers", "safetensors"}, file


def test_transformers_is_known_to_few():
    """A change of that library must not be felt in more places than these."""
    who = {room(file) for file in files() if "transformers" in {name.split(".")[0] for name in imports(file, True)}}
    assert who <= {"anatomy", "cli", "engine", "exporting"}


PUBLIC = {
    *("load", "Model", "load_prompts", "Prompt", "PromptSet", "documents", "Document", "cut", "Cut"),
    *("knock_out", "freeze", "stress", "rank", "compare", "context", "Options", "Ledger", "Stress", "Rank"),
    *("Summary", "Compared", "Context"),
    *("export", "Exported", "prune", "Prune", "check", "Checks", "sweep", "Sweep", "atlas", "Atlas"),
    *("Ablation", "Zero", "Mean", "PositionMean", "Optimal", "Resample", "Noise", "Counterfactual"),
}
"""What a user can meet, beside the errors."""


def test_everything_that_a_user_can_meet_has_a_public_name():
    every_error = {name for name, found in vars(errors).items() if isinstance(found, type)}
    assert set(hydrascope.__all__) == PUBLIC | every_error
    for name in every_error:
        assert getattr(hydrascope, name) is getattr(errors, name)


def test_public_names_are_those_that_can_be_imported():
    assert hydrascope.__all__ == sorted(hydrascope.__all__)
    assert dir(hydrascope) == hydrascope.__all__
    for name in hydrascope.__all__:
        found = getattr(hydrascope, name)
        assert name == "load_prompts" or found is getattr(importlib.import_module(found.__module__), name)
        assert found.__module__.split(".")[0] == "hydrascope"
        assert found.__doc__
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        hydrascope.missing  # noqa: B018


@pytest.mark.parametrize(
    "module",
    [
        "hydrascope",
        "hydrascope.cli",
        "hydrascope.run",
        "hydrascope.run._request",
        "hydrascope.faults",
        "hydrascope.faults._request",
        "hydrascope.ranking",
        "hydrascope.ranking._request",
        "hydrascope.pruning",
        "hydrascope.pruning._request",
        "hydrascope.sweeping",
        "hydrascope.cli._sweep",
        "hydrascope.significance",
        "hydrascope.resilience",
        "hydrascope.analysis",
        "hydrascope.figures",
        "hydrascope.ledger",
        "hydrascope.results",
    ],
)
def test_what_needs_no_model_does_not_wait_for_torch(module):
    code = f"import sys, {module}; print([m for m in ('torch', 'transformers', 'dask') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
