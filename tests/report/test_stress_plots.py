"""Every figure of a stress test's report is a method of `test.plot`, and a file with its numbers beside it."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hydrascope.errors import ComponentError, DetailDropped
from hydrascope.figures import Picture, chart_data
from hydrascope.report import StressFigures, render_stress
from tests.faults.test_stress import backup, zeroed
from tests.resilience.test_verdict import additive, crossed, on_prompts
from tests.support import games

EVERY = {"degradation_curve", "accuracy_curve", "importance_curves", "pair_matrix", "load_transfer"}


@pytest.fixture(scope="module")
def drawn() -> StressFigures:
    return StressFigures(crossed())


def test_every_figure_of_the_page_is_a_method_and_makes_a_picture(drawn: StressFigures) -> None:
    described = set()
    for name, given in drawn._variants():
        chart = drawn._draw(name, **given)
        described.add(str(chart.to_dict()["description"]))
        assert not re.search("undefined|NaN|…<", Picture.of(chart).svg), name
    page = set(re.findall(r'aria-label="([^"]+ (?:over the|heat map)[^"]+)"', _plain(drawn)))
    assert len(page) == len(EVERY)
    assert page <= described


def test_the_tab_key_offers_what_the_test_has(drawn: StressFigures) -> None:
    offered = {name for name in dir(drawn) if not name.startswith("_")}
    assert offered == {*EVERY, "save", "save_all"}
    found = games.measured(on_prompts(additive(0, 0)), ("attn.4", "attn.6"), masks=10)
    still = StressFigures(replace(found, plan=replace(found.plan, pairs=0)))
    assert "pair_matrix" not in dir(still)
    with pytest.raises(DetailDropped, match="this stress test has no figure pair_matrix: no pairs were knocked out"):
        still.pair_matrix()


def test_crossings_are_marked_and_named(drawn: StressFigures) -> None:
    rows = drawn._run.crossings
    assert rows["overtaken_by"].tolist() == ["attn.4", "attn.6"]
    marks = next(table for table in chart_data(drawn.importance_curves()) if "over" in table).set_index("part")
    importance = drawn._run.importance().set_index(["part", "rate"])["importance"]
    for row in rows.to_dict("records"):
        mark = marks.loc[row["overtaken_by"]]
        assert (mark["rate"], mark["over"]) == (row["rate"], "mlp.7")
        np.testing.assert_allclose(mark["importance"], importance[row["overtaken_by"], row["rate"]], rtol=1e-3)
    assert "attn.4 overtakes mlp.7 (when 60 % of the others fail); attn.6 overtakes mlp.7" in _plain(drawn)
    alone = chart_data(drawn.importance_curves(["attn.4", "attn.7"]))
    assert not any("over" in table for table in alone)


def test_the_page_warns_of_intervals_without_width(drawn: StressFigures) -> None:
    """The planted backup's bystanders change nothing, in any set; with noise every set changes a little."""
    page = _plain(backup().plot)
    assert "importance of attn.0, mlp.0, mlp.1, attn.2 and 2 more has an interval without width" in page
    assert "without width" not in _plain(drawn)


def _plain(drawn: StressFigures) -> str:
    """The page with ordinary spaces."""
    return " ".join(html.unescape(render_stress(drawn._run)).split())


@pytest.mark.parametrize(
    ("parts", "said"),
    [(["attn.99"], r"no part 'attn\.99' in this test; name 1 to 6 of attn\.4, attn\.6"), ([], "0 parts were named")],
)
def test_parts_that_cannot_be_drawn_are_refused(drawn: StressFigures, parts: list[str], said: str) -> None:
    with pytest.raises(ComponentError, match=said):
        drawn.importance_curves(parts)


def test_all_figures_are_files_with_their_numbers_beside(tmp_path: Path) -> None:
    test = zeroed()
    written = test.plot.save_all(tmp_path, "svg")
    assert sorted(written) == sorted(tmp_path.iterdir())
    pictures = {path.stem for path in written if path.suffix == ".svg"}
    assert {f"degradation_curve-{value}" for value in ("logit", "log-prob", "kl")} <= pictures
    assert {"accuracy_curve", "importance_curves", "pair_matrix"} <= pictures
    assert all((tmp_path / f"{name}.csv").is_file() for name in pictures)
    table = pd.read_csv(tmp_path / "degradation_curve-kl.csv")
    curve = test.curve("kl").set_index("rate")["value"]
    mine = table[table["line"] == "measured"].set_index("rate")["value"]
    np.testing.assert_allclose(mine, curve.loc[mine.index], rtol=1e-3)
