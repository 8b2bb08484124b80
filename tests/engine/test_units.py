"""Key-value groups, neurons and sets of them as knock-outs, and sweeps of very many of them."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

import hydrascope as hs
from hydrascope import analysis
from hydrascope import run as tasks
from hydrascope.analysis import _ledger_access as access
from hydrascope.anatomy import Anatomy, Directions, Place, directions
from hydrascope.components import parse_component, parse_knockouts
from hydrascope.engine import (
    BatchContext,
    Budget,
    Footprint,
    Intervention,
    Masks,
    Readings,
    _measure,
    columns,
    prompts_in_account,
    run_interventions,
)
from hydrascope.errors import DetailDropped
from hydrascope.results import Ledger
from tests.support.plain import account, slow_copy
from tests.support.units import Asked, model

pytestmark = pytest.mark.usefixtures("proved_once")

ASKED = Asked.of(5, (7, 1, 7, 4), (5, 11, 40, 8))
PROMPTS, TARGETS = ASKED.prompts, ASKED.targets
TOLERANCE = 1e-4
UNITS = {
    "gpt2": "neuron.1.5,neuron.2.127,neuron.0.3+neuron.0.4",
    "gpt_neox": "neuron.0.3+neuron.2.40,neuron.1.5",
    "llama": "kv.1.0,kv.2.1,neuron.1.5,kv.0.0+neuron.0.2",
    "gemma2": "kv.1.1,neuron.3.5,kv.0.0+kv.2.1",
    "olmo2": "kv.1.1,neuron.0.7",
    "phi": "kv.1.0,neuron.1.47,kv.0.1+mlp.1",
}


def places(anatomy: Anatomy, knockout: str) -> list[Place]:
    return [place for part in knockout.split("+") for place in anatomy.places(parse_component(part))]


@pytest.mark.parametrize("kind", ["zero", "mean"])
@pytest.mark.parametrize("name", UNITS)
def test_units_are_what_the_slow_loop_finds(name: str, kind: str) -> None:
    found = ASKED.ledger(name, UNITS[name], hs.Zero() if kind == "zero" else hs.Mean())
    anatomy, network = model(name).anatomy, slow_copy(model(name).network)
    read: Directions = directions(model(name).network, anatomy.tail, torch.tensor(TARGETS))
    whole = {site.site for site in anatomy.heads} | {site.site for site in anatomy.neurons}
    # A full forward that puts a site's own value back shows what the value is: an edit of no width watches its input.
    watch = [(Place(site, 0, 0), torch.zeros(0)) for site in whole]
    clean = [account(network, anatomy, ids, target, watch) for ids, target in zip(PROMPTS, TARGETS, strict=True)]
    writers = [str(writer.component) for writer in anatomy.writers]
    inside = [writer in writers for writer in found["writer"].values]
    for k, knockout in enumerate(found["ablated"].values):
        for p, (ids, target) in enumerate(zip(PROMPTS, TARGETS, strict=True)):

            def value(place: Place) -> Tensor:
                everyone = torch.stack([one.values[str(place.site)][place.span] for one in clean])
                return torch.zeros(place.width) if kind == "zero" else everyone.mean(0)

            edits = [(place, value(place)) for place in places(anatomy, knockout)]
            ablated = account(network, anatomy, ids, target, edits)
            sigma = _sigma(model(name), network, list(ids))
            change = (ablated.writes - clean[p].writes) @ read.vectors[p].double() / sigma
            what = f"{knockout} on prompt {p}"
            np.testing.assert_allclose(
                found["change"].values[p, k, inside], change, rtol=0, atol=TOLERANCE, err_msg=what
            )
            total = ablated.logit - clean[p].logit
            assert found["total_effect"].values[p, k] == pytest.approx(total, abs=TOLERANCE), what
            own = found["is_own"].values[k, inside]
            assert found["own_change"].values[p, k] == pytest.approx(float(change[own].sum()), abs=TOLERANCE), what
        assert float(np.abs(found["total_effect"].values[:, k]).max()) > 1e-3, f"{knockout} does nothing"


def _sigma(opened: hs.Model, network: Any, ids: list[int]) -> float:
    """The final norm's scale from what enters the norm, in float64."""
    seen: list[Tensor] = []
    norm = network.get_submodule(opened.anatomy.tail.norm)
    handle = norm.register_forward_pre_hook(lambda _, args: seen.append(args[0][0, -1].double()))
    with torch.no_grad():
        network(input_ids=torch.tensor([ids]), use_cache=False)
    handle.remove()
    x = seen[-1] - seen[-1].mean() if opened.anatomy.tail.centred else seen[-1]
    return float((x.pow(2).mean() + opened.anatomy.tail.eps).sqrt())


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen3", "phi"])
def test_a_group_is_all_its_query_heads(name: str) -> None:
    site = model(name).anatomy.head_site(1)
    size = site.n_heads // site.n_kv
    assert size > 1
    joint = ",".join("+".join(f"head.1.{g * size + i}" for i in range(size)) for g in range(site.n_kv))
    one, other = (ASKED.ledger(name, spelled, hs.Resample(donors=2)) for spelled in ("kv.1", joint))
    assert one["ablated"].values.tolist() == [f"kv.1.{g}" for g in range(site.n_kv)]
    assert set(one["ablated_kind"].values) == {"kv"}
    for variable in ("change", "own_change", "total_effect", "norm_effect", "kl", "is_own", "is_downstream"):
        np.testing.assert_allclose(one[variable], other[variable], rtol=0, atol=1e-6, err_msg=variable)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "phi"])
