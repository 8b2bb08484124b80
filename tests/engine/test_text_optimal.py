"""Constants learned for whole texts: one for every position and length, never above zeros and the mean."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import hydrascope as hs
from hydrascope.ablations import Ablation, Optimal, PositionMean
from hydrascope.analysis import ablation_loss, ablation_loss_sentence
from hydrascope.anatomy import Place
from hydrascope.components import parse_knockouts
from hydrascope.engine import (
    Budget,
    Constants,
    ConstantStore,
    FromBlock,
    KLObjective,
    Learning,
    Positions,
    _clean_cache,
    _optimal,
    batches_of_texts,
    edited_places,
)
from hydrascope.engine._memory import graded_text_footprint
from hydrascope.errors import OutOfBudget
from tests.conftest import Cli
from tests.engine.test_texts import opened
from tests.run.test_text_runs import COMPONENTS, LENGTHS, prompts
from tests.support.plain import slow_copy
from tests.support.positions import where
from tests.support.reference import DoubleEverywhere

EVERYWHERE = Positions("all", "each", 1)


def kl(
    name: str,
    ablation: Ablation,
    components: str = COMPONENTS,
    texts: hs.PromptSet | None = None,
    scope: Positions = EVERYWHERE,
    out: Path | None = None,
) -> np.ndarray:
    """By read position and knock-out."""
    options = hs.Options(null_draws=0, keep_wrong=True, **where(scope))
    return (
        hs.knock_out(opened(name), texts or prompts(), components, ablation, options=options, out=out)
        .dataset["kl"]
        .values
    )


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> dict[int, Constants]:
    """What the last run put in place."""
    seen: dict[int, Constants] = {}
    read = ConstantStore.constants

    def watched(store: ConstantStore) -> dict[int, Constants]:
        seen.update(read(store))
        return seen

    monkeypatch.setattr(ConstantStore, "constants", watched)
    return seen


def plain_log_probs(name: str, text: Tensor, scope: Positions, edits: Sequence[tuple[Place, Tensor]] = ()) -> Tensor:
    """Next-token distribution at the read positions of one text, by a full forward in float64."""
    slow, edited = slow_copy(opened(name).network), list(scope.ablated_in(len(text)))
    handles = []
    for place, value in edits:

        def put(tensor: Tensor, place: Place = place, value: Tensor = value) -> Tensor:
            rows = tensor.reshape(len(text), -1).clone()
            rows[edited, place.span] = value.expand(len(edited), -1)
            return rows.view(tensor.shape)

        def after(_, __, output, put=put):
            return (put(output[0]), *output[1:]) if isinstance(output, tuple) else put(output)

        module = slow.get_submodule(place.site.module)
        if place.site.side == "input":
            handles.append(module.register_forward_pre_hook(lambda _, args, put=put: (put(args[0]), *args[1:])))
        else:
            handles.append(module.register_forward_hook(after))
    with DoubleEverywhere():
        logits = slow(input_ids=text[None], use_cache=False).logits[0]
    return logits[list(scope.read_in(len(text)))].log_softmax(-1)


def plain_loss(name: str, scope: Positions, edits: Sequence[tuple[Place, Tensor]]) -> Tensor:
    """Mean KL divergence over the read positions of all texts."""
    each = []
    for prompt in prompts():
        text = torch.tensor(prompt.input_ids)
        p, q = (plain_log_probs(name, text, scope, some) for some in ((), edits))
        each.append((p.exp() * (p - q)).sum(-1))
    return torch.cat(each).mean()


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_zeros_the_mean_and_donors_cost_no_less(name: str) -> None:
    best = kl(name, Optimal(steps=20)).mean(0)
    for other in (hs.Zero(), hs.Mean(), hs.Resample(donors=1)):
        cost = kl(name, other).mean(0)
        assert (best <= cost + 1e-6).all(), other.name
    assert (best < 0.9 * kl(name, hs.Mean()).mean(0)).any(), "learning has changed something"


@pytest.mark.parametrize(
    ("name", "address", "scope"),
    [
        ("gpt2", "mlp.1", EVERYWHERE),
        ("llama", "head.1.2", Positions("1,3,-1", "each", 2)),
        ("gemma2", "attn.0+mlp.2", Positions("all", "last")),
    ],
)
def test_losses_and_gradients_are_those_of_plain_float64_forwards(
    name: str, address: str, scope: Positions, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[Tensor], Tensor, list[Tensor]]] = []
    measure = KLObjective.losses_and_slopes

    def watched(harm, values, step):
        losses, slopes = measure(harm, values, step)
        seen.append(([value.detach().double() for value in values[0]], losses[0], slopes[0]))
        return losses, slopes

    monkeypatch.setattr(KLObjective, "losses_and_slopes", watched)
    kl(name, Optimal(steps=2), address, scope=scope)
    model = opened(name)
    (knockout,) = parse_knockouts(address, model.anatomy.inventory)
    places = edited_places(knockout, model.anatomy)
    for values, loss, slopes in seen:
        leaves = [value.requires_grad_() for value in values]
        expected = plain_loss(name, scope, list(zip(places, leaves, strict=True)))
        assert float(loss) == pytest.approx(float(expected.detach()), abs=1e-5)
        for slope, gradient in zip(slopes, torch.autograd.grad(expected, leaves), strict=True):
            np.testing.assert_allclose(slope, gradient, atol=1e-5)
            assert float(gradient.abs().max()) > 1e-3
    assert len(seen) == 2


def test_what_was_learned_is_put_at_every_position_of_every_length(learned: dict[int, Constants]) -> None:
    scope = Positions("0,2,-1", "each", 1)
    found = kl("llama", Optimal(steps=3), scope=scope).mean(0)
    model = opened("llama")
    for number, knockout in enumerate(parse_knockouts(COMPONENTS, model.anatomy.inventory)):
        values = [value.double() for value in learned[number]]
        with torch.no_grad():
            expected = plain_loss(
                "llama", scope, list(zip(edited_places(knockout, model.anatomy), values, strict=True))
            )
        assert found[number] == pytest.approx(float(expected), abs=1e-5), str(knockout)


def test_steps_that_see_some_of_the_texts_each_end_no_higher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_clean_cache, "READ_A_STEP", 7)
    best, zero, mean = (kl("llama", one).mean(0) for one in (Optimal(steps=20), hs.Zero(), hs.Mean()))
    assert (best <= np.minimum(zero, mean) + 1e-6).all()
    assert (best < 0.9 * mean).any()
    ids = [prompt.input_ids or () for prompt in prompts()]
    found = batches_of_texts(opened("llama"), ids, EVERYWHERE, 2, 0, Budget(2**30))
    assert sorted(batch for turn in found.turns for batch in turn) == list(range(len(found.batches)))
    assert sorted(text for batch in found.batches for text in batch) == list(range(len(LENGTHS)))
    assert len(found.turns) > 2
    assert found.turn(len(found.turns)) == found.turn(0) != found.turn(1)


def test_on_other_texts_the_constants_cost_less_than_what_those_texts_lend(
    learned: dict[int, Constants], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others take means and donors from the very texts that are read, the constants from others."""
    components, lengths = "attn.1,mlp.0,attn.0+mlp.2", (9,) * 96
    kl("llama", Optimal(steps=15), components, prompts(lengths, seed=1))
    held_out, known = prompts(lengths, seed=2), dict(learned)
    monkeypatch.setattr(ConstantStore, "fill", lambda *arguments: None)
    monkeypatch.setattr(ConstantStore, "constants", lambda store: known)
    best = kl("llama", Optimal(), components, held_out).mean(0)
    for other in (hs.Zero(), hs.Mean(), PositionMean(), hs.Resample(donors=1)):
        cost = kl("llama", other, components, held_out).mean(0)
        assert (best <= cost).all(), other.name
        assert best.sum() < 0.9 * cost.sum(), other.name


