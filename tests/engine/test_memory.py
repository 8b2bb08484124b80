"""What goes through the model together fits the memory budget, by a bound that is reckoned here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hydrascope as hs
from hydrascope.engine import Budget, Footprint, Positions, Readings, _measure, run_interventions
from hydrascope.engine._memory import (
    ROWS_AT_ONCE,
    TOKENS_AT_ONCE,
    interventions_at_once,
    text_footprint,
    text_interventions_at_once,
)
from tests.engine.test_texts import opened
from tests.run.test_text_runs import prompts
from tests.support.positions import where

CPU = torch.device("cpu")
COUNT = st.integers(1, 60)
ROW = st.integers(1, 10_000)
MEMORY = st.integers(2, 2**24)


def most(holds: Any) -> int:
    """The largest number from 1 on for which something holds, or 1: pushing one at a time is always tried."""
    number = 1
    while holds(number + 1):
        number += 1
    return number


@given(memory=MEMORY, row=ROW, together=COUNT)
def test_rows_of_a_push_fill_half_the_budget_and_one_of_them_is_the_clean_run(
    memory: int, row: int, together: int
) -> None:
    def fits(variants: int) -> bool:
        rows = together * (variants + 1)
        return rows * row <= memory / 2 and rows <= ROWS_AT_ONCE

    assert interventions_at_once(Budget(memory), Footprint(prompt=0, row=row), together) == most(fits)


@given(memory=MEMORY, row=ROW, together=COUNT, tokens=COUNT)
def test_rows_of_a_push_of_texts_do_too_and_its_tokens_fit_the_cache(
    memory: int, row: int, together: int, tokens: int
) -> None:
    def fits(variants: int) -> bool:
        return row * together * (variants + 1) <= memory / 2 and variants * together * tokens <= TOKENS_AT_ONCE["cpu"]

    assert text_interventions_at_once(Budget(memory), row, together, tokens, CPU) == most(fits)


def pushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """What a run pushes from now on: variants, prompts and tokens of each."""
    found: list[tuple[int, int, int]] = []

    def watched(model: hs.Model, clean: Any, variants: Any, *args: Any, **more: Any) -> Readings:
        if variants:
            found.append((len(variants), *clean.ids.shape))
        return run_interventions(model, clean, variants, *args, **more)

    monkeypatch.setattr(_measure, "run_interventions", watched)
    return found


@pytest.mark.parametrize("lengths", [(7,), (7, 7), (7, 7, 7, 7)], ids=len)
def test_a_run_pushes_as_many_rows_as_half_its_budget_holds(
    lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, found = opened("gpt2"), pushed(monkeypatch)
    options = hs.Options(components="neuron.1.*", keep_wrong=True, target="top", null_draws=0, memory="300KB")
    ds = hs.knock_out(model, prompts(lengths), ablation=hs.Zero(), options=options).dataset
    row = Footprint.of(model, 7, copies_prefix=False, columns=ds.sizes["writer"]).row
    fit = 300 * 2**10 // 2 // row
    assert len(found) > 2
    assert all((variants + 1) * together <= fit for variants, together, _ in found)
    assert any((variants + 2) * together > fit for variants, together, _ in found), "no row is left unused"


def test_a_run_of_texts_pushes_as_many_rows_as_half_its_budget_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    model, found = opened("gpt2"), pushed(monkeypatch)
    scope = Positions("all", "each", skip=2)
    options = hs.Options(
        components="neuron.1.*", keep_wrong=True, target="top", null_draws=0, memory="900KB", **where(scope)
    )
    ds = hs.knock_out(model, prompts((7, 7, 7)), ablation=hs.Zero(), options=options).dataset
    fit = 900 * 2**10 // 2 // text_footprint(model, 7, 5, ds.sizes["writer"])
    assert len(found) > 2
    assert all((variants + 1) * together <= fit for variants, together, _ in found)
    assert any((variants + 2) * together > fit for variants, together, _ in found), "no row is left unused"
