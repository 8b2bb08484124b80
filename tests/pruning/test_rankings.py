"""Rankings against plain loops, and a model with two exact backups, of which only one can go."""

from __future__ import annotations

import functools
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch

import hydrascope as hs
from hydrascope.anatomy import examine
from hydrascope.components import Component
from hydrascope.prompts import encode
from hydrascope.pruning import Cost, Judge, Store, Texts, split
from hydrascope.pruning.rankings import RANKINGS, Choice, Random
from tests.support import planted as plant
from tests.support import texts as support
from tests.support.families import build

BLIND = ("loss", "kl", "taylor", "direct", "own change")
"""Rankings that look at one part at a time."""


@functools.cache
def judge(name: str = "llama") -> Judge:
    """A judge on eight random texts of two lengths from four documents."""
    generator = torch.Generator().manual_seed(2)
    ids = [tuple(torch.randint(3, 97, (9 if i < 5 else 12,), generator=generator).tolist()) for i in range(8)]
    texts = Texts(tuple(ids), tuple(f"document {i % 4}" for i in range(8)))
    return Judge(examine(build(name), None, name=name), texts, Store(None, "calibration"))


def blocks(judged: Judge) -> list[Component]:
    return judged.model.anatomy.inventory.expand("layer")


def chosen(name: str, parts: list[Component], sizes: tuple[int, ...] = (1, 2)) -> Choice:
    return RANKINGS[name]().choose(judge(), parts, sizes)


def states(text: tuple[int, ...]) -> list[torch.Tensor]:
    """The residual stream before every block and behind the last, from the library's own output but the last state."""
    network, found = judge().model.network, []
    handles = [
        network.model.layers[0].register_forward_pre_hook(lambda _, args: found.append(args[0][0])),
        *(block.register_forward_hook(lambda _, __, out: found.append(out[0])) for block in network.model.layers),
    ]
    with torch.no_grad():
        network(input_ids=torch.tensor([list(text)]))
    for handle in handles:
        handle.remove()
    return found


def test_the_cost_of_a_set_is_the_cross_entropy_of_a_plain_forward() -> None:
    judged = judge()
    for text, loss in zip(judged.texts.ids, judged.cost().loss, strict=True):
        ids = torch.tensor([list(text)])
        with torch.no_grad():
            right = judged.model.network(input_ids=ids, labels=ids).loss * (len(text) - 1)
        np.testing.assert_allclose(loss, float(right), rtol=1e-5)
    cost = judged.cost(blocks(judged)[1:2], whole=True)
    assert cost.kl is not None
    assert cost.agreed is not None
    assert (cost.kl > 0).all()
    assert (cost.agreed < judged.texts.predicted).any()
    whole = judged.cost(whole=True)
    assert whole.kl is not None
    np.testing.assert_allclose(whole.kl, 0, atol=1e-6)
    np.testing.assert_array_equal(whole.agreed, judged.texts.predicted)


def test_block_influence_by_hand() -> None:
    parts, total, tokens = blocks(judge()), np.zeros(3), 0
    for text in judge().texts.ids:
        stream = states(text)
        tokens += len(text)
        total += [float((1 - torch.cosine_similarity(a, b, dim=-1)).sum()) for a, b in pairwise(stream)]
    np.testing.assert_allclose(list(chosen("influence", parts).scores.values()), total / tokens, rtol=1e-4)


def test_the_angular_run_by_hand() -> None:
    parts = blocks(judge())
    for size, gone in chosen("angular", parts).sets.items():
        turned = []
        for first in range(3 - size + 1):
            ends = [(states(text)[first][-1], states(text)[first + size][-1]) for text in judge().texts.ids]
            turned.append(np.mean([float(torch.cosine_similarity(a, b, dim=0).arccos()) for a, b in ends]))
        first = int(np.argmin(turned))
        assert gone == tuple(parts[first : first + size])


@pytest.mark.parametrize("kind", ["layer", "attn", "head", "neuron"])
def test_taylor_is_the_slope_of_the_loss(kind: str) -> None:
    """Scaling a part by 1 - h changes the loss by h times its score, to first order."""
    judged = judge()
    part = judged.model.anatomy.inventory.expand(kind)[1]
    score = RANKINGS["taylor"]().choose(judged, [part], [1]).scores[part]
    found = []
    for h in (1e-3, -1e-3):
        total = 0.0
        for text in judged.texts.ids:
            handles = []
            for place in judged.model.anatomy.places(part):

                def scale(tensor: torch.Tensor, span: slice = place.span, h: float = h) -> torch.Tensor:
                    scaled = tensor.clone()
                    scaled[..., span] *= 1 - h
                    return scaled

                module: Any = judged.model.network.get_submodule(place.site.module)
                if place.site.side == "input":
                    hook = module.register_forward_pre_hook(lambda _, args, scale=scale: (scale(args[0]),))
                else:
                    hook = module.register_forward_hook(lambda _, __, out, scale=scale: scale(out))
                handles.append(hook)
            ids = torch.tensor([list(text)])
            with torch.no_grad():
                total += float(judged.model.network(input_ids=ids, labels=ids).loss.double()) * (len(text) - 1)
            for handle in handles:
                handle.remove()
        found.append(total)
    np.testing.assert_allclose(score, abs(found[0] - found[1]) / 2e-3, rtol=0.02, atol=2e-2)


