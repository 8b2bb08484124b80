"""What a ledger knows of every head: against plain loops, and drawn where it belongs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import vl_convert

from hydrascope import figures
from hydrascope.analysis import (
    by_layer,
    has_heads,
    head_answers,
    heads,
    neuron_curves,
    neuron_sparsity,
    neurons,
    repair,
)
from tests.support.synthetic import divided, synthetic_ledger

LAYERS, WIDTH, DRAWS = 4, 3, 100
KNOCKOUTS = [*(f"head.{layer}.{unit}" for layer in range(LAYERS) for unit in range(WIDTH - 1)), "attn.1", "mlp.2"]
ATTENTION = [f"attn.{layer}" for layer in range(LAYERS)]


def ledger(apart: bool = True) -> Any:
    ds = synthetic_ledger(n_prompts=16, n_layers=LAYERS, ablated=KNOCKOUTS, null=False)
    return divided(ds, [*ATTENTION, "mlp.3"], WIDTH) if apart else ds


def test_every_head_has_its_account_and_its_repairer() -> None:
    ds = ledger()
    table = heads(ds, resamples=DRAWS).set_index("head")
    assert table.index.tolist() == [f"head.{layer}.{unit}" for layer in range(LAYERS) for unit in range(WIDTH)]
    account = repair(ds, resamples=DRAWS).set_index("ablated")
    names = [str(name) for name in ds["writer"].values]
    for name, row in table.iterrows():
        direct = np.average(ds["direct_effect"].values[:, names.index(str(name))], weights=ds["weight"])
        assert row["direct_effect"] == pytest.approx(float(direct), abs=1e-6)
        assert row["knocked_out"] == (name in KNOCKOUTS)
        if name not in KNOCKOUTS:
            assert np.isnan(row["own_change"]) and not row["meaningful"] and row["repairer"] == ""
            continue
        for column in ("own_change", "total_effect", "restored_with_norm"):
            assert row[column] == pytest.approx(account.loc[name, column], rel=1e-4, abs=1e-5), column
        k = [str(each) for each in ds["ablated"].values].index(str(name))
        best, most = "", 0.0
        for w, writer in enumerate(names):
            if ds["is_downstream"].values[k, w]:
                change = float(np.average(ds["change"].values[:, k, w], weights=ds["weight"]))
                if -np.sign(float(np.average(ds["own_change"].values[:, k], weights=ds["weight"]))) * change > most:
                    best, most = writer, abs(change)
        assert (row["repairer"], abs(row["repairer_change"]) if best else 0.0) == (best, pytest.approx(most, abs=1e-6))


def test_heads_of_an_account_of_layers_have_no_direct_effect() -> None:
    table = heads(ledger(apart=False), resamples=DRAWS)
    assert table["head"].tolist() == KNOCKOUTS[:-2]
    assert table["direct_effect"].isna().all() and table["knocked_out"].all()
    assert not set(table["repairer"]) - {
        "",
        *(f"{kind}.{layer}" for kind in ("attn", "mlp") for layer in range(LAYERS)),
    }
    assert not has_heads(synthetic_ledger(n_prompts=8))


def test_answers_are_those_of_heads_that_can_answer() -> None:
    ds = ledger()
    table = head_answers(ds, resamples=DRAWS)
    names, ablated = ([str(name) for name in ds[dim].values] for dim in ("writer", "ablated"))
    right = {
        (knocked, writer): float(np.average(ds["change"].values[:, k, w], weights=ds["weight"]))
        for k, knocked in enumerate(ablated)
        for w, writer in enumerate(names)
        if writer.startswith("head.") and ds["is_downstream"].values[k, w] and not ds["is_own"].values[k, w]
    }
    found = {(row.ablated, row.head): row.change for row in table.itertuples()}
    assert found == {key: pytest.approx(value, abs=1e-6) for key, value in right.items()}


def test_only_neurons_can_be_summed_to_layers() -> None:
    ds = ledger()
    some = by_layer(ds, ["mlp"])
    assert {str(name) for name in some["writer"].values} == {
        "embed", "bias", *(f"mlp.{layer}" for layer in range(LAYERS)), *heads(ds, resamples=DRAWS)["head"]
    }  # fmt: skip
    assert by_layer(some).attrs["writers"] == by_layer(ds).attrs["writers"] == "layers"
    np.testing.assert_allclose(by_layer(some)["change"], by_layer(ds)["change"], atol=1e-6)
    np.testing.assert_allclose(by_layer(ds)["change"], ledger(apart=False)["change"], atol=1e-5)


@pytest.mark.parametrize("theme", [figures.LIGHT, figures.DARK], ids=["light", "dark"])
def test_charts_of_units_draw_what_the_tables_hold(theme: figures.Theme) -> None:
    ds = ledger()
    table, names = heads(ds, resamples=DRAWS), ["attn.1", "head.1.0"]
    curves = neuron_curves(ds, "attn.1")
    scatter = neurons(ds, resamples=DRAWS)
    sparsity = neuron_sparsity(ds, resamples=DRAWS)
    charts = {
        "direct": (figures.head_grid(table, "direct_effect"), len(table)),
        "total": (figures.head_grid(table, "total_effect"), int(table["knocked_out"].sum())),
        "share": (figures.head_grid(table, "restored_with_norm"), int(table["meaningful"].sum())),
        "answers": (figures.head_answers(head_answers(ds, resamples=DRAWS), table, names), 0),
        "scatter": (figures.neuron_scatter(scatter, names, "attn.1"), WIDTH * len(names)),
        "carried": (figures.carried_by_few(curves, ["attn.1"]), len(curves)),
        "nth": (figures.nth_neuron(curves, ["attn.1"]), len(figures.NTH) * len(curves)),
        "half": (figures.half_by_layer(sparsity, layers=LAYERS), 2),
    }
    for name, (chart, rows) in charts.items():
        spec = figures.themed(chart, theme)
        assert spec["description"] and spec["width"] == "container"
        assert rows == 0 or rows in [len(data) for data in spec["datasets"].values()], name
        svg = vl_convert.vegalite_to_svg(json.dumps({**spec, "width": 400}))
        assert svg.count("<path") > 3 and "NaN" not in svg, name
