"""What takes the place of an ablated output, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrascope.ablations import (
    REGISTRY,
    Ablation,
    Counterfactual,
    Donation,
    ExtraRun,
    Mean,
    Noise,
    Resample,
    Zero,
    named_ablation,
)
from hydrascope.errors import AblationError, MissingCounterfactual, TooFewDonors
from hydrascope.prompts import EncodedPrompt

TARGETS = [4, 4, 9, 7]
POOL = torch.tensor([[1.0, 2.0], [3.0, 5.0], [5.0, 2.0], [7.0, 11.0], [100.0, 0.0], [0.0, 100.0]])
"""Four clean runs and two extra ones."""


def prompt(index: int, counterfactual: tuple[int, ...] | None = None) -> EncodedPrompt:
    return EncodedPrompt(
        index, (index, index + 1), str(index), TARGETS[index % 4], None, False, None, counterfactual, ""
    )


PROMPTS = [prompt(i, (50 + i,)) for i in range(4)]


def donate(kind: Ablation, prompts: list[EncodedPrompt] = PROMPTS, seed: int = 3) -> Donation:
    return kind.donate(prompts, TARGETS[: len(prompts)], seed)


def test_zero_is_zero():
    donation = donate(Zero())
    assert donation.table.shape == (1, 4)
    assert donation.runs == ()
    assert torch.equal(Zero().replace(POOL, donation.table, 4), torch.zeros(1, 4, 2))


def test_mean_is_that_of_the_clean_runs_alone_and_the_same_for_all():
    value = Mean().replace(POOL, donate(Mean()).table, 4)
    assert torch.equal(value, torch.tensor([4.0, 5.0]).expand(1, 4, 2))
    some = Mean().replace(POOL, np.array([[2, 0]]), 4)
    assert torch.equal(some, torch.tensor([4.0, 5.0]).expand(1, 2, 2)), "a batch of some prompts has the same mean"
    assert donate(Mean()).runs == ()


def test_resample_takes_the_donors_values():
    kind = Resample(donors=2)
    donation = donate(kind)
    value = kind.replace(POOL, donation.table, 4)
    assert value.shape == (2, 4, 2)
    for draw in range(2):
        for i in range(4):
            assert torch.equal(value[draw, i], POOL[donation.table[draw, i]])
    assert donation.runs == ()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=6, max_size=20).filter(lambda targets: len(set(targets)) > 3),
    st.integers(0, 2**32 - 1),
)
def test_a_donor_never_shares_the_target(targets, seed):
    fewest = len(targets) - max(map(targets.count, targets))
    kind = Resample(donors=min(3, fewest))
    prompts = [prompt(i) for i in range(len(targets))]
    table = kind.donate(prompts, targets, seed).table
    assert table.shape == (kind.draws, len(targets))
    assert (np.array(targets)[table] != targets).all()
    assert all(len(set(column)) == kind.draws for column in table.T)
    assert np.array_equal(table, kind.donate(prompts, targets, seed).table)


def test_other_seeds_deal_other_donors():
    targets, prompts = list(range(12)), [prompt(i) for i in range(12)]
    tables = [Resample(donors=2).donate(prompts, targets, seed).table for seed in range(4)]
    assert len({table.tobytes() for table in tables}) == 4


def test_donors_do_not_depend_on_the_order_of_the_prompts():
    """A prompt keeps its donors in a permuted file."""
    targets, prompts = [i % 5 for i in range(12)], [prompt(i) for i in range(12)]
    moved = np.random.default_rng(0).permutation(12).tolist()
    before = Resample(donors=3).donate(prompts, targets, 4).table
    after = Resample(donors=3).donate([prompts[i] for i in moved], [targets[i] for i in moved], 4).table
    assert np.array_equal(np.array(moved)[after], before[:, moved])


def test_too_few_donors_are_refused():
    with pytest.raises(TooFewDonors, match="2 with another target"):
        donate(Resample(donors=3))


def test_noise_runs_every_prompt_once_a_draw_with_a_seed_of_its_own():
    kind = Noise(donors=2, scale=0.5)
    donation = donate(kind, seed=8)
    assert donation.table.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]], "extra runs come behind the clean ones"
    assert donation.runs == tuple(ExtraRun(one.ids, 0.5, (8, one.key, draw)) for draw in range(2) for one in PROMPTS)
    assert len({run.seed for run in donation.runs}) == 8
    pool = torch.arange(24.0).view(12, 2)
    assert torch.equal(kind.replace(pool, donation.table, 4), pool[4:].view(2, 4, 2))


def test_noise_follows_the_prompt_and_not_its_place():
    """A prompt keeps its noise when others are filtered out, and wherever it stands in the file."""
    kind = Noise(donors=1)
    one, two = kind.donate([PROMPTS[1], PROMPTS[3]], [4, 7], 0).runs
    assert (one, two) == tuple(donate(kind, seed=0).runs[i] for i in (1, 3))
    assert kind.donate([replace(PROMPTS[3], index=0)], [7], 0).runs == (two,)
    assert one.seed != two.seed


def test_counterfactual_runs_each_prompts_own_partner():
    donation = donate(Counterfactual())
    assert donation.table.tolist() == [[4, 5, 6, 7]]
    assert donation.runs == tuple(ExtraRun((50 + i,)) for i in range(4))
    pool = torch.arange(16.0).view(8, 2)
    assert torch.equal(Counterfactual().replace(pool, donation.table, 4)[0], pool[4:])


def test_a_missing_counterfactual_is_named():
    with pytest.raises(MissingCounterfactual, match=r"^prompt 2 \(counted from 0\) has no counterfactual"):
        donate(Counterfactual(), [*PROMPTS[:2], prompt(2)])


@pytest.mark.parametrize("kind", [Zero(), Mean(), Resample(2), Noise(2), Counterfactual()], ids=lambda k: k.name)
def test_shapes_agree_with_the_number_of_draws(kind):
    donation = donate(kind)
    pool = torch.randn(4 + len(donation.runs), 3, generator=torch.Generator().manual_seed(0))
    assert donation.table.shape == (kind.draws, 4)
    assert donation.table.max() < len(pool)
    value = kind.replace(pool, donation.table, 4)
    assert value.shape == (kind.draws, 4, 3)
    assert value.dtype == pool.dtype
    one = kind.replace(pool, donation.table[-1:, [2]], 4)
    assert torch.equal(one, value[-1:, [2]]), "one prompt by itself gets what it gets among others"


def test_names_lead_to_their_classes():
    ours = {name: kind for name, kind in REGISTRY.items() if kind.__module__.startswith("hydrascope.")}
    assert sorted(ours) == ["counterfactual", "mean", "noise", "optimal", "position-mean", "resample", "zero"]
    for name, kind in ours.items():
        assert kind.name == name
        assert named_ablation(name) == kind()
        assert kind.__doc__
    assert named_ablation("resample") == Resample(donors=15), "McGrath et al. 2023 use 15"
    assert named_ablation("resample", 4) == Resample(donors=4)
    assert named_ablation("noise", 4) == Noise(donors=4)
    assert named_ablation("zero", 1) == Zero()


@pytest.mark.parametrize(
    ("name", "donors", "message"),
    [
        ("zap", None, "no ablation 'zap'; choose counterfactual, mean"),
        ("resample", 0, "ask for at least 1"),
        ("mean", 3, "has one value per prompt, not 3"),
    ],
)
def test_what_makes_no_sense_is_refused(name, donors, message):
    with pytest.raises(AblationError, match=message):
        named_ablation(name, donors)


def test_a_prompt_with_too_few_donors_is_named_by_its_place_in_the_file():
    kept = [PROMPTS[1], PROMPTS[2], PROMPTS[3]]
    with pytest.raises(TooFewDonors, match=r"^prompt 2 \(counted from 0\) has too few donors: 1 with another target"):
        Resample(donors=2).donate(kept, [7, 4, 4], 0)
