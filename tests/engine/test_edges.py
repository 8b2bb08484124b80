"""Edges as knock-outs: the receiver sees the sender's ablated output, everybody else the clean one."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn
from transformers import PreTrainedModel

import hydrascope as hs
from hydrascope import run as tasks
from hydrascope.anatomy import Place, examine, hooked
from hydrascope.components import Component, Knockout, parse_knockouts
from hydrascope.engine import (
    AT_LAST_TOKEN,
    Engine,
    ExpandedCache,
    FromBlock,
    Layout,
    SharedPrefix,
    WholeSequence,
    _edges,
    choose_engine,
    edited_places,
    prove_edges,
    record,
    sender_places,
)
from hydrascope.engine._edges import edge_values
from hydrascope.engine._forward import Rows
from hydrascope.errors import AnatomyRefused, HookDidNotFire
from hydrascope.run._estimate import estimate
from tests.support.dealt import resample_table
from tests.support.families import FAMILIES, VOCABULARY, Family, build
from tests.support.reference import Part, Run, double_copy, reference_ledger, run

torch.set_num_threads(1)

TOLERANCE = 1e-4
LENGTHS, TARGETS, SEED = (7, 1, 7), (5, 11, 40), 7
GENERATOR = torch.Generator().manual_seed(6)
PROMPTS = [torch.randint(3, VOCABULARY, (n,), generator=GENERATOR).tolist() for n in LENGTHS]
KEPT = (0.5, 0.7, 0.9)
BY_HAND = ("gpt2", "gpt_neox", "gpt_neox_sequential", "gemma2", "llama", "granite", "phi", "bloom", "gptj", "shrinking")
IN_LEDGER = ("gpt2", "gpt_neox", "gemma2", "llama", "granite", "bloom")


@functools.cache
def network(name: str) -> PreTrainedModel:
    """`shrinking` is a granite, which scales what is written, with blocks that pass on less than they are given."""
    made = build("granite" if name == "shrinking" else name)
    if name == "shrinking":
        for block, share in zip(made.model.layers, KEPT, strict=True):
            block.register_forward_hook(lambda _, __, output, share=share: output * share)
    return made


def family(name: str) -> Family:
    return FAMILIES["granite" if name == "shrinking" else name]


@functools.cache
def model(name: str) -> hs.Model:
    return examine(network(name), None, name=name)


@functools.cache
def double(name: str) -> PreTrainedModel:
    return double_copy(network(name))


@functools.cache
def untouched(name: str, prompt: int) -> Run:
    return run(double(name), family(name), PROMPTS[prompt])


engine_of = functools.cache(lambda name, strategies=AT_LAST_TOKEN: choose_engine(model(name), strategies))


@pytest.fixture(autouse=True, scope="module")
def proved_once() -> Iterator[None]:
    """The engine's proof of each model is not what is tested here, and once is enough."""

    def choose(opened: hs.Model, strategies: Any = AT_LAST_TOKEN) -> Engine:
        return engine_of(opened.source.name, strategies)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hydrascope.run._task.choose_engine", choose)
        yield


def every_edge(name: str) -> list[Knockout]:
    """Heads, attention and MLPs on both sides, near and far, and inside a block where its MLP reads its attention."""
    text = "embed->attn.0,embed->mlp.2,embed->head.1.3,layer.0->mlp.1,layer.1->head.2.0,attn->attn.2,mlp->attn.2"
    text += ",attn->mlp.2,mlp.0->mlp.*,head.0.1->head.1-2.0-1,head.1.2->mlp.2,head.0.3->attn.1,attn.0->head.2.2"
    text += ",mlp.0->head.1.*,mlp.1->head.2.3"
    if not FAMILIES[name].parallel:
        text += ",attn.0->mlp.0,head.1.*->mlp.1"
    return parse_knockouts(text, model(name).anatomy.inventory)


def part(component: Component) -> Part:
    whole = component.kind, component.layer
    return whole if component.unit is None else (*whole, component.unit)


def written(sender: Part) -> list[Part]:
    """The writers that a sender is, or is a part of."""
    kinds = {"layer": ("attn", "mlp"), "head": ("attn",)}.get(sender[0], (sender[0],))
    return [(kind, sender[1]) for kind in kinds]


