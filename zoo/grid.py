"""Train every run of a grid: conditions times seeds, the same tokens for all; killed, it continues.

Usage: ``python -m zoo.grid zoo/grid.toml``. Runs are kept as ``checkpoints/GRID/CONDITION-SEED``; finished
ones are passed over. All conditions of one seed come before the next seed, so that a grid that was
ended early is smaller in seeds and not in conditions.
"""

from __future__ import annotations

import argparse
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from zoo.recipe import Recipe, read_recipe
from zoo.train import Run


@dataclass(frozen=True)
class GridRun:
    """One cell of a grid: a condition and a seed."""

    condition: str
    recipe: Recipe

    @property
    def last(self) -> str:
        """Folder of the weights after the last step."""
        return f"step-{self.recipe.steps:06d}"


@dataclass(frozen=True)
class Grid:
    """Conditions that share everything but what their tables say.

    Attributes:
        name: Folder of the runs below the checkpoints.
        runs: All runs, seed by seed. A run's corpus depends on its seed and the shared settings alone,
            so that the runs of one seed have read the same tokens.
    """

    name: str
    runs: tuple[GridRun, ...]

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions in the order of the file."""
        return tuple(dict.fromkeys(run.condition for run in self.runs))


def load_grid(path: Path) -> Grid:
    """Read a grid.

    Args:
        path: A TOML file with ``seeds``, a table ``base`` with the fields of a recipe that all runs
            share, and a table ``conditions.NAME`` with the fields that make a condition.

    Raises:
        ValueError: If a key is unknown, or a condition changes what the runs must share.
    """
    values = tomllib.loads(path.read_text())
    shared = {"seed", "steps", "rows", "length", "mixture", "curriculum", "learning_rate"}
    runs = []
    for seed in values["seeds"]:
        for condition, changes in values["conditions"].items():
            if clash := shared & changes.keys():
                raise ValueError(f"{path}: condition {condition!r} must not change {min(clash)!r}.")
            recipe = read_recipe({**values["base"], **changes, "name": condition}, path)
            runs.append(GridRun(condition, replace(recipe, name=f"{condition}-{seed}", seed=seed)))
    return Grid(path.stem, tuple(runs))


def main() -> None:
    """Train what is not trained yet."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("checkpoints"), help="where the runs are kept")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    grid = load_grid(options.grid)
    for number, run in enumerate(grid.runs, start=1):
        folder = options.folder / grid.name / run.recipe.name
        if not (folder / run.last / "model.safetensors").exists():
            print(f"{number} of {len(grid.runs)}: {run.recipe.name}", flush=True)
            Run(run.recipe, folder, torch.device(options.device)).train()


if __name__ == "__main__":
    main()
