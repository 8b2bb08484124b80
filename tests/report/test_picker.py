"""What the picker says of each knock-out is what its ledger says, worked out here from the arrays alone."""

from __future__ import annotations

import base64
import json
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hydrascope.analysis import TOP_SHARE, Findings
from hydrascope.report import render
from hydrascope.report._cell_prompts import cell_prompts
from tests.report.test_report import Parsed
from tests.support.synthetic import divided, synthetic_ledger
from tests.support.texts import tiny_ledger

SAID = re.compile(r"own change is (\S+).*? after it adds (\S+).*? moves by (\S+)")
SHARE = re.compile(r"(−?\d+)\s%(?: \[[^]]*\])? of the loss restored")


def ledger(which: str) -> xr.Dataset:
    """A ledger of layers, of heads beside neurons, or of every position of texts."""
    if which == "texts":
        return tiny_ledger("full").dataset
    if which == "joint":
        return synthetic_ledger(ablated=["layer.2", "attn.3+attn.5", "head.4.1"], n_prompts=20, n_groups=3)
    ds = synthetic_ledger()
    return divided(ds, ["attn.6", "attn.7", "mlp.7"], width=4) if which == "units" else ds


@cache
def scripts(which: str) -> dict[str, Any]:
    """JSON of the page that is not a chart, by its identifier."""
    found = Parsed(render(Findings(ledger(which), 60))).scripts
    wanted = {"knockouts", "prompt-values", "cell-prompts"}
    return {str(attrs["id"]): json.loads(text) for attrs, text in found if attrs.get("id") in wanted}


def read(text: str) -> float:
    """A number as the page writes it."""
    return float(text.strip(",:").replace("−", "-").replace("= ", "").replace("+ ", "").replace("- ", "-"))


def mean(values: xr.DataArray, ds: xr.Dataset) -> float:
    """Mean over prompts, every group alike."""
    return float((values.astype(float) * ds["weight"]).sum() / ds["weight"].sum())


@pytest.mark.parametrize("which", ["layers", "units", "joint"])
def test_sentence_equation_and_caption_are_the_means_of_the_ledger(which: str) -> None:
    ds, said = ledger(which), scripts(which)["knockouts"]
    assert set(said) == set(map(str, ds["ablated"].values))
    for name, (sentence, terms, caption) in said.items():
        here = ds.sel(ablated=name)
        others = here["change"].where(~here["is_own"], 0.0)
        kinds = [
            mean(others.isel(writer=ds["writer_kind"].values == kind).sum("writer"), ds) for kind in ("attn", "mlp")
        ]
        own, norm, total = (mean(here[name], ds) for name in ("own_change", "norm_effect", "total_effect"))
        np.testing.assert_allclose([read(term) for term in terms], [own, *kinds, norm, total], atol=6e-4)
        match = SAID.search(sentence)
        assert match
        np.testing.assert_allclose([read(text) for text in match.groups()], [own, total - own, total], atol=6e-4)
        if share := SHARE.search(sentence):
            assert read(share[1]) == pytest.approx(-100 * (total - own) / own, abs=0.51)
        missed = re.search(r"misses the measured total by (.*)\.$", caption)
        assert missed and read(missed[1]) < 1e-5
        assert f" {ds.sizes['prompt']} prompts" in caption and f"for {name};" in caption


def test_of_texts_the_sentence_is_of_the_top_tokens() -> None:
    ds, said = ledger("texts"), scripts("texts")["knockouts"]
    assert set(said) == set(map(str, ds["ablated"].values))
    count, shares = round(TOP_SHARE * ds.sizes["prompt"]), 0
    for name, (sentence, terms, caption) in said.items():
        direct = ds["direct_effect"].sel(writer=name).values
        top = ds.sel(ablated=name).isel(prompt=np.argsort(-direct, kind="stable")[:count])
        own, total = float(top["own_change"].mean()), float(top["total_effect"].mean())
        match = SAID.search(sentence)
        assert match and f"Without {name} on its top tokens" in sentence
        np.testing.assert_allclose([read(text) for text in match.groups()], [own, total - own, total], atol=6e-4)
        assert (terms, caption) == ([], "")
        if share := SHARE.search(sentence):
            shares += 1
            assert read(share[1]) == pytest.approx(-100 * (total - own) / own, abs=0.51)
            assert "no clear loss" not in sentence


@pytest.mark.parametrize("which", ["layers", "units", "joint"])
def test_every_prompt_has_its_own_change_and_total_effect(which: str) -> None:
    ds, packed = ledger(which), scripts(which)["prompt-values"]
    values = np.frombuffer(base64.b64decode(packed["values"]), "<i2") / 10 ** packed["places"]
    shown = values.reshape(2, len(packed["names"]), ds.sizes["prompt"])
    for effect, name in enumerate(("own_change", "total_effect")):
        expected = ds[name].sel(ablated=packed["names"]).transpose("ablated", "prompt").values
        np.testing.assert_allclose(shown[effect], expected, atol=5.1e-4)


@pytest.mark.parametrize("which", ["layers", "units", "joint"])
def test_behind_every_cell_are_the_prompts_on_which_its_writer_changes_most(which: str) -> None:
    ds, packed = ledger(which), scripts(which)["cell-prompts"]
    numbers = np.frombuffer(base64.b64decode(packed["values"]), f"<i{packed['bits'] // 8}")
    coordinates = zip(ds["writer_kind"].values, ds["writer_layer"].values, strict=True)
    whole = np.array([f"{kind}.{layer}" for kind, layer in coordinates])
    seen = set()
    for k, w, *rest in numbers.reshape(-1, packed["count"]).T:
        ablated, writer = packed["ablated"][k], packed["writers"][w]
        change = ds["change"].sel(ablated=ablated).values[:, whole == writer].sum(1)
        prompts, shown = rest[:3], np.array(rest[3:]) / 10 ** packed["places"]
        np.testing.assert_allclose(shown, change[prompts], atol=5.1e-4)
        assert len(set(prompts)) == 3
        assert np.abs(change[prompts]).min() >= np.sort(np.abs(change))[-3] - 1e-6
        seen.add((ablated, writer))
    responds = ds["is_own"] | (ds["is_downstream"] & ~ds["writer_kind"].isin(["embed", "bias"]))
    rows, columns = np.nonzero(responds.values)
    assert seen == set(zip(ds["ablated"].values[rows], whole[columns], strict=True))


def test_a_knockout_without_responders_does_not_lend_its_own_cell_to_the_first_sight() -> None:
    ds = synthetic_ledger(n_prompts=20)
    table = Findings(ds, 60).who_repairs
    assert cell_prompts(ds, table, "attn.4").shown == ("attn.4", "attn.6")
    others = table[~table["is_own"]]
    strongest = others.iloc[int(others["change"].abs().to_numpy().argmax())]
    assert cell_prompts(ds, table, "mlp.7").shown == (strongest["ablated"], strongest["writer"])
