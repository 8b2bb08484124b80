"""Addresses of components: every form that is read, every mistake that is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydrascope.components import (
    UNIT_KINDS,
    WRITER_KINDS,
    Component,
    Inventory,
    Knockout,
    check_addresses,
    parse_component,
    parse_knockouts,
)
from hydrascope.errors import ComponentError

INVENTORY = Inventory(
    units={
        "attn": {0: 1, 1: 1, 3: 1},  # block 2 has no attention
        "mlp": dict.fromkeys(range(4), 1),
        "layer": dict.fromkeys(range(4), 1),
        "head": {0: 4, 1: 4, 3: 2},
        "mixer": {},
    },
    reads=frozenset({(Component("attn", 1), Component("mlp", 1))}),  # block 1 is sequential, the others are parallel
)

numbers = st.integers(0, 300)
writers = st.builds(Component, st.sampled_from([*WRITER_KINDS, "layer"]), numbers)
units = st.builds(Component, st.sampled_from(sorted(UNIT_KINDS)), numbers, numbers)
components = st.one_of(st.just(Component("embed")), writers, units)


@given(components)
def test_what_is_printed_is_read_back(component: Component) -> None:
    assert parse_component(str(component)) == component
    assert parse_component(f"  {component}\t") == component


@given(st.lists(st.one_of(writers, units), min_size=1, max_size=4, unique=True))
def test_a_joint_knockout_is_read_back_in_whatever_order_it_is_written(parts: list[Component]) -> None:
    sizes: dict[str, dict[int, int]] = {}
    for part in parts:
        known = sizes.setdefault(part.kind, {})
        known[part.layer] = max(known.get(part.layer, 0), (part.unit or 0) + 1)
    [knockout] = parse_knockouts("+".join(map(str, parts)), Inventory(sizes))
    assert sorted(knockout.parts) == sorted(parts)
    assert [part.layer for part in knockout.parts] == sorted(part.layer for part in parts)
    reverse = "+".join(map(str, reversed(parts)))
    assert parse_knockouts(f"{knockout},{reverse}", Inventory(sizes)) == [knockout]
    assert knockout.first_layer == min(part.layer for part in parts)
    assert knockout.kind == (parts[0].kind if len(parts) == 1 else "joint")


@given(st.text(alphabet="aLlHhNnEem.0123-*+ ", max_size=8))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        found = parse_component(text)
    except ComponentError:
        return
    assert parse_component(str(found)) == found


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("L5H3", "head.5.3"),
        ("l5h3", "head.5.3"),
        ("L05H03", "head.5.3"),
        ("L12N3071", "neuron.12.3071"),
        ("L5E2", "expert.5.2"),
        ("a5", "attn.5"),
        ("m11", "mlp.11"),
        ("kv.5.1", "kv.5.1"),
        ("mixer.2", "mixer.2"),
    ],
)
def test_short_forms(short: str, long: str) -> None:
    assert str(parse_component(short)) == long


@pytest.mark.parametrize(
    "text",
    ["", "attn", "attn.", "attn.x", "attn.-1", "attn.1.2", "head.1", "head.1.2.3", "embed.0", "L5", "L5H", "5.3",
     "Attn.5", "attn.1.", "attn.¹", "attn.٣", "head.²,1"],
)  # fmt: skip
def test_no_address(text: str) -> None:
    with pytest.raises(ComponentError, match="is not a component address; write for example attn"):
        parse_component(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("attn", "attn.0 attn.1 attn.3"),
        ("attn.*", "attn.0 attn.1 attn.3"),
        ("mlp.1-2", "mlp.1 mlp.2"),
        ("mlp.2-2", "mlp.2"),
        ("layer.3", "layer.3"),
        ("head", "head.0.0 head.0.1 head.0.2 head.0.3 head.1.0 head.1.1 head.1.2 head.1.3 head.3.0 head.3.1"),
        ("head.3", "head.3.0 head.3.1"),
        ("head.3.*", "head.3.0 head.3.1"),
        ("head.0-1.2-3", "head.0.2 head.0.3 head.1.2 head.1.3"),
        ("head.*.1", "head.0.1 head.1.1 head.3.1"),
        ("head.1.2", "head.1.2"),
        ("L1H2", "head.1.2"),
        ("attn.1,mlp.1", "attn.1 mlp.1"),
        (" attn.1 , mlp.1 ,", "attn.1 mlp.1"),
        ("attn.1,attn,a1", "attn.1 attn.0 attn.3"),
        ("attn.0+attn.1", "attn.0+attn.1"),
        ("attn.0 + L1H2, mlp.3", "attn.0+head.1.2 mlp.3"),
        ("head.0.1->head.3.0", "head.0.1->head.3.0"),
        (" L0H1 -> m3 ,a0", "head.0.1->mlp.3 attn.0"),
        ("attn.0->mlp.3,a0->m3", "attn.0->mlp.3"),
        ("attn->mlp.1", "attn.0->mlp.1 attn.1->mlp.1"),  # attn.3 comes too late
        (
            "head.0-1.1->mlp",
            "head.0.1->mlp.1 head.0.1->mlp.2 head.0.1->mlp.3 head.1.1->mlp.1 head.1.1->mlp.2 head.1.1->mlp.3",
        ),
        ("attn.1->head.3.*", "attn.1->head.3.0 attn.1->head.3.1"),
        ("layer.0->attn", "layer.0->attn.1 layer.0->attn.3"),
        ("embed->mlp.0-1", "embed->mlp.0 embed->mlp.1"),
        ("attn.0/attn.1", "attn.0/attn.1"),
        (" a0 / L3H1/m1 ,attn.1", "attn.0/mlp.1/head.3.1 attn.1"),
        ("attn.0/attn.3/attn.1-1,attn.0/attn.1/a3", "attn.0/attn.1/attn.3"),
        ("attn.0-1/mlp.2-3", "attn.0/mlp.2/mlp.3 attn.1/mlp.2/mlp.3"),
        ("attn.1+mlp.0/mlp.1", "mlp.0+attn.1/mlp.1"),
        ("head.0.1/head.3", "head.0.1/head.3.0/head.3.1"),
    ],
)
def test_sets(text: str, expected: str) -> None:
    assert list(map(str, parse_knockouts(text, INVENTORY))) == expected.split()


def test_an_edge_is_a_knockout_of_its_receiver() -> None:
    [edge] = parse_knockouts("head.0.1->mlp.3", INVENTORY)
    assert edge == Knockout((Component("mlp", 3),), sender=Component("head", 0, 1))
    assert (edge.kind, edge.first_layer) == ("edge", 3)


def test_what_is_frozen_is_no_part_of_what_is_knocked_out() -> None:
    [found] = parse_knockouts("attn.1/mlp.3/mlp.2", INVENTORY)
    assert found == Knockout((Component("attn", 1),), frozen=(Component("mlp", 2), Component("mlp", 3)))
    assert (found.kind, found.first_layer) == ("frozen", 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' names no component"),
        (" , ", "names no component"),
        ("attn.9", "this model has no component 'attn.9'; it has attn.0 to attn.3"),
        ("attn.2", "this model has no component 'attn.2'"),
        ("attn.1-3", "'attn.1-3' names parts this model lacks; it has attn.0 to attn.3"),
        ("attn.2-9", "names parts this model lacks"),
        ("head.3.2", "this model has no component 'head.3.2'; it has head.0.0 to head.3.1"),
        ("head.0.7-9", "names parts this model lacks"),
        ("mlp.3-1", "'3-1' in 'mlp.3-1' is not a range"),
        ("mlp.1-", "is not a range"),
        ("head.1.a-b", "is not a range"),
        ("mixer", "names parts this model lacks; it has attn, head, layer, mlp"),
        ("mixer.0", "this model has no component 'mixer.0'"),
        ("neuron.0.0", "this model has no component 'neuron.0.0'; it has attn, head, layer, mlp"),
        ("neuron", "this model has no 'neuron'"),
        ("foo", "'foo' is not a component address"),
        ("embed", "this model has no component 'embed'"),
        ("mlp.1-2.*", "has too many parts"),
        ("attn.0+attn.0", "names the same component twice"),
        ("attn.0+a0", "names the same component twice"),
        ("attn.0+attn.9", "this model has no component 'attn.9'"),
        ("attn.0+attn", "'attn' is not a component address"),
        ("attn.0+", "'' is not a component address"),
        ("attn.3->mlp.1", "'attn.3->mlp.1' is no edge of this model, since the receiver does not read"),
        ("attn.0->mlp.0", "is no edge of this model"),  # parallel
        ("mlp.1->attn.1", "is no edge of this model"),
        ("mlp.1->mlp.1", "is no edge of this model"),
        ("head.1.0->head.1.1", "is no edge of this model"),
        ("layer.1->mlp.1", "is no edge of this model"),  # the MLP is in it
        ("mlp.2-3->attn.0-1", "is no edge of this model"),
        ("attn.0->embed", "'embed' in 'attn.0->embed' cannot receive; let an edge end in attn, mixer, mlp, head, kv"),
        ("attn.0->layer.2", "'layer.2' in 'attn.0->layer.2' cannot receive"),
        ("attn.0->expert.2.1", "'expert.2.1' in 'attn.0->expert.2.1' cannot receive"),
        ("attn.2->mlp.3", "this model has no component 'attn.2'"),
        ("attn.0->mlp.9", "this model has no component 'mlp.9'"),
        ("attn.0->", "'' is not a component address"),
        ("->mlp.1", "'' is not a component address"),
        ("attn.0->mlp.1->mlp.2", "is more than one edge; write each by itself"),
        ("attn.0->mlp.1+attn.0->mlp.2", "is more than one edge; write each by itself"),
        ("attn.0+head.1.1->mlp.2", "is more than one edge"),
        ("attn.1/attn.0", "'attn.0' in 'attn.1/attn.0' does not change when attn.1 is knocked out, so it cannot"),
        ("attn.1/attn.1", "does not change when attn.1 is knocked out"),
        ("attn.1/head.1.0", "does not change when attn.1 is knocked out"),
        ("attn.0/mlp.0", "does not change when attn.0 is knocked out"),  # parallel
        ("attn.0+attn.1/attn.1", "'attn.1' in 'attn.0+attn.1/attn.1' does not change when attn.0+attn.1"),
        ("attn.0/embed", "this model has no component 'embed'"),
        ("attn.0/attn.2", "this model has no component 'attn.2'"),
        ("attn.0/", "'' is not a component address"),
        ("head.0.2-9", "'head.0.2-9' names parts this model lacks; it has head.0.0 to head.3.1"),
        ("attn.0-9999999999", "'attn.0-9999999999' names parts this model lacks"),
        ("head.*.0-9999999999", "names parts this model lacks"),
        ("attn.999999999999999999", "this model has no component 'attn.999999999999999999'"),
        ("attn.1-" + "9" * 5000, "is not a range"),
        ("attn." + "9" * 5000, "is not a component address"),
        ("attn.0->mlp.2/mlp.3", "'attn.0->mlp.2/mlp.3' freezes parts beside an edge; freeze them beside a part"),
    ],
)  # fmt: skip
def test_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ComponentError) as refused:
        parse_knockouts(text, INVENTORY)
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["neuron->neuron", "neuron.0/neuron.1-31", "neuron.0.5->mlp.9,neuron->neuron.31"])
def test_pairs_beyond_number_are_refused_instead_of_walked(text: str) -> None:
    large = Inventory({kind: dict.fromkeys(range(32), count) for kind, count in (("mlp", 1), ("neuron", 11008))})
    with pytest.raises(ComponentError, match=r"names [0-9,]+ pairs of parts, more than the 1,048,576 .*; name fewer"):
        parse_knockouts(text, large)


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("atn", "attn"),
        ("Attn.5", "attn.5"),
        ("attn5", "attn.5"),
        ("attn:5", "attn.5"),
        ("heads.3.4", "head.3.4"),
        ("attention.3", "attn.3"),
        ("transformer.h.5.attn.c_proj", "attn.5"),
        ("model.layers.5.mlp", "mlp.5"),
        ("neurons", "neuron"),
        ("embedding", "embed"),
    ],
)
def test_a_slip_is_told_what_it_may_stand_for_before_a_model_is_opened(slip: str, meant: str) -> None:
    with pytest.raises(ComponentError, match=rf"^'{slip}' is not .* \(did you mean '{meant}'\?\)$"):
        check_addresses(f"attn.1,{slip}")


@given(st.text(alphabet="aLlHhNnEem.0123-*+/> ,", max_size=12))
def test_what_is_refused_without_a_model_is_refused_with_one(text: str) -> None:
    try:
        parse_knockouts(text, INVENTORY)
    except ComponentError:
        return
    check_addresses(text)
