"""From a model's weights to the verdict: what was planted by hand must come out as planted.

The models, prompts and numbers are those of `planted.py`; the run is the package's own, from the anatomy to the
sentences.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import hydrascope as hs
from hydrascope import analysis
from hydrascope.ablations import Ablation
from hydrascope.analysis import Findings, summarise
from hydrascope.anatomy import examine
from tests.support.planted import N_LAYERS, RECIPES, Planted, Response, planted

torch.set_num_threads(1)

ABLATIONS: dict[str, Ablation] = {"zero": hs.Zero(), "resample": hs.Resample(donors=3)}
WRITERS = [f"{kind}.{layer}" for kind in ("attn", "mlp") for layer in range(N_LAYERS)]
DRAWS = 200

every_model = pytest.mark.parametrize("name", RECIPES)
without_norm = pytest.mark.parametrize("name", [name for name in RECIPES if name != "norm"])
every_kind = pytest.mark.parametrize("kind", ABLATIONS)


@functools.cache
def ledger(name: str, kind: str) -> hs.Ledger:
    """All attention layers and MLPs, and whatever else has a response on paper; two null draws."""
    model = planted(name)
    pairs = zip(model.prompts, model.targets, strict=True)
    prompts = tuple(hs.Prompt(input_ids=tuple(ids), target_id=target) for ids, target in pairs)
    components = ",".join(dict.fromkeys([*WRITERS, *model.responses]))
    opened = examine(model.model, None, name=name)
    return hs.knock_out(opened, hs.PromptSet(name, prompts), components, ABLATIONS[kind], seed=1)


@functools.cache
def repaired(name: str, kind: str) -> pd.DataFrame:
    return analysis.repair(ledger(name, kind).dataset, resamples=DRAWS).set_index("ablated")


def expected(model: Planted, knockout: str) -> Response:
    return model.responses.get(knockout, Response())


def close(found: object, right: object, what: str, tolerance: float) -> None:
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(right, float), rtol=0, atol=tolerance, err_msg=what)


@every_kind
@every_model
def test_ledger_holds_what_was_planted_prompt_by_prompt(name, kind):
    model, ds = planted(name), ledger(name, kind).dataset
    assert ds.attrs["prompts_kept"] == len(model.prompts), "the targets are the models' top tokens"
    close(ds["clean_logit"], model.clean_logits, "clean logit", model.tolerance)
    for writer in ds["writer"].values:
        share = model.direct.get(writer, 0.0)
        close(ds["direct_effect"].sel(writer=writer), share * model.unit, writer, model.tolerance)
    for knockout in ds["ablated"].values:
        one, response = ds.sel(ablated=knockout), expected(model, knockout)
        parts = {"attn": response.attn, "mlp": response.mlp}
        close(one["own_change"], response.own * model.unit, knockout, model.tolerance)
        for part, share in parts.items():
            answer = one["change"].where((one["writer_kind"] == part) & ~one["is_own"], 0).sum("writer")
            close(answer, share * model.unit, f"{knockout}: {part}", model.tolerance)
        if not model.recipe.real_norm:
            total = (response.own + response.attn + response.mlp) * model.unit
            close(one["total_effect"], total, knockout, model.tolerance)
            close(one["norm_effect"], np.zeros_like(total), knockout, model.tolerance)


def test_norm_effect_of_the_model_with_a_real_norm():
    model, ds = planted("norm"), ledger("norm", "zero").dataset
    for writer in WRITERS:
        one, effect = ds.sel(ablated=writer), model.norm_effect(writer, "zero")
        close(one["norm_effect"], effect, writer, model.tolerance)
        close(one["scale_ratio"], model.scale / model.ablated_scale(writer, "zero")[0], writer, model.tolerance)
        close(one["total_effect"], expected(model, writer).own * model.unit + effect, writer, model.tolerance)
    row = repaired("norm", "zero").loc["attn.1"]
    restored = model.norm_effect("attn.1", "zero").sum() / (0.7 * model.unit).sum()
    assert restored > 0.1
    assert row["restored"] == pytest.approx(0, abs=1e-3), "nobody responds"
    assert row["restored_with_norm"] == pytest.approx(restored, abs=1e-3)
    assert row["restored_norm"] == pytest.approx(restored, abs=1e-3)


@every_kind
@without_norm
def test_repair_table(name, kind):
    model, table = planted(name), repaired(name, kind)
    mean = model.unit.mean()
    for knockout, response in model.responses.items():
        row = table.loc[knockout]
        close(row["own_change"], response.own * mean, knockout, model.tolerance)
        close(row["compensation_attn"], response.attn * mean, knockout, model.tolerance)
        close(row["compensation_mlp"], response.mlp * mean, knockout, model.tolerance)
        close(row["restored"], response.restored, knockout, 1e-4)
        close(row["restored_with_norm"], response.restored, knockout, 1e-4)
        close(row["restored_median"], response.restored, knockout, 1e-4)
        close(row["slope"], -response.restored, knockout, 1e-3)
        close(row["intercept"], 0, knockout, 1e-2)
        assert row["meaningful"]
        if response.restored:
            assert row["r2"] > 0.999
            assert row["slope_lo"] <= -response.restored + 1e-3
            assert row["slope_hi"] >= -response.restored - 1e-3
        if kind == "resample":
            close(row["slope_iv"], -response.restored, knockout, 1e-3)
    for knockout in set(WRITERS) - set(model.responses):
        assert not table.loc[knockout, "meaningful"], f"{knockout} writes nothing about the answer"


@every_kind
@without_norm
def test_relaxed_suppression_and_new_promotion(name, kind):
    """What late writers let go and what they newly write, apart."""
    model = planted(name)
    table = analysis.released(ledger(name, kind).dataset, resamples=DRAWS).set_index(["ablated", "kind"])
    mean = model.unit.mean()
    for knockout in ("attn.1", "attn.1+attn.2"):
        if knockout in model.responses:
            response = model.responses[knockout]
            rows = table.loc[knockout]
            close(rows["relaxed"].sum(), response.relaxed * mean, knockout, model.tolerance)
            close(rows["promoted"].sum(), response.promoted * mean, knockout, model.tolerance)
            close(rows["lost"].sum(), 0, knockout, model.tolerance)
            close(rows["strengthened"].sum(), 0, knockout, model.tolerance)
    if model.recipe.erasers:
        share = model.responses["attn.1"].relaxed / -model.direct["mlp.3"]
        assert table.loc[("attn.1", "mlp"), "released_share"] == pytest.approx(share, abs=1e-3)
    late = analysis.late_mlps(ledger(name, kind).dataset, resamples=DRAWS).set_index("writer")
    assert late["erases"].to_dict() == {"mlp.2": False, "mlp.3": bool(model.recipe.erasers)}


@every_kind
@pytest.mark.parametrize(
    ("name", "top", "share"), [("backup", "attn.3", 1), ("erasure", "mlp.3", 0.28), ("hydra", "attn.2", 0.7)]
)
def test_top_responder(name, top, share, kind):
    model, ds = planted(name), ledger(name, kind).dataset
    cells = analysis.who_repairs(ds, resamples=DRAWS)
    mine = cells[(cells["ablated"] == "attn.1") & ~cells["is_own"]]
    strongest = mine.iloc[int(mine["change"].abs().argmax())]
    assert strongest["writer"] == top
    assert strongest["significant"]
    close(strongest["change"], share * model.unit.mean(), name, model.tolerance)
    largest: Any = analysis.concentration(ds).set_index(["ablated", "scope"]).loc[("attn.1", "all")]
    assert largest["top1"] == top
    whole = model.responses["attn.1"].attn + model.responses["attn.1"].mlp
    assert largest["top1_share"] == pytest.approx(share / whole, abs=1e-3)


def test_nobody_responds_where_nothing_was_planted():
    cells = analysis.who_repairs(ledger("neither", "zero").dataset, resamples=DRAWS)
    assert cells.loc[~cells["is_own"], "change"].abs().max() < planted("neither").tolerance


@every_kind
@pytest.mark.parametrize(
    ("name", "finding", "words"),
    [
        ("backup", "repair", ("Of the 2.95", "100 % [", "through attn.3", "answers with +2.95")),
        ("hydra", "repair", ("Of the 2.95", "82 % [", "through attn.2", "answers with +2.06")),
        ("erasure", "repair", ("Of the 2.06", "40 % [", "through mlp.")),
        ("neither", "none", ("No clear loss of a part is repaired on the whole",)),
    ],
)
def test_verdict(name, finding, words, kind):
    model = planted(name)
    ds = ledger(name, kind).dataset
    alone = [i for i, address in enumerate(ds["ablated"].values) if "+" not in address]
    found = summarise(Findings(ds.isel(ablated=alone), DRAWS))
    assert found.finding == finding
    assert set(found.focus.split("+")) <= {"attn.1"}
    for word in words:
        assert word[:-1] in found.headline, "the last digit may round either way"
    numbers, response = found.numbers, model.responses["attn.1"]
    for number, share in {
        "own_change": response.own,
        "compensation_attn": response.attn,
        "compensation_mlp": response.mlp,
    }.items():
        close(numbers[number], share * model.unit.mean(), number, 1e-3)
    assert numbers["late_mlps_erasing"] == len(model.recipe.erasers)


def test_a_random_push_awakens_no_backup():
    """The backup answers a missing answer, not a push of the same length: the slope is not that of a read-out."""
    for name, level in (("backup", 1.0), ("hydra", 0.7)):
        ds = ledger(name, "zero").dataset.sel(ablated="attn.1")
        answers = (ds["writer_kind"] == "attn") & ~ds["is_own"]
        pushed = ds["null_change"].where(answers, 0).sum("writer")
        assert abs(float(pushed.mean())) < 0.1 * level * planted(name).unit.mean()
    row = repaired("backup", "zero").loc["attn.1"]
    assert row["slope_minus_null"] == pytest.approx(-1, abs=0.35)
    assert row["slope_minus_null_hi"] < 0


def test_a_linear_eraser_answers_a_random_push_alike():
    row = repaired("erasure", "zero").loc["attn.1"]
    assert row["slope_null_lo"] < -0.4 < row["slope_null_hi"]
    assert row["slope_minus_null_lo"] < 0 < row["slope_minus_null_hi"]


def test_a_random_push_is_answered_by_nobody_where_nothing_was_planted():
    ds = ledger("neither", "zero").dataset.sel(ablated=["attn.2", "attn.3", "mlp.2", "mlp.3"])
    others = ds["null_change"].where(~ds["is_own"], 0)
    assert float(np.abs(others).max()) < planted("neither").tolerance
    own = ds["null_change"].where(ds["is_own"], 0).sum("writer")
    assert float(np.abs(own.sel(ablated="attn.2")).max()) > 0.05, "the push itself is seen"