def test_the_direct_effect_is_the_ledgers() -> None:
    judged = judge()
    parts = [writer.component for writer in judged.model.anatomy.writers]
    prompts = hs.PromptSet("texts", tuple(hs.Prompt(input_ids=ids) for ids in judged.texts.ids))
    options = hs.Options(protocol="text", components="attn", writers="layers", skip=0, detail="full")
    found = hs.knock_out(judged.model, prompts, options=options, ablation=hs.Zero()).dataset
    direct = np.abs(found["direct_effect"].sel(writer=list(map(str, parts))).to_numpy()).mean(0)
    scores = RANKINGS["direct"]().choose(judged, parts, [1]).scores
    np.testing.assert_allclose([scores[part] for part in parts], direct, rtol=1e-4)


def test_random_sets_of_a_size_are_distinct_and_the_first_of_seeded_permutations() -> None:
    parts = [part for kind in ("attn", "mlp") for part in judge().model.anatomy.inventory.expand(kind)]
    assert len(parts) == 6
    found = Random(10, seed=7).choose(judge(), parts, (1, 2, 3)).drawn
    orders = [np.random.default_rng((7, draw)).permutation(6) for draw in range(200)]
    for size in (2, 3):
        firsts = [frozenset(parts[i] for i in order[:size]) for order in orders]
        assert len(set(firsts[:10])) < 10  # draws repeat
        assert list(map(frozenset, found[size])) == list(dict.fromkeys(firsts))[:10]
    assert found[1] == tuple((part,) for part in parts)  # there are no more


def test_greedy_takes_the_cheapest_at_every_step() -> None:
    parts, judged = blocks(judge()), judge()
    first = min(parts, key=lambda part: judged.loss([part]))
    second = min((part for part in parts if part != first), key=lambda part: judged.loss([first, part]))
    assert chosen("greedy", parts).sets == {1: (first,), 2: (first, second)}


def test_pairs_of_two_are_the_exhaustive_best() -> None:
    parts, judged = blocks(judge()), judge()
    best = min(combinations(parts, 2), key=judged.loss)
    assert set(chosen("pairs", parts, (2,)).sets[2]) == set(best)


def test_elimination_exchanges_what_a_greedy_search_is_left_with() -> None:
    """The cheapest alone is dear beside every other one, so that no search that keeps it finds the cheapest two."""
    parts = [part for kind in ("attn", "mlp") for part in judge().model.anatomy.inventory.expand(kind)]
    trap, *backups = sorted(parts)[:3]
    planted = Judge(judge().model, judge().texts, Store(None, "calibration"))
    texts = len(planted.texts.ids)
    for size in range(len(parts) + 1):
        for some in combinations(parts, size):
            loss = sum(0.1 if part == trap else 0.2 if part in backups else 1.0 for part in some)
            loss += size - 1 if trap in some else 0.0
            planted.store.enter(some, Cost(*np.tile([[loss], [loss], [0.0]], texts)))
    assert trap in RANKINGS["greedy"]().choose(planted, parts, (2,)).sets[2]
    for sizes in ((1, 2), (2,)):
        found = RANKINGS["elimination"]().choose(planted, parts, sizes).sets
        assert found.get(1, (trap,)) == (trap,)
        assert set(found[2]) == set(backups)
    assert planted.ran == 0


@pytest.mark.parametrize(("by_loss", "by_divergence"), [(0.6, 1.0), (1.0, 0.6)])
def test_elimination_takes_what_loss_or_divergence_leads_to(by_loss: float, by_divergence: float) -> None:
    """The loss begins with the first two parts, divergence with the last two; no exchange of one part leads over."""
    parts = [part for kind in ("attn", "mlp") for part in judge().model.anatomy.inventory.expand(kind)]
    first, last = set(parts[:2]), set(parts[-2:])
    pairs = {frozenset(first): (by_loss, 1.0), frozenset(last): (by_divergence, 0.3)}
    planted = Judge(judge().model, judge().texts, Store(None, "calibration"))
    for size in range(len(parts) + 1):
        for some in combinations(parts, size):
            alone = tuple(sum(0.1 if part in cheap else 0.5 for part in some) for cheap in (first, last))
            loss, kl = alone if size < 2 else pairs.get(frozenset(some), (2.0, 2.0))
            planted.store.enter(some, Cost(*np.tile([[loss], [kl], [0.0]], len(planted.texts.ids))))
    found = set(RANKINGS["elimination"]().choose(planted, parts, (2,)).sets[2])
    assert found == (first if by_loss < by_divergence else last)


