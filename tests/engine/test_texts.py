"""Whole texts: replaced at many positions, read at many, equal to plain float64 forwards."""

from __future__ import annotations

import functools
from dataclasses import replace
from functools import partial
from math import ceil

import numpy as np
import pytest
import torch
from torch import Tensor

import hydrascope as hs
from hydrascope.anatomy import Model, directions, examine, hooked
from hydrascope.components import Component, Knockout, parse_knockouts
from hydrascope.engine import (
    OF_WHOLE_TEXTS,
    Edit,
    FromBlock,
    Intervention,
    Layout,
    Plan,
    choose_engine,
    edited_places,
    prove_engine,
    record,
    run_interventions,
)
from hydrascope.engine.proof._engine import _left_on
from hydrascope.errors import HookDidNotFire
from tests.support import registry
from tests.support.families import FAMILIES, VOCABULARY, build
from tests.support.plain import slow_copy
from tests.support.reference import DoubleEverywhere

TOLERANCE = 1e-4
TEXTS, TOKENS = 2, 9  # beyond the sliding windows
ADDS_INSIDE = ("bloom",)
"""Families whose attention adds the residual stream itself, so that it cannot be entered at its projection."""
SCOPES = {"all": (tuple(range(TOKENS)), tuple(range(TOKENS - 1))), "some": ((1, 2, 6), (0, 4, 6, 8))}


@functools.cache
def opened(name: str) -> Model:
    return examine(build(name), None, name=name)


def ids(texts: int = TEXTS, tokens: int = TOKENS) -> Tensor:
    return torch.randint(3, VOCABULARY, (texts, tokens), generator=torch.Generator().manual_seed(3))


def knockouts(model: Model) -> list[Knockout]:
    writers = [writer.component for writer in model.anatomy.writers]
    parts = [writers[0], writers[1], writers[-2], writers[-1], Component("layer", 1)]
    if model.anatomy.heads:
        parts += [Component("head", 1, 0), Component("head", model.anatomy.heads[-1].layer, 1)]
    if model.anatomy.neurons:
        parts.append(Component("neuron", 1, 5))
    return [*(Knockout((part,)) for part in parts), Knockout((writers[0], writers[-1]))]