def patched_by_hand(name: str, prompt: int, donor: int, edge: Knockout) -> Tensor:
    """What the receiver writes when the residual stream it reads has changed by what the sender writes differently.

    Args:
        name: of the model.
        prompt: index of the prompt.
        donor: index of the one whose value the sender takes.
        edge: sender and receiver.
    """
    rows, slow, ids = family(name), double(name), PROMPTS[prompt]
    assert edge.sender is not None
    sender, receiver = part(edge.sender), part(edge.parts[0])
    clean, other = untouched(name, prompt), untouched(name, donor)
    block = receiver[1]
    if sender[0] == "embed":
        delta, left = other.embed - clean.embed, KEPT[:block]
    else:
        replaced = {p: other.values[p] for p in (written(sender) if sender[0] == "layer" else [sender])}
        ablated = run(slow, rows, ids, replaced)
        if sender[1] == block:
            assert receiver[0] == "mlp" and not rows.parallel
            return ablated.values[receiver]
        writes = [ablated.values[writer] - clean.values[writer] for writer in written(sender)]
        delta, left = rows.multiplier * torch.stack(writes).sum(0), KEPT[sender[1] : block]
    if name == "shrinking":
        delta = delta * prod(left)

    def disturb(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        state = (inputs[0] if inputs else named["hidden_states"]).clone()
        state[:, -1] += delta
        return ((state, *inputs[1:]), named) if inputs else (inputs, {**named, "hidden_states": state})

    held: dict[Part, Tensor] = {("attn", block): clean.values["attn", block]} if receiver[0] == "mlp" else {}
    handle = slow.get_submodule(rows.layers)[block].register_forward_pre_hook(disturb, with_kwargs=True)
    try:
        return run(slow, rows, ids, held).values[receiver]
    finally:
        handle.remove()


def values_of(name: str, knockouts: Sequence[Knockout], strategy: Any, size: int = 100) -> dict[Any, Any]:
    """What the engine finds for two prompts of one length that are each other's donors; draw 0 is their own value."""
    opened = model(name)
    places = [p for k in knockouts for p in (*edited_places(k, opened.anatomy), *sender_places(k, opened.anatomy))]
    ids = torch.tensor([PROMPTS[0], PROMPTS[2]])
    clean = record(opened, ids, list({p.site: None for p in places}), keep=strategy.keep)

    def donated(place: Place, draw: int) -> Tensor:
        return clean.values[place.site][..., place.span].roll(draw, 0)

    asked = [(knockout, draw) for knockout in knockouts for draw in (0, 1)]
    heard = edge_values(opened, clean, asked, donated, strategy, size)
    own = {k: [clean.values[p.site][:, 0, p.span] for p in edited_places(k, opened.anatomy)] for k in knockouts}
    at_last = {drawn: tuple(value[:, 0] for value in values) for drawn, values in heard.items()}
    return {**at_last, "own": own}


@pytest.mark.parametrize("name", BY_HAND)
def test_receivers_write_what_they_write_when_patched_by_hand(name: str) -> None:
    knockouts = every_edge("granite" if name == "shrinking" else name)
    found = values_of(name, knockouts, engine_of(name).strategy)
    for edge in knockouts:
        expected = patched_by_hand(name, 0, 2, edge)
        [value], [own] = found[edge, 1], found["own"][edge]
        np.testing.assert_allclose(value[0], expected, rtol=0, atol=TOLERANCE, err_msg=str(edge))
        assert float((value - own).abs().max()) > 1e-2, f"{edge} does nothing"


@pytest.mark.parametrize("name", BY_HAND)
def test_a_sender_that_is_its_own_donor_changes_nothing(name: str) -> None:
    knockouts = every_edge("granite" if name == "shrinking" else name)
    found = values_of(name, knockouts, engine_of(name).strategy)
    for edge in knockouts:
        np.testing.assert_allclose(found[edge, 0][0], found["own"][edge][0], rtol=0, atol=1e-5, err_msg=str(edge))


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "phi"])
def test_all_strategies_find_the_same(name: str) -> None:
    knockouts = every_edge(name)
    strategies = (SharedPrefix(), ExpandedCache(), WholeSequence())
    first, *others = (values_of(name, knockouts, strategy) for strategy in strategies)
    for other in others:
        for edge in knockouts:
            np.testing.assert_allclose(first[edge, 1][0], other[edge, 1][0], rtol=0, atol=1e-5, err_msg=str(edge))


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_whole_texts(name: str) -> None:
    """At the last position alone as the last-token engine; at all of them as a forward that replaces all of them."""
    opened, knockouts = model(name), every_edge(name)
    places = [p for k in knockouts for p in (*edited_places(k, opened.anatomy), *sender_places(k, opened.anatomy))]
    ids, sites = torch.tensor([PROMPTS[0], PROMPTS[2]]), list({p.site: None for p in places})
    last = ids.shape[1] - 1

    def heard(edited: tuple[int, ...]) -> dict[Any, Any]:
        clean = record(opened, ids, sites, Layout(ids.shape[0], ids.shape[1], edited, (last,)), keep="streams")

        def donated(place: Place, draw: int) -> Tensor:
            return clean.values[place.site][..., place.span].roll(draw, 0)

        return edge_values(opened, clean, [(k, 1) for k in knockouts], donated, FromBlock(), 100)

    alone, expected = heard((last,)), values_of(name, knockouts, WholeSequence())
    for edge in knockouts:
        np.testing.assert_allclose(alone[edge, 1][0][:, 0], expected[edge, 1][0], rtol=0, atol=1e-5)
    [edge] = parse_knockouts("attn.0->mlp.0", opened.anatomy.inventory)
    [sender], [receiver] = sender_places(edge, opened.anatomy), edited_places(edge, opened.anatomy)
    clean = record(opened, ids, sites, Layout(ids.shape[0], ids.shape[1], tuple(range(last + 1)), (last,)))
    seen: list[Tensor] = []
    with hooked() as hooks, torch.no_grad():
        flipped = clean.values[sender.site].roll(1, 0)
        hooks.on_output(opened.network.get_submodule(sender.site.module), "sender", lambda _: flipped)
        hooks.on_output(opened.network.get_submodule(receiver.site.module), "receiver", lambda y: seen.append(y))
        opened.network(input_ids=ids, use_cache=False)
    found = heard(tuple(range(ids.shape[1])))[edge, 1][0]
    np.testing.assert_allclose(found, seen[0], rtol=0, atol=1e-5)


