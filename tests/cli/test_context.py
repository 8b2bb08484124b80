"""`hydrascope context` and `hs.context` on finished runs, as a user calls them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hydrascope as hs
from hydrascope.errors import OutputError, RunError
from tests.cli.test_cli import strict_json
from tests.conftest import Cli
from tests.support import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture
def runs(
    cli: Cli, model_folder: Path, rows: list[tiny.Row], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Path]:
    """Runs on the two halves of the prompts; made once, without their pages."""
    monkeypatch.setattr("hydrascope.report._page.render", lambda dataset: "<html></html>")
    made = []
    for name, some in (("odd", rows[1::2]), ("even", rows[::2])):
        run = folder / name
        if not run.exists():
            prompts = tiny.prompt_file(folder / f"{name}.jsonl", some)
            said = cli(
                "run",
                model_folder,
                "--prompts",
                prompts,
                "--components",
                "attn,mlp",
                "--donors",
                "3",
                "--no-freeze",
                "--out",
                run,
            )
            assert said.code == 0, said.err
        made.append(run)
    return made


def test_runs_on_two_tasks_are_put_together(cli: Cli, runs: list[Path], tmp_path: Path) -> None:
    said = cli("context", *runs, "--out", tmp_path / "tables")
    assert (said.code, said.err) == (0, "")
    found = hs.context(*runs)
    assert said.out.splitlines()[0] == found.summary().headline
    assert said.out.splitlines()[-1] == str(tmp_path / "tables")
    told = strict_json(cli("context", *runs, "--json").out)
    assert told["sentences"] == list(found.summary().sentences)
    assert set(told["tables"]) == set(found.TABLES)
    for name, table in found.tables().items():
        assert len(told["tables"][name]) == len(table)
        stored = pd.read_csv(tmp_path / "tables" / f"{name}.csv")
        assert list(stored) == list(table) and len(stored) == len(table)


def test_effects_and_donors_are_those_of_the_ledgers(runs: list[Path]) -> None:
    found, one = hs.context(*runs), hs.Ledger.open(runs[0])
    effects = found.effects().query("task == 'odd'").set_index("part")["effect"]
    repair = one.repair().set_index("ablated")["total_effect"]
    np.testing.assert_allclose(effects, repair[effects.index], rtol=1e-5, atol=1e-7)
    alone = hs.context(one).variance().set_index("part")
    assert alone["task"].isna().all() and len(hs.context(one).agreement()) == 0
    spread = one.dataset["total_effect_sd"].values.astype(float) ** 2
    np.testing.assert_allclose(alone["donor"] * alone["sd"] ** 2, spread.mean(0), rtol=1e-5, atol=1e-9)


def test_what_cannot_be_put_together_is_refused_in_a_sentence(cli: Cli, runs: list[Path], tmp_path: Path) -> None:
    assert "no ledger in" in cli("context", runs[0], tmp_path / "nowhere").refusal()
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert "cannot be made" in cli("context", *runs, "--out", tmp_path / "file").refusal()
    with pytest.raises(RunError, match="name one finished run or more"):
        hs.context()
    with pytest.raises(OutputError, match="a context has no table 'all'; choose from variance"):
        hs.context(runs[0]).table("all")
