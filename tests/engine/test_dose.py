"""Parts knocked out by half: what is put in place lies between the prompt's own value and the replacement."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

import hydrascope as hs
from hydrascope.ablations import Ablation
from hydrascope.anatomy import directions
from hydrascope.components import parse_knockouts
from hydrascope.engine import Positions, edited_places
from hydrascope.errors import RunError
from tests.engine.test_families import (
    KNOCKOUTS,
    NAMES,
    PROMPTS,
    TARGETS,
    double,
    model,
    parts,
    prompt_set,
)
from tests.engine.test_texts import plain
from tests.run.test_text_runs import last_stream, values_of
from tests.support.dealt import resample_table
from tests.support.families import FAMILIES
from tests.support.plain import slow_copy
from tests.support.positions import where
from tests.support.reference import Part, reference_ledger, run

TOLERANCE = 1e-4
SEED = 7


def ledger(name: str, dose: float, ablation: Ablation, null: int = 0, components: str = KNOCKOUTS) -> xr.Dataset:
    options = hs.Options(keep_wrong=True, null_draws=null, seed=SEED)
    return hs.knock_out(model(name), prompt_set(), components, ablation, dose=dose, options=options).dataset


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_half_a_knock_out_is_that_of_plain_float64_forwards(name: str) -> None:
    found = ledger(name, 0.3, hs.Resample(donors=2))
    clean = [run(double(name), FAMILIES[name], prompt) for prompt in PROMPTS]
    table = resample_table(PROMPTS, TARGETS, 2, SEED)

    def between(part: Part, prompt: int, draw: int) -> Tensor:
        return 0.7 * clean[prompt].values[part] + 0.3 * clean[table[draw, prompt]].values[part]

    expected = reference_ledger(
        double(name), FAMILIES[name], PROMPTS, TARGETS, [parts(k) for k in NAMES], between, donors=table
    )
    for quantity in ("change", "own_change", "norm_effect", "total_effect", "kl"):
        np.testing.assert_allclose(found[quantity], expected[quantity], atol=TOLERANCE, err_msg=quantity)
    assert found.attrs["dose"] == 0.3


@pytest.mark.parametrize("ablation", [hs.Zero(), hs.Mean(), hs.Noise(donors=1)])
def test_no_dose_changes_nothing(ablation: Ablation) -> None:
    parts = f"{KNOCKOUTS},head.0.1->mlp.2"
    found = ledger("llama", 0.0, ablation, null=1, components=parts)
    assert float(np.abs(found["total_effect"]).max()) < 1e-5
    assert float(np.abs(found["change"]).max()) < 1e-5
    assert float(np.abs(found["null_total_effect"]).max()) < 1e-5


def test_the_random_control_is_as_long_as_the_dose() -> None:
    """Small enough, half the displacement is half the effect, of the control too."""
    half, whole = (ledger("llama", dose, hs.Zero(), null=1, components="mlp.2") for dose in (1e-3, 2e-3))
    np.testing.assert_allclose(2 * half["null_total_effect"], whole["null_total_effect"], rtol=0.1, atol=2e-5)


def test_an_edge_is_dosed_where_its_receiver_writes() -> None:
    quarter, whole = (ledger("llama", dose, hs.Zero(), components="attn.0->mlp.2") for dose in (0.25, 1.0))
    np.testing.assert_allclose(quarter["own_change"], 0.25 * whole["own_change"], atol=TOLERANCE)
    assert float(np.abs(whole["own_change"]).max()) > 10 * TOLERANCE


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_a_third_of_a_knock_out_of_whole_texts_is_that_of_plain_float64_forwards(name: str) -> None:
    """At every position (1 - dose) of the text's own value and dose of its only possible donor's."""
    components, dose, scope = "attn.1,mlp.0,head.1.1,attn.0+mlp.2", 0.3, Positions("all", "each")
    opened, slow = model(name), slow_copy(model(name).network)
    texts = [torch.tensor(ids) for ids in PROMPTS if len(ids) == 12][:2]
    prompts = hs.PromptSet("texts", tuple(hs.Prompt(input_ids=tuple(text.tolist())) for text in texts))
    options = hs.Options(null_draws=0, **where(scope))
    found = hs.knock_out(opened, prompts, components, hs.Resample(donors=1), dose=dose, options=options).dataset
    edited = scope.ablated_in(12)
    for knockout in parse_knockouts(components, opened.anatomy.inventory):
        places = edited_places(knockout, opened.anatomy)
        values = [values_of(slow, opened, text, scope, places) for text in texts]
        for number, text in enumerate(texts):
            own, donor = values[number], values[1 - number]
            put = [(place, (1 - dose) * own[place] + dose * donor[place]) for place in places]
            before, after = (plain(slow, opened, text, edited, edits) for edits in ((), put))
            stream = last_stream(slow, opened, text)
            for position in scope.read_in(12):
                target = int(text[position + 1])
                read = directions(opened.network, opened.anatomy.tail, torch.tensor([target])).vectors[0].double()
                at = (found["document"] == number) & (found["position"] == position)
                row = found.sel(ablated=str(knockout)).isel(prompt=int(np.flatnonzero(at)[0]))
                logits = [one[1][position][target] - one[1][position].mean() for one in (before, after)]
                assert float(row["total_effect"]) == pytest.approx(float(logits[1] - logits[0]), abs=TOLERANCE)
                change = (after[0][position] - before[0][position]) @ read
                change /= float(opened.anatomy.tail.sigma(stream[position]))
                np.testing.assert_allclose(row["change"].values[1:-1], change, atol=TOLERANCE)
        assert float(np.abs(found["total_effect"].sel(ablated=str(knockout))).max()) > 10 * TOLERANCE


def test_whole_texts_are_dosed_at_every_position() -> None:
    """A zeroed last MLP answers to nobody: its own change is the dose times that of the whole knock-out."""
    texts = hs.PromptSet("texts", tuple(hs.Prompt(input_ids=tuple(ids)) for ids in PROMPTS if len(ids) == 12))
    scope = Positions("all", "each")

    def at(dose: float) -> xr.Dataset:
        options = hs.Options(null_draws=0, **where(scope))
        return hs.knock_out(model("llama"), texts, "mlp.2,head.1.0", hs.Zero(), dose=dose, options=options).dataset

    none, some, whole = at(0.0), at(0.25), at(1.0)
    own = some["own_change"].sel(ablated="mlp.2").values
    np.testing.assert_allclose(own, 0.25 * whole["own_change"].sel(ablated="mlp.2").values, atol=TOLERANCE)
    assert float(np.abs(own).max()) > 10 * TOLERANCE
    assert float(np.abs(none["total_effect"]).max()) < 1e-5
    drop = np.abs(some["total_effect"].sel(ablated="head.1.0").values).mean()
    assert 1e-5 < drop < np.abs(whole["total_effect"].sel(ablated="head.1.0").values).mean()


@pytest.mark.parametrize("dose", [-0.1, 1.5, float("nan")])
def test_what_is_no_dose_is_refused(dose: float) -> None:
    with pytest.raises(RunError, match="give a number from 0 to 1"):
        ledger("llama", dose, hs.Zero())
