from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from zoo.corpus import Corpus
from zoo.grid import load_grid
from zoo.growth import LEAST_LOSS, against, by_layer, summarise, with_intervals
from zoo.recipe import Recipe

ROOT = Path(__file__).parents[2]
T_OF_TWO = 4.302652729911275  # Student's, two degrees of freedom, 97.5 %
GRID = """
seeds = [4, 5]
[base]
steps = 40
warmup = 5
[base.mixture]
facts = 1.0
[conditions.plain]
[conditions.swapped]
ingredient = "attention_swap"
drop = 0.25
"""


def _write(folder: Path, text: str) -> Path:
    file = folder / "little.toml"
    file.write_text(text)
    return file


def _first_batch(recipe: Recipe) -> torch.Tensor:
    return Corpus(recipe.seed, recipe.mixture, rows=2, length=recipe.length).batch(0, 0.0).tokens


def test_grid_crosses_conditions_and_seeds_seed_by_seed(tmp_path: Path) -> None:
    grid = load_grid(_write(tmp_path, GRID))
    assert grid.name == "little"
    assert grid.conditions == ("plain", "swapped")
    assert [run.recipe.name for run in grid.runs] == ["plain-4", "swapped-4", "plain-5", "swapped-5"]
    assert [run.recipe.seed for run in grid.runs] == [4, 4, 5, 5]
    assert grid.runs[1].recipe.ingredient == "attention_swap"
    assert grid.runs[1].last == "step-000040"


def test_runs_of_a_seed_read_the_same_tokens(tmp_path: Path) -> None:
    batches = [_first_batch(run.recipe) for run in load_grid(_write(tmp_path, GRID)).runs]
    assert torch.equal(batches[0], batches[1])
    assert torch.equal(batches[2], batches[3])
    assert not torch.equal(batches[0], batches[2])


@pytest.mark.parametrize("key", ["steps = 50", "seed = 3", "depth = 2"])
def test_condition_may_not_change_what_is_shared_or_unknown(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match=key.split()[0]):
        load_grid(_write(tmp_path, f"{GRID}\n{key}\n"))


def test_the_grid_of_the_repository_has_three_seeds_and_the_conditions_of_the_issue() -> None:
    grid = load_grid(ROOT / "zoo" / "grid.toml")
    ingredients = {run.recipe.ingredient for run in grid.runs}
    assert ingredients == {"none", "dropout", "attention_drop", "attention_swap", "layer_drop"}
    for condition in grid.conditions:
        assert len({run.recipe.seed for run in grid.runs if run.condition == condition}) >= 3
    assert len({(run.recipe.steps, run.recipe.rows, run.recipe.mixture) for run in grid.runs}) == 1


@pytest.fixture
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    numbers = (
        "own_change",
        "attention",
        "mlp",
        "norm",
        "slope",
        "r2",
        "slope_attn",
        "r2_attn",
        "relaxed",
        "late_mlp",
        "taken",
        "right",
    )
    return pd.DataFrame(
        [
            {"condition": condition, "seed": seed, "step": 10, "set": name, "layer": layer, "layers": 6, "prompts": 99}
            | {number: float(rng.normal()) for number in numbers}
            for condition, seed, name, layer in product(("plain", "swapped"), range(3), ("facts", "text"), range(6))
        ]
    )


def test_summary_counts_the_layers_from_the_first_third_on_that_have_attention_after(rows: pd.DataFrame) -> None:
    table = summarise(rows)
    assert len(table) == 12
    for _, found in table.iterrows():
        own = attention = relaxed = slope = 0.0
        for _, row in rows.iterrows():
            same = all(row[key] == found[key] for key in ("condition", "seed", "set"))
            if same and row["layer"] in (2, 3, 4):
                own += row["own_change"]
                attention += row["attention"]
                relaxed += row["relaxed"]
                slope += row["slope"] / 3
        assert found["attention"] == pytest.approx(-attention / own)
        assert found["relaxed"] == pytest.approx(-relaxed / own)
        assert found["slope"] == pytest.approx(-slope)


def test_runs_that_answer_hardly_anything_are_left_out(rows: pd.DataFrame) -> None:
    rows.loc[(rows["seed"] == 1) & (rows["set"] == "facts"), "prompts"] = 20
    table = summarise(rows)
    assert len(table) == 10
    assert not ((table["seed"] == 1) & (table["set"] == "facts")).any()


def test_interval_is_students_over_seeds(rows: pd.DataFrame) -> None:
    table = summarise(rows)
    found: Any = with_intervals(table, ["slope"]).set_index(["condition", "set"]).loc[("plain", "text")]
    values = table[(table["condition"] == "plain") & (table["set"] == "text")]["slope"].tolist()
    mean = sum(values) / 3
    spread = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
    assert found["mean"] == pytest.approx(mean)
    assert found["hi"] - found["mean"] == pytest.approx(T_OF_TWO * spread / 3**0.5)
    assert found["mean"] - found["lo"] == pytest.approx(T_OF_TWO * spread / 3**0.5)
    assert found["seeds"] == 3


def test_conditions_are_compared_seed_by_seed(rows: pd.DataFrame) -> None:
    table = summarise(rows).set_index(["condition", "set", "seed"])["slope"]
    found = against(summarise(rows), "plain", ["slope"]).set_index(["condition", "set"])
    expected = [table["swapped", "text", seed] - table["plain", "text", seed] for seed in range(3)]
    assert found.loc[("swapped", "text"), "mean"] == pytest.approx(sum(expected) / 3)
    assert set(found.index.get_level_values(0)) == {"swapped"}


def test_layers_that_lose_little_have_no_share(rows: pd.DataFrame) -> None:
    found = by_layer(rows)
    assert 0 < len(found) < len(rows)
    for index, row in rows.iterrows():
        assert (index in found.index) == (row["own_change"] <= -LEAST_LOSS)
    for index, row in found.iterrows():
        assert row["share"] == pytest.approx(rows["attention"].to_dict()[index] / -rows["own_change"].to_dict()[index])


def test_the_page_and_its_numbers_are_of_the_grid_of_the_repository() -> None:
    grid = load_grid(ROOT / "zoo" / "grid.toml")
    page = (ROOT / "docs" / "zoo.md").read_text()
    numbers = pd.read_csv(ROOT / "docs" / "zoo" / "grid.csv")
    assert set(numbers["condition"]) == set(grid.conditions)
    assert set(numbers["seed"]) == {run.recipe.seed for run in grid.runs}
    assert numbers["step"].max() == grid.runs[0].recipe.steps
    last = numbers[(numbers["step"] == numbers["step"].max()) & (numbers["set"] == "indirect")]
    for condition, share in last.groupby("condition")["attention"].mean().items():
        assert f"| {condition} | {share:+.2f} [" in page
    for figure in ("conditions", "steps", "layers"):
        assert f"(zoo/{figure}.svg)" in page
        assert (ROOT / "docs" / "zoo" / f"{figure}.svg").stat().st_size > 5000