def test_a_killed_run_learns_no_constant_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kl("llama", Optimal(steps=4), out=tmp_path / "whole")
    learn = Learning.learn
    child = os.fork()
    if child == 0:
        calls: list[int] = []

        def dying(self, group):
            if calls:  # the second block's knock-outs
                os.kill(os.getpid(), signal.SIGKILL)
            calls.append(0)
            return learn(self, group)

        Learning.learn = dying
        kl("llama", Optimal(steps=4), out=tmp_path / "killed")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    groups: list[int] = []
    monkeypatch.setattr(Learning, "learn", lambda self, some: (groups.append(len(some)), learn(self, some))[1])
    np.testing.assert_array_equal(kl("llama", Optimal(steps=4), out=tmp_path / "killed"), whole)
    assert sum(groups) == 2, "attn.0+mlp.2 and mlp.0 had been learned, attn.1 and head.1.2 not"


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_what_is_kept_for_the_gradient_was_reckoned_with(name: str) -> None:
    model, scope = opened(name), Positions("all", "each", 1)
    tokens, texts = 40, 3
    ids = [prompt.input_ids or () for prompt in prompts((tokens,) * texts)]
    found = batches_of_texts(model, ids, scope, 2, 0, Budget(2**30))
    knockouts = parse_knockouts("attn.0,mlp.0", model.anatomy.inventory)
    places = [edited_places(knockout, model.anatomy) for knockout in knockouts]
    harm = KLObjective(model, FromBlock().at(0), knockouts, places, found)
    values = [[torch.zeros(place.width) for place in some] for some in places]
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    weights = {weight.untyped_storage().data_ptr() for weight in model.network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        harm.losses_and_slopes(values, 0)
    used = sum(size for where, size in kept.items() if where not in weights)
    rows = max(map(len, found.batches)) * len(knockouts)
    assert used < rows * graded_text_footprint(model, tokens, len(scope.read_in(tokens)))
    assert all(weight.requires_grad for weight in model.network.parameters())


def test_groups_shrink_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = kl("llama", Optimal(steps=3))
    learn, room, sizes = _optimal.learn, [1], []

    def tight(harm, origins, ablation):
        sizes.append(len(origins))
        if len(origins) > room[0]:
            raise torch.cuda.OutOfMemoryError("no room")
        return learn(harm, origins, ablation)

    monkeypatch.setattr(_optimal, "learn", tight)
    np.testing.assert_allclose(kl("llama", Optimal(steps=3)), right, atol=1e-4)
    assert sizes == [2, 1, 1, 2, 1, 1]
    room[0] = 0
    with pytest.raises(OutOfBudget, match="no room to learn the constant of a single knock-out"):
        kl("llama", Optimal(steps=3))


def test_several_ablations_of_texts_stand_beside_the_optimal_one(tmp_path: Path) -> None:
    options = hs.Options(null_draws=0, **where(EVERYWHERE))
    components = "attn.1,mlp.0,attn.2,mlp.2"
    lengths = (7, 7, 9, 9, 9, 11)  # the longest has nobody to lend to it
    ledger = hs.knock_out(
        opened("llama"),
        prompts(lengths),
        components,
        (hs.Resample(donors=1), Optimal(steps=10), hs.Mean()),
        options=options,
        out=tmp_path / "run",
    )
    assert set(ledger.rank_agreement()[["first", "second"]].itertuples(index=False, name=None)) == {
        ("resample", "mean"),
        ("resample", "optimal"),
        ("mean", "optimal"),
    }
    assert (ledger.rank_agreement()["n"] == 4).all()
    table = ledger.ablation_loss()
    by_hand = {"resample": ledger.dataset} | {name: one.dataset for name, one in ledger.also.items()}
    kept = by_hand["resample"]["prompt"].values
    assert len(kept) < by_hand["mean"].sizes["prompt"]
    texts = by_hand["mean"].sel(prompt=kept)
    np.testing.assert_array_equal(texts["position"], by_hand["resample"]["position"])
    np.testing.assert_array_equal(texts["document"], by_hand["resample"]["document"])
    means = {name: ds["kl"].sel(prompt=kept).mean("prompt").to_series() for name, ds in by_hand.items()}
    assert list(table["ablation"].unique()) == ["resample", "mean"]
    row: Any
    for row in table.itertuples():
        assert row.n == len(kept)
        assert row.loss == pytest.approx(means[row.ablation][row.ablated], rel=1e-5)
        assert row.least == pytest.approx(means["optimal"][row.ablated], rel=1e-5)
        assert row.share == pytest.approx(row.least / row.loss, rel=1e-5)
        assert np.isnan(row.share_lo) and np.isnan(row.share_hi), "fewer than 6 documents have no intervals"
    said = ablation_loss_sentence(table)
    median = round(100 * float(table.loc[table["ablation"] == "mean", "share"].median()))
    assert "learned on these prompts" in said and f"{median} % of what mean costs" in said
    assert ablation_loss({"resample": by_hand["resample"]}).empty
    assert ablation_loss_sentence(pd.DataFrame(columns=table.columns)) == ""


def test_the_text_protocol_learns_measures_and_goes_on_after_an_interruption(
    model_folder: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hydrascope.report._page.render", lambda findings: "<html></html>")
    text = " ".join(f"w{4 + (7 * i) % 50}" for i in range(40))
    (tmp_path / "text.txt").write_text(text)
    what = ("run", model_folder, "--protocol", "text", "--prompts", tmp_path / "text.txt", "--length", "8")
    command = (*what, "--components", "attn.0,mlp.1,mlp.2", "--ablation", "mean,optimal", "--out", tmp_path / "run")
    learn, groups = Learning.learn, list[list[Any]]()

    def interrupted(self, group):
        if groups:
            raise KeyboardInterrupt
        groups.append(list(group))
        return learn(self, group)

    monkeypatch.setattr(Learning, "learn", interrupted)
    assert cli(*command).code == 130
    monkeypatch.setattr(Learning, "learn", lambda self, some: (groups.append(list(some)), learn(self, some))[1])
    done = cli(*command)
    assert done.code == 0
    assert "The least harmful constant, learned on these prompts, costs" in cli("show", tmp_path / "run").out
    assert groups == [[0], [1], [2]], "each was learned once"
    ledger = hs.Ledger.open(tmp_path / "run")
    best, mean = (one.dataset["kl"].mean("prompt") for one in (ledger.also["optimal"], ledger))
    assert (best <= mean + 1e-6).all() and float(best.sum()) < float(mean.sum())
    assert ledger.also["optimal"].dataset.attrs["protocol"] == "text"
    planned = json.loads(cli(*command, "--dry-run", "--json").out)
    assert planned["intervention_tokens"] == 3 * int(
        ledger.dataset["length"].sum() / 6
    )  # six of eight positions are read
    assert planned["companions"]["optimal"]["flops"] > 50 * planned["flops"]
