"""`hydrascope context` and `hs.context` on finished runs, as a user calls them."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hydrascope as hs
from hydrascope.errors import DetailDropped, OutputError, RunError
from hydrascope.figures import chart_data
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
    said = cli("context", *runs, "--out", tmp_path / "page.html", "--tables", tmp_path / "tables")
    assert (said.code, said.err) == (0, "")
    found = hs.context(*runs)
    assert said.out.splitlines()[0] == found.summary().headline
    assert said.out.splitlines()[-1] == str(tmp_path / "page.html")
    told = strict_json(cli("context", *runs, "--json").out)
    assert (told["folder"], told["report"]) == (None, str(runs[-1] / "context.html"))
    assert told["sentences"] == list(found.summary().sentences)
    assert set(told["tables"]) == set(found.TABLES)
    for name, table in found.tables().items():
        assert len(told["tables"][name]) == len(table)
        stored = pd.read_csv(tmp_path / "tables" / f"{name}.csv")
        assert list(stored) == list(table) and len(stored) == len(table)


def test_the_page_says_what_the_summary_says_and_how_it_was_made(runs: list[Path], tmp_path: Path) -> None:
    found = hs.context(*runs)
    page = _plain(found.report(tmp_path / "page.html"))
    summary = found.summary()
    assert all(_words(said) in page for said in (summary.headline, *summary.sentences))
    assert f"hydrascope context {runs[0]} {runs[1]}" in page
    assert f"hs.context('{runs[0]}', '{runs[1]}')" in page
    for run in runs:
        assert str(hs.Ledger.open(run).dataset.attrs["command"]) in page
    row = found.effects().iloc[0]
    assert f"{row['effect']:.2f}".replace("-", "−") in page
    described = {str(found.plot._draw(name).to_dict()["description"]) for name, _ in found.plot._variants()}
    assert len(described) == 4 and all(_words(one) in page for one in described)


def test_figures_hold_the_tables(runs: list[Path], tmp_path: Path) -> None:
    found = hs.context(*runs)
    pictures = {path.stem for path in found.plot.save_all(tmp_path, "svg") if path.suffix == ".svg"}
    assert pictures == {"variance_shares", "share_intervals", "task_agreement", "effects_by_task"}
    shares = pd.read_csv(tmp_path / "variance_shares.csv").pivot(index="part", columns="level", values="share")
    variance = found.variance().set_index("part").loc[shares.index]
    np.testing.assert_allclose(shares["between tasks"], variance["task"], rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(shares["by donors"], variance["donor"], rtol=1e-3, atol=1e-9)
    agreed = next(table for table in chart_data(found.plot.task_agreement()) if "which" in table)
    assert list(agreed["chance"]) == [0.5]
    np.testing.assert_allclose(agreed["w"], found.agreement()["w"], rtol=1e-3)
    effects = pd.read_csv(tmp_path / "effects_by_task.csv").set_index(["part", "task"])["effect"].dropna()
    np.testing.assert_allclose(
        effects, found.effects().set_index(["part", "task"])["effect"][effects.index], rtol=1e-3, atol=1e-9
    )


def test_one_task_has_shares_but_nothing_to_compare(runs: list[Path], tmp_path: Path) -> None:
    alone = hs.context(runs[0])
    assert {name for name, _ in alone.plot._variants()} == {"variance_shares", "share_intervals"}
    with pytest.raises(DetailDropped, match="this context has no figure task_agreement: there is one task"):
        alone.plot.task_agreement()
    page = _plain(alone.report(tmp_path / "page.html"))
    assert page.count("Left out: there is one task; name a run on another one.") == 2
    assert "between tasks" not in page[page.index("<table") :].split("</thead>")[0]


def _plain(page: Path) -> str:
    return _words(html.unescape(page.read_text(encoding="utf-8")))


def _words(text: str) -> str:
    """Text with ordinary spaces, and none before a percent sign."""
    return " ".join(text.split()).replace(" %", "%")


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
    assert "cannot be made" in cli("context", *runs, "--tables", tmp_path / "file").refusal()
    assert "cannot be written" in cli("context", *runs, "--out", tmp_path / "nowhere" / "page.html").refusal()
    with pytest.raises(RunError, match="name one finished run or more"):
        hs.context()
    same = f"'{runs[0]}' and '{runs[0]}' are of the same prompts; name one run of each task"
    assert same in cli("context", *runs, runs[0]).refusal()
    one = hs.Ledger.open(runs[0])
    with pytest.raises(RunError, match="run 1 and run 3 are of the same prompts"):
        hs.context(one, runs[1], one)
    with pytest.raises(OutputError, match="a context has no table 'all'; choose from variance"):
        hs.context(runs[0]).table("all")
