"""Charts of an atlas show the numbers of its tables, controls hollow, and nothing beyond an axis out of sight."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pytest

from hydrascope.analysis import Findings, Survey, entry
from hydrascope.errors import DetailDropped
from hydrascope.report import AtlasFigures
from tests.analysis.test_atlas import DRAWS, HYDRA, ledger, survey


def marks(chart: alt.TopLevelMixin, filled: bool) -> list[dict[str, Any]]:
    """Data of the points that are filled, or hollow."""
    spec = chart.to_dict()
    layers = [layer for layer in spec["layer"] if layer["mark"].get("type") == "point"]
    chosen = [layer for layer in layers if layer["mark"].get("filled") == filled and "shape" not in layer["mark"]]
    return [row for layer in chosen for row in spec["datasets"][layer["data"]["name"]]]


@pytest.mark.parametrize("share", ["restored", "restored_with_norm"])
def test_every_run_that_loses_something_has_its_point_and_controls_are_hollow(share: Any) -> None:
    runs = survey().runs.set_index("label")[f"pooled_{share}"]
    chart = AtlasFigures(survey()).shares(share)
    control = [row["label"] for row in marks(chart, filled=False)]
    assert control == ["small+random-0 · facts"]
    for row in (*marks(chart, filled=True), *marks(chart, filled=False)):
        assert row[f"pooled_{share}"] == pytest.approx(runs[row["label"]], rel=1e-3)
    assert len(marks(chart, filled=True)) == 4


def test_steps_of_training_stand_where_they_are_and_are_not_joined() -> None:
    steps = {
        f"s{step}": ledger("m", "facts", HYDRA, step).assign_attrs(revision=f"step{step}") for step in (1, 10, 100)
    }
    found = Survey(tuple(entry(Findings(ds, DRAWS), name) for name, ds in steps.items()), {})
    spec = AtlasFigures(found).over("step").to_dict()
    assert {layer["mark"]["type"] for layer in spec["layer"]} == {"rule", "point"}
    drawn = marks(AtlasFigures(found).over("step"), filled=True)
    assert [row["at"] for row in drawn] == [1, 10, 100]
    with pytest.raises(DetailDropped, match="no figure over"):
        AtlasFigures(Survey(found.entries[:1], {})).over("step")


def test_every_verdict_is_a_tile_with_its_number() -> None:
    spec = AtlasFigures(survey()).claims().to_dict()
    [rows] = {id(rows): rows for rows in spec["datasets"].values()}.values()
    table = survey().claims.set_index(["label", "claim"])
    assert len(rows) == table["value"].notna().sum()
    for row in rows:
        assert row["verdict"] == table.loc[(row["label"], row["claim"]), "verdict"]
        assert {"holds": "+", "does not": "−", "cannot be told": "?"}[row["verdict"]] == row["sign"]


def test_depth_shows_shares_of_clear_losses_alone() -> None:
    rows = survey().parts.query("unit == 'attn' and lost")
    rows = rows[rows["restored_with_norm"].between(-1, 1.5)]
    chart = AtlasFigures(survey()).depth("attn", "restored_with_norm")
    drawn = [*marks(chart, filled=True), *marks(chart, filled=False)]
    assert sorted((row["label"], row["ablated"]) for row in drawn) == sorted(
        zip(rows["label"], rows["ablated"], strict=True)
    )
    every = AtlasFigures(survey()).depth("mlp", "own_change")
    assert len(marks(every, filled=True)) == (survey().parts.query("unit == 'mlp' and not random_weights")).shape[0]
    assert np.isfinite([row["own_change"] for row in marks(every, filled=True)]).all()
