"""Neurons as writers: each one's share of an MLP's write is what the weights say, and the account still closes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

import hydrascope as hs
from hydrascope import run as tasks
from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis import by_layer
from hydrascope.anatomy import Place
from hydrascope.components import Component, parse_component, parse_writers
from hydrascope.engine import Budget, Footprint, _units, require_account
from hydrascope.engine._memory import interventions_at_once
from hydrascope.errors import AnatomyRefused, ComponentError, OutOfBudget
from hydrascope.ledger import kept_variables, numbers_kept
from hydrascope.run._estimate import estimate
from tests.support.plain import account, slow_copy
from tests.support.reference import double_copy, norm_scale, readout, run
from tests.support.units import ALL, Asked, model

pytestmark = pytest.mark.usefixtures("proved_once")

CHOSEN = ("gpt2", "gpt_neox", "llama_biased", "gemma2", "olmo2", "phi", "granite", "bloom", "opt")
KNOCKOUTS = "attn.1,mlp.0,layer.1,head.1.2,neuron.1.5,neuron.0.3+neuron.2.40"
ASKED = Asked.of(3, (7, 1, 7), (5, 11, 40), writers="neurons")
PROMPTS, TARGETS = ASKED.prompts, ASKED.targets


def ledger(name: str, components: str = KNOCKOUTS, ablation: Any = None, **more: Any) -> xr.Dataset:
    return ASKED.ledger(name, components, ablation, **more)


@torch.no_grad()
def shares(name: str, network: Any, seen: dict[str, Tensor]) -> list[Tensor]:
    """What each neuron, and then the bias, of every MLP adds to the residual stream; from the weights alone."""
    family, found = ALL[name], []
    for site in model(name).anatomy.neurons:
        projection = network.get_submodule(site.module)
        inside = seen[str(site.site)].double()
        bias = projection(torch.zeros_like(inside))
        each = projection(torch.diag(inside)) - bias
        norm = network.get_submodule(family.path(site.layer, family.mlp))
        if norm is not projection:
            gain = norm.weight + family.gain_offset
            size = ((each.sum(0) + bias).pow(2).mean() + family.epsilon).sqrt()
            each, bias = gain * each / size, gain * bias / size
        found += [*each, bias]
    return [family.multiplier * one for one in found]


def by_hand(name: str, knockout: str) -> np.ndarray:
    """<share, w> of every neuron and bias, for every prompt, under a zero ablation; not divided by any scale."""
    family, anatomy = ALL[name], model(name).anatomy
    network = slow_copy(model(name).network)
    places = [place for part in knockout.split("+") if part for place in anatomy.places(parse_component(part))]
    edits = [(Place(site.site, 0, 0), torch.zeros(0)) for site in anatomy.neurons]
    edits += [(place, torch.zeros(place.width)) for place in places]
    cut = {writer.layer for part in knockout.split("+") if part and part.count(".") == 1
           for writer in anatomy.written_by(parse_component(part)) if writer.kind == "mlp"}  # fmt: skip
    rows = []
    for prompt, target in zip(PROMPTS, TARGETS, strict=True):
        direction, _ = readout(network, family, target)
        seen = account(network, anatomy, prompt, target, edits).values
        row = [float(share @ direction) for share in shares(name, network, seen)]
        width = len(row) // anatomy.n_layers
        for layer in cut:  # no neuron wrote anything, and what replaces the write belongs to none
            row[layer * width : (layer + 1) * width] = [0.0] * width
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("name", CHOSEN)
def test_shares_are_what_the_weights_say(name: str) -> None:
    found, family = ledger(name), ALL[name]
    network = double_copy(model(name).network)
    inside = [writer.startswith(("neuron.", "bias.mlp.")) for writer in found["writer"].values]
    sites = model(name).anatomy.neurons
    names = [[*(f"neuron.{s.layer}.{n}" for n in range(s.n_neurons)), f"bias.mlp.{s.layer}"] for s in sites]
    assert found["writer"].values[inside].tolist() == [each for some in names for each in some]
    sigma = np.array([float(norm_scale(family, run(network, family, prompt).residual)) for prompt in PROMPTS])
    clean = by_hand(name, "")
    np.testing.assert_allclose(found["direct_effect"].values[:, inside], clean / sigma[:, None], rtol=0, atol=1e-4)
    for k, knockout in enumerate(found["ablated"].values):
        change = (by_hand(name, knockout) - clean) / sigma[:, None]
        np.testing.assert_allclose(found["change"].values[:, k, inside], change, rtol=0, atol=1e-4, err_msg=knockout)
        may_change = (found["is_own"] | found["is_downstream"]).values[k, inside]
        moved = np.abs(change).max(0) > 1e-9
        assert not (moved & ~may_change).any(), knockout
        assert found["is_own"].values[k].any()
        assert np.abs(change).max() > 1e-3, f"{knockout} moves nothing, which proves nothing"


@pytest.mark.parametrize(
    ("name", "writers"),
    [("gpt2", "neurons"), ("gpt_neox", "neuron.1-2"), ("llama_biased", "head,neuron.1"), ("olmo2", "heads,neurons")],
)
def test_units_and_biases_are_their_layer(name: str, writers: str) -> None:
    """Under donors and under the null, and nothing else of the account moves."""
    kind = hs.Resample(donors=2)
    more: dict[str, Any] = {"null_draws": 1}
    apart, whole = (ledger(name, ablation=kind, writers=given, **more) for given in (writers, "layers"))
    joined = by_layer(apart)
    assert joined.attrs["writers"] == "layers"
    for coordinate in ("writer", "writer_layer", "writer_kind", "writer_unit", "ablated", "prompt"):
        assert joined[coordinate].values.tolist() == whole[coordinate].values.tolist(), coordinate
    assert set(joined.data_vars) == set(whole.data_vars)
    for variable in whole.data_vars:
        ours, theirs = joined[variable].values, whole[variable].values
        if variable == "change_sd":
            divided = np.isin(whole["writer"].values, list(access.divided(apart)))
            assert divided.any() and np.isnan(ours[..., divided]).all()
            ours, theirs = ours[..., ~divided], theirs[..., ~divided]
        if theirs.dtype == bool:
            np.testing.assert_array_equal(ours, theirs, err_msg=str(variable))
        elif not str(variable).startswith(("worst", "parity", "remainder", "clean_remainder")):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5, err_msg=str(variable))
    rest = apart["total_effect"] - apart["change"].sum("writer") - apart["norm_effect"] - apart["remainder"]
    assert float(np.abs(rest).max()) < 2e-5
    assert apart.attrs["closing_error"] < 2e-5


@pytest.mark.parametrize("name", ["gpt2", "olmo2"])
def test_who_is_own_and_who_can_respond(name: str) -> None:
    found = ledger(name, "neuron.1.5,mlp.1,head.1.2", writers="neuron.1")
    n = model(name).anatomy.neuron_site(1).n_neurons

    def marked(mask: str, knockout: str) -> set[str]:
        return {str(w) for w in found["writer"].values[found[mask].sel(ablated=found["ablated"] == knockout).values[0]]}

    everyone = {f"neuron.1.{i}" for i in range(n)}
    siblings = everyone - {"neuron.1.5"} if name == "olmo2" else set()
    assert marked("is_own", "neuron.1.5") == {"neuron.1.5"}
    assert marked("is_downstream", "neuron.1.5") == {"attn.2", "mlp.2"} | siblings
    assert marked("is_own", "mlp.1") == everyone | {"bias.mlp.1"}
    assert marked("is_downstream", "mlp.1") == {"attn.2", "mlp.2"}
    assert marked("is_own", "head.1.2") == {"attn.1"}
    assert marked("is_downstream", "head.1.2") == everyone | {"attn.2", "mlp.2"}
    units = dict(zip(found["writer"].values, found["writer_unit"].values, strict=True))
    assert (units["neuron.1.5"], units["bias.mlp.1"], units["mlp.0"], units["attn.1"]) == (5, -1, -1, -1)
    own = found["change"].sel(ablated=found["ablated"] == "neuron.1.5", writer=found["writer"] == "neuron.1.5")
    direct = found["direct_effect"].sel(writer=found["writer"] == "neuron.1.5")
    if name == "gpt2":  # nothing scales what is cut to nothing
        np.testing.assert_allclose(own.values[:, 0, 0], -direct.values[:, 0], atol=1e-6)
    np.testing.assert_allclose(access.ablated_direct(found)[:, 0], direct.values[:, 0], atol=1e-6)


def test_which_writers_are_divided() -> None:
    inventory = model("llama_biased").anatomy.inventory
    every = {Component("mlp", layer): "neuron" for layer in range(3)}
    assert parse_writers("layers", inventory) == {}
    assert parse_writers("neurons", inventory) == parse_writers("neuron.*", inventory) == every
    assert list(parse_writers(" head.2, neuron.0-1.*", inventory).items()) == [
        (Component("mlp", 0), "neuron"),
        (Component("mlp", 1), "neuron"),
        (Component("attn", 2), "head"),
    ]
    for wrong in ("mlp", "neuron.7", "neuron.1.4", "expert", "heads.x"):
        with pytest.raises(ComponentError):
            parse_writers(wrong, inventory)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("neuron,heads", "heads,neurons"), ("head.1,neuron", "neurons,head.1"), ("neuron.1-2", "neuron.1,neuron.2")],
)
def test_one_spelling_is_kept_of_many(given: str, kept: str) -> None:
    assert tasks.prepare(model("gpt2"), ASKED.prompt_set(), hs.Zero(), hs.Options(writers=given)).writers == kept


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_shares_that_do_not_sum_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = _units.UnitReadout.by_unit
    monkeypatch.setattr(_units.UnitReadout, "by_unit", lambda aim, inside: right(aim, inside) * 1.01)
    with pytest.raises(AnatomyRefused, match="check 'neurons as writers' failed: neurons and biases sum"):
        ledger(name)


def test_no_write_of_a_single_neuron_is_ever_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read of a row is one number a neuron, and no tensor has both a neuron's and the stream's width."""
    sizes: list[int] = []
    right = _units.UnitReadout.by_unit

    def seen(aim: _units.UnitReadout, inside: Tensor) -> Tensor:
        found = right(aim, inside)
        sizes.append(found.numel() // inside.numel())
        return found

    monkeypatch.setattr(_units.UnitReadout, "by_unit", seen)
    ledger("gpt2", "attn.0")
    assert sizes and set(sizes) == {1}


def test_a_ledger_that_cannot_be_kept_is_refused_with_the_way_out() -> None:
    size = {"prompts": 100, "knockouts": 144, "entries": 36_900, "arrays": 5}
    assert require_account(Budget(2**40), 2**40, **size) == 4 * 5 * 100 * 144 * 36_900
    with pytest.raises(OutOfBudget, match=r"takes 486 MB for a single prompt and the memory budget is 100 MB; raise"):
        require_account(Budget(100 * 2**20), 2**40, **size)
    with pytest.raises(OutOfBudget, match=r"ledger of 144 knock-outs .* and 8\.0 GB is free; .*--writers neuron\.11"):
        require_account(Budget(2**40), 8 * 2**30, **size)
    assert numbers_kept(kept_variables(draws=15, null_draws=2)) == 5
    assert numbers_kept(kept_variables(draws=1, null_draws=0)) == 2


def test_the_estimate_counts_every_unit() -> None:
    whole, apart = (
        estimate(
            tasks.prepare(model("gpt2"), ASKED.prompt_set(), hs.Zero(), hs.Options(components="attn", writers=writers))
        )
        for writers in ("layers", "neurons")
    )
    entries = 1 + 3 + 3 * (128 + 1) + 1
    assert apart.ledger_bytes == 4 * 3 * 3 * 3 * entries
    assert whole.ledger_bytes == 4 * 3 * 3 * 3 * 8
    assert apart.needed_bytes > whole.needed_bytes


def test_fewer_variants_go_together_where_more_is_read_of_each() -> None:
    opened, budget = model("gpt2"), Budget(2**21)
    narrow, wide = (Footprint.of(opened, 7, copies_prefix=False, columns=columns) for columns in (8, 400))
    assert interventions_at_once(budget, wide, 2) < interventions_at_once(budget, narrow, 2)