def plain(slow, model: Model, text: Tensor, edited, edits=()) -> tuple[Tensor, Tensor]:
    """Writes [tokens, writers, d] and logits [tokens, vocab] of one text, by plain hooks at every position."""
    seen: dict[str, Tensor] = {}
    handles = []

    def replaced(tensor: Tensor, name: str) -> Tensor:
        tensor = tensor.clone(memory_format=torch.contiguous_format)
        for place, value in edits:
            if str(place.site) == name:
                tensor.view(len(text), -1)[list(edited), place.span] = value.to(tensor)
        seen[name] = tensor.reshape(len(text), -1).clone()
        return tensor

    def watch(path: str, side: str) -> None:
        name, module = f"{path}@{side}", slow.get_submodule(path)

        def after(_, __, output):
            if isinstance(output, tuple):
                return (replaced(output[0], name), *output[1:])
            return replaced(output, name)

        def before(_, args):
            return (replaced(args[0], name), *args[1:])

        handles.append(
            module.register_forward_pre_hook(before) if side == "input" else module.register_forward_hook(after)
        )

    for path in {path for writer in model.anatomy.writers for path in writer.modules}:
        watch(path, "output")
    for path in {place.site.module for place, _ in edits if place.site.side == "input"}:
        watch(path, "input")
    head = slow.get_submodule(model.anatomy.tail.head)
    handles.append(head.register_forward_hook(lambda _, __, y: seen.__setitem__("logits", y[0].clone())))
    try:
        with torch.no_grad(), DoubleEverywhere():
            slow(input_ids=text[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    writes = [
        torch.stack([g * seen[f"{path}@output"] for path, g in zip(writer.modules, writer.gains, strict=True)]).sum(0)
        for writer in model.anatomy.writers
    ]
    return torch.stack(writes, 1), seen["logits"].double() * model.anatomy.tail.scale


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_texts_agree_with_plain_float64_forwards(name: str, scope: str) -> None:
    model, (edited, read) = opened(name), SCOPES[scope]
    engine = choose_engine(model, OF_WHOLE_TEXTS)
    assert engine.strategy == FromBlock(enters=name not in ADDS_INSIDE)
    chosen = knockouts(model)
    places = [edited_places(knockout, model.anatomy) for knockout in chosen]
    sites = list({p.site: None for some in places for p in some})
    recorded = record(model, ids(), sites, Layout(ids().shape[0], ids().shape[1], edited, read), keep="streams")
    values = recorded.values
    targets = torch.randint(3, VOCABULARY, (TEXTS * len(read),), generator=torch.Generator().manual_seed(4))
    directed = directions(model.network, model.anatomy.tail, targets)
    before = run_interventions(model, recorded, [], directed, strategy=engine.strategy)
    slow = slow_copy(model.network)
    clean = [plain(slow, model, text, edited) for text in ids()]
    for knockout, some in zip(chosen, places, strict=True):
        edits = tuple(Edit(p, values[p.site][..., p.span].roll(1, 0)) for p in some)
        variant = Intervention(str(knockout), knockout.first_layer, edits)
        strategy = engine.strategy.at(knockout.first_layer)
        swept = run_interventions(
            model, recorded, [variant], directed, strategy=strategy, with_clean_logits=False, before=before
        )
        changes = (swept.reads[1, 1:] - swept.reads[0, 1:]) / swept.sigma[0]
        totals = swept.distribution.logit[1] - swept.distribution.logit[0]
        for t in range(TEXTS):
            after = plain(slow, model, ids()[t], edited, [(e.place, e.value[t]) for e in edits])
            for r, position in enumerate(read):
                item = t * len(read) + r
                vector = directed.vectors[item].double() / float(before.sigma[0, item])
                expected = (after[0][position] - clean[t][0][position]) @ vector
                np.testing.assert_allclose(changes[:, item], expected, atol=TOLERANCE, err_msg=str(knockout))
                logit = [x[1][position][targets[item]] - x[1][position].mean() for x in (clean[t], after)]
                assert float(totals[item]) == pytest.approx(float(logit[1] - logit[0]), abs=TOLERANCE)


@pytest.mark.parametrize("name", ["mamba", "jamba", "bloom", "gemma4_text", "falcon_h1", "deepseek_v3", "gpt_neo"])
def test_families_outside_the_attention_interface_are_proved_too(name: str) -> None:
    model = examine(registry.build(name), None, name=name)
    engine = choose_engine(model, OF_WHOLE_TEXTS)
    assert all(check.passed for check in engine.checks)
    assert engine.strategy == FromBlock(enters=name not in ADDS_INSIDE)


def test_where_blocks_cannot_be_left_out_all_are_passed_through(monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened("qwen2")
    layers = model.network.get_submodule("model.layers")
    kept: list[Tensor] = []
    monkeypatch.setattr(layers[0].mlp, "forward", _remembering(layers[0].mlp.forward, kept))
    monkeypatch.setattr(layers[2].mlp, "forward", _needing(layers[2].mlp.forward, kept))
    engine = choose_engine(model, OF_WHOLE_TEXTS)
    assert engine.strategy == FromBlock(skips=False)
    passed_over = [name.split(":")[0] for name in engine.passed_over]
    assert passed_over == [FromBlock().name, FromBlock(enters=False).name]


def _remembering(forward, kept):
    """An MLP that leaves something behind for a later block."""

    def call(x):
        kept.append(x)
        return forward(x)

    return call


def _needing(forward, kept):
    def call(x):
        return forward(x + 0.0 * kept.pop())

    return call


def test_blocks_are_themselves_again_after_an_error_inside_a_push() -> None:
    model = opened("gpt2")
    recorded = record(model, ids(), layout=Layout(ids().shape[0], ids().shape[1], (1, 2), (3,)), keep="streams")
    directed = directions(model.network, model.anatomy.tail, torch.tensor([5, 6]))
    before = run_interventions(model, recorded, [], directed, strategy=FromBlock())
    hooks = _left_on(model)
    site = model.anatomy.places(Component("attn", 2))[0]
    wrong = Intervention("attn.2", 2, (Edit(site, torch.zeros(2, 5, site.width)),))  # five values for two positions
    with pytest.raises(RuntimeError):
        run_interventions(model, recorded, [wrong], directed, strategy=FromBlock(first_block=2), before=before)
    assert _left_on(model) == hooks
    blocks = [model.network.get_submodule(path) for path in model.anatomy.layers]
    assert not any("forward" in block.__dict__ for block in blocks)


def test_a_wrong_stream_is_found() -> None:
    model = opened("llama")
    assert all(check.passed for check in prove_engine(model, FromBlock()))

    class Wrong(FromBlock):
        def run(self, network, clean, rows):
            doubled = tuple(2 * x for x in clean.streams.returned)
            super().run(network, replace(clean, streams=replace(clean.streams, returned=doubled)), rows)

        def at(self, block: int, *, watched: bool = False) -> FromBlock:
            return Wrong(first_block=block)

    failed = {check.name for check in prove_engine(model, Wrong()) if not check.passed}
    assert {"plain loop", "self donor"} <= failed


def test_an_edit_that_does_not_happen_is_refused() -> None:
    model = opened("llama")
    recorded = record(model, ids(), layout=Layout(ids().shape[0], ids().shape[1], (1, 2), (3,)), keep="streams")
    directed = directions(model.network, model.anatomy.tail, torch.tensor([5, 6]))
    before = run_interventions(model, recorded, [], directed, strategy=FromBlock())
    site = model.anatomy.places(Component("attn", 0))[0]
    lost = Intervention("attn.0", 2, (Edit(site, torch.zeros(2, 2, site.width)),))  # a block that the push leaves out
    with pytest.raises(HookDidNotFire):
        run_interventions(model, recorded, [lost], directed, strategy=FromBlock(first_block=2), before=before)


def test_a_wrong_entrance_is_found() -> None:
    model = opened("llama")

    class Wrong(FromBlock):
        def run(self, network, clean, rows):
            doubled = {layer: replace(at, inside=2 * at.inside) for layer, at in clean.streams.entrances.items()}
            super().run(network, replace(clean, streams=replace(clean.streams, entrances=doubled)), rows)

    failed = {check.name for check in prove_engine(model, Wrong()) if not check.passed}
    assert failed == {"plain loop", "self donor"}


@pytest.mark.parametrize(("dtype", "along"), [(torch.float32, 0), (torch.bfloat16, 1)])
def test_a_push_does_only_what_it_must(dtype: torch.dtype, along: int) -> None:
    """From attention's projection on, without the clean run where rows of other pushes round alike."""
    model = examine(build("llama").to(dtype), None, name="llama")
    site = model.anatomy.places(Component("attn", 1))[0]
    recorded = record(model, ids(), layout=Layout(ids().shape[0], ids().shape[1], (1, 2), (3,)), keep="streams")
    directed = directions(model.network, model.anatomy.tail, torch.tensor([5, 6]))
    before = run_interventions(model, recorded, [], directed, strategy=FromBlock())
    edit = Edit(site, torch.zeros(TEXTS, 2, site.width))
    rows: dict[str, int] = {}

    def note(path: str, x: Tensor, _: object) -> None:
        rows[path] = len(x)

    layers = model.network.get_submodule("model.layers")
    with hooked() as hooks:
        for name in ("self_attn.q_proj", "self_attn.o_proj", "mlp"):
            for number, block in enumerate(layers):
                path = f"{number}.{name}"
                hooks.on_call(block.get_submodule(name), partial(note, path))
        variants = [Intervention("attn.1", 1, (edit,))] * 3
        run_interventions(model, recorded, variants, directed, strategy=FromBlock().at(1), before=before)
    assert set(rows.values()) == {(3 + along) * TEXTS}
    assert not [path for path in rows if path.startswith("0.")] and "1.self_attn.q_proj" not in rows
    assert {"1.self_attn.o_proj", "1.mlp", "2.self_attn.q_proj"} <= set(rows)


def test_pushes_by_block_do_every_job_once_and_begin_in_one_block() -> None:
    model = opened("gpt2")
    found = tuple(parse_knockouts("head,layer,mlp", model.anatomy.inventory))
    plan = Plan(model.anatomy, found, hs.Resample(donors=3), np.zeros((3, 1), dtype=int), null_draws=2, seed=0)
    for size in (1, 2, 5, 6, 7, 1000):
        pushes = list(plan.schedule(size, by_block=True))
        assert sorted(job for push in pushes for job in push) == sorted(
            job for push in plan.schedule(7, by_block=False) for job in push
        )
        for push in pushes:
            assert len({(found[job.knockout].first_layer, job.null) for job in push}) == 1
        for block in {(found[push[0].knockout].first_layer, push[0].null) for push in pushes}:
            lengths = [len(p) for p in pushes if (found[p[0].knockout].first_layer, p[0].null) == block]
            assert max(lengths) <= size and lengths == sorted(lengths, reverse=True)
            assert all(length == lengths[0] for length in lengths[:-1])
            assert len(lengths) == ceil(sum(lengths) / size), "no more pushes than it takes"
            assert lengths[0] == ceil(sum(lengths) / len(lengths)), "and none much smaller than the others"


def test_pushes_are_full_and_go_from_real_to_null_and_from_shallow_to_deep() -> None:
    model = opened("gpt2")
    found = tuple(parse_knockouts("mlp,head,layer", model.anatomy.inventory))
    plan = Plan(model.anatomy, found, hs.Resample(donors=3), np.zeros((3, 1), dtype=int), null_draws=2, seed=0)
    pushes = list(plan.schedule(7, by_block=False))
    for null in (False, True):
        mine = [push for push in pushes if push[0].null == null]
        assert all(len(push) == 7 for push in mine[:-1])
        assert all(job.null == null for push in mine for job in push)
    jobs = [job for push in pushes for job in push]
    assert len(set(jobs)) == len(jobs) == plan.interventions == len(found) * (3 + 2)
    order = [(job.null, found[job.knockout].first_layer) for job in jobs]
    assert order == sorted(order)
