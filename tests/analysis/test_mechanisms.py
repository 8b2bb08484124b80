"""Mechanisms of self-repair on texts: what was planted comes out, and the norm's part is a second reading."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import hydrascope as hs
from hydrascope.analysis import Tokens, mechanisms, mechanisms_by_depth, pooled_mechanisms
from hydrascope.analysis._erasure import split_change
from hydrascope.analysis._mechanisms import by_token
from hydrascope.errors import DetailDropped
from tests.support.planted import _scales as scales
from tests.support.planted import planted
from tests.support.texts import answers, planted_ledger, tiny_ledger
from tests.support.tiny import network

DRAWS = 60
TOP = 0.2
"""In the planted texts one of four read tokens is an answer; a fifth of all tokens are answers only."""


def shares(name: str, detail: str, split: Any = "sign") -> dict[str, float]:
    """Shares of the loss on the answers by mechanism, of the copying head of a planted model."""
    table = mechanisms(planted_ledger(name, detail).dataset, split=split, top_share=TOP, resamples=DRAWS)
    rows = table[(table["selection"] == "top") & (table["ablated"] == "head.1.0")]
    assert rows["removed"].all()
    return dict(zip(rows["mechanism"], rows["share"], strict=True))


ONLY = {"backup": ("attn_promotion", 1.0), "erasure": ("mlp_suppression", 0.4), "norm": ("norm", None)}


@pytest.mark.parametrize(("detail", "split"), [("kinds", "sign"), ("full", "sign"), ("full", "zero")])
@pytest.mark.parametrize("name", ONLY)
def test_the_split_finds_exactly_what_was_planted(name: str, detail: str, split: str) -> None:
    found, (mechanism, share) = shares(name, detail, split), ONLY[name]
    expected = found["self_repair"] if share is None else share
    assert expected > 0.1
    for other, value in found.items():
        right = expected if other in (mechanism, "self_repair") else 0
        assert value == pytest.approx(right, abs=1e-3), other


def test_the_norm_part_is_the_one_on_paper() -> None:
    model = planted("norm")
    ds = planted_ledger("norm", "kinds", "attn.1").dataset
    ds = ds.isel(prompt=ds["position"].values == 4)  # where the answer is next
    texts = [list(text.input_ids or ())[:-1] for text in answers(model)]
    before, after = scales(model.recipe, texts), scales(model.recipe, texts, "attn.1")
    np.testing.assert_allclose(ds["scale_ratio"].values[:, 0], before / after, rtol=1e-5)
    found = by_token(Tokens.of(ds))
    np.testing.assert_allclose(found["norm"][:, 0], (before / after - 1) * 0.3 * model.strengths / before, atol=1e-4)


@pytest.mark.parametrize("detail", ["kinds", "full"])
def test_mechanisms_sum_to_self_repair_and_kinds_to_compensation(detail: str) -> None:
    ds = tiny_ledger(detail).dataset
    tokens = Tokens.of(ds)
    for split in ("sign", "zero") if detail == "full" else ("sign",):
        found = by_token(tokens, split)
        whole = found.pop("self_repair")
        np.testing.assert_allclose(sum(found.values()), whole, atol=2e-4)
        for kind in ("attn", "mlp"):
            both = found[f"{kind}_suppression"] + found[f"{kind}_promotion"]
            np.testing.assert_allclose(both, tokens.response(kind), atol=1e-12)


def test_both_ways_of_splitting_against_a_plain_loop() -> None:
    ds = tiny_ledger("full").dataset
    tokens = Tokens.of(ds)
    by_sign, at_zero = by_token(tokens, "sign"), by_token(tokens, "zero")
    direct, change = ds["direct_effect"].values, ds["change"].values
    for k in (0, 3, 5):
        for i in range(0, len(direct), 17):
            sign, zero = {"attn": 0.0, "mlp": 0.0}, {"attn": 0.0, "mlp": 0.0}
            for j, kind in enumerate(ds["writer_kind"].values):
                if kind in sign and not ds["is_own"].values[k, j]:
                    before, after = float(direct[i, j]), float(direct[i, j]) + float(change[i, k, j])
                    sign[kind] += float(change[i, k, j]) if before < 0 else 0.0
                    zero[kind] += min(after, 0.0) - min(before, 0.0)
            for kind in sign:
                assert by_sign[f"{kind}_suppression"][i, k] == pytest.approx(sign[kind], abs=1e-6)
                assert at_zero[f"{kind}_suppression"][i, k] == pytest.approx(zero[kind], abs=1e-6)


def test_sums_by_kind_split_as_every_writer_does() -> None:
    kinds, full = (by_token(Tokens.of(tiny_ledger(detail).dataset)) for detail in ("kinds", "full"))
    assert list(kinds) == list(full)
    for name in kinds:
        np.testing.assert_allclose(kinds[name], full[name], atol=2e-5, err_msg=name)


def test_at_zero_is_the_split_of_the_erasure_tables() -> None:
    ds = tiny_ledger("full").dataset
    late = (ds["writer_kind"] == "mlp").values
    cut = split_change(ds["direct_effect"].values[:, late].astype(float), ds["change"].values[:, 7, late].astype(float))
    found = by_token(Tokens.of(ds), "zero")
    np.testing.assert_allclose(found["mlp_suppression"][:, 7], (cut["relaxed"] + cut["strengthened"]).sum(1))
    np.testing.assert_allclose(found["mlp_promotion"][:, 7], (cut["promoted"] + cut["lost"]).sum(1), atol=1e-9)


def test_sums_by_kind_cannot_be_split_at_zero() -> None:
    with pytest.raises(DetailDropped, match="--detail full"):
        mechanisms(tiny_ledger("kinds").dataset, split="zero")


def test_the_norm_part_is_a_second_reading_of_every_writer() -> None:
    """All writes of the ablated run, read once with the clean and once with the ablated scale, by plain hooks."""
    ds = tiny_ledger("kinds", "head.1.0").dataset
    slow = network(n_layer=4).double()
    base = slow.transformer
    unembedding = slow.lm_head.weight
    seen: dict[str, torch.Tensor] = {}
    stream = base.ln_f.register_forward_pre_hook(lambda _, args: seen.__setitem__("stream", args[0][0]))
    # one donor was drawn for each text; find it by the change that it makes, and check every token of the text
    drawn = torch.randint(4, 60, (24, 9), generator=torch.Generator().manual_seed(5))
    out = base.h[1].attn.c_proj
    clean, values = [], []
    keep = out.register_forward_pre_hook(lambda _, args: seen.__setitem__("heads", args[0][0, :, :8]))
    with torch.no_grad():
        for ids in drawn:
            slow(ids[None])
            clean.append(seen["stream"])
            values.append(seen["heads"].clone())
    keep.remove()

    def read(stream: torch.Tensor, scale: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        rows = unembedding - unembedding.mean(0)
        centred = stream - stream.mean(-1, keepdim=True)
        return (centred / scale[:, None] * base.ln_f.weight * rows[targets]).sum(-1)

    def scale_of(stream: torch.Tensor) -> torch.Tensor:
        return (stream.var(-1, unbiased=False) + base.ln_f.eps).sqrt()

    for text in (0, 7):
        ids, mine = drawn[text], (ds["document"] == text).values
        booked = ds["norm_effect"].values[mine, 0]
        errors = []
        for donor in range(24):
            with torch.no_grad():
                put = out.register_forward_pre_hook(
                    lambda _, args, v=values[donor]: (torch.cat([v[None], args[0][..., 8:]], -1),)
                )
                slow(ids[None])
                put.remove()
                after, before = seen["stream"][1:-1], clean[text][1:-1]
                again = read(after, scale_of(after), ids[2:]) - read(after, scale_of(before), ids[2:])
            errors.append(float((again - torch.from_numpy(booked)).abs().max()))
        assert np.argmin(errors) != text
        assert min(errors) < 1e-4
        assert sorted(errors)[1] > 1e-2
    stream.remove()


def test_layers_and_the_second_half_are_sums_over_parts() -> None:
    ds = tiny_ledger("kinds").dataset
    table, together = (
        mechanisms(ds, top_share=0.1, resamples=DRAWS),
        pooled_mechanisms(ds, top_share=0.1, resamples=DRAWS),
    )
    lines = mechanisms_by_depth(table, 4).set_index(["layer", "selection", "mechanism"])
    for selection in ("top", "all"):
        for mechanism in ("norm", "mlp_promotion", "self_repair"):
            rows = table[(table["selection"] == selection) & (table["mechanism"] == mechanism) & table["removed"]]
            layer = rows[rows["ablated_layer"] == 3]
            line = lines.loc[3].loc[selection].loc[mechanism]
            assert line["mean"] == pytest.approx(layer["mean"].mean())
            assert line["share"] == pytest.approx(-layer["mean"].sum() / layer["own_change"].sum())
            late = rows[rows["ablated_layer"] >= 2]
            row = together[(together["selection"] == selection) & (together["mechanism"] == mechanism)].iloc[0]
            assert row["parts"] == len(late)
            assert row["mean"] == pytest.approx(late["mean"].mean())
            assert row["share"] == pytest.approx(-late["mean"].sum() / late["own_change"].sum())
            assert row["mean_lo"] <= row["mean"] <= row["mean_hi"]


def test_shares_are_not_clipped_and_have_intervals_medians_and_means() -> None:
    table = hs.Ledger(tiny_ledger("kinds").dataset).mechanisms()
    whole = table[table["mechanism"] == "self_repair"]
    assert whole["share"].min() < 0
    assert {"share_lo", "share_hi", "share_median", "share_mean"} <= set(table)
    known = whole["share_lo"].notna()  # three top tokens say nothing of other documents
    assert (known == (whole["selection"] == "all")).all() and (whole["share_lo"] <= whole["share_hi"])[known].all()
    one = hs.Ledger(tiny_ledger("kinds").dataset).self_repair()
    merged = whole.merge(one, on=["ablated", "selection"])
    np.testing.assert_allclose(merged["share"], merged["restored"])
    np.testing.assert_allclose(merged["share_median"], merged["restored_median"])
    np.testing.assert_allclose(merged["share_mean"], merged["restored_mean"])
