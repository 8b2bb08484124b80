"""Charts say what the tables say, in the same colours everywhere, and stay small."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
import vl_convert

from hydrascope import analysis, figures
from hydrascope.figures import DARK, KIND_LABELS, LIGHT, PART_LABELS, Theme, every_nth, recolouring
from tests.support.synthetic import synthetic_ledger

LAYERS = 8


class Shown:
    """The tables of one ledger, and every chart of them."""

    def __init__(self, **options: Any) -> None:
        ds = synthetic_ledger(**options)
        layers = int(ds.attrs["n_layers"])
        self.repair = analysis.repair(ds, resamples=100)
        self.effects = analysis.layer_effects(ds, resamples=100)
        self.points = analysis.effect_points(ds)
        names = self.repair["ablated"]
        self.clouds = pd.concat(
            [analysis.compensation_points(ds, name).assign(ablated=name) for name in names], ignore_index=True
        )
        self.who = analysis.who_repairs(ds, resamples=100)
        self.late = analysis.late_mlps(ds, resamples=100)
        self.released = analysis.released(ds, resamples=100).query("kind == 'mlp'")
        prompts = ds["prompt"].values[:3]
        self.views = {
            (f"prompt {prompt}", name): analysis.prompt_view(ds, int(prompt), name)
            for prompt in prompts
            for name in names[:12]
        }
        kind = str(self.repair["ablated_kind"].iloc[0])
        self.make: dict[str, Callable[[], Any]] = {
            "balance": lambda: figures.balance(self.repair),
            "prompts": lambda: figures.prompt_views(self.views, layers=layers),
            "clouds": lambda: figures.compensation_by_prompt(self.clouds, self.repair),
            "slope": lambda: figures.slope_by_layer(self.repair, "slope", layers=layers),
            "slope r2": lambda: figures.slope_by_layer(self.repair, "r2", layers=layers, legend=False),
            "parts": lambda: figures.parts_by_layer(self.repair, kind, layers=layers),
            "restored": lambda: figures.restored_by_layer(self.repair, kind, layers=layers),
            "who attn": lambda: figures.compensation_matrix(self.who, "attn"),
            "who mlp": lambda: figures.compensation_matrix(self.who, "mlp", legend=False),
            "late": lambda: figures.late_mlp_effects(self.late, layers=layers),
            "released": lambda: figures.released_by_layer(self.released, kind, layers=layers),
        }
        if len(self.effects):
            self.make |= {
                "direct": lambda: figures.effect_by_layer(self.effects, "direct_effect", layers=layers),
                "drop": lambda: figures.effect_by_layer(self.effects, "drop", layers=layers, legend=False),
                "scatter": lambda: figures.direct_against_total(self.points),
                "r2": lambda: figures.agreement_by_layer(self.effects, "r2", layers=layers),
                "exceeds": lambda: figures.agreement_by_layer(self.effects, "share_exceeds", layers=layers),
            }


@cache
def base() -> Shown:
    return Shown(n_prompts=60, n_layers=LAYERS)


CHARTS = sorted(base().make)


def data(spec: dict[str, Any], *names: str) -> pd.DataFrame:
    """The one inline table of a chart that has these columns."""
    found = [rows for rows in spec["datasets"].values() if rows and set(names) <= set(rows[0])]
    assert len(found) == 1, (names, [list(rows[0]) for rows in spec["datasets"].values() if rows])
    return pd.DataFrame(found[0])


def scales(node: Any) -> list[dict[str, Any]]:
    """Every scale with named colours in a specification."""
    if isinstance(node, dict):
        own = [node["scale"]] if isinstance(node.get("scale"), dict) and "range" in node["scale"] else []
        return own + [found for value in node.values() for found in scales(value)]
    return [found for value in node for found in scales(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_stands_alone_and_draws_in_both_themes(name: str) -> None:
    for theme in (LIGHT, DARK):
        spec = figures.themed(base().make[name](), theme)
        assert spec["width"] == "container"
        assert spec["description"]
        assert not any("url" in source for source in json.dumps(spec.get("data", {})).split())
        svg = vl_convert.vegalite_to_svg(json.dumps({**spec, "width": 500}))
        assert svg.count("<path") > 5
        assert "NaN" not in svg


@pytest.mark.parametrize("name", CHARTS)
def test_kinds_and_parts_have_one_colour_everywhere(name: str) -> None:
    known = {label: getattr(LIGHT, role) for role, label in (KIND_LABELS | PART_LABELS).items()}
    spec = figures.themed(base().make[name]())
    for scale in scales({key: value for key, value in spec.items() if key != "datasets"}):
        for label, colour in zip(scale["domain"], scale["range"], strict=False):
            if label in known and str(colour).startswith("#"):
                assert colour == known[label]


@pytest.mark.parametrize("name", CHARTS)
def test_the_dark_theme_has_the_same_data_and_none_of_the_light_colours(name: str) -> None:
    light, dark = (figures.themed(base().make[name](), theme) for theme in (LIGHT, DARK))
    assert light["datasets"] == dark["datasets"]
    text = json.dumps({key: value for key, value in dark.items() if key != "datasets"})
    assert not [colour for colour in recolouring(LIGHT, DARK) if colour in text]


def test_replacing_colours_one_after_the_other_never_replaces_one_twice() -> None:
    for source, target in ((LIGHT, DARK), (DARK, LIGHT)):
        changes = recolouring(source, target)
        assert len(changes) == len(set(changes)) == len(vars(source))
        assert not set(changes) & set(changes.values())


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    light, dark = sorted((float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (first, second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_marks_and_words_stand_out_from_the_paper(theme: Theme) -> None:
    for role in ("attn", "mlp", "mixer", "norm", "own", "total", "negative", "positive"):
        assert contrast(getattr(theme, role), theme.paper) > 3
    for role in ("ink", "muted"):
        assert contrast(getattr(theme, role), theme.paper) > 4.5


SIMULATIONS = {  # linear RGB as seen without one kind of cone (Machado et al. 2009)
    "none": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("sight", SIMULATIONS)
def test_colours_that_share_a_chart_can_be_told_apart_by_everyone(theme: Theme, sight: str) -> None:
    def seen(role: str) -> np.ndarray:
        return np.clip(SIMULATIONS[sight] @ linear(getattr(theme, role)), 0, 1) ** (1 / 2.4)

    for roles in (("attn", "mlp", "norm", "own", "total"), ("negative", "positive"), ("attn", "mlp", "mixer")):
        for first, second in combinations(roles, 2):
            assert np.linalg.norm(seen(first) - seen(second)) > 0.12, (first, second)


def test_the_balance_ends_where_the_total_is_measured() -> None:
    steps = figures.balance_steps(base().repair)
    for _, account in steps.groupby("ablated", sort=False):
        *parts, total = account.to_dict("records")
        assert parts[0]["start"] == total["start"] == 0
        assert [part["start"] for part in parts[1:]] == [part["end"] for part in parts[:-1]]
        assert parts[-1]["end"] == pytest.approx(total["end"], abs=1e-5)


def test_the_fitted_line_is_the_one_of_the_table() -> None:
    spec = figures.themed(base().make["clouds"]())
    lines = data(spec, "line", "own_change", "compensation")
    for row in base().repair.to_dict("records"):
        first, last = lines[(lines["ablated"] == row["ablated"]) & (lines["line"] == "fit")].to_dict("records")
        slope = (last["compensation"] - first["compensation"]) / (last["own_change"] - first["own_change"])
        assert slope == pytest.approx(row["slope"], abs=2e-2)
    told = data(spec, "slope", "r2").set_index("ablated")["r2"]
    assert told.tolist() == pytest.approx(base().repair["r2"].tolist(), rel=1e-3, nan_ok=True)


def test_the_heat_map_leaves_own_changes_out_of_its_colours_and_marks_what_is_sure() -> None:
    who = base().who
    spec = figures.themed(base().make["who attn"]())
    cells = data(spec, "change", "p")
    attention = who[who["writer_kind"] == "attn"]
    assert len(cells) == (~attention["is_own"]).sum()
    limits = [scale["domain"] for scale in scales(spec["layer"]) if len(scale["range"]) == 5]
    largest = who.loc[~who["is_own"], "change"].abs().max()
    assert limits == [[-limits[0][-1], -limits[0][-1] / 4, 0, limits[0][-1] / 4, limits[0][-1]]]
    assert limits[0][-1] == pytest.approx(largest)
    marked = [rows for rows in spec["datasets"].values() if rows and set(rows[0]) == {"ablated", "writer_layer"}]
    assert len(marked[0]) == attention["significant"].sum() > 0


def test_stacked_parts_are_those_of_the_table() -> None:
    shown = data(figures.themed(base().make["parts"]()), "part", "value")
    table = base().repair.query("ablated_kind == 'attn'").set_index("ablated")
    for part, column in {
        "attention": "compensation_attn",
        "MLPs": "compensation_mlp",
        "final norm": "norm_effect",
    }.items():
        values = shown[shown["part"] == part].set_index("ablated")["value"]
        assert values.to_numpy() == pytest.approx(table.loc[values.index, column].to_numpy(), rel=1e-3)


def test_shares_that_mean_nothing_are_not_drawn() -> None:
    shown = data(figures.themed(base().make["restored"]()), "share", "convention")
    table = base().repair.query("ablated_kind == 'attn'")
    assert set(shown["ablated"]) == set(table.loc[table["meaningful"], "ablated"]) < set(table["ablated"])


def test_large_ledgers_draw_few_marks_and_the_same_statistics() -> None:
    large = Shown(n_prompts=300, n_layers=24, null=False)
    assert len(large.points) > figures.MARKS
    for name, make in large.make.items():
        spec = figures.themed(make())
        drawn = sum(len(rows) for rows in spec["datasets"].values())
        assert drawn <= figures.MARKS + 500, name  # the texts of tooltips are rows, but no marks
    told = data(figures.themed(large.make["clouds"]()), "slope", "r2")
    assert told["r2"].tolist() == pytest.approx(large.repair["r2"].tolist(), rel=1e-3, nan_ok=True)


def test_heads_are_placed_by_name_and_drawn_without_lines_between_them() -> None:
    heads = Shown(ablated=[f"head.{layer}.{unit}" for layer in range(LAYERS) for unit in range(4)])
    for name, make in heads.make.items():
        assert vl_convert.vegalite_to_svg(json.dumps({**figures.themed(make()), "width": 500})), name
    slope = json.dumps(heads.make["slope"]().to_dict()["layer"])
    assert '"type": "line"' not in slope
    named = data(figures.themed(heads.make["parts"]()), "part", "value")
    assert named["ablated"].nunique() == 24


def test_every_nth_keeps_the_ends_and_is_the_same_every_time() -> None:
    table = pd.DataFrame({"n": range(1000)})
    few = every_nth(table, 7)["n"].tolist()
    assert few == every_nth(table, 7)["n"].tolist()
    assert (len(few), few[0], few[-1]) == (7, 0, 999)
    assert len(every_nth(table, 5000)) == 1000


def test_large_values_are_written_out_on_the_axes() -> None:
    table = base().effects.copy()
    numbers = table.select_dtypes("float").columns
    table[numbers] *= 20
    chart = figures.themed(figures.effect_by_layer(table, "direct_effect", layers=LAYERS))
    svg = vl_convert.vegalite_to_svg(json.dumps({**chart, "width": 500}))
    assert ">10<" in svg
    assert not re.search(r">\d+e\+\d", svg)


def arrow_rows(spec: dict[str, Any]) -> list[tuple[float, bool, dict[str, Any]]]:
    """Edge, whether it is filled, and row of every arrow in a chart."""
    layers = [inner for layer in spec["layer"] for inner in layer.get("layer", [layer])]
    found = [layer for layer in layers if layer["mark"].get("shape") == "arrow"]
    return [
        (layer["encoding"]["y"]["datum"], layer["mark"]["filled"], row)
        for layer in found
        for row in spec["datasets"][layer["data"]["name"]]
    ]


def test_values_beyond_an_axis_are_arrows_at_its_edge_and_nothing_else() -> None:
    table = base().repair.copy()
    table.loc[0, ["slope", "slope_lo", "slope_hi"]] = [7.0, 6.6, 7.4]
    table.loc[3, "slope_null"] = -9.0
    spec = figures.themed(figures.slope_by_layer(table, "slope", layers=LAYERS))
    arrows = arrow_rows(spec)
    assert [(filled, row["ablated"]) for _, filled, row in arrows] == [(True, "attn.0"), (False, "mlp.1")]
    [scale] = [
        inner["encoding"]["y"]["scale"] for inner in spec["layer"][1]["layer"] if inner["mark"]["type"] == "line"
    ]
    low, high = scale["domain"]
    assert [edge for edge, _, _ in arrows] == [high, low] and scale["nice"] is False
    assert -3 < low < high < 2
    drawn = [row for rows in spec["datasets"].values() for row in rows if row.get("slope") == 7]
    assert len(drawn) == 2, "once in the line, which leaves the picture there, and once as an arrow"
    for measure in ("restored", "restored_with_norm"):
        table[measure] = 5.0
    restored = figures.themed(figures.restored_by_layer(table, "attn", layers=LAYERS))
    assert {row["share"] for _, _, row in arrow_rows(restored)} == {5.0}
    assert len(arrow_rows(restored)) == 2 * (table["meaningful"] & (table["ablated_kind"] == "attn")).sum()
    assert not arrow_rows(figures.themed(figures.slope_by_layer(base().repair, "slope", layers=LAYERS)))


def test_only_slopes_that_tell_full_repair_from_none_are_drawn_and_no_line_runs_over_the_others() -> None:
    table = base().repair.copy()
    assert table.loc[~figures.slopes_shown(table), "ablated"].tolist() == ["mlp.7"], "nothing comes after the last one"
    vague = table["ablated"].isin(["attn.1", "attn.3"])
    table.loc[vague, "slope_hi"] = table.loc[vague, "slope_lo"] + 1
    left_out = {"attn.1", "attn.3", "mlp.7"}
    for measure in ("slope", "r2"):
        spec = figures.themed(figures.slope_by_layer(table, measure, layers=LAYERS))
        tables = [pd.DataFrame(rows) for rows in spec["datasets"].values() if measure in rows[0]]
        whole = next(rows for rows in tables if len(rows) == len(table))
        assert set(whole.loc[whole[[measure, f"{measure}_lo"]].isna().any(axis=1), "ablated"]) == left_out
        assert set(data(spec, "null")["ablated"]) == set(table["ablated"]) - left_out
        # a band shows nothing of layers 0 and 2, which stand alone
        assert ["attn.0", "attn.2"] in [rows["ablated"].tolist() for rows in tables]
        svg = vl_convert.vegalite_to_svg(json.dumps({**spec, "width": 500}))
        lines = re.findall(r'<path d="([^"]*)" stroke="#[0-9a-f]*" stroke-width="2" stroke-linecap="round"', svg)
        # attention: layers 0, 2, and 4 to 7; MLPs: 0 to 6
        assert sorted(line.count("M") for line in lines) == [1, 3]


@cache
def of_heads() -> pd.DataFrame:
    heads = [f"head.{layer}.{unit}" for layer in range(LAYERS) for unit in range(3)]
    return analysis.repair(synthetic_ledger(n_prompts=20, n_layers=LAYERS, ablated=heads), resamples=100)


@pytest.mark.parametrize("value", ["own_change", "compensation_attn", "total_effect", "restored_with_norm"])
def test_a_grid_of_heads_has_every_head_in_its_place(value: Any) -> None:
    table = of_heads()
    spec = figures.themed(figures.unit_grid(table, value))
    cells = data(spec, value)
    expected = table[table["meaningful"]] if value == "restored_with_norm" else table
    assert [f"head.{cell.ablated_layer}.{cell.unit}" for cell in cells.itertuples()] == list(expected["ablated"])
    assert cells[value].to_numpy() == pytest.approx(expected[value].to_numpy(), rel=1e-3)
    empty = [rows for rows in spec["datasets"].values() if set(rows[0]) == {"ablated", "ablated_layer", "unit"}]
    assert [len(rows) for rows in empty] == [len(table)]
    svg = vl_convert.vegalite_to_svg(json.dumps({**spec, "width": 500}))
    assert svg.count("<path") > len(expected)


def test_the_same_number_has_the_same_colour_in_both_pictures_of_heads() -> None:
    domains = [
        [scale["domain"] for scale in scales(figures.themed(figures.unit_grid(of_heads(), value))["layer"])]
        for value in ("own_change", "total_effect")
    ]
    assert domains[0] == domains[1] != []


def test_only_units_make_a_grid() -> None:
    assert figures.has_unit_grid(of_heads())
    assert not figures.has_unit_grid(of_heads().iloc[:2])
    assert not figures.has_unit_grid(base().repair)
