"""Self-repair on texts against a plain loop over the ledger, and the two traps: donors and selection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hydrascope as hs
from hydrascope.analysis import RESAMPLES, knows_direct, reads_each, self_repair, self_repair_by_depth
from hydrascope.errors import DetailDropped
from tests.support.planted import planted
from tests.support.texts import DOCUMENTS, planted_ledger, run, same_subject, tiny_ledger

DRAWS, SHARE = 60, 0.1
every_detail = pytest.mark.parametrize("detail", ["kinds", "full"])


def plain(ds, k: int, selection: str) -> dict[str, float]:
    """One row of the table, token by token in Python; whatever is not embedding, norm or bias is read by its kind."""
    if "own_direct_effect" in ds:
        direct = [float(x) for x in ds["own_direct_effect"].values[:, k]]
    else:
        own = ds["is_own"].values[k]
        direct = [sum(float(x) for x, mine in zip(row, own, strict=True) if mine) for row in ds.direct_effect.values]
    tokens = list(range(len(direct)))
    if selection == "top":
        tokens = sorted(tokens, key=lambda i: -direct[i])[: max(1, round(SHARE * len(direct)))]
    found: dict[str, float] = dict.fromkeys(("direct", "own", "total", "attn", "mlp", "norm", "repaired", "shrinks"), 0)
    ratios = []
    for i in tokens:
        own, total = float(ds["own_change"].values[i, k]), float(ds["total_effect"].values[i, k])
        found["direct"] += direct[i]
        found["own"] += own
        found["total"] += total
        found["norm"] += float(ds["norm_effect"].values[i, k])
        found["repaired"] += total > own
        found["shrinks"] += float(ds["scale_ratio"].values[i, k]) > 1
        for j, kind in enumerate(ds["writer_kind"].values):
            if kind in ("attn", "mlp") and not ds["is_own"].values[k, j]:
                found[kind] += float(ds["change"].values[i, k, j])
        ratios.append((own, total))
    size = sum(abs(own) for own, _ in ratios) / len(ratios)
    kept = [-(total - own) / own for own, total in ratios if abs(own) >= size / 2]
    return {name: value / len(ratios) for name, value in found.items()} | {
        "n": len(ratios),
        "median": float(np.median(kept)),
        "mean_ratio": sum(kept) / len(kept),
    }


@every_detail
def test_the_table_is_that_of_a_plain_loop(detail: str) -> None:
    ds = tiny_ledger(detail).dataset
    assert reads_each(ds)
    table = self_repair(ds, top_share=SHARE, resamples=DRAWS).set_index(["ablated", "selection"])
    assert len(table) == 2 * ds.sizes["ablated"]
    for k, name in enumerate(ds["ablated"].values):
        for selection in ("top", "all"):
            row, right = table.loc[(name, selection)], plain(ds, k, selection)
            pairs = {"direct_effect": "direct", "own_change": "own", "total_effect": "total", "repair_attn": "attn"}
            pairs |= {"repair_mlp": "mlp", "repair_norm": "norm", "share_repaired": "repaired", "n_items": "n"}
            pairs |= {"share_norm_shrinks": "shrinks", "restored_median": "median", "restored_mean": "mean_ratio"}
            for column, part in pairs.items():
                assert row[column] == pytest.approx(right[part], rel=1e-5, abs=1e-6), (name, selection, column)
            repaired = right["total"] - right["own"]
            assert row["self_repair"] == pytest.approx(repaired, abs=1e-6)
            assert row["restored"] == pytest.approx(-repaired / right["own"], rel=1e-3, abs=1e-6)


@every_detail
def test_parts_sum_to_self_repair(detail: str) -> None:
    table = self_repair(tiny_ledger(detail).dataset, top_share=SHARE, resamples=DRAWS)
    for whole, part in (("self_repair", "repair"), ("restored", "restored")):
        summed = table[f"{part}_attn"] + table[f"{part}_mlp"] + table[f"{part}_norm"]
        np.testing.assert_allclose(summed, table[whole], rtol=1e-4, atol=1e-4)
    last = table[table["ablated_layer"] == 3]
    assert (last["repair_attn"] == 0).all(), "nothing attends after the last layer's attention"
    assert (table["repair_mlp"] != 0).all()


def test_both_kinds_of_ledger_say_the_same() -> None:
    kinds, full = (self_repair(tiny_ledger(d).dataset, top_share=SHARE, resamples=DRAWS) for d in ("kinds", "full"))
    assert list(kinds) == list(full)
    numbers = kinds.select_dtypes("number").columns
    np.testing.assert_allclose(kinds[numbers], full[numbers], rtol=2e-3, atol=2e-5)


def test_whole_documents_are_drawn() -> None:
    ds = tiny_ledger("kinds").dataset
    row: Any = self_repair(ds, resamples=DRAWS, seed=3).set_index(["ablated", "selection"]).loc[("head.2.1", "all")]
    k = list(ds["ablated"].values).index("head.2.1")
    gap = (ds["total_effect"].values - ds["own_change"].values)[:, k].astype(float)
    document = np.unique(ds["group"].values, return_inverse=True)[1]
    tokens = [gap[document == d] for d in range(DOCUMENTS)]
    excess = np.array([(some - gap.mean()).sum() for some in tokens])
    error = np.sqrt(DOCUMENTS / (DOCUMENTS - 1) * (excess**2).sum()) / len(gap)
    sizes, largest = np.array([len(some) for some in tokens]), []
    for counts in np.random.default_rng(3).multinomial(DOCUMENTS, np.full(DOCUMENTS, 1 / DOCUMENTS), DRAWS):
        drawn = np.repeat(np.arange(DOCUMENTS), counts)
        mean, size = np.concatenate([tokens[d] for d in drawn]).mean(), sizes[drawn].sum()
        squares = sum((tokens[d] - mean).sum() ** 2 for d in drawn)
        own_error = np.sqrt(DOCUMENTS / (DOCUMENTS - 1) * squares) / size
        largest.append(abs(mean - gap.mean()) / max(own_error, 0.3 * error))
    half = error * np.quantile(largest, 0.95, method="higher")
    assert row["self_repair_lo"] == pytest.approx(gap.mean() - half, abs=1e-6)
    assert row["self_repair_hi"] == pytest.approx(gap.mean() + half, abs=1e-6)


def test_what_a_donor_leaves_in_place_is_not_repaired() -> None:
    """All donors write the same: nothing changes, though dlogit + DE would call everything restored."""
    model = planted("neither")
    ds = run(model, same_subject(model, 12), hs.Resample(donors=1), "kinds", "head.1.0,head.2.0").dataset
    table = self_repair(ds, top_share=0.25, resamples=DRAWS)
    naive = table["total_effect"] + table["direct_effect"]
    top = table["selection"] == "top"
    assert (naive[top] > 0.5).all()
    np.testing.assert_allclose(table["self_repair"], 0, atol=1e-4)
    assert not table["removed"].any()
    assert not table["meaningful"].any()
    assert self_repair_by_depth(table, 4).empty
    really = self_repair(planted_ledger("neither", "kinds").dataset, top_share=0.25, resamples=DRAWS)
    assert really["removed"].all()


def test_the_selection_decides() -> None:
    """A head that is repaired where it writes for the target, and only there, is not repaired on average."""
    ds = tiny_ledger("kinds").dataset.copy(deep=True)
    direct = ds["own_direct_effect"]
    ds["own_change"].values[:] = -direct
    wave = np.where(direct > direct.quantile(0.9, "prompt"), 0.5, -0.5) * np.abs(direct)
    ds["total_effect"].values[:] = ds["own_change"] + wave
    table = self_repair(ds, top_share=SHARE, resamples=DRAWS)
    top, every = (table[table["selection"] == selection] for selection in ("top", "all"))
    np.testing.assert_allclose(top["restored"], 0.5, rtol=1e-5)
    assert (top["self_repair"] > 0).all()
    assert (every["self_repair"] < 0).all()
    assert top["meaningful"].all()


def test_layers_are_ratios_of_sums_over_removed_parts() -> None:
    table = self_repair(tiny_ledger("kinds").dataset, top_share=SHARE, resamples=DRAWS)
    table.loc[table["ablated"] == "head.1.0", "removed"] = False
    lines = self_repair_by_depth(table, 4).set_index(["layer", "selection"])
    assert lines.loc[(1, "top"), "parts"] == 1
    assert list(lines["depth"].unique()) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    rows = table[(table["ablated_layer"] == 2) & (table["selection"] == "top")]
    one: Any = lines.loc[(2, "top")]
    assert one["parts"] == 2
    assert one["self_repair"] == pytest.approx(rows["self_repair"].mean())
    assert one["restored"] == pytest.approx(-rows["self_repair"].sum() / rows["own_change"].sum())
    assert one["restored_norm"] == pytest.approx(-rows["repair_norm"].sum() / rows["own_change"].sum())


def test_heads_of_whole_writers_are_refused() -> None:
    ds = tiny_ledger("kinds").dataset.copy(deep=True)
    ds["own_direct_effect"].values[:] = np.nan
    assert not knows_direct(ds)
    with pytest.raises(DetailDropped, match="--writers heads"):
        self_repair(ds)


def test_methods_of_a_ledger_give_copies() -> None:
    ledger = tiny_ledger("kinds")
    mine = ledger.self_repair()
    mine.loc[:, "self_repair"] = 0
    assert ledger.self_repair()["self_repair"].abs().sum() > 0
    assert ledger.self_repair()["self_repair"].tolist() == self_repair(ledger.dataset)["self_repair"].tolist()
    assert ledger.findings.resamples == RESAMPLES