def test_a_row_serves_all_receivers_of_its_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[int] = []
    push = SharedPrefix.run

    def counted(self: SharedPrefix, network: Any, clean: Any, variants: int) -> None:
        pushed.append(variants - 1)
        push(self, network, clean, variants)

    knockouts = parse_knockouts("head.0.*->head.1-2", model("gpt2").anatomy.inventory)
    assert len(knockouts) == 4 * 8
    monkeypatch.setattr(SharedPrefix, "run", counted)
    whole = values_of("gpt2", knockouts, SharedPrefix())
    assert pushed == [4 * 2]
    pieces = values_of("gpt2", knockouts, SharedPrefix(), size=3)
    assert pushed[1:] == [3, 3, 2]
    for edge in knockouts:
        np.testing.assert_allclose(whole[edge, 1][0], pieces[edge, 1][0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "phi"])
def test_groups_and_neurons_receive_as_what_they_are_parts_of(name: str) -> None:
    """A group is its heads; all neurons at once are what the MLP writes, without its bias."""
    anatomy = model(name).anatomy
    group, heads = (parse_knockouts(f"kv.0.1->{end}", anatomy.inventory) for end in ("kv.2.1", "head.2.2-3"))
    neurons, mlp = (parse_knockouts(f"head.0.0->{end}.1", anatomy.inventory) for end in ("neuron", "mlp"))
    found = values_of(name, [*group, *heads, *neurons, *mlp], engine_of(name).strategy)
    together = torch.cat([found[head, 1][0] for head in heads], -1)
    np.testing.assert_allclose(found[group[0], 1][0], together, rtol=0, atol=1e-6)
    assert float((together - found["own"][group[0]][0]).abs().max()) > 1e-4
    inside = torch.cat([found[neuron, 1][0] for neuron in neurons], -1)
    with torch.no_grad():
        write = model(name).network.get_submodule(anatomy.neuron_site(1).module)(inside)
    np.testing.assert_allclose(found[mlp[0], 1][0], write, rtol=0, atol=1e-5)
    assert float((write - found["own"][mlp[0]][0]).abs().max()) > 1e-3


def prompt_set() -> hs.PromptSet:
    rows = zip(PROMPTS, TARGETS, strict=True)
    return hs.PromptSet(
        "random",
        tuple(hs.Prompt(input_ids=tuple(ids), target_id=t, counterfactual_input_ids=tuple(ids)) for ids, t in rows),
    )