def test_all_units_together_are_their_writer_without_its_bias(name: str) -> None:
    """Donors leave the bias what it was, so all neurons at once are the whole MLP, and all heads all of attention."""
    anatomy, kind = model(name).anatomy, hs.Resample(donors=2)
    all_neurons = "+".join(f"neuron.1.{n}" for n in range(anatomy.neuron_site(1).n_neurons))
    all_heads = "+".join(f"head.2.{h}" for h in range(anatomy.head_site(2).n_heads))
    units, layers = ASKED.ledger(name, f"{all_neurons},{all_heads}", kind), ASKED.ledger(name, "mlp.1,attn.2", kind)
    for variable in ("change", "own_change", "total_effect", "norm_effect", "kl"):
        np.testing.assert_allclose(units[variable], layers[variable], rtol=0, atol=TOLERANCE, err_msg=variable)


def test_sets_of_units() -> None:
    inventory = model("llama").anatomy.inventory
    assert [str(k) for k in parse_knockouts("neuron.2.*", inventory)] == [f"neuron.2.{n}" for n in range(48)]
    assert len(parse_knockouts("neuron", inventory)) == 3 * 48
    assert [str(k) for k in parse_knockouts("neuron.0-1.5-6,kv.1", inventory)] == [
        *("neuron.0.5", "neuron.0.6", "neuron.1.5", "neuron.1.6", "kv.1.0", "kv.1.1"),
    ]


def test_masks_of_many_units_are_those_of_each_alone() -> None:
    anatomy = model("phi").anatomy
    knockouts = parse_knockouts("neuron.1.3-9,neuron.0.*,kv,head.2.*,attn,layer,neuron.0.1+kv.2.0", anatomy.inventory)
    found = columns(anatomy)
    together = Masks.of(knockouts, found, anatomy, {})
    for k, knockout in enumerate(knockouts):
        own = [any(w.writer in anatomy.written_by(p) for p in knockout.parts) for w in found]
        later = [
            w.writer is not None and any(anatomy.is_downstream(w.writer, p) for p in knockout.parts) for w in found
        ]
        assert together.own[k].tolist() == own
        assert together.downstream[k].tolist() == [b and not a for a, b in zip(own, later, strict=True)]


KNOCKOUTS = "attn,mlp,head.1.*,neuron.2.0-5,attn.0+mlp.2"


@pytest.fixture(scope="module")
def sums() -> tuple[xr.Dataset, xr.Dataset]:
    """The same run in full and by kind."""
    kind = hs.Resample(donors=3)
    return tuple(ASKED.ledger("llama", KNOCKOUTS, kind, null_draws=1, detail=d) for d in ("full", "kinds"))  # type: ignore[return-value]


