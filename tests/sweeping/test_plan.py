"""Plans: what is crossed, what the cells are called, and what is wrong with a plan, with its place."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from hydrascope.errors import HydrascopeError, RunError
from hydrascope.sweeping import Cell, read_plan
from tests.conftest import Cli
from tests.support import tiny


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cells(text: str) -> tuple[Cell, ...]:
    Path("plan.toml").write_text(text, encoding="utf-8")
    return read_plan("plan.toml").cells


def refusal(text: str) -> str:
    with pytest.raises(HydrascopeError) as refused:
        cells(text)
    return str(refused.value)


def test_lists_are_crossed_and_single_values_hold_for_all() -> None:
    found = cells(
        """
        model = ["lerna", "iolaus"]
        prompts = ["facts", "retrieval"]
        seed = [0, 1, 2]
        components = "attn,mlp"
        keep-wrong = true
        """
    )
    assert len(found) == 12
    assert {(c.request.model, c.request.prompts, c.request.seed) for c in found} == {
        (model, prompts, seed)
        for model in ("lerna", "iolaus")
        for prompts in ("facts", "retrieval")
        for seed in range(3)
    }
    assert all(c.request.components == "attn,mlp" and c.request.keep_wrong for c in found)
    assert [c.name for c in found[:4]] == [
        *("lerna-facts-seed-0", "lerna-facts-seed-1", "lerna-facts-seed-2", "lerna-retrieval-seed-0")
    ]
    assert found[0].folder == Path("runs/plan/lerna-facts-seed-0")


def test_cells_of_one_model_follow_each_other() -> None:
    found = cells('seed = [0, 1]\nmodel = ["lerna", "iolaus"]\ndtype = ["float32", "float64"]')
    openings = [(c.request.model, c.request.dtype) for c in found]
    assert len(set(openings)) == 4 == sum(a != b for a, b in itertools.pairwise(openings)) + 1


def test_a_table_in_a_list_has_options_that_go_together() -> None:
    found = cells(
        """
        folder = "here"
        dtype = "float32"
        ablation = ["zero", { ablation = "resample", donors = 3 }]
        [[model]]
        model = "lerna"
        [[model]]
        model = "lerna"
        random_weights = 7
        dtype = "float64"
        """
    )
    said = [(c.request.random_weights, c.request.dtype, c.request.ablation, c.request.donors) for c in found]
    assert sorted(said, key=str) == sorted(
        [
            (None, "float32", ("zero",), None),
            (None, "float32", ("resample",), 3),
            (7, "float64", ("zero",), None),
            (7, "float64", ("resample",), 3),
        ],
        key=str,
    )
    # dtype and donors follow from what is told
    assert {c.name for c in found} == {"zero", "resample", "random-weights-7-zero", "random-weights-7-resample"}
    assert found[0].folder.parent == Path("here")


def test_each_block_of_cells_is_crossed_by_itself_with_what_stands_above() -> None:
    found = cells(
        """
        seed = [0, 1]
        [[cells]]
        model = ["lerna", "iolaus"]
        prompts = "facts"
        [[cells]]
        model = "lerna"
        prompts = "text.txt"
        protocol = "text"
        seed = 5
        """
    )
    assert [(c.request.model, c.request.protocol, c.request.seed) for c in found] == [
        *(("lerna", "facts", 0), ("lerna", "facts", 1), ("lerna", "text", 5)),
        *(("iolaus", "facts", 0), ("iolaus", "facts", 1)),
    ]


def test_a_pattern_stands_for_checkpoints_in_the_order_of_their_numbers(here: Path) -> None:
    for step in (100, 20, 3):
        (here / "checkpoints" / f"step-{step}").mkdir(parents=True)
        (here / "checkpoints" / f"step-{step}" / "config.json").touch()
    (here / "checkpoints" / "logs").mkdir()
    found = cells('model = "checkpoints/*"\nprompts = "facts"')
    assert [c.name for c in found] == ["step-3", "step-20", "step-100"]
    assert [c.request.model for c in found] == [f"checkpoints/step-{step}" for step in (3, 20, 100)]


def test_names_tell_paths_of_the_same_end_apart(here: Path) -> None:
    for folder in ("a/model", "b/model"):
        (here / folder).mkdir(parents=True)
    assert [c.name for c in cells('model = ["a/model", "b/model"]')] == ["a_model", "b_model"]
    odd = cells('components = ["attn.0->mlp.1", "attn.0->mlp.2", "head.*.0,head.*.1"]')
    assert [c.name for c in odd] == ["attn.0-_mlp.1", "attn.0-_mlp.2", "head._.0,head._.1"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            'model = ["lerna"]\nablations = ["zero"]',
            r"line 2 of 'plan.toml': there is no option 'ablations' \(did you ",
        ),
        ('model = ["lerna"]\nseed = []', "line 2 of 'plan.toml': 'seed' is an empty list"),
        ("seed = [[0, 1], 2]", "line 1 of 'plan.toml': 'seed' has a list in its list"),
        ('model = "lerna"\nseed = [0, 1, 0]', "'plan.toml' asks twice for the cell 'seed-0'; name each value once"),
        ('model = "lerna"\nnull_draws = [0, -1]', "line 2 of 'plan.toml': null draws cannot be -1; give 0 or more"),
        ('ablation = ["zero",\n"zer"]', r"line 1 of 'plan.toml': .*'zer'"),
        ('model = "lerna"\nablation = "zero"\ndonors = 3', "line 2 of 'plan.toml': the zero ablation has one value"),
        ('model = ["lerna", { name = "x" }]', "line 1 of 'plan.toml': there is no option 'name'"),
        ('model = ["lerna", { dtype = "auto" }]', "a table of 'model' does not say the model itself"),
        (
            'dtype = ["auto", "float64"]\nmodel = ["lerna", { model = "iolaus", dtype = "float16" }]',
            "line 2 of 'plan.toml': 'dtype' varies with 'dtype' and with 'model'",
        ),
        ('seed = 0\n\n[[cells]]\nmodel = "lerna"\n[[cells]]\nprotocl = "text"', "line 6 of 'plan.toml': .*'protocol'"),
        ("cells = 3", "write \\[\\[cells\\]\\]"),
        ("", "'plan.toml' asks for nothing"),
        ("folder = 3\nseed = 1", "line 1 of 'plan.toml': folder cannot be 3"),
        ('report = "no"\nseed = 1', "line 1 of 'plan.toml': report cannot be 'no'"),
        ("seed = 1\nlimit 3", "'plan.toml' is no TOML: .*line 2"),
        ('model = ["lerna", "./nowhere"]', "line 1 of 'plan.toml': no model './nowhere'"),
        ('model = "checkpoints/*"', "line 1 of 'plan.toml': 'checkpoints/\\*' matches no folders with a config.json"),
        ('seed = 1\nprompts = ["facts", "mine.jsonl"]', "line 2 of 'plan.toml': .*mine.jsonl"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, says: str) -> None:
    assert re.search(says, refusal(text))


def test_a_broken_prompt_file_is_found_before_any_model_is_opened(here: Path) -> None:
    (here / "p.jsonl").write_text('{"prompt": "a"}\n{"prmpt": "b"}\n')
    assert "line 1 of 'plan.toml': " in refusal('prompts = "p.jsonl"')


def test_a_plan_that_is_not_there_or_wrong_is_one_sentence(here: Path, cli: Cli) -> None:
    assert "'nowhere.toml' cannot be read" in cli("sweep", "nowhere.toml").refusal()
    (here / "plan.toml").write_text("sed = 1")
    assert (
        "line 1 of 'plan.toml': there is no option 'sed' (did you mean 'seed'?)" in cli("sweep", "plan.toml").refusal()
    )


def test_a_plan_grows_and_its_runs_keep_their_folders(here: Path) -> None:
    """Adding a list changes names; what has been run is found by what was asked."""
    from hydrascope.run_directory import open_run_directory

    before = cells('model = "lerna"\nablation = ["zero", "mean"]')
    for cell in before:
        facts = {"request": cell.request.model_dump(mode="json")}
        open_run_directory(cell.folder, {"seed": 0}, facts)
    after = cells('model = "lerna"\nablation = ["zero", "mean"]\nseed = [0, 1]')
    assert {c.name: c.folder.name for c in after} == {
        **{"zero-seed-0": "zero", "mean-seed-0": "mean"},
        **{"zero-seed-1": "zero-seed-1", "mean-seed-1": "mean-seed-1"},
    }
    other = cells('model = "lerna"\nablation = ["zero", "mean"]\nlimit = 5')  # another question, by the same names
    assert [c.folder.name for c in other] == ["zero-2", "mean-2"]


def test_python_takes_a_dictionary(model_folder: Path, rows: list[tiny.Row]) -> None:
    plan = read_plan({"model": str(model_folder), "seed": [0, 1], "folder": "out"})
    assert [str(c.folder) for c in plan.cells] == ["out/seed-0", "out/seed-1"]
    with pytest.raises(RunError, match="the plan: there is no option 'sed'"):
        read_plan({"sed": 1})
