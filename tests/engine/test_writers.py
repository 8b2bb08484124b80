"""Heads as writers: each head's share of an attention write is what the weights say, and the account still closes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor
from transformers import PreTrainedModel

import hydrascope as hs
from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis import by_layer
from hydrascope.engine import _units
from hydrascope.errors import AnatomyRefused, ComponentError, RunError, SettingsChanged
from tests.support.families import EPSILON, Family
from tests.support.reference import Run, double_copy, norm_scale, readout, run
from tests.support.units import ALL, Asked, model

pytestmark = pytest.mark.usefixtures("proved_once")

NORMED = {"gemma2", "gemma3_text", "olmo2", "olmo2_biased"}
CHOSEN = ("gpt2", "llama", "llama_biased", "gemma2", "gemma3_text", "olmo2", "olmo2_biased", "phi", "granite", "bloom")
KNOCKOUTS = "attn.1,mlp.0,layer.1,head.1.2,head.0.1+head.2.3"
ASKED = Asked.of(3, (7, 1, 7), (5, 11, 40), writers="heads")
PROMPTS, TARGETS = ASKED.prompts, ASKED.targets


def ledger(name: str, components: str = KNOCKOUTS, ablation: Any = None, **more: Any) -> xr.Dataset:
    return ASKED.ledger(name, components, ablation, **more)


def shares(network: PreTrainedModel, family: Family, layer: int, seen: Run) -> list[Tensor]:
    """What each head and what the biases add to the residual stream, from the weights alone, in float64."""
    projection = network.get_submodule(family.path(layer, family.o_proj))
    mixed = torch.cat([seen.values["head", layer, head] for head in range(family.n_heads)])
    with torch.no_grad():
        bias = projection(torch.zeros_like(mixed))
        found = []
        for head in range(family.n_heads):
            alone = torch.zeros_like(mixed)
            span = slice(head * family.head_dim, (head + 1) * family.head_dim)
            alone[span] = mixed[span]
            found.append(projection(alone) - bias)
        if family.attn != family.o_proj:
            gain: Any = network.get_submodule(family.path(layer, family.attn)).weight + family.gain_offset
            size = ((sum(found) + bias).pow(2).mean() + EPSILON).sqrt()
            found, bias = [gain * one / size for one in found], gain * bias / size
    return [family.multiplier * one for one in (*found, bias)]


def by_hand(name: str, replaced: dict[Any, Tensor], cut: set[int]) -> np.ndarray:
    """<share, w> of every head and bias of every block, for every prompt, not yet divided by the clean scale."""
    family = ALL[name]
    network = double_copy(model(name).network)
    rows = []
    for prompt, target in zip(PROMPTS, TARGETS, strict=True):
        direction, _ = readout(network, family, target)
        seen, row = run(network, family, prompt, replaced), []
        for layer in range(family.n_layers):
            row += [float(share @ direction) for share in shares(network, family, layer, seen)]
            if layer in cut:  # nothing was written by any head, and what replaces the write belongs to none
                row[-family.n_heads - 1 :] = [0.0] * (family.n_heads + 1)
        rows.append(row)
    return np.array(rows)


def zeroed(name: str, knockout: str) -> tuple[dict[Any, Tensor], set[int]]:
    """Replacements of the slow loop for a zero ablation, and blocks whose whole attention is cut off."""
    family, cut = ALL[name], set[int]()
    found: dict[Any, Tensor] = {}
    for part in knockout.split("+"):
        kind, layer, *unit = part.split(".")
        if kind == "head":
            found["head", int(layer), int(unit[0])] = torch.zeros(family.head_dim).double()
            continue
        for writer in ("attn", "mlp") if kind == "layer" else (kind,):
            d_model = model(name).anatomy.d_model
            found[writer, int(layer)] = torch.zeros(d_model).double()
            cut |= {int(layer)} if writer == "attn" else set()
    return found, cut


@pytest.mark.parametrize("name", CHOSEN)
def test_shares_are_what_the_weights_say(name: str) -> None:
    found, family = ledger(name), ALL[name]
    network = double_copy(model(name).network)
    inside = [writer.startswith(("head.", "bias.")) for writer in found["writer"].values]
    names = [f"{kind}.{layer}" for layer in range(family.n_layers) for kind in ("head", "bias.attn")]
    assert sum(inside) == family.n_layers * (family.n_heads + 1)
    assert [w.rsplit(".", 1)[0] if w.startswith("head") else w for w in found["writer"].values[inside]] == [
        each for each in names for _ in range(family.n_heads if each.startswith("head") else 1)
    ]
    sigma = np.array([float(norm_scale(family, run(network, family, prompt).residual)) for prompt in PROMPTS])
    clean = by_hand(name, {}, set())
    np.testing.assert_allclose(found["direct_effect"].values[:, inside], clean / sigma[:, None], rtol=0, atol=1e-4)
    largest = 0.0
    for k, knockout in enumerate(found["ablated"].values):
        change = (by_hand(name, *zeroed(name, knockout)) - clean) / sigma[:, None]
        np.testing.assert_allclose(found["change"].values[:, k, inside], change, rtol=0, atol=1e-4, err_msg=knockout)
        may_change = (found["is_own"] | found["is_downstream"]).values[k, inside]
        moved = np.abs(change).max(0) > 1e-9
        assert not (moved & ~may_change).any(), knockout
        assert found["is_own"].values[k].any()
        largest = max(largest, float(np.abs(change).max()))
    assert largest > 0.05, "shares that do not change prove nothing"


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama", "mistral", "gemma2", "olmo2_biased", "gptj"])
def test_heads_and_biases_are_their_layer(name: str) -> None:
    """Under donors and under the null, and nothing else of the account moves."""
    kind = hs.Resample(donors=2)
    more: dict[str, Any] = {"null_draws": 1}
    apart, whole = ledger(name, ablation=kind, **more), ledger(name, ablation=kind, writers="layers", **more)
    for variable in ("direct_effect", "change", "null_change"):
        for column, writer in enumerate(whole["writer"].values):
            layer = writer.split(".")[-1]
            inside = [w == writer for w in apart["writer"].values]
            if writer.startswith("attn"):
                inside = [w.startswith(f"head.{layer}.") or w == f"bias.attn.{layer}" for w in apart["writer"].values]
            summed = apart[variable].values[..., inside].sum(-1)
            np.testing.assert_allclose(summed, whole[variable].values[..., column], rtol=0, atol=1e-5, err_msg=writer)
    for variable in ("total_effect", "norm_effect", "clean_logit", "kl", "log_prob_change", "null_total_effect"):
        np.testing.assert_allclose(apart[variable], whole[variable], rtol=0, atol=1e-6, err_msg=variable)
    for found in (apart, whole):
        rest = found["total_effect"] - found["change"].sum("writer") - found["norm_effect"] - found["remainder"]
        assert float(np.abs(rest).max()) < 1e-5
        assert found.attrs["closing_error"] < 1e-5
    layers = [name in ("attn.1", "mlp.0", "layer.1") for name in apart["ablated"].values]
    np.testing.assert_allclose(apart["own_change"][:, layers], whole["own_change"][:, layers], rtol=0, atol=1e-5)
    for kinds in (("attn", "bias"), ("mlp",)):  # a bias that a post-norm scales moves, and is no head's
        one, other = (sum(access.response(found, each) for each in kinds) for found in (apart, whole))
        np.testing.assert_allclose(np.asarray(one)[:, layers], np.asarray(other)[:, layers], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "olmo2_biased"])
def test_who_is_own_and_who_can_respond(name: str) -> None:
    found = ledger(name, "head.1.2,attn.1,mlp.0" + (",kv.1.1" if name != "gpt2" else ""))

    def marked(mask: str, knockout: str) -> set[str]:
        return {str(w) for w in found["writer"].values[found[mask].sel(ablated=found["ablated"] == knockout).values[0]]}

    siblings = {"head.1.0", "head.1.1", "head.1.3"} if name in NORMED else set()
    scaled = {f"bias.attn.{layer}" for layer in range(1, 3)} if name == "olmo2_biased" else set()
    later = {str(w) for w in found["writer"].values if w.split(".")[1:2] == ["2"] or w.split(".")[1:2] == ["3"]}
    later = {w for w in later if not w.startswith("bias")}
    assert marked("is_own", "head.1.2") == {"head.1.2"}
    assert marked("is_downstream", "head.1.2") == {"mlp.1"} | later | siblings | scaled
    assert marked("is_own", "attn.1") == {"head.1.0", "head.1.1", "head.1.2", "head.1.3", "bias.attn.1"}
    assert marked("is_downstream", "attn.1") == {"mlp.1"} | later | (scaled - {"bias.attn.1"})
    assert marked("is_own", "mlp.0") == {"mlp.0"}
    if name != "gpt2":
        assert marked("is_own", "kv.1.1") == {"head.1.2", "head.1.3"}
    assert set(found["writer_kind"].values) == {"embed", "attn", "mlp", "bias"}
    units = dict(zip(found["writer"].values, found["writer_unit"].values, strict=True))
    assert (units["head.1.2"], units["bias.attn.1"], units["mlp.1"], units["embed"]) == (2, -1, -1, -1)
    still = ~(found["is_own"] | found["is_downstream"]).values
    assert (found["change"].values[:, still] == 0).all()


def test_units_of_one_writer_that_are_knocked_out_together_are_all_own() -> None:
    found = ledger("gpt2", "head.1.0+head.1.2")
    assert found["writer"].values[found["is_own"].values[0]].tolist() == ["head.1.0", "head.1.2"]


def test_analyses_speak_of_heads() -> None:
    found = ledger("gpt2", "head,attn.0", ablation=hs.Resample(donors=2))
    opened = hs.Ledger(found)
    answers = opened.who_repairs("head.0.1")
    assert {"head.1.0", "head.2.3"} <= set(answers["writer"])
    assert not {"head.0.0", "bias.attn.1", "attn.1"} & set(answers["writer"])
    effects = opened.layer_effects().set_index("ablated")
    assert set(effects.index) == {*(f"head.{layer}.{head}" for layer in range(3) for head in range(4)), "attn.0"}
    direct = found["direct_effect"].sel(writer=found["writer"] == "head.1.2").values.mean()
    assert effects.loc["head.1.2", "direct_effect"] == pytest.approx(float(direct), abs=1e-6)


def test_the_same_folder_continues_only_with_the_same_writers(tmp_path: Path) -> None:
    def made(writers: Any) -> xr.Dataset:
        options = hs.Options(components="attn,head.1.*", keep_wrong=True, null_draws=1, writers=writers)
        return hs.knock_out(
            model("gpt2"), ASKED.prompt_set(), ablation=hs.Zero(), options=options, out=tmp_path / "run"
        ).dataset

    first, again = made("heads"), made("heads")
    assert first.attrs["writers"] == "heads"
    xr.testing.assert_identical(first, again)
    xr.testing.assert_identical(first.drop_attrs(), ledger("gpt2", "attn,head.1.*", null_draws=1).drop_attrs())
    with pytest.raises(SettingsChanged, match="--writers heads there, layers now"):
        made("layers")


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_shares_that_do_not_sum_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = _units.UnitReadout.by_unit
    monkeypatch.setattr(_units.UnitReadout, "by_unit", lambda aim, inside: right(aim, inside) * 1.01)
    with pytest.raises(AnatomyRefused, match="check 'heads as writers' failed: heads and biases sum"):
        ledger(name)


def test_a_wrong_scale_of_the_post_norm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_units.PostNorm, "scale", lambda norm, state: state.float().pow(2).mean(-1).sqrt() * 1.01)
    with pytest.raises(AnatomyRefused, match="check 'heads as writers' failed"):
        ledger("olmo2")


def test_a_model_without_heads_is_refused() -> None:
    opened = model("gpt2")
    headless = replace(opened, anatomy=replace(opened.anatomy, heads=()))
    with pytest.raises(ComponentError, match="this model has no 'head'; it has attn, layer, mlp, neuron"):
        hs.knock_out(
            headless, ASKED.prompt_set(), "attn", hs.Zero(), options=hs.Options(writers="heads", keep_wrong=True)
        )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"writers": "kv"}, "'kv' divides no writer into units; write for example layers, heads, neurons or head"),
        ({"writers": "head.7"}, "'head.7' names parts this model lacks; it has head.0.0 to head.2.3"),
        (
            {"writers": "neuron.1.0-5"},
            "'neuron.1.0-5' names some units of a writer; name all of them, for example neuron.1",
        ),
        ({"detail": "some"}, "detail cannot be 'some'; choose full or kinds"),
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises((RunError, ComponentError), match=said):
        hs.knock_out(model("gpt2"), ASKED.prompt_set(), "attn", hs.Zero(), options=hs.Options(**wrong))


@pytest.mark.parametrize("name", ["llama", "olmo2_biased"])
def test_heads_summed_by_layer_are_the_ledger_of_layers(name: str) -> None:
    more: dict[str, Any] = {"ablation": hs.Resample(donors=2), "null_draws": 1}
    apart, whole = ledger(name, **more), ledger(name, writers="layers", **more)
    joined = by_layer(apart)
    assert by_layer(whole) is whole
    assert joined.attrs["writers"] == "layers"
    for coordinate in ("writer", "writer_layer", "writer_kind", "writer_unit", "ablated", "prompt"):
        assert joined[coordinate].values.tolist() == whole[coordinate].values.tolist(), coordinate
    assert set(joined.data_vars) == set(whole.data_vars)
    for variable in whole.data_vars:
        ours, theirs = joined[variable], whole[variable]
        assert ours.dims == theirs.dims
        if variable == "change_sd":
            attention = whole["writer_kind"].values == "attn"
            assert np.isnan(ours.values[..., attention]).all()
            ours, theirs = ours[..., ~attention], theirs[..., ~attention]
        if theirs.dtype == bool:
            np.testing.assert_array_equal(ours, theirs, err_msg=str(variable))
        elif not str(variable).startswith(("worst", "parity", "remainder", "clean_remainder")):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5, err_msg=str(variable))
