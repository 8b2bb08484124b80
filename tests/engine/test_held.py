"""Knock-outs in which other parts keep their clean values, against slow loops in float64 and by identities."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn
from transformers import PreTrainedModel

import hydrascope as hs
from hydrascope.anatomy import directions, examine
from hydrascope.components import Component, parse_knockouts
from hydrascope.engine import Positions, edited_places, frozen_places
from tests.engine.test_texts import plain
from tests.support.dealt import resample_table
from tests.support.families import FAMILIES, VOCABULARY, build
from tests.support.plain import slow_copy
from tests.support.positions import where
from tests.support.reference import Part, double_copy, reference_ledger, run

torch.set_num_threads(1)

TOLERANCE = 1e-4
LENGTHS, TARGETS, SEED = (7, 1, 7, 7), [5, 11, 40, 8], 7
GENERATOR = torch.Generator().manual_seed(6)
PROMPTS = [torch.randint(3, VOCABULARY, (n,), generator=GENERATOR).tolist() for n in LENGTHS]
HELD = "attn.0/attn.1,attn.0/mlp.1/attn.2,mlp.0/mlp.1-2,head.0.1/head.1.2/attn.2,attn.0+mlp.1/attn.2,layer.0/layer.1"
SOME = ("gpt2", "gpt_neox", "gemma2", "llama", "granite", "bloom")


@functools.cache
def network(name: str) -> PreTrainedModel:
    return build(name)


@functools.cache
def model(name: str) -> hs.Model:
    return examine(network(name), None, name=name)


def prompt_set(wanted: slice = slice(None)) -> hs.PromptSet:
    rows = zip(PROMPTS[wanted], TARGETS[wanted], strict=True)
    return hs.PromptSet(
        "random",
        tuple(hs.Prompt(input_ids=tuple(ids), target_id=t, counterfactual_input_ids=tuple(ids)) for ids, t in rows),
    )


def ledger(name: str, components: str, ablation: Any = None, wanted: slice = slice(None), **more: Any) -> xr.Dataset:
    options = hs.Options(components=components, keep_wrong=True, seed=SEED, **{"null_draws": 0, **more})
    return hs.knock_out(model(name), prompt_set(wanted), ablation=ablation or hs.Zero(), options=options).dataset


def part(component: Component) -> Part:
    whole = component.kind, component.layer
    return whole if component.unit is None else (*whole, component.unit)


def single(component: Component) -> list[Part]:
    """The writers or units that the slow loop replaces."""
    if component.kind == "layer":
        return [("attn", component.layer), ("mlp", component.layer)]
    return [part(component)]


@pytest.mark.parametrize("name", SOME)
def test_the_ledger_is_that_of_the_slow_loop(name: str) -> None:
    found = ledger(name, HELD, hs.Resample(donors=2))
    slow, donors = double_copy(network(name)), resample_table(PROMPTS, TARGETS, 2, SEED)
    clean = [run(slow, FAMILIES[name], prompt) for prompt in PROMPTS]
    assert found["ablated"].values.tolist()[:2] == ["attn.0/attn.1", "attn.0/mlp.1/attn.2"]
    assert set(found["ablated_kind"].values) == {"frozen"}
    for knockout in parse_knockouts(HELD, model(name).anatomy.inventory):
        held = {one for component in knockout.frozen for one in single(component)}
        parts = tuple(one for component in (*knockout.parts, *knockout.frozen) for one in single(component))

        def value(of: Part, prompt: int, draw: int, held: set[Part] = held) -> Tensor:
            return clean[prompt if of in held else int(donors[draw, prompt])].values[of]

        expected = reference_ledger(network(name), FAMILIES[name], PROMPTS, TARGETS, [parts], value, donors)
        here = found.sel(ablated=str(knockout))
        assert int(here["ablated_layer"]) == 0
        for what in ("own_change", "total_effect", "norm_effect", "log_prob_change", "kl"):
            if knockout.parts[0].kind != "head" or what != "own_change":
                right = expected[what][:, 0]
                np.testing.assert_allclose(here[what], right, rtol=0, atol=TOLERANCE, err_msg=f"{knockout}: {what}")
        np.testing.assert_allclose(
            here["change"], expected["change"][:, 0], rtol=0, atol=TOLERANCE, err_msg=str(knockout)
        )
        assert float(np.abs(here["total_effect"]).max()) > 1e-3, f"{knockout} does nothing"


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "gemma2", "llama"])
def test_whole_texts_are_held_at_the_edited_positions(name: str) -> None:
    edited, some = (1, 2, 6), slice(0, 3, 2)
    found = ledger(name, HELD, wanted=some, **where(Positions("1,2,-1")))
    opened, slow = model(name), slow_copy(network(name))
    for row, (ids, target) in enumerate(zip(PROMPTS[some], TARGETS[some], strict=True)):
        text = torch.tensor(ids)
        for knockout in parse_knockouts(HELD, opened.anatomy.inventory):
            held = frozen_places(knockout, opened.anatomy)
            seen = _values(slow, text, held)
            zeros = [(p, torch.zeros(len(edited), p.width)) for p in edited_places(knockout, opened.anatomy)]
            kept = [(p, seen[str(p.site)][list(edited), p.span]) for p in held]
            clean, after = (plain(slow, opened, text, edited, edits) for edits in ((), (*zeros, *kept)))
            read = directions(opened.network, opened.anatomy.tail, torch.tensor([target]))
            logits = [one[1][-1][target] - one[1][-1].mean() for one in (clean, after)]
            here = found.sel(ablated=str(knockout)).isel(prompt=row)
            assert float(here["total_effect"]) == pytest.approx(float(logits[1] - logits[0]), abs=TOLERANCE)
            before, now = ((one[0][-1] @ read.vectors[0].double()).numpy() for one in (clean, after))
            inside = here.isel(writer=slice(1, -1))
            sigma = before.sum() / float(inside["direct_effect"].sum())
            right = (now - before) / sigma
            np.testing.assert_allclose(inside["change"], right, rtol=0, atol=TOLERANCE, err_msg=str(knockout))


@pytest.mark.parametrize("writers", ["layers", "heads"])
@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "gemma2", "llama"])
def test_a_frozen_part_moves_where_it_is_read_but_not_frozen(name: str, writers: str) -> None:
    edited, row = (0, 3, 6), 0
    scope = {"positions": "0,3,-1", "read": "each", "skip": 0}
    found = ledger(name, "attn.0/attn.2", wanted=slice(0, 3, 2), writers=writers, split_attention=True, **scope)
    opened, slow, text = model(name), slow_copy(network(name)), torch.tensor(PROMPTS[row])
    [knockout] = parse_knockouts("attn.0/attn.2", opened.anatomy.inventory)
    held = frozen_places(knockout, opened.anatomy)
    seen = _values(slow, text, held)
    zeros = [(p, torch.zeros(len(edited), p.width)) for p in edited_places(knockout, opened.anatomy)]
    kept = [(p, seen[str(p.site)][list(edited), p.span]) for p in held]
    clean, after = (plain(slow, opened, text, edited, edits) for edits in ((), (*zeros, *kept)))
    frozen, targets = found["writer_layer"] == 2, text[1:]
    frozen &= found["writer_kind"].isin(["attn", "bias"]) & (found["writer"] != "bias.mlp.2")
    read = directions(opened.network, opened.anatomy.tail, targets)
    writes = (after[0] - clean[0])[:-1, [w.component == Component("attn", 2) for w in opened.anatomy.writers]]
    moved, stream = writes.sum(1), _final_streams(slow, opened, text)[:-1]
    sigma = opened.anatomy.tail.sigma(stream)
    expected = ((moved * read.vectors.double()).sum(-1) / sigma).numpy()
    here = found.isel(ablated=0, prompt=slice(0, len(text) - 1))
    logits = [one[1][:-1] - one[1][:-1].mean(-1, keepdim=True) for one in (clean, after)]
    total = (logits[1] - logits[0])[torch.arange(len(targets)), targets]
    np.testing.assert_allclose(here["total_effect"], total, rtol=0, atol=TOLERANCE)
    change = here["change"].isel(writer=frozen.values).sum("writer").values
    still = np.isin(np.arange(len(targets)), edited)
    np.testing.assert_array_equal(change[still], 0)
    np.testing.assert_allclose(change, expected, rtol=0, atol=TOLERANCE)
    assert np.abs(change[~still]).max() > 1e-3, "it moves where it is not frozen"
    assert found["is_downstream"].isel(ablated=0, writer=frozen.values).any()


def _final_streams(slow: Any, opened: hs.Model, text: Tensor) -> Tensor:
    """What the final norm takes at every position of an untouched text."""
    seen: list[Tensor] = []
    norm = slow.get_submodule(opened.anatomy.tail.norm)
    handle = norm.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    with torch.no_grad():
        slow(input_ids=text[None], use_cache=False)
    handle.remove()
    return seen[-1]


def _values(slow: Any, text: Tensor, places: Any) -> dict[str, Tensor]:
    """What some modules take or return on a text, untouched."""
    seen: dict[str, Tensor] = {}
    handles = []
    for site in {place.site for place in places}:
        module = slow.get_submodule(site.module)

        def after(_: nn.Module, __: Any, output: Any, site: Any = site) -> None:
            seen[str(site)] = (output[0] if isinstance(output, tuple) else output).reshape(len(text), -1).clone()

        def before(_: nn.Module, args: Any, site: Any = site) -> None:
            seen[str(site)] = args[0].reshape(len(text), -1).clone()

        hook = module.register_forward_pre_hook(before) if site.side == "input" else module.register_forward_hook(after)
        handles.append(hook)
    with torch.no_grad():
        slow(input_ids=text[None], use_cache=False)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("scope", [Positions(), Positions("all")])
@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "gemma2"])
def test_who_is_held_cannot_move_and_all_held_leaves_the_own_change(name: str, scope: Positions) -> None:
    n = FAMILIES[name].n_layers - 1
    behind, ending = f"/attn.1-{n}/mlp.1-{n}" + ("" if FAMILIES[name].parallel else "/mlp.0"), f"mlp.{n}"
    found = ledger(name, f"attn.0,attn.0{behind},attn.0/{ending},attn.0/attn.1", **where(scope))
    alone, rest = found.isel(ablated=0), found.isel(ablated=1)
    assert not rest["is_downstream"].any()
    np.testing.assert_array_equal(rest["change"].values[:, ~rest["is_own"].values], 0)
    np.testing.assert_allclose(rest["own_change"], alone["own_change"], rtol=0, atol=1e-5)
    left = rest["own_change"] + rest["norm_effect"]
    np.testing.assert_allclose(rest["total_effect"], left, rtol=0, atol=TOLERANCE)
    last = found.isel(ablated=2)
    assert float(last["change"].sel(writer=ending).max()) == 0
    others = [writer for writer in found["writer"].values if writer != ending]
    np.testing.assert_allclose(last["change"].sel(writer=others), alone["change"].sel(writer=others), rtol=0, atol=1e-5)
    middle = found.isel(ablated=3)
    assert not (middle["is_own"] | middle["is_downstream"]).sel(writer="attn.1")
    assert float(abs(middle["change"] - alone["change"]).sel(writer=ending).max()) > 1e-4


@pytest.mark.parametrize(("writers", "held"), [("heads", "attn.2"), ("neurons", "mlp.1"), ("heads", "head.1.2")])
@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_units_of_a_held_writer_do_not_move(name: str, writers: str, held: str) -> None:
    whole, apart = (ledger(name, f"attn.0/{held}", writers=kind) for kind in ("layers", writers))
    for what in ("own_change", "total_effect", "norm_effect", "kl"):
        np.testing.assert_allclose(apart[what], whole[what], rtol=0, atol=TOLERANCE)
    kind, layer, *unit = held.split(".")
    inside = apart["writer_layer"] == int(layer)
    inside &= apart["writer_kind"] == kind.replace("head", "attn")
    if unit:
        inside &= apart["writer_unit"] == int(unit[0])
    still = np.abs(apart["change"].isel(writer=inside.values)).max()
    assert inside.any()
    assert float(still) == 0 if not unit or name == "gpt2" else float(still) > 0  # behind a post-norm


@pytest.mark.parametrize(
    "components", ["attn.0/kv.1.0", "attn.0/neuron.1.3", "head.0/attn.1", "attn.0+mlp.1/head.2.0-1"]
)
def test_groups_neurons_and_sets_are_held_too(components: str) -> None:
    found = ledger("llama", components, null_draws=1)
    assert float(np.abs(found["total_effect"]).max()) > 1e-4
    knockouts = parse_knockouts(components, model("llama").anatomy.inventory)
    assert found["ablated"].values.tolist() == list(map(str, knockouts))


def test_experts_are_held_too() -> None:
    every = "/".join(f"expert.2.{i}" for i in range(4))
    found = ledger("mixtral", f"attn.0/attn.1/mlp.2,attn.0/attn.1/{every}")
    first, second = (found["change"].isel(ablated=i).sel(writer="mlp.2") for i in (0, 1))
    np.testing.assert_allclose(second, first, rtol=0, atol=1e-5)


def test_a_prompt_as_its_own_counterfactual_closes_at_zero() -> None:
    found = ledger("llama", "head.0.0/attn.2,attn.1/mlp.1,layer.0/kv.1.0", hs.Counterfactual())
    for what in ("change", "total_effect", "kl", "norm_effect"):
        np.testing.assert_allclose(found[what], 0, rtol=0, atol=1e-5)


def test_a_part_that_is_not_held_does_not_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydrascope.engine._plan.frozen_places", lambda *args: ())
    with pytest.raises(hs.HydrascopeError, match=r"attn\.0/attn\.1 .* does not close") as refused:
        ledger("gpt2", "attn.0/attn.1")
    assert "--dtype float32" not in str(refused.value), "it is float32"
