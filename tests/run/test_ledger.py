"""The ledger of a real run keeps its contract, opens with plain xarray, and is what the verdict is made of."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import hydrascope as hs
from hydrascope.ablations import Ablation
from tests.support import tiny

ACCOUNT = ("prompt", "ablated", "writer")
PAIR = ("prompt", "ablated")
DIMENSIONS = {
    "direct_effect": ("prompt", "writer"),
    "change": ACCOUNT,
    "change_sd": ACCOUNT,
    **dict.fromkeys(("own_change", "norm_effect", "total_effect", "total_effect_sd", "remainder", "scale_ratio"), PAIR),
    **dict.fromkeys(("log_prob_change", "kl", "rank_change", "target_first"), PAIR),
    "clean_logit": ("prompt",),
    "clean_prob": ("prompt",),
    "clean_target_first": ("prompt",),
    "is_own": ("ablated", "writer"),
    "is_downstream": ("ablated", "writer"),
}
NULL = {"null_change": ACCOUNT, "null_norm_effect": PAIR, "null_total_effect": PAIR}
COORDINATES = {
    "prompt": {"prompt", "text", "target", "target_token", "clean_top", "group", "length", "weight"},
    "ablated": {"ablated", "ablated_layer", "ablated_kind"},
    "writer": {"writer", "writer_layer", "writer_kind", "writer_unit"},
}
ATTRIBUTES: dict[type, str] = {
    str: "model model_name revision weight_digest dtype device engine positions ablation target_policy prompts_name "
    "prompts_digest command versions created sibling",
    int: "format donors null_draws seed prompts_total prompts_kept prompts_dropped_wrong n_layers n_heads d_model "
    "n_parameters n_vocab tokens_averaged",
    float: "closing_error closing_tolerance clean_closing_error parity_error seconds softcap",
    bool: "parallel_blocks",
}
KNOCKOUTS = "attn,mlp,layer.1,head.1.0,attn.0+attn.1"
ABLATIONS = [
    hs.Resample(donors=4),
    hs.Resample(donors=1),
    hs.Zero(),
    hs.Mean(),
    hs.Noise(donors=2),
    hs.Counterfactual(),
]


@pytest.fixture(scope="module")
def model(model_folder: Path) -> hs.Model:
    return hs.load(model_folder)


@pytest.fixture(scope="module")
def prompts(rows: list[tiny.Row]) -> hs.PromptSet:
    """The forty prompts, with counterfactuals, groups, and four whose target is wrong."""
    asked = [
        {
            "prompt": row.text,
            "target": f"w{row.top}" if i % 10 else "w4" if row.top != 4 else "w5",
            "counterfactual": rows[i - 1].text,
            "group": f"g{i % 7}",
        }
        for i, row in enumerate(rows)
    ]
    return hs.load_prompts(asked, name="asked")


@pytest.fixture(scope="module", params=ABLATIONS, ids=str)
def kept(
    request: pytest.FixtureRequest, model: hs.Model, prompts: hs.PromptSet, tmp_path_factory: pytest.TempPathFactory
) -> hs.Ledger:
    ablation: Ablation = request.param
    out = tmp_path_factory.mktemp("ledger") / "run"
    return hs.knock_out(model, prompts, KNOCKOUTS, ablation, seed=3, out=out)


def test_contract(kept: hs.Ledger, rows: list[tiny.Row]) -> None:
    assert kept.path is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xr.open_zarr(kept.path / "ledger.zarr").load()
    draws = dataset.attrs["donors"]
    expected = {**DIMENSIONS, **NULL, **({"change_by_half": ("half", *ACCOUNT)} if draws > 1 else {})}
    assert {name: dataset[name].dims for name in expected} == expected
    assert ("change_by_half" in dataset) == (draws > 1)
    assert dataset.sizes["half"] == 2 if draws > 1 else "half" not in dataset.sizes
    for dim, names in COORDINATES.items():
        assert {str(name) for name, found in dataset.coords.items() if found.dims == (dim,)} == names
    for name in expected:
        kind = "b" if name.startswith("is_") else "f"
        assert dataset[name].dtype.kind == kind, name
        assert kind == "b" or (dataset[name].dtype == np.float32 and np.isfinite(dataset[name]).all()), name
    for cls, listed in ATTRIBUTES.items():
        assert {name: type(dataset.attrs[name]) for name in listed.split()} == dict.fromkeys(listed.split(), cls)
    assert set(json.loads(dataset.attrs["versions"])) >= {"hydrascope", "torch", "transformers", "python"}
    assert dataset.attrs["prompts_total"] == 40
    assert dataset.attrs["prompts_kept"] == dataset.sizes["prompt"] == 36
    assert dataset.attrs["prompts_dropped_wrong"] == 4
    assert (dataset.attrs["n_layers"], dataset.attrs["n_heads"], dataset.attrs["d_model"]) == (3, 2, 16)


def test_labels(kept: hs.Ledger, rows: list[tiny.Row]) -> None:
    dataset = kept.dataset
    wanted = [i for i in range(40) if i % 10]
    assert dataset["prompt"].values.tolist() == wanted
    assert dataset["text"].values.tolist() == [rows[i].text for i in wanted]
    assert dataset["target_token"].values.tolist() == [rows[i].top for i in wanted]
    assert (
        dataset["target"].values.tolist() == dataset["clean_top"].values.tolist() == [f"w{rows[i].top}" for i in wanted]
    )
    assert dataset["group"].values.tolist() == [f"g{i % 7}" for i in wanted]
    assert dataset["length"].values.tolist() == [len(rows[i].text.split()) + 1 for i in wanted]
    writers = [f"{kind}.{layer}" for layer in range(3) for kind in ("attn", "mlp")]
    assert dataset["writer"].values.tolist() == ["embed", *writers, "bias"]
    assert dataset["writer_layer"].values.tolist() == [-1, 0, 0, 1, 1, 2, 2, 3]
    ablated = ["attn.0", "attn.1", "attn.2", "mlp.0", "mlp.1", "mlp.2", "layer.1", "head.1.0", "attn.0+attn.1"]
    assert dataset["ablated"].values.tolist() == ablated
    assert dataset["ablated_layer"].values.tolist() == [0, 1, 2, 0, 1, 2, 1, 1, 0]
    assert dataset["ablated_kind"].values.tolist() == ["attn"] * 3 + ["mlp"] * 3 + ["layer", "head", "joint"]


def test_the_weights_reproduce_every_mean_of_the_tables(kept: hs.Ledger) -> None:
    ds, table = kept.dataset, kept.repair().set_index("ablated")
    assert ds["weight"].groupby("group").sum().values.tolist() == pytest.approx([1] * 7)
    mean, plain = ds.weighted(ds["weight"]).mean("prompt"), ds.mean("prompt")
    for name in ("own_change", "norm_effect", "total_effect", "kl"):
        np.testing.assert_allclose(table[name], mean[name], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(table[f"{name}_plain"], plain[name], rtol=1e-5, atol=1e-6)
    assert abs(table["own_change"] - table["own_change_plain"]).max() > 1e-3


def test_account(kept: hs.Ledger) -> None:
    """What the contract says of the numbers, recomputed from the file."""
    ds = kept.dataset
    close: dict[str, Any] = {"rtol": 0, "atol": 2e-4}
    np.testing.assert_allclose(ds.direct_effect.sum("writer"), ds.clean_logit, **close)
    np.testing.assert_allclose(ds.change.sum("writer") + ds.norm_effect + ds.remainder, ds.total_effect, **close)
    np.testing.assert_allclose(ds.change.where(ds.is_own, 0).sum("writer"), ds.own_change, **close)
    assert float(abs(ds.remainder).max()) < 1e-3
    assert not ds.change.where(~(ds.is_own | ds.is_downstream), 0).any()
    assert not (ds.is_own & ds.is_downstream).any()
    assert not ds.change.sel(writer=["embed", "bias"]).any()
    moving = ds.direct_effect.drop_sel(writer="bias").sum("writer") + ds.change.sum("writer")
    if ds.attrs["donors"] == 1:  # of several draws only the mean is there, and the product of two means is not theirs
        np.testing.assert_allclose((ds.scale_ratio - 1) * moving, ds.norm_effect, **close)
        assert not ds.change_sd.any() and not ds.total_effect_sd.any()
    else:
        np.testing.assert_allclose(ds.change_by_half.mean("half"), ds.change, **close)
        assert float(ds.change_sd.max()) > 0.1
    assert (ds.kl >= -1e-6).all()
    assert (ds.rank_change >= 0).all()  # the target is the clean run's top token
    assert (ds.clean_target_first == 1).all()
    if ds.attrs["donors"] == 1:
        np.testing.assert_array_equal(ds.target_first, ds.rank_change == 0)
    assert ds.target_first.min() < 1


def test_order_of_prompts_is_that_of_the_file(model: hs.Model, prompts: hs.PromptSet, tmp_path: Path) -> None:
    """On disk too, although they are computed in order of length."""
    kept = hs.knock_out(model, prompts, "attn.1", hs.Zero(), out=tmp_path / "run").dataset
    stored = xr.open_zarr(tmp_path / "run" / "ledger.zarr")
    assert (np.diff(stored["length"].values) < 0).any(), "this is not the order of length"
    assert (np.diff(stored["prompt"].values) > 0).all()
    xr.testing.assert_identical(kept["change"].drop_attrs(), stored["change"].load().drop_attrs())
    some = hs.PromptSet("one", (prompts[int(kept["prompt"][3])],))
    alone = hs.knock_out(model, some, "attn.1", hs.Zero()).dataset
    np.testing.assert_allclose(alone["change"][0], stored["change"].isel(prompt=3), rtol=0, atol=1e-5)


def test_a_prompt_s_numbers_do_not_depend_on_its_neighbours(model: hs.Model, prompts: hs.PromptSet) -> None:
    whole = hs.knock_out(model, prompts, "attn,mlp", hs.Zero()).dataset
    few = hs.knock_out(model, prompts[:9], "attn,mlp", hs.Zero()).dataset
    some = whole.sel(prompt=few["prompt"])
    for name in ("change", "total_effect", "norm_effect", "kl"):
        np.testing.assert_allclose(few[name], some[name], atol=1e-5, err_msg=name)


def test_the_verdict_s_numbers_are_those_of_the_file(model: hs.Model, prompt_file: Path, tmp_path: Path) -> None:
    ledger = hs.knock_out(model, hs.load_prompts(prompt_file), "attn,mlp", hs.Resample(donors=4), out=tmp_path / "run")
    verdict = ledger.summary()

    ds = xr.open_zarr(tmp_path / "run" / "ledger.zarr").load().sel(ablated=verdict.focus)
    answers = ds.change.where(~ds.is_own, 0).mean("prompt").groupby("writer_kind").sum()
    own, norm = float(ds.own_change.mean()), float(ds.norm_effect.mean())
    attention, mlps = float(answers.sel(writer_kind="attn")), float(answers.sel(writer_kind="mlp"))
    recomputed = {
        "own_change": own,
        "compensation_attn": attention,
        "compensation_mlp": mlps,
        "norm_effect": norm,
        "total_effect": float(ds.total_effect.mean()),
        "restored": -(attention + mlps) / own,
        "restored_with_norm": -(attention + mlps + norm) / own,
    }
    assert abs(own) > 0.05
    assert {name: verdict.numbers[name] for name in recomputed} == pytest.approx(recomputed, rel=1e-4, abs=1e-5)