def ledger(name: str, components: str, ablation: Any = None, **more: Any) -> xr.Dataset:
    options = hs.Options(components=components, keep_wrong=True, seed=SEED, **{"null_draws": 0, **more})
    return hs.knock_out(model(name), prompt_set(), ablation=ablation or hs.Resample(donors=2), options=options).dataset


@pytest.mark.parametrize("name", IN_LEDGER)
def test_the_ledger_is_that_of_the_slow_loop(name: str) -> None:
    chosen = "head.0.1->head.2.3,mlp.0->attn.2,head.0.2->mlp.1"
    if not FAMILIES[name].parallel:
        chosen += ",attn.1->mlp.1"
    found = ledger(name, chosen)
    assert found["ablated"].values.tolist() == chosen.split(",")
    assert set(found["ablated_kind"].values) == {"edge"}
    donors = resample_table(PROMPTS, TARGETS, 2, SEED)
    for edge in parse_knockouts(chosen, model(name).anatomy.inventory):

        def value(_: Part, prompt: int, draw: int, edge: Knockout = edge) -> Tensor:
            return patched_by_hand(name, prompt, int(donors[draw, prompt]), edge)

        receiver = part(edge.parts[0])
        expected = reference_ledger(network(name), FAMILIES[name], PROMPTS, TARGETS, [(receiver,)], value, donors)
        here = found.sel(ablated=str(edge))
        assert int(here["ablated_layer"]) == receiver[1]
        np.testing.assert_allclose(here["change"], expected["change"][:, 0], rtol=0, atol=TOLERANCE, err_msg=str(edge))
        for what in ("own_change", "total_effect", "norm_effect", "log_prob_change", "kl"):
            np.testing.assert_allclose(here[what], expected[what][:, 0], rtol=0, atol=TOLERANCE, err_msg=str(edge))
        np.testing.assert_array_equal(here["is_own"], expected.own(0))
        assert float(np.abs(here["total_effect"]).max()) > 1e-3, f"{edge} does nothing"


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "gemma2", "shrinking", "bloom"])
def test_who_reads_first_reads_nothing_else(name: str) -> None:
    """What comes right behind a knock-out sees that and nothing else: it answers as if it alone were reached."""
    n = model(name).anatomy.n_layers
    parallel = model(name).anatomy.parallel
    pairs = [(f"attn.{i}", f"mlp.{i}") for i in range(n)] + [(f"mlp.{i}", f"attn.{i + 1}") for i in range(n - 1)]
    if parallel:
        ends = [(a, b, i) for a in ("attn", "mlp") for b in ("attn", "mlp") for i in range(n - 1)]
        pairs = [(f"{a}.{i}", f"{b}.{i + 1}") for a, b, i in ends]
    found = ledger(name, "attn,mlp," + ",".join(f"{a}->{b}" for a, b in pairs))
    for sender, receiver in pairs:
        expected = found["change"].sel(ablated=sender, writer=receiver)
        own = found["own_change"].sel(ablated=f"{sender}->{receiver}")
        np.testing.assert_allclose(own, expected, rtol=0, atol=1e-5, err_msg=f"{sender}->{receiver}")
        assert float(np.abs(expected).max()) > 1e-3
    last, reader = pairs[n - 1] if not parallel else pairs[-1]
    if not parallel:  # nothing else reads the last attention: the path through its MLP is all there is beside its own
        whole, path = found.sel(ablated=last), found.sel(ablated=f"{last}->{reader}")
        rest = whole["total_effect"] - whole["own_change"] - whole["norm_effect"]
        np.testing.assert_allclose(path["own_change"], rest, rtol=0, atol=1e-5)


def test_a_prompt_as_its_own_counterfactual_closes_at_zero() -> None:
    found = ledger("llama", "head.0->attn.2,attn.1->mlp.1,embed->kv.1.0", hs.Counterfactual())
    for what in ("change", "total_effect", "kl", "norm_effect"):
        np.testing.assert_allclose(found[what], 0, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [hs.Zero(), hs.Mean(), hs.Noise(donors=2)])
def test_every_ablation_reaches_the_sender(kind: Any) -> None:
    found = ledger("gpt2", "attn.0,attn.0->mlp.0", kind, null_draws=1)
    own = found["own_change"].sel(ablated="attn.0->mlp.0")
    np.testing.assert_allclose(own, found["change"].sel(ablated="attn.0", writer="mlp.0"), rtol=0, atol=1e-5)
    assert float(np.abs(found["null_total_effect"]).min()) > 0


