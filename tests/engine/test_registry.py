"""Every causal language model of the library: anatomy proved, knock-outs held against plain float64 forwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hydrascope.anatomy import Place, directions
from hydrascope.components import RECEIVER_KINDS, UNIT_KINDS, Component, Knockout
from hydrascope.engine import Edit, Intervention, edited_places, record, run_interventions, sender_places
from hydrascope.engine._edges import edge_values
from tests.support import registry, status
from tests.support.plain import account, slow_copy

PROMPTS, CHECKED, TOKENS, TOLERANCE = 2, 1, 8, 1e-4  # the second prompt is the first one's donor
LEAST_FAMILIES = 110
TABLE = Path(__file__).parents[2] / "docs" / "families.md"


def knockouts(model) -> list[Knockout]:
    """One of each kind, first, middle and last, and a joint one."""
    units = model.anatomy.inventory.units
    found = []
    for kind, counts in units.items():
        layers = sorted(counts)
        some = {layers[0], layers[len(layers) // 2], layers[-1]} if kind in ("attn", "mlp", "mixer") else {layers[0]}
        unit = 0 if kind in UNIT_KINDS else None
        found += [Knockout((Component(kind, layer, unit),)) for layer in sorted(some)]
    writers = [writer.component for writer in model.anatomy.writers]
    found.append(Knockout((writers[0], writers[-1])))
    if experts := units.get("expert"):
        # which of them a token asks is not known here, so all of a block, and one that sees another residual state
        first, last = min(experts), max(experts)
        found += [Knockout((Component("expert", first, unit),)) for unit in range(1, experts[first])]
        found += [Knockout((writers[0], Component("expert", last, unit))) for unit in range(2) if last]
    return found


@pytest.fixture(scope="module")
def met() -> dict[str, status.Status]:
    """What this file has found so far."""
    return {}


@pytest.mark.parametrize("model_type", registry.model_types())
def test_family(model_type, met):
    found = status.meet(model_type)
    met[model_type] = found.status
    if found.model is None or found.engine is None:
        pytest.skip(f"{found.status.outcome}: {found.status.engine}")
    # a wrong annotation is a mistake of ours and no reason to leave a cheaper engine out
    assert not any("Type-check error" in reason for reason in found.engine.passed_over)
    hold_against_plain_forwards(found.model, found.engine)


def hold_against_plain_forwards(model, engine):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, registry.VOCABULARY, (PROMPTS, TOKENS), generator=generator)
    targets = torch.randint(3, registry.VOCABULARY, (PROMPTS,), generator=generator)
    chosen = knockouts(model)
    places = [edited_places(knockout, model.anatomy) for knockout in chosen]
    sites = list({p.site: None for some in places for p in some})
    clean = record(model, ids, sites, keep=engine.strategy.keep)
    variants = [
        Intervention(str(k), k.first_layer, tuple(Edit(p, clean.values[p.site][..., p.span].roll(1, 0)) for p in some))
        for k, some in zip(chosen, places, strict=True)
    ]
    read = directions(model.network, model.anatomy.tail, targets)
    swept = run_interventions(model, clean, variants, read, strategy=engine.strategy, routing=model.anatomy.routes)

    with torch.no_grad():
        untouched = model.network(input_ids=ids, use_cache=False).logits[:, -1]
    assert swept.distribution.probe is not None
    np.testing.assert_allclose(swept.distribution.probe, untouched, atol=TOLERANCE)

    slow = slow_copy(model.network)
    hold_edges_against_plain_forwards(model, engine, slow, ids)
    for prompt in range(CHECKED):
        vector, sigma = read.vectors[prompt].double(), float(swept.sigma[0, prompt])
        before = account(slow, model.anatomy, ids[prompt].tolist(), int(targets[prompt]))
        for row, variant in enumerate(variants, start=1):
            edits = [(edit.place, edit.value[prompt, 0]) for edit in variant.edits]
            after = account(slow, model.anatomy, ids[prompt].tolist(), int(targets[prompt]), edits)
            change = (swept.reads[row, 1:, prompt] - swept.reads[0, 1:, prompt]) / sigma
            expected = (after.writes - before.writes) @ vector / sigma
            np.testing.assert_allclose(change, expected, atol=TOLERANCE, err_msg=variant.name)
            total = swept.distribution.logit[row, prompt] - swept.distribution.logit[0, prompt]
            assert float(total) == pytest.approx(after.logit - before.logit, abs=TOLERANCE), variant.name
        if swept.routing is not None:
            hold_routing(model, slow, ids[prompt].tolist(), int(targets[prompt]), variants, swept, vector, prompt)


def hold_routing(model, slow, ids, target, variants, swept, vector, prompt):
    """What a forward calls re-routed is what a routed MLP no longer writes when its routing is held, one at a time."""
    order = [writer.component for writer in model.anatomy.writers]
    variant = [variant.name for variant in variants].index(str(order[0]))
    edits = [(edit.place, edit.value[prompt, 0]) for edit in variants[variant].edits]
    before = account(slow, model.anatomy, ids, target)
    after = account(slow, model.anatomy, ids, target, edits)
    for column, site in enumerate(model.anatomy.experts):
        routing = before.routings[site.module]
        held = account(slow, model.anatomy, ids, target, edits, {site.module: routing})
        row = order.index(Component("mlp", site.layer))
        expected = float((after.writes[row] - held.writes[row]) @ vector)
        assert float(swept.routing.rerouted[1 + variant, column, prompt]) == pytest.approx(expected, abs=TOLERANCE)
        chosen = after.routings[site.module][0].tolist()
        new = len(set(chosen) - set(routing[0].tolist())) / site.top_k
        assert float(swept.routing.moved[1 + variant, column, prompt]) == pytest.approx(new)


def edges(model) -> list[Knockout]:
    """From the embedding, between whole writers, between units of each kind, and inside the last block that has one."""
    anatomy = model.anatomy
    first, last = (anatomy.writers[i].component for i in (0, -1))
    inside = sorted(anatomy.reads, key=lambda pair: pair[0].layer)[-1:]
    ends = {kind: (min(counts), max(counts)) for kind, counts in anatomy.inventory.units.items() if kind in UNIT_KINDS}
    units = [
        (Component(kind, a, 0), Component(kind, b, 0) if kind in RECEIVER_KINDS else last)
        for kind, (a, b) in ends.items()
        if a < b
    ]
    return [Knockout((r,), s) for s, r in ((Component("embed"), last), (first, last), *inside, *units) if s != r]


def hold_edges_against_plain_forwards(model, engine, slow, ids):
    """The receiver's value is what it is when all writers but the sender and itself are put back by hand."""
    anatomy, chosen = model.anatomy, edges(model)
    places = [p for e in chosen for p in (*edited_places(e, anatomy), *sender_places(e, anatomy))]
    clean = record(model, ids, list({p.site: None for p in places}), keep=engine.strategy.keep)

    def donated(place: Place, draw: int) -> torch.Tensor:
        return clean.values[place.site][..., place.span].roll(1, 0)

    heard = edge_values(model, clean, [(edge, 0) for edge in chosen], donated, engine.strategy, len(chosen))
    for prompt in range(CHECKED):
        before = account(slow, anatomy, ids[prompt].tolist(), 0)
        for edge in chosen:
            sender, receiver = edge.sender, edge.parts[0]
            free = (*anatomy.written_by(sender), *anatomy.written_by(receiver))
            edits = [(place, donated(place, 0)[prompt, 0]) for place in anatomy.places(sender)]
            for writer in anatomy.writers:
                if writer.component not in free:
                    edits += [(p, before.values[str(p.site)]) for p in anatomy.places(writer.component)]
            watched = [(Place(p.site, 0, 0), torch.zeros(0)) for p in anatomy.places(receiver)]
            after = account(slow, anatomy, ids[prompt].tolist(), 0, [*edits, *watched])
            for place, value in zip(anatomy.places(receiver), heard[edge, 0], strict=True):
                expected = after.values[str(place.site)][place.span]
                np.testing.assert_allclose(value[prompt, 0], expected, rtol=0, atol=TOLERANCE, err_msg=str(edge))


def test_most_families_are_exact_and_the_docs_say_which(met):
    """Comes last in this file; with a part of the families it checks that part."""
    documented = {row[0]: row for row in status.read_table(TABLE.read_text())}
    found = {name: one.cells for name, one in met.items()}
    assert {name: documented.get(name) for name in found} == found, (
        "run: python -m tests.support.status --write docs/families.md"
    )
    assert sum(row[1] == "exact" for row in documented.values()) >= LEAST_FAMILIES
    assert set(documented) == set(registry.model_types())
