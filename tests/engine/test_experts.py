"""Routed experts: found by experiment, knocked out one by one, and their router's part in every answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

import hydrascope as hs
from hydrascope.analysis import routing, routing_totals
from hydrascope.anatomy import Link, Place, directions, examine, prove_anatomy, require
from hydrascope.cli._inspection import examine as inspect
from hydrascope.components import Component
from hydrascope.engine import Edit, FromBlock, Intervention, Layout, record, run_interventions
from hydrascope.errors import AnatomyRefused, ComponentError, DetailDropped, HookDidNotFire
from hydrascope.results import Ledger
from hydrascope.run._execution import execute
from hydrascope.run._task import prepare
from tests.support import registry
from tests.support.plain import account, slow_copy

torch.set_num_threads(1)
TOLERANCE = 1e-4
PROMPTS, TOKENS, EXPERTS, ASKED = 5, 7, 4, 2


def open_model(model_type: str) -> hs.Model:
    return examine(registry.build(model_type), None, name=model_type)


def prompts() -> hs.PromptSet:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(3, registry.VOCABULARY, (PROMPTS, TOKENS), generator=generator).tolist()
    return hs.PromptSet("random", tuple(hs.Prompt(input_ids=tuple(row)) for row in ids))


def run(model: hs.Model, components: str, ablation: Any = None, **options: Any) -> Ledger:
    given = hs.Options(target="top", **{"null_draws": 1, **options})
    return hs.knock_out(model, prompts(), components, ablation or hs.Resample(donors=2), options=given)


@pytest.fixture(scope="module")
def mixtral() -> hs.Model:
    return open_model("mixtral")


@pytest.fixture(scope="module")
def ledger(mixtral: hs.Model) -> Ledger:
    return run(mixtral, "attn,mlp,expert")


def test_experts_are_found_where_they_are_and_nowhere_else(mixtral: hs.Model) -> None:
    sites = mixtral.anatomy.experts
    assert [(site.layer, site.n_experts, site.top_k) for site in sites] == [(i, EXPERTS, ASKED) for i in range(3)]
    assert all(site.module.endswith("mlp.experts") for site in sites)
    assert {type(mixtral.network.get_submodule(site.module)).__name__ for site in sites} == {"MixtralExperts"}
    assert [site.link for site in sites] == [Link(site.module, "output", 1.0) for site in sites]
    assert mixtral.anatomy.inventory.units["expert"] == dict.fromkeys(range(3), EXPERTS)
    assert not open_model("llama").anatomy.experts
    mixed = open_model("deepseek_v3").anatomy  # whose first block is dense
    assert [site.layer for site in mixed.experts] == [1, 2]
    assert [site.layer for site in mixed.neurons] == [0]


@pytest.mark.parametrize(
    ("model_type", "side", "gain"),
    [
        ("cohere2_moe", "output", 0.5),  # halved together with a shared expert
        ("minimax_m3_vl_text", "output", 2.0),
        ("beam", "input", 2.5),  # before a post-norm
    ],
)
def test_the_way_from_the_experts_to_the_write_is_measured(model_type: str, side: str, gain: float) -> None:
    links = [site.link for site in open_model(model_type).anatomy.experts]
    assert links
    for link in links:
        assert link is not None
        assert link.side == side
        assert link.gain == pytest.approx(gain, rel=1e-4)


def test_a_module_whose_output_is_no_sum_has_no_experts() -> None:
    network = registry.build("mixtral")
    module = network.model.layers[1].mlp.experts
    plainly = module.forward
    module.forward = lambda *args: torch.tanh(plainly(*args))
    model = examine(network, None, name="odd")
    assert [site.layer for site in model.anatomy.experts] == [0, 2]
    with pytest.raises(ComponentError, match="expert"):
        run(model, "expert.1.0")


def test_the_proof_fails_where_experts_stop_summing() -> None:
    model = open_model("mixtral")
    module = model.network.get_submodule(model.anatomy.experts[0].module)
    plainly = module.forward
    module.forward = lambda *args: plainly(*args).pow(3)
    with pytest.raises(AnatomyRefused, match="experts"):
        require(check for check in prove_anatomy(model.network, model.anatomy) if check.name == "experts")


def test_a_knock_out_of_an_expert_is_that_of_its_own_write(mixtral: hs.Model) -> None:
    """By hand, in float64: the write of the chosen expert from its own matrices, taken from the residual stream."""
    found = run(mixtral, "expert.1.*", hs.Zero(), null_draws=0).dataset
    slow = slow_copy(mixtral.network)
    experts = slow.get_submodule(mixtral.anatomy.experts[1].module)
    for row, prompt in enumerate(prompts().prompts):
        assert prompt.input_ids is not None
        seen: list[Any] = []
        handle = experts.register_forward_hook(lambda _, args, __, seen=seen: seen.append(args))
        target = int(found["target_token"][row])
        clean = account(slow, mixtral.anatomy, prompt.input_ids, target)
        handle.remove()
        state, index, weight = (argument[-1] for argument in seen[0])
        for expert in range(EXPERTS):
            at = (index == expert).nonzero().flatten().tolist()
            if at:
                gate, up = (experts.gate_up_proj[expert] @ state).chunk(2)
                write = experts.down_proj[expert] @ (torch.nn.functional.silu(gate) * up) * weight[at[0]]
            else:
                write = torch.zeros_like(state)
            place = mixtral.anatomy.places(Component("mlp", 1))[0]
            edits = [(place, clean.writes[3] - write)]
            ablated = account(slow, mixtral.anatomy, prompt.input_ids, target, edits)
            expected = ablated.logit - clean.logit
            assert float(found["total_effect"][row, expert]) == pytest.approx(expected, abs=TOLERANCE)
            assert bool(at) == (abs(float(found["own_change"][row, expert])) > TOLERANCE)


def test_the_parts_of_an_experts_ledger_are_whose_they_should_be(ledger: Ledger) -> None:
    ds = ledger.dataset
    own = ds["is_own"].sel(ablated="expert.1.2")
    assert list(ds["writer"].values[own.values]) == ["mlp.1"]
    behind = ds["is_downstream"].sel(ablated="expert.1.2")
    assert list(ds["writer"].values[behind.values]) == ["attn.2", "mlp.2"]
    assert ds.attrs["closing_error"] < TOLERANCE


def test_experts_of_a_block_sum_to_its_mlp(mixtral: hs.Model) -> None:
    """All experts zeroed at once are the whole MLP zeroed, for a model whose MLP has no other part."""
    joint = "+".join(f"expert.1.{expert}" for expert in range(EXPERTS))
    ds = run(mixtral, f"{joint},mlp.1", hs.Zero(), null_draws=0).dataset
    np.testing.assert_allclose(ds["total_effect"][:, 0], ds["total_effect"][:, 1], atol=TOLERANCE)
    np.testing.assert_allclose(ds["change"][:, 0], ds["change"][:, 1], atol=TOLERANCE)


def test_experts_in_whole_texts_sum_to_their_mlp(mixtral: hs.Model) -> None:
    """Replaced at several positions, read at others, the routing split at each of them."""
    edited, read_at = (1, 3), (2, 3, 5)
    ids = torch.tensor([prompt.input_ids for prompt in prompts().prompts])
    experts = [mixtral.anatomy.places(Component("expert", 1, unit))[0] for unit in range(EXPERTS)]
    (whole,) = mixtral.anatomy.places(Component("mlp", 1))
    layout = Layout(ids.shape[0], ids.shape[1], edited, read_at)
    recorded = record(mixtral, ids, [place.site for place in (*experts, whole)], layout, keep="streams")
    together = sum(recorded.values[place.site] for place in experts)
    torch.testing.assert_close(together, recorded.values[whole.site], atol=1e-5, rtol=0)

    def zeroed(name: str, places: Sequence[Place]) -> Intervention:
        return Intervention(name, 1, tuple(Edit(p, torch.zeros(PROMPTS, len(edited), p.width)) for p in places))

    read = directions(mixtral.network, mixtral.anatomy.tail, recorded.logits.argmax(-1))
    variants = [zeroed("experts", experts), zeroed("mlp.1", [whole])]
    before = run_interventions(mixtral, recorded, [], read, strategy=FromBlock())
    swept = run_interventions(
        mixtral, recorded, variants, read, strategy=FromBlock().at(1), routing=True, before=before
    )
    torch.testing.assert_close(swept.reads[1], swept.reads[2], atol=1e-5, rtol=0)
    assert swept.routing is not None
    torch.testing.assert_close(swept.routing.rerouted[1], swept.routing.rerouted[2], atol=1e-5, rtol=0)
    assert swept.routing.rerouted[1, :2].abs().max() < 1e-5  # at and before the knock-out
    assert (swept.routing.rerouted[1, 2].abs() > TOLERANCE).any()


@pytest.mark.parametrize("ablation", [hs.Mean(), hs.Noise()], ids=lambda ablation: ablation.name)
def test_other_ablations_take_experts_too(mixtral: hs.Model, ablation: Any) -> None:
    ds = run(mixtral, "expert.1.*", ablation, null_draws=0).dataset
    assert ds.attrs["closing_error"] < TOLERANCE
    assert (abs(ds["own_change"]) > TOLERANCE).any("prompt").all()


def test_an_expert_and_its_mlp_are_not_two_things(mixtral: hs.Model) -> None:
    with pytest.raises(ComponentError, match="something inside it"):
        run(mixtral, "mlp.1+expert.1.0")
    with pytest.raises(ComponentError, match=r"expert\.0\.0 to expert\.2\.3"):
        run(mixtral, "expert.1.4")
    with pytest.raises(ComponentError, match="no 'expert'"):
        run(open_model("llama"), "expert")


@pytest.mark.parametrize("how", ["never", "twice", "unrouted"])
@pytest.mark.parametrize("components", ["attn.0", "expert.1.0"])
@pytest.mark.parametrize("model_type", ["mixtral", "flex_olmo"])
def test_a_routing_that_is_not_seen_once_is_refused(
    monkeypatch: pytest.MonkeyPatch, model_type: str, components: str, how: str
) -> None:
    model = open_model(model_type)
    task = prepare(model, prompts(), hs.Zero(), hs.Options(target="top", null_draws=0, components=components))
    block = model.network.get_submodule(model.anatomy.experts[1].module.rsplit(".", 1)[0])

    def forward(states: Tensor) -> Tensor:
        hidden = states.reshape(-1, states.shape[-1])
        index, weight = torch.tensor([[0, 1]]).expand(len(hidden), 2), torch.ones(len(hidden), 2)
        if how == "never":
            return states
        if how == "twice":
            block.experts(hidden, index, weight)
            return block.experts(hidden, index, weight).view_as(states)
        return block.experts(hidden, index[:, :1], weight[:, :1]).view_as(states)

    monkeypatch.setattr(block, "forward", forward)
    with pytest.raises(HookDidNotFire):
        execute(task)


def test_the_split_is_booked_for_routed_mlps_behind_the_knock_out(ledger: Ledger) -> None:
    ds = ledger.dataset
    assert ds.attrs["routed_writers"] == '["mlp.0", "mlp.1", "mlp.2"]'
    routed = np.char.startswith(ds["writer"].values.astype(str), "mlp")
    free = ds["is_downstream"].values & routed
    for name in ("rerouted_change", "routing_change"):
        values = ds[name].values
        assert (values[:, ~free] == 0).all()
        assert (values[:, free] != 0).any()
    moved = ds["routing_change"].values
    assert ((moved >= 0) & (moved <= 1)).all()
    assert np.isclose(moved * ASKED * 2 % 1, 0).all()  # two draws
    changed = np.abs(ds["rerouted_change"].values) > TOLERANCE
    assert changed[:, free].mean() > 0.5  # weights change even where the same experts are asked


def test_models_without_routing_and_sums_by_kind_have_no_split(mixtral: hs.Model) -> None:
    by_kind = run(mixtral, "attn.0", detail="kinds", null_draws=0)
    dense = run(open_model("llama"), "attn.0", null_draws=0)
    for ds in (by_kind.dataset, dense.dataset):
        assert "rerouted_change" not in ds
        assert "routing_change" not in ds
        assert "routed_writers" not in ds.attrs
    with pytest.raises(DetailDropped):
        by_kind.routing()
    with pytest.raises(ComponentError, match="no MLP whose change can be split"):
        dense.routing()


@pytest.mark.parametrize("table_of", [routing, routing_totals])
def test_tables_are_what_a_plain_loop_finds(ledger: Ledger, table_of: Any) -> None:
    ds = ledger.dataset
    table = table_of(ds, resamples=50)
    expected: list[list[Any]] = []
    for name in ds["ablated"].values:
        cell = ds.sel(ablated=name)
        behind = [w for w in ds["writer"].values if w.startswith("mlp") and bool(cell["is_downstream"].sel(writer=w))]
        for group in [behind] if table_of is routing_totals else [[one] for one in behind]:
            if not group:
                continue
            some = cell.sel(writer=group)
            change, rerouted = some["change"].sum("writer"), some["rerouted_change"].sum("writer")
            moved = some["routing_change"].mean("writer")
            expected.append([str(name), *(float(v.mean()) for v in (change, change - rerouted, rerouted, moved))])
    assert list(table["ablated"]) == [row[0] for row in expected]
    found = table[["change", "same_experts", "rerouted", "routing_change"]].to_numpy()
    np.testing.assert_allclose(found, [row[1:] for row in expected], atol=1e-5)
    np.testing.assert_allclose(table["change"], table["same_experts"] + table["rerouted"], atol=1e-6)
    for name in ("change", "same_experts", "rerouted", "routing_change"):
        assert table[[f"{name}_lo", f"{name}_hi"]].isna().all(axis=None), "fewer than 6 prompts have no intervals"


def test_the_report_shows_the_split_only_where_there_is_one(ledger: Ledger, tmp_path: Any) -> None:
    page = ledger.report(tmp_path / "routed.html").read_text(encoding="utf-8")
    assert "Routing: the same experts, or others" in page
    assert 'id="routing-1"' in page
    assert 'id="routing-2"' in page
    last = Ledger(_without_answers(ledger.dataset)).report(tmp_path / "last.html").read_text(encoding="utf-8")
    assert "nothing that was knocked out has a routed MLP behind it" in last
    dense = run(open_model("llama"), "attn", null_draws=0).report(tmp_path / "dense.html").read_text(encoding="utf-8")
    assert "Routing: the same experts, or others" not in dense


def _without_answers(ds: xr.Dataset) -> xr.Dataset:
    return ds.sel(ablated=["mlp.2"])


def test_inspect_says_who_routes(mixtral: hs.Model) -> None:
    found = inspect(mixtral)
    assert found["capabilities"]["routing"].startswith("3, each asks 2 of 4 experts; their changes are split")
    assert "expert.0-2 x 4" in found["capabilities"]["components"]
    assert {"experts", "re-routing"} <= {check["name"] for check in found["proof"]}
    assert inspect(open_model("llama"))["capabilities"]["routing"] == ""
