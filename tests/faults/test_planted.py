"""Stress tests of transformers whose weights are set by hand: duplicates, a chain, independent parts."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

import hydrascope as hs
from hydrascope.anatomy import examine
from tests.support import planted as plant

HEIGHT = 1.5
"""Logits that the readers of the unread axis write on every answer."""


PARTS = ("attn.0", "attn.1", "attn.2", "mlp.3")


@functools.cache
def stressed(name: str) -> hs.Stress:
    """A planted model under faults of the parts that do something; treat it as read-only."""
    if name == "independent":
        model = plant.planted("neither").model
    else:
        # attn.1 (and attn.2) raise an axis that the head does not read; mlp.3 reads it and writes on the answers
        model = plant.build_recipe(
            plant.Recipe(copiers={0: 1.0}, junk={1: 1.0, 2: 1.0} if name == "duplicates" else {1: 1.0})
        )
        mlp = model.model.layers[3].mlp
        with torch.no_grad():
            mlp.gate_proj.weight[:2], mlp.up_proj.weight[:2] = 0, 0
            mlp.gate_proj.weight[:2, plant.JUNK] = mlp.up_proj.weight[:2, plant.ONE] = 1 / plant.GAIN
            mlp.gate_proj.weight[1, plant.ONE] = -1 / plant.GAIN  # relu(x) - relu(x - 1): one of two is enough
            mlp.down_proj.weight[plant.OUT, 0], mlp.down_proj.weight[plant.OUT, 1] = HEIGHT, -HEIGHT
    base = plant.planted("neither")
    prompts = tuple(
        hs.Prompt(input_ids=tuple(ids), target_id=target)
        for ids, target in zip(base.prompts, base.targets, strict=True)
    )
    return hs.stress(
        examine(model, None, name=name),
        hs.PromptSet(name, prompts),
        ",".join(PARTS),
        hs.Zero(),
        rates=(0.3, 0.6),
        masks=200,
        seed=1,
        worst=2,
    )


def pair(name: str, part: str, other: str) -> dict[Any, Any]:
    table = stressed(name).pairs()
    row: dict[Any, Any] = table[(table["part"] == part) & (table["other"] == other)].to_dict("records")[0]
    return row


def test_duplicate_parts_are_passive() -> None:
    row = pair("duplicates", "attn.1", "attn.2")
    np.testing.assert_allclose(
        [row["interaction"], row["answer"], row["alone"], row["other_alone"]], [-HEIGHT, 0, 0, 0], atol=1e-3
    )
    assert row["kind"] == "passive redundancy"
    hidden = stressed("duplicates").hidden_pairs()
    assert ["attn.1", "attn.2"] in hidden.loc[hidden["hidden"], ["part", "other"]].to_numpy().tolist()


def test_a_chain_is_one_path_and_its_end_answers_all_of_it() -> None:
    row = pair("chain", "attn.1", "mlp.3")
    np.testing.assert_allclose(
        [row["interaction"], row["answer"], row["alone"], row["other_alone"], row["joint_loss"]],
        [HEIGHT, -HEIGHT, HEIGHT, HEIGHT, HEIGHT],
        atol=1e-3,
    )
    assert row["kind"] == "one path"


def test_duplicates_before_a_chain_matter_as_enumeration_says() -> None:
    """attn.1 matters where attn.2 is out and mlp.3 is not; the reader, unless both are out."""
    for part, polynomial in {
        "attn.1": lambda q: q * (1 - q),
        "attn.2": lambda q: q * (1 - q),
        "mlp.3": lambda q: 1 - q**2,
    }.items():
        table = stressed("duplicates").importance().set_index(["part", "rate"]).loc[part]
        for rate in (0, 0.3, 0.6, 1):
            row: dict[Any, Any] = table.loc[rate].to_dict()
            slack = 1e-3 + 0.75 * (row["importance_hi"] - row["importance_lo"])
            assert row["importance"] == pytest.approx(HEIGHT * polynomial(rate), abs=slack), (part, rate)
            assert slack < 0.25 * HEIGHT, (part, rate)


def test_every_random_set_of_duplicates_leaves_what_the_weights_say() -> None:
    found, strengths = stressed("duplicates").findings, plant.planted("neither").strengths
    sets = found.faults.failed.reshape(-1, len(PARTS))
    assert len({tuple(one) for one in sets.tolist()}) == 16
    copied, first, second, reader = (~sets).T
    expected = strengths[:, None] * copied + HEIGHT * ((first | second) & reader)
    np.testing.assert_allclose(found.values().of(sets), expected, atol=1e-3)


def test_independent_parts_add_up() -> None:
    found, strength = stressed("independent"), plant.planted("neither").strengths.mean()
    np.testing.assert_allclose(found.pairs()[["interaction", "answer"]], 0, atol=1e-3)
    np.testing.assert_allclose(found.additivity()[["singles", "pairs", "line"]], 1, atol=1e-4)
    importance = found.importance().set_index(["part", "rate"])["importance"].unstack()
    for part, share in {"attn.1": 0.7, "attn.2": 0.3, "mlp.3": 0.0}.items():
        np.testing.assert_allclose(importance.loc[part], share * strength, atol=2e-3)
    ranking = found.ranking().set_index("part")
    np.testing.assert_allclose(ranking["exposure"], 0, atol=1e-2)
    np.testing.assert_allclose(ranking["shapley"], ranking["alone"], atol=2e-3)
