"""Sentences on planted costs: each is said where it is true and its interval is clear, and not elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from hydrascope.pruning import Chosen, Cost, Findings, Judged, Store
from hydrascope.pruning._told import told
from hydrascope.pruning.rankings import RANKINGS
from hydrascope.resilience import Verdict

DOCUMENTS, TOKENS, CLEAN = 12, 100, 3.0
EFFECTS = np.random.default_rng(5).normal(0, 1, (2, DOCUMENTS))
PARTS = tuple(f"layer.{i}" for i in range(4))


def judged(rises: Mapping[str, float], seen: bool, noise: float) -> Judged:
    """One text from each of some documents, which differ in the rise of a set by the noise, the same for all sets."""
    store, effects = Store(None, "calibration" if seen else "test"), EFFECTS[int(seen)] - EFFECTS[int(seen)].mean()
    for name, rise in {"": 0.0, **rises}.items():
        loss = TOKENS * (CLEAN + rise + (noise * effects if name else 0 * effects))
        kl = TOKENS * abs(rise) * (1 + 0.2 * effects)
        store.known[name] = Cost(loss, kl, np.full(DOCUMENTS, TOKENS * 0.5))
    return Judged(store, tuple(f"{seen} {i}" for i in range(DOCUMENTS)), np.full(DOCUMENTS, float(TOKENS)))


def found(
    chosen: Mapping[str, Mapping[int, str]],
    seen: Mapping[str, float],
    unseen: Mapping[str, float] | None = None,
    noise: float = 0.01,
    **more: Any,
) -> Findings:
    """Rankings with the set that each chose at every size, and what sets cost on either half of the text."""
    rankings = {
        name: Chosen(RANKINGS[name], {size: (tuple(one.split("+")),) for size, one in sets.items()}, {})
        for name, sets in chosen.items()
    }
    halves = judged(seen, True, noise), judged({**seen, **(unseen or {})}, False, noise)
    return Findings("blocks", PARTS, rankings, *halves, **more)


def said(findings: Findings, begins: str) -> str:
    """The only sentence that begins so; empty if there is none."""
    (one,) = [one for one in told(findings).sentences if one.startswith(begins)] or [""]
    return one


def everything(verdict: Verdict) -> str:
    return " ".join([verdict.headline, *verdict.sentences])


def test_equal_sets_are_named_together() -> None:
    chosen = {
        "kl": {1: "layer.3"},
        "loss": {1: "layer.3"},
        "influence": {1: "layer.3"},
        "greedy": {1: "layer.2"},
        "last": {1: "layer.0"},
    }
    some = found(chosen, {"layer.3": 0.1, "layer.2": 0.1, "layer.0": 0.5})
    assert said(some, "At 1") == (
        "At 1, kl, loss and influence all remove layer.3, which costs least on that text (0.100 [0.094, 0.106]); "
        "greedy cannot be told from it; clearly worse: last."
    )
    assert said(found({name: chosen[name] for name in ("kl", "loss")}, {"layer.3": 0.1}), "At 1") == (
        "At 1, kl and loss both remove layer.3, at the same cost on that text (0.100 [0.094, 0.106])."
    )
    assert said(found({name: chosen[name] for name in ("kl", "last")}, {"layer.3": 0.1, "layer.0": 0.5}), "At 1") == (
        "At 1, kl costs least on that text (0.100 [0.094, 0.106]); clearly worse: last."
    )


GAP = {"kl": {1: "layer.3"}, "last": {1: "layer.0"}}


def test_a_gap_is_told_of_the_chosen_set_where_it_is_clear() -> None:
    """A gap within the noise of two halves is none, however large that of another ranking is."""
    seen = {"layer.3": 0.1, "layer.0": 0.5}
    clear = found(GAP, seen, {"layer.3": 0.2, "layer.0": 0.5})
    row = clear.costs.set_index("ranking").loc["kl"]
    assert 0 < row["gap_lo"] < row["gap"] < row["gap_hi"]
    assert row["gap"] == pytest.approx(0.1)
    ends = f"[{row['gap_lo']:.3f}, {row['gap_hi']:.3f}]"
    assert said(clear, "The set of kl") == (
        f"The set of kl costs 0.100 {ends} more on text that no ranking saw than on the text that it was chosen on "
        "(0.100); of last, which saw neither, that is not clear: choosing on it may have made it look cheaper."
    )
    assert not said(found(GAP, seen, {"layer.3": 0.101, "layer.0": 0.9}), "The set of")
    assert "so does that of last" in said(found(GAP, seen, {"layer.3": 0.2, "layer.0": 0.6}), "The set of kl")
    # a ranking that looked at neither half cannot have chosen on one of them
    last = {"last": GAP["last"]}
    assert not said(found(last, seen, {"layer.0": 0.7}), "The set of")
    alone = found({"kl": GAP["kl"]}, seen, {"layer.3": 0.2})
    assert said(alone, "The set of kl").endswith("no ranking that saw neither tells.")
    # constants are made on that text for whatever goes
    fitted = found(GAP, seen, {"layer.3": 0.2, "layer.0": 0.5}, replace="mean")
    assert said(fitted, "The set of kl").endswith("no ranking that saw neither tells.")


def exposed(beside: float, **more: Any) -> Findings:
    """kl removes two parts of which each costs .1 alone; greedy, which nobody would use, three."""
    seen = {one: 0.1 for one in PARTS} | {"layer.2+layer.3": 0.1 + beside}
    seen |= {"layer.0+layer.1": 9.0}
    return found({"kl": {2: "layer.2+layer.3"}, "greedy": {2: "layer.0+layer.1"}}, seen, **more)


def test_exposure_is_told_of_the_chosen_set_where_it_is_clear() -> None:
    some = exposed(0.5)
    assert len(some.exposure) == 2  # one interaction of two, one row
    row = some.exposure.set_index("ranking").loc["kl"]
    assert row["exposure"] == pytest.approx(0.4)
    assert row["exposure_lo"] > 0
    assert row["significant"]
    assert said(some, "layer.") == (
        f"layer.2 costs 0.100 alone and 0.500 beside layer.3 that goes, 0.400 [{row['exposure_lo']:.3f}, "
        f"{row['exposure_hi']:.3f}] more on the text that rankings saw: its cheapness rests on it."
    )
    assert not said(exposed(0.101), "layer.")


def test_the_interval_of_exposure_is_paired_over_documents() -> None:
    row = exposed(0.5, noise=0.3).exposure.set_index("ranking").loc["kl"]
    effects = 0.3 * (EFFECTS[1] - EFFECTS[1].mean())
    # beside is (set - rest), in which documents cancel; alone keeps them
    values = 0.4 - effects
    error = values.std(ddof=1) / np.sqrt(DOCUMENTS)
    assert row["exposure_hi"] - row["exposure_lo"] >= 2 * 2.2 * error * (1 - 1e-3)
    assert row["beside_hi"] - row["beside_lo"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("unseen", "ends"),
    [
        (0.1, "that is 1.033 [1.031, 1.035] times the loss, within the bound of 1.05."),
        (0.149, "that is 1.050 [1.048, 1.052] times the loss, within the bound of 1.05, though not clearly."),
        (0.3, "that is 1.100 [1.098, 1.102] times the loss, beyond the bound of 1.05."),
    ],
)
def test_the_headline_names_the_bound_and_whether_unseen_text_keeps_it(unseen: float, ends: str) -> None:
    some = found({"kl": {1: "layer.3", 2: "layer.2+layer.3"}}, {"layer.3": 0.1, "layer.2+layer.3": 2.0}, keep_loss=1.05)
    some.test.store.known.update(judged({"layer.3": unseen}, False, 0.01).store.known)
    headline = told(some).headline
    assert headline.startswith(
        "Without 1 of 4 blocks (25 %), chosen by kl, the most that keeps the loss on the text that it saw within 1.05 "
    )
    assert headline.endswith(ends)


def test_nothing_that_goes_is_told_with_all_digits_of_the_bound() -> None:
    costs = {"layer.3": 0.1, "layer.2+layer.3": 2.0}
    one = found({"kl": {1: "layer.3", 2: "layer.2+layer.3"}}, costs, keep_loss=1.0000001)
    assert told(one).headline == "No ranking stays within 1.0000001 times the loss even without 1 of 4 blocks."
    two = found({"kl": {2: "layer.2+layer.3"}}, costs, keep_loss=1.05)
    assert told(two).headline == (
        "No ranking stays within 1.05 times the loss at any size that was tried, the least without 2 of 4 blocks; try "
        "fewer."
    )


def test_a_loss_that_falls_falls_and_nothing_is_minus_zero() -> None:
    assert "rises by 0.000" in told(found({"kl": {1: "layer.3"}}, {"layer.3": -0.0001})).headline
    falls = told(found({"kl": {1: "layer.3"}}, {"layer.3": -0.011}))
    assert "falls by 0.011 [0.005, 0.017] nats" in falls.headline
    none = told(found({"kl": {1: "layer.3"}, "last": {1: "layer.2"}}, {"layer.3": -0.0001, "layer.2": 0.0}, noise=1e-6))
    assert "0.000" in everything(none)
    assert "-0.000" not in everything(none)


def test_no_divergence_has_an_interval_below_zero() -> None:
    some = found({"kl": {1: "layer.3"}}, {"layer.3": 0.1})
    some.test.store.known["layer.3"] = Cost(
        np.full(DOCUMENTS, 300.0), np.eye(DOCUMENTS)[0] * TOKENS, np.full(DOCUMENTS, 99.9)
    )
    row = some.costs.iloc[0]
    assert row["kl_lo"] == 0 < row["kl"] == pytest.approx(1 / DOCUMENTS)
    assert row["agreed_hi"] <= 1