def test_elimination_finds_two_parts_of_which_each_is_dear_without_the_other() -> None:
    """No step and no exchange of one part leads there from the cheapest two, which cost more."""
    parts = [part for kind in ("attn", "mlp") for part in judge().model.anatomy.inventory.expand(kind)]
    cheap, both = set(parts[:2]), set(parts[-2:])
    planted = Judge(judge().model, judge().texts, Store(None, "calibration"))
    for size in range(len(parts) + 1):
        for some in combinations(parts, size):
            loss = sum(0.1 if part in cheap else 0.9 if part in both else 0.5 for part in some)
            loss += 0.5 * (cheap <= set(some)) - 1.5 * (both <= set(some))
            planted.store.enter(some, Cost(*np.tile([[loss], [loss], [0.0]], len(planted.texts.ids))))
    assert set(RANKINGS["elimination"]().choose(planted, parts, (2,)).sets[2]) == both
    assert both.isdisjoint(RANKINGS["greedy"]().choose(planted, parts, (2,)).sets[2])


@functools.cache
def with_two_backups(ranking: str = "all", **asked: Any) -> hs.Prune:
    """attn.1 and attn.2 raise an axis of which one is enough; mlp.3 reads it and writes on all answers.

    attn.0 writes a little, and the other four write nothing that counts: of six that go, five are free.
    """
    model = plant.build_recipe(plant.Recipe(copiers={0: 0.2}, junk={1: 1.0, 2: 1.0}))
    mlp: Any = model.model.layers[3].mlp
    with torch.no_grad():
        mlp.gate_proj.weight[:2], mlp.up_proj.weight[:2] = 0, 0
        mlp.gate_proj.weight[:2, plant.JUNK] = mlp.up_proj.weight[:2, plant.ONE] = 1 / plant.GAIN
        mlp.gate_proj.weight[1, plant.ONE] = -1 / plant.GAIN  # relu(x) - relu(x - 1)
        mlp.down_proj.weight[plant.OUT, 0], mlp.down_proj.weight[plant.OUT, 1] = 1.5, -1.5
    return hs.prune(examine(model, None, name="backups"), support.many_answers(96), "sublayers", ranking, **asked)


def test_rankings_that_are_blind_to_repair_remove_both_backups_and_ours_do_not() -> None:
    table = with_two_backups(remove=6).costs().set_index("ranking")
    for name, row in table.drop("random").to_dict("index").items():
        both = {"attn.1", "attn.2"} <= set(row["removed"].split("+"))
        if name in BLIND:
            assert both
            assert row["rise"] > 0.9
        if row["repairs"]:
            assert not both
            np.testing.assert_allclose(row["rise"], 0.0411, atol=1e-3)
    assert table["repairs"].sum() == 4


def test_exposure_names_the_backup_whose_cheapness_rests_on_the_other() -> None:
    table = with_two_backups(remove=6).exposure().query("ranking == 'kl'").set_index("part").to_dict("index")
    np.testing.assert_allclose(table["attn.2"]["alone"], 0, atol=1e-6)
    assert max(table, key=lambda part: float(table[part]["exposure"])) == "attn.2"
    assert table["attn.2"]["exposure"] > 0.9


def test_no_document_and_no_text_is_on_both_sides() -> None:
    drawn = torch.randint(4, 60, (40, 6), generator=torch.Generator().manual_seed(0)).tolist()
    drawn[7] = drawn[0]  # the same text in two documents
    prompts = tuple(hs.Prompt(input_ids=tuple(ids), group=f"d{i % 7}") for i, ids in enumerate(drawn))
    encoded = encode(hs.PromptSet("p", prompts), None, vocabulary=60, context=16, needed=()).prompts
    for seed in range(20):
        calibration, test = split(encoded, 60, 1000, seed)
        assert not set(calibration.documents) & set(test.documents)
        assert not set(calibration.ids) & set(test.ids)
        assert 60 <= calibration.tokens < 65
        assert len(set(calibration.documents)) == 3  # even a few texts are from all documents of their side
    with pytest.raises(hs.EmptyPrompts, match="too few"):
        split(encoded[:1], 10, 10, 0)


def test_sets_that_share_their_first_part_cost_what_each_costs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = examine(build("llama"), None, name="llama")
    parts = [part for kind in ("attn", "mlp") for part in model.anatomy.inventory.expand(kind)]
    sets = [(), *((part,) for part in parts), *combinations(parts, 2), *combinations(parts, 3)]
    grown: list[frozenset[Component]] = []
    stand_on = Judge.stand_on

    def standing(self: Judge, removed: Any) -> None:
        grown.append(frozenset(removed))
        stand_on(self, removed)

    together = Judge(model, judge().texts, Store(None, "calibration"))
    monkeypatch.setattr(Judge, "stand_on", standing)
    found = together.costs(sets, whole=True)
    assert {frozenset([part]) for part in parts if part.layer == 0} <= set(grown)
    assert together.ran == len(sets)
    for removed, cost in zip(sets[::7], found[::7], strict=True):
        # neither trunks nor kept logits of another set
        alone = Judge(model, judge().texts, Store(None, "calibration"), kept=0).cost(removed, whole=True)
        np.testing.assert_array_equal(cost.rows, alone.rows)
    together.stand_on(parts[:1])
    together.stand_on(parts[:2])  # grown from the first
    assert together.cost(parts[:3]).loss.sum() == found[sets.index(tuple(sorted(parts[:3])))].loss.sum()