def test_only_the_receiver_and_what_follows_it_can_move() -> None:
    found = ledger("gpt_neox", "attn.0->mlp.1,head.0.0->head.1.1")
    moved = (abs(found["change"]) > 0).any("prompt")
    for edge, own in (("attn.0->mlp.1", "mlp.1"), ("head.0.0->head.1.1", "attn.1")):
        here = moved.sel(ablated=edge)
        assert here["writer"].values[here.values].tolist() == [own, "attn.2", "mlp.2"]


def test_head_writers_keep_the_receiving_head_apart() -> None:
    found = ledger("llama", "head.0.1->head.1.2,attn.0->mlp.1", writers="heads")
    own = found["is_own"].sel(ablated="head.0.1->head.1.2")
    assert own["writer"].values[own.values].tolist() == ["head.1.2"]
    whole = ledger("llama", "head.0.1->head.1.2,attn.0->mlp.1")
    for what in ("own_change", "total_effect", "kl"):
        np.testing.assert_allclose(found[what], whole[what], rtol=0, atol=1e-5)


def test_a_small_budget_changes_nothing() -> None:
    chosen = "attn->mlp.2,head.0->head.2,neuron.0.0-1->neuron.1.0-1"
    large, small = (ledger("llama", chosen, null_draws=1, memory=memory) for memory in ("1GB", "600KB"))
    for what in ("change", "total_effect", "null_change", "change_sd"):
        np.testing.assert_allclose(small[what], large[what], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama", "gemma2", "phi", "shrinking"])
def test_who_sees_whom_is_what_the_anatomy_says(name: str) -> None:
    anatomy = model(name).anatomy
    parts = [k.parts[0] for k in parse_knockouts("attn,mlp,head,layer", anatomy.inventory)]
    for sender in parts:
        for receiver in parts:
            if receiver.kind != "layer":
                [writer] = anatomy.written_by(receiver)
                expected = anatomy.is_downstream(writer, sender)
                assert anatomy.inventory.sees(receiver, sender) == expected, f"{sender}->{receiver}"


class TestSabotage:
    """What would silently do nothing is refused."""

    def test_a_sender_that_is_not_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Rows, "_put", lambda self, tensor, site: tensor)
        with pytest.raises(HookDidNotFire, match="nothing was replaced at"):
            values_of("gpt2", parse_knockouts("attn.0->mlp.1", model("gpt2").anatomy.inventory), SharedPrefix())

    @pytest.mark.parametrize("edge", ["attn.0->mlp.2", "embed->attn.2"])
    def test_others_that_are_not_held(self, edge: str, monkeypatch: pytest.MonkeyPatch) -> None:
        made = _edges._Listening.__init__

        def free(self: Any, *args: Any) -> None:
            made(self, *args)
            self.held = {site: torch.zeros_like(held) for site, held in self.held.items()}

        knockouts = parse_knockouts(edge, model("gpt2").anatomy.inventory)
        prove_edges(model("gpt2"), SharedPrefix(), knockouts)
        monkeypatch.setattr(_edges._Listening, "__init__", free)
        with pytest.raises(AnatomyRefused, match="check 'edges' failed"):
            prove_edges(model("gpt2"), SharedPrefix(), knockouts)

    def test_a_run_asks_for_the_proof(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hydrascope.engine.proof._edges.edge_values", lambda *args: {})
        with pytest.raises(KeyError):
            ledger("gpt2", "attn.0->mlp.1")

    def test_the_model_is_left_as_it_was(self) -> None:
        before = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network("gpt2").modules())
        ledger("gpt2", "attn.0->mlp.1")
        after = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network("gpt2").modules())
        assert (before, model("gpt2").network.config._attn_implementation) == (after, "sdpa")


def test_an_estimate_counts_the_way_to_the_receiver() -> None:
    def flops(components: str) -> float:
        options = hs.Options(components=components, keep_wrong=True, null_draws=0)
        return estimate(tasks.prepare(model("llama"), prompt_set(), hs.Resample(donors=2), options)).flops

    last, near, far = (flops(text) for text in ("mlp.2", "attn.2->mlp.2", "embed->mlp.2"))
    assert last < near < far
    assert far - last == pytest.approx(3 * (near - last))
