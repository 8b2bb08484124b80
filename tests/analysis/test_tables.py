"""Tables against plain loops over the ledger, and against what was planted in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from hydrascope.analysis import (
    Findings,
    closing,
    compensation_points,
    concentration,
    effect_points,
    late_mlps,
    layer_effects,
    prompt_view,
    released,
    repair,
    summarise,
    who_repairs,
)
from hydrascope.analysis._erasure import PARTS, split_change
from hydrascope.errors import ComponentError, PromptError
from tests.analysis.test_statistics import searched_p
from tests.support.synthetic import Plant, synthetic_ledger

DRAWS = 200
MIXED = ("attn.1", "mlp.3", "head.4.0", "attn.3+attn.5", "layer.2", "mlp.7")
ODD: dict[str, dict[str, Any]] = {
    "one prompt, one layer": {"n_prompts": 1, "n_layers": 1},
    "two prompts": {"n_prompts": 2},
    "heads only": {"ablated": ["head.4.0", "head.5.1"]},
    "last mlp only": {"ablated": ["mlp.7"]},
    "one donor, no null": {"donors": 1, "null": False},
    "one group": {"n_groups": 1},
    "two groups": {"n_groups": 2},
    "no noise": {"noise": 0.0, "donor_noise": 0.0},
    "parallel": {"parallel_blocks": True},
}


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return synthetic_ledger()


@pytest.fixture(scope="module")
def mixed() -> xr.Dataset:
    return synthetic_ledger(n_prompts=24, ablated=MIXED)


@pytest.fixture(scope="module")
def table(ds: xr.Dataset) -> pd.DataFrame:
    return repair(ds).set_index("ablated")


def loop_over(ds: xr.Dataset, ablated: str, kind: str) -> np.ndarray:
    """Compensation of one kind, prompt by prompt and writer by writer."""
    sums = []
    for prompt in ds.prompt.values:
        cell = ds.sel(prompt=prompt, ablated=ablated)
        total = 0.0
        for writer in ds.writer.values:
            one = cell.sel(writer=writer)
            if str(one.writer_kind.values) == kind and not bool(one.is_own):
                total += float(one.change)
        sums.append(total)
    return np.array(sums)


@pytest.mark.parametrize("ablated", MIXED)
def test_an_account_is_what_loops_over_prompts_and_writers_give(mixed: xr.Dataset, ablated: str) -> None:
    row = repair(mixed, resamples=DRAWS).set_index("ablated").loc[ablated]
    own = mixed.own_change.sel(ablated=ablated).values.astype(float)
    norm = mixed.norm_effect.sel(ablated=ablated).values.astype(float)
    attn, mlp = (loop_over(mixed, ablated, kind) for kind in ("attn", "mlp"))
    assert row.compensation_attn == pytest.approx(attn.mean(), abs=1e-6)
    assert row.compensation_mlp == pytest.approx(mlp.mean(), abs=1e-6)
    assert row.own_change == pytest.approx(own.mean())
    assert row.total_effect == pytest.approx(float(mixed.total_effect.sel(ablated=ablated).mean()))
    assert row.restored == pytest.approx(-(attn + mlp).sum() / own.sum(), abs=1e-5)
    assert row.restored_with_norm == pytest.approx(-(attn + mlp + norm).sum() / own.sum(), abs=1e-5)
    oracle = stats.linregress(own, attn + mlp)
    assert row.slope == pytest.approx(oracle.slope, abs=1e-5)
    assert row.intercept == pytest.approx(oracle.intercept, abs=1e-5)
    assert row.r2 == pytest.approx(oracle.rvalue**2, abs=1e-5, nan_ok=True)
    if mlp.any():
        assert row.slope_mlp == pytest.approx(stats.linregress(own, mlp).slope, abs=1e-5)
    keep = abs(own) >= 0.5 * abs(own).mean()
    assert row.restored_median == pytest.approx(np.median((-(attn + mlp) / own)[keep]), abs=1e-5)
    assert row.n_prompts == 24


def test_every_account_balances(table: pd.DataFrame, mixed: xr.Dataset) -> None:
    for rows in (table, repair(mixed, resamples=DRAWS)):
        parts = rows.own_change + rows.compensation + rows.norm_effect
        np.testing.assert_allclose(rows.total_effect, parts, atol=1e-6)
        np.testing.assert_allclose(rows.compensation, rows.compensation_attn + rows.compensation_mlp, atol=1e-6)
        shares = rows.restored_attn + rows.restored_mlp
        np.testing.assert_allclose(rows.restored, shares, atol=1e-9)
        np.testing.assert_allclose(rows.restored_with_norm, shares + rows.restored_norm, atol=1e-9)


def test_planted_repair_is_returned_with_its_slope(table: pd.DataFrame) -> None:
    """attn.6 and attn.7 give back 0.6 and 0.1, four late MLPs a quarter of 0.16 each."""
    row = table.loc["attn.4"]
    assert row.slope_iv_lo < -0.86 < row.slope_iv_hi
    assert row.restored_lo < 0.86 < row.restored_hi
    assert row.slope_attn == pytest.approx(-0.7, abs=0.05)
    assert row.slope_minus_null_hi < 0
    assert row.slope_p < 1e-6
    assert row.meaningful
    assert not row.not_ablated
    unrepaired = table.loc["attn.5"]
    assert abs(unrepaired.compensation_attn) < 0.05
    assert unrepaired.restored_mlp == pytest.approx(0.12, abs=0.03)


def test_donor_noise_flattens_least_squares_and_not_the_split_halves() -> None:
    noisy = synthetic_ledger(400, donor_noise=1.2, n_groups=400, ablated=["attn.4"])
    row = repair(noisy, resamples=DRAWS).iloc[0]
    assert row.slope_iv_lo < -0.86 < row.slope_iv_hi < row.slope


def test_random_pushes_give_the_planted_null_slope() -> None:
    pushed = synthetic_ledger(300, null_slope=0.3, n_groups=300, ablated=["attn.4"])
    row = repair(pushed, resamples=DRAWS).iloc[0]
    assert row.slope_null_lo < -0.3 < row.slope_null_hi
    assert row.slope_minus_null == pytest.approx(row.slope - row.slope_null)


def test_ratios_of_a_component_that_was_not_removed_are_flagged() -> None:
    ds = synthetic_ledger(ablated=["attn.4"])
    k, own = 0, ds.is_own.values[0]
    ds["change"].values[:, k, own] *= 0.1
    ds["own_change"].values[:, k] *= 0.1
    row = repair(ds, resamples=DRAWS).iloc[0]
    assert row.not_ablated
    assert not row.meaningful


def test_ratios_over_a_cancellation_are_flagged(table: pd.DataFrame) -> None:
    balanced = repair(synthetic_ledger(strength=0.0, ablated=["attn.4"]), resamples=DRAWS).iloc[0]
    assert not balanced.meaningful
    assert table.loc["attn.4"].meaningful
    hurting = repair(synthetic_ledger(strength=-1.5, ablated=["attn.4"]), resamples=DRAWS).iloc[0]
    assert hurting.own_change_lo > 0
    assert hurting.meaningful
    assert hurting.restored == pytest.approx(0.86, abs=0.06)


@pytest.mark.parametrize(
    ("own", "meaningful"),
    [
        (np.resize([-1.2, -0.8], 900), True),
        (np.resize([-1.2, 0.8], 900), False),  # certainly negative, but mostly a cancellation
        (np.resize([-1.0, -1.0, 0.5, 0.4], 8), False),  # mostly negative, but not certainly
        (np.resize([-0.012, -0.008], 900), False),  # certain, one sign, and negligible
    ],
)
def test_ratios_may_be_read_where_the_loss_is_certain_of_one_sign_and_large(own: np.ndarray, meaningful: bool) -> None:
    ds = synthetic_ledger(len(own), ablated=["head.4.0"], n_groups=len(own), donors=1, null=False)
    ds["own_change"].values[:, 0] = own
    ds["clean_logit"].values[:] = 4.0
    row = repair(ds, resamples=DRAWS).iloc[0]
    assert row.meaningful == meaningful
    assert not row.not_ablated


def test_layer_effects_are_those_of_single_writers(mixed: xr.Dataset) -> None:
    rows = layer_effects(mixed, resamples=DRAWS)
    assert rows.ablated.tolist() == ["attn.1", "mlp.3", "mlp.7"]
    for row in rows.itertuples():
        direct = mixed.direct_effect.sel(writer=row.ablated).values.astype(float)
        drop = -mixed.total_effect.sel(ablated=row.ablated).values.astype(float)
        oracle = stats.linregress(direct, drop)
        assert row.direct_effect == pytest.approx(direct.mean(), abs=1e-6)
        assert row.drop == pytest.approx(drop.mean(), abs=1e-6)
        assert row.r2 == pytest.approx(oracle.rvalue**2, abs=1e-6)
        assert row.correlation == pytest.approx(oracle.rvalue, abs=1e-6)
        assert row.share_exceeds == pytest.approx((direct > drop).mean())
        cloud = effect_points(mixed).query("ablated == @row.ablated")
        np.testing.assert_allclose(cloud.direct_effect, direct)
        np.testing.assert_allclose(cloud["drop"], drop)
        assert cloud.prompt.tolist() == list(range(24))


def test_repair_pulls_direct_and_total_effects_apart(ds: xr.Dataset) -> None:
    rows = layer_effects(ds).set_index("ablated")
    assert rows.loc["attn.4"].share_exceeds > 0.95
    assert rows.loc["attn.4"].r2 < 0.2 < rows.loc["attn.5"].r2


def test_over_corrected_layers_correlate_negatively() -> None:
    ds = synthetic_ledger(ablated=["attn.4"], plants=[Plant("attn.4", "attn.6", 1.8)])
    row = layer_effects(ds, resamples=DRAWS).iloc[0]
    assert row.correlation < -0.5
    assert row.r2 == pytest.approx(row.correlation**2)


def test_prompt_view_is_one_prompt(mixed: xr.Dataset) -> None:
    view = prompt_view(mixed, 7, "layer.2").set_index("writer")
    cell = mixed.sel(prompt=7, ablated="layer.2")
    np.testing.assert_allclose(view.change, cell.change)
    np.testing.assert_allclose(view.ablated - view.clean, view.change, atol=1e-12)
    np.testing.assert_allclose(view.clean.sum(), float(cell.clean_logit), rtol=1e-5)
    assert view.index[view.is_own].tolist() == ["attn.2", "mlp.2"]


def test_unknown_prompt_and_knock_out_are_named(mixed: xr.Dataset) -> None:
    with pytest.raises(PromptError, match="prompt 99"):
        prompt_view(mixed, 99, "attn.1")
    with pytest.raises(ComponentError, match=r"attn\.9"):
        compensation_points(mixed, "attn.9")


def test_compensation_points_are_the_cloud_of_the_line(mixed: xr.Dataset) -> None:
    row = repair(mixed, resamples=DRAWS).set_index("ablated").loc["attn.1"]
    cloud = compensation_points(mixed, "attn.1")
    assert stats.linregress(cloud.own_change, cloud.compensation).slope == pytest.approx(row.slope)
    np.testing.assert_allclose(cloud.compensation, cloud.compensation_attn + cloud.compensation_mlp, atol=1e-9)
    np.testing.assert_allclose(cloud.direct_effect, mixed.direct_effect.sel(writer="attn.1"))
    assert compensation_points(mixed, "head.4.0").direct_effect.isna().all()


def test_who_repairs_is_the_mean_of_every_cell_and_finds_what_was_planted(ds: xr.Dataset) -> None:
    cells = who_repairs(ds)
    mean = ds.change.mean("prompt")
    row: Any
    for row in cells.sample(40, random_state=0).itertuples():
        assert row.change == pytest.approx(float(mean.sel(ablated=row.ablated, writer=row.writer)), abs=1e-6)
        assert row.change_lo <= row.change <= row.change_hi
    assert len(cells) == int((ds.is_downstream | ds.is_own).sum())
    found = {(row.ablated, row.writer) for row in cells[cells.significant].itertuples()}
    planted = {("attn.4", "attn.6"), ("attn.4", "attn.7")}
    late = {(f"attn.{k}", f"mlp.{w}") for k in range(8) for w in range(4, 8) if w >= k}
    assert planted <= found <= planted | late | {("mlp.2", "mlp.3")}
    tested = cells[~cells.is_own]
    groups = np.array([ds.change.values[ds.group.values == group].mean(0) for group in np.unique(ds.group)])
    k, w = (pd.Index(ds[dim].values).get_indexer(tested[dim].to_numpy()) for dim in ("ablated", "writer"))
    each = searched_p(groups[:, k, w].astype(float))
    np.testing.assert_allclose(tested.p, stats.false_discovery_control(each), rtol=1e-3)
    assert (tested.significant == (tested.p < 0.05)).all()
    assert cells[cells.is_own].p.isna().all()


def test_concentration_names_the_largest_responders(ds: xr.Dataset) -> None:
    row = concentration(ds).query("ablated == 'attn.4' and scope == 'attn'").iloc[0]
    size = abs(ds.change.mean("prompt").sel(ablated="attn.4", writer=["attn.5", "attn.6", "attn.7"]))
    assert (row.top1, row.top2, row.responders) == ("attn.6", "attn.7", 3)
    assert row.top1_share == pytest.approx(float(size[1] / size.sum()), abs=1e-6)
    assert row.top2_share == pytest.approx(float(size[1:].sum() / size.sum()), abs=1e-6)
    direct = ds.direct_effect.sel(writer="attn.4").values
    strong = direct >= np.quantile(direct, 0.75)
    shares = []
    for prompt in np.flatnonzero(strong):
        changes = abs(ds.change.isel(prompt=prompt).sel(ablated="attn.4", writer=["attn.5", "attn.6", "attn.7"]))
        shares.append(float(changes.max() / changes.sum()))
    assert row.n_strong == strong.sum()
    assert row.top1_share_median == pytest.approx(np.median(shares), abs=1e-6)


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.float32, (2, 12), elements=st.floats(-8, 8, width=32)))
def test_a_change_is_the_sum_of_its_four_parts(drawn: np.ndarray) -> None:
    direct, change = drawn.astype(np.float64)
    split = split_change(direct, change)
    assert (sum(split.values()) == change).all()
    assert (split["relaxed"] >= 0).all()
    assert (split["promoted"] >= 0).all()
    assert (split["lost"] <= 0).all()
    assert (split["strengthened"] <= 0).all()
    assert (split["relaxed"] <= np.maximum(-direct, 0)).all()
    assert (-split["lost"] <= np.maximum(direct, 0)).all()
    assert not (split["promoted"] * (direct + change <= 0)).any()
    assert not (split["strengthened"] * (direct + change >= 0)).any()


@pytest.mark.parametrize(
    ("direct", "change", "part", "size"),
    [
        (-1.0, 0.4, "relaxed", 0.4),
        (-1.0, 1.5, "relaxed", 1.0),
        (-1.0, 1.5, "promoted", 0.5),
        (0.5, 0.25, "promoted", 0.25),
        (0.5, -0.25, "lost", -0.25),
        (0.5, -2.0, "lost", -0.5),
        (0.5, -2.0, "strengthened", -1.5),
        (-1.0, -0.5, "strengthened", -0.5),
    ],
)
def test_split_by_hand(direct: float, change: float, part: str, size: float) -> None:
    assert split_change(np.array([direct]), np.array([change]))[part][0] == size


def test_planted_erasure_is_found_and_its_release_measured(ds: xr.Dataset) -> None:
    late = late_mlps(ds)
    assert late.writer.tolist() == ["mlp.4", "mlp.5", "mlp.6", "mlp.7"]
    assert late.erases.all()
    assert (late.share_negative > 0.95).all()
    written = float(ds.direct_effect.isel(writer=ds.writer_kind == "attn").sum("writer").mean())
    assert late.direct_effect.sum() == pytest.approx(-0.16 * written, abs=0.05)
    freed = released(ds).query("ablated == 'attn.4' and kind == 'mlp'").iloc[0]
    lost = -float(ds.own_change.sel(ablated="attn.4").mean())
    assert freed.change == pytest.approx(0.16 * lost, abs=0.04)
    assert freed.suppression_lo > 0
    assert freed.change == pytest.approx(freed.relaxed + freed.promoted + freed.lost + freed.strengthened)
    assert freed.suppression + freed.promotion == pytest.approx(freed.change)


def test_writers_that_promote_are_not_said_to_erase() -> None:
    late = late_mlps(synthetic_ledger(erasure=-0.2), resamples=DRAWS)
    assert not late.erases.any()
    neutral = late_mlps(synthetic_ledger(erasure=0.0), resamples=DRAWS)
    assert not neutral.erases.any()


def test_what_is_released_is_the_sum_over_late_writers(ds: xr.Dataset) -> None:
    table = released(ds, resamples=DRAWS)
    for row in table[table.ablated.isin(["attn.2", "attn.4", "mlp.5"])].itertuples():
        sums: dict[str, float] = dict.fromkeys(("change", *PARTS), 0.0)
        writers = 0
        for name in map(str, ds.writer.values):
            one, cell = ds.sel(writer=name), ds.sel(writer=name, ablated=row.ablated)
            if (
                row.kind != name.split(".")[0]
                or int(one.writer_layer) < 4
                or not bool(cell.is_downstream & ~cell.is_own)
            ):
                continue
            direct, change = one.direct_effect.values.astype(float), cell.change.values.astype(float)
            for part, values in ({"change": change} | split_change(direct, change)).items():
                sums[part] += float(values.mean())
            writers += 1
        assert row.writers == writers
        for part, value in sums.items():
            assert getattr(row, part) == pytest.approx(value)


def test_closing_is_recomputed_and_a_broken_cell_is_found(ds: xr.Dataset) -> None:
    good = closing(ds)
    assert good.closes
    assert good.error == pytest.approx(0, abs=1e-5)
    broken = ds.copy(deep=True)
    broken["change"].values[11, 8, 13] += 0.5
    bad = closing(broken)
    assert not bad.closes
    total = float(broken.total_effect.values[11, 8])
    assert bad.error == pytest.approx(0.5 / max(1, abs(total)), rel=1e-3)
    assert (bad.prompt, bad.ablated) == (11, "attn.4")
    assert bad.stored_error == pytest.approx(0.5, rel=1e-3)
    unclean = ds.copy(deep=True)
    unclean["clean_logit"].values[3] += 1
    assert not closing(unclean).closes


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
@pytest.mark.filterwarnings("error")
def test_odd_ledgers_give_tables_with_the_same_columns(odd: dict[str, Any], ds: xr.Dataset) -> None:
    strange = synthetic_ledger(**odd)
    for function in (
        *(repair, layer_effects, who_repairs),
        *(late_mlps, released),
    ):
        columns = function(ds, resamples=20).columns
        assert list(function(strange, resamples=20).columns) == list(columns)
    assert list(concentration(strange).columns) == list(concentration(ds).columns)
    assert len(repair(strange, resamples=20)) == strange.sizes["ablated"]
    assert closing(strange).closes


def test_a_ledger_read_from_disk_gives_the_same_tables(ds: xr.Dataset, tmp_path: Path) -> None:
    """Zarr returns text in numpy's own string type and numbers lazily."""
    text = [name for name, values in ds.coords.items() if values.dtype == object]
    ds.assign_coords({name: ds[name].astype(np.dtypes.StringDType()) for name in text}).to_zarr(
        tmp_path / "ledger.zarr", consolidated=False
    )
    stored = xr.open_zarr(tmp_path / "ledger.zarr", consolidated=False)
    assert stored.group.dtype == np.dtypes.StringDType()
    for function in (repair, layer_effects, who_repairs, released):
        pd.testing.assert_frame_equal(function(stored, resamples=20), function(ds, resamples=20))
    pd.testing.assert_frame_equal(concentration(stored), concentration(ds))
    pd.testing.assert_frame_equal(compensation_points(stored, "attn.4"), compensation_points(ds, "attn.4"))
    pd.testing.assert_frame_equal(prompt_view(stored, 3, "attn.4"), prompt_view(ds, 3, "attn.4"))
    assert closing(stored) == closing(ds)
    assert summarise(Findings(stored, 20)) == summarise(Findings(ds, 20))


def test_a_ledger_of_the_papers_size_is_read_in_one_go() -> None:
    large = synthetic_ledger(1200, 32, donors=2, n_groups=1200)
    assert len(repair(large)) == large.sizes["ablated"]
    table = who_repairs(large)
    assert set(table["ablated"]) == set(large["ablated"].values)
    assert table["p"].notna().any()