def test_sums_by_kind_are_sums_of_the_whole_account(sums: tuple[xr.Dataset, xr.Dataset]) -> None:
    whole, kinds = sums
    assert kinds["writer"].values.tolist() == [
        *("embed", "attn.against", "attn.for", "mlp.against", "mlp.for", "own", "bias")
    ]
    assert (whole.attrs["detail"], kinds.attrs["detail"]) == ("full", "kinds")
    for variable in ("change", "null_change"):
        for kind in ("attn", "mlp"):
            right = access.response(whole, kind, variable=variable)
            np.testing.assert_allclose(access.response(kinds, kind, variable=variable), right, rtol=0, atol=1e-6)
        right = access.response(whole, variable=variable, own=True)
        np.testing.assert_allclose(access.response(kinds, variable=variable, own=True), right, rtol=0, atol=1e-6)
    for ours, theirs in zip(access.half_response(kinds), access.half_response(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    for variable in ("own_change", "norm_effect", "total_effect", "total_effect_sd", "kl", "clean_logit"):
        np.testing.assert_array_equal(kinds[variable], whole[variable], err_msg=variable)
    rest = kinds["total_effect"] - kinds["change"].sum("writer") - kinds["norm_effect"] - kinds["remainder"]
    assert float(np.abs(rest).max()) < 1e-5
    np.testing.assert_allclose(kinds["direct_effect"].sum("writer"), kinds["clean_logit"], rtol=0, atol=1e-5)
    clean, free = whole["direct_effect"].values[:, None], ~whole["is_own"].values
    for kind in ("attn", "mlp"):
        of_kind = (whole["writer_kind"].values == kind) & free
        for where, sign in (("against", clean < 0), ("for", clean >= 0)):
            right = (whole["change"].values * (of_kind & sign)).sum(-1)
            np.testing.assert_allclose(kinds["change"].sel(writer=f"{kind}.{where}"), right, rtol=0, atol=1e-6)
            right = (whole["direct_effect"].values * (sign[:, 0] & (whole["writer_kind"].values == kind))).sum(-1)
            np.testing.assert_allclose(kinds["direct_effect"].sel(writer=f"{kind}.{where}"), right, rtol=0, atol=1e-6)
    still = ~(kinds["is_own"] | kinds["is_downstream"]).values
    assert (kinds["change"].values[:, still] == 0).all()


def test_what_needs_every_writer_refuses_sums_by_kind(sums: tuple[xr.Dataset, xr.Dataset]) -> None:
    whole, kinds = sums
    said = (
        "needs the change of every writer, and this run kept only sums by kind of writer; run it again with all of it"
    )
    for ask in (
        analysis.who_repairs,
        analysis.concentration,
        analysis.released,
        analysis.late_mlps,
        analysis.layer_effects,
        lambda ds: analysis.prompt_view(ds, 0, "attn.1"),
        lambda ds: Ledger(ds).summary(),
    ):
        with pytest.raises(DetailDropped, match=said):
            ask(kinds)
        ask(whole)


def test_compensation_is_known_from_sums_by_kind(sums: tuple[xr.Dataset, xr.Dataset]) -> None:
    whole, kinds = (analysis.repair(ds) for ds in sums)
    assert whole["direct_effect"].notna().any()
    np.testing.assert_allclose(kinds["direct_effect"], whole["direct_effect"], rtol=0, atol=1e-5)
    numeric = [c for c in whole.columns if c.startswith(("own_change", "compensation", "norm_effect", "total_effect"))]
    assert len(numeric) > 8
    np.testing.assert_allclose(kinds[numeric], whole[numeric], rtol=0, atol=1e-5)


def test_variants_are_made_as_they_are_pushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run over all neurons holds the interventions of one forward, and its replacement values are never all there."""
    alive: list[weakref.ref[Intervention]] = []
    pushed: list[int] = []
    make = BatchContext.intervention

    def made(*args: Any) -> Intervention:
        variant = make(*args)
        alive.append(weakref.ref(variant))
        return variant

    def swept(opened: hs.Model, clean: Any, variants: list[Intervention], *args: Any, **more: Any) -> Readings:
        gc.collect()
        assert sum(ref() is not None for ref in alive) == len(variants)
        pushed.append(len(variants))
        return run_interventions(opened, clean, variants, *args, **more)

    monkeypatch.setattr(BatchContext, "intervention", made)
    monkeypatch.setattr(_measure, "run_interventions", swept)
    found = ASKED.ledger("llama", "neuron.2", memory="400KB", null_draws=1)
    size = Footprint.of(model("llama"), 1, copies_prefix=False)
    assert (max(pushed) + 1) * size.row <= 400 * 2**10 / 2, "with the clean run, half the budget"
    assert len(pushed) > 2 * 2, "the budget must force several pushes"
    assert sum(pushed) == 2 * 48 * 3, "the two prompts of one length go together"
    assert found.sizes["ablated"] == 48


def test_a_small_budget_writes_fewer_prompts_at_a_time() -> None:
    assert prompts_in_account(Budget(4 * 2**30), 36_864, 26) == 11
    assert prompts_in_account(Budget(4 * 2**30), 36_864, 5) > 32
    assert prompts_in_account(Budget(1), 36_864, 26) == 1


def test_many_knock_outs_are_named_by_count_and_digest() -> None:
    def components(text: str) -> str:
        options = hs.Options(components=text, keep_wrong=True)
        return str(tasks.prepare(model("gpt2"), ASKED.prompt_set(), hs.Zero(), options).settings["components"])

    few = components("neuron.0.*")
    assert few.split(",") == [f"neuron.0.{n}" for n in range(128)]
    pairs = ",".join(f"neuron.0.{i}+neuron.1.{j}" for i in range(50) for j in range(50))
    named, other = components(pairs), components(pairs.replace("neuron.0.0+neuron.1.1,", ""))
    assert named.startswith(f"neuron.0.0+neuron.1.0 to neuron.0.49+neuron.1.49, {50 * 50} in all, ")
    assert named != other
    assert len(named) < 120
