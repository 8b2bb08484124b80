"""Charts of a pruning: which scale costs have, where names stand, and that no size shares its colour with another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from hydrascope import figures
from hydrascope.figures._pruning import HEIGHT, LINE, NAMES, _apart


def costs(rises: dict[str, list[float]]) -> pd.DataFrame:
    rows = [
        {"ranking": name, "size": size, "share": size / 10, "rise": rise, "repairs": name == "greedy"}
        for name, found in rises.items()
        for size, rise in enumerate(found, 1)
    ]
    table = pd.DataFrame(rows)
    return table.assign(rise_lo=table["rise"], rise_hi=table["rise"], calibration_rise=0.0, perplexity=1.0)


def layers(chart: Any) -> tuple[dict[str, Any], ...]:
    return tuple(layer["encoding"] for layer in chart.to_dict()["layer"])


@pytest.mark.parametrize(
    ("rises", "kind"),
    [
        ({"greedy": [0.1, 0.2], "last": [0.3, 9.0]}, "log"),
        ({"greedy": [0.1, 0.2], "last": [0.3, 0.5]}, "linear"),
        ({"greedy": [-0.1, 0.2], "last": [0.3, 9.0]}, "linear"),
    ],
)
def test_costs_of_many_sizes_are_drawn_by_their_logarithm(rises: dict[str, list[float]], kind: str) -> None:
    line, *_, names = layers(figures.pruning_curve(costs(rises)))
    assert line["y"]["scale"]["type"] == kind
    assert line["x"]["axis"]["values"] == [0.1, 0.2]
    assert line["x"]["scale"]["domain"] == pytest.approx([0.1, 0.2 + 0.1 * NAMES])
    assert names["y"]["field"] == "at"


def test_names_stand_apart_and_as_near_as_they_can() -> None:
    line = 10 * LINE / HEIGHT
    np.testing.assert_allclose(_apart(np.array([0.0, 5.0, 10.0]), 0, 10), [0, 5, 10])
    crowded = np.array([5.0, 5.0, 5.0, 9.0])
    np.testing.assert_allclose(_apart(crowded, 0, 10), [5 - line, 5, 5 + line, 9])
    np.testing.assert_allclose(_apart(np.zeros(3), 0, 10), [0, line, 2 * line])  # nothing below the axis


def test_the_later_a_part_goes_the_weaker_its_colour() -> None:
    table = pd.DataFrame({"ranking": "last", "part": list("abcde"), "gone_at": [1, 2, 3, 4, np.nan], "score": 0.0})
    found = figures.removal_order(table, list("abcde"), ["last"]).to_dict()["encoding"]
    assert found["opacity"]["scale"] == {"domain": [1, 2, 3, 4], "range": [1, 0.25]}
    assert found["x"]["scale"]["domain"] == list("abcde")
