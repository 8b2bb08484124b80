"""What goes through the model together fits the memory budget, by a bound that is reckoned here."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hydrascope as hs
from hydrascope.engine import Budget, Footprint, Positions, Readings, _measure, _memory, run_interventions
from hydrascope.engine._memory import (
    ACCOUNT_COPIES,
    COLUMN_BYTES,
    ROWS_AT_ONCE,
    TOKENS_AT_ONCE,
    interventions_at_once,
    prompts_at_once,
    require_account,
    size_of,
    text_footprint,
    text_interventions_at_once,
)
from hydrascope.errors import OutOfBudget
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


@given(memory=MEMORY, tokens=st.integers(1, 40))
def test_prompts_that_go_together_fill_half_the_budget_each_with_a_row(memory: int, tokens: int) -> None:
    model = opened("gpt2")
    size = Footprint.of(model, tokens, copies_prefix=False)
    each = size.prompt + size.row
    if each <= memory / 2:
        together = prompts_at_once(model, tokens, Budget(memory))
        assert together * each <= memory / 2 < (together + 1) * each
        return
    with pytest.raises(OutOfBudget, match=f"which needs about {re.escape(size_of(2 * each))}; raise"):
        prompts_at_once(model, tokens, Budget(memory))


def test_without_a_budget_half_of_what_is_free_on_the_tightest_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"cpu": 1000, "meta": 600}
    monkeypatch.setattr(_memory, "_free", lambda device: free[device.type])
    assert Budget.read(None, CPU, torch.device("meta")).bytes == 300
    assert Budget.read("3KB").bytes == 3 * 1024 == 2 * Budget.read("3K").halved().bytes


def test_an_account_of_one_prompt_may_fill_the_budget_and_no_more() -> None:
    one = ACCOUNT_COPIES * 8 * 10 * 7
    assert require_account(Budget(one), 4 * 3 * 2 * 70, prompts=2, knockouts=10, entries=7, arrays=3) == 1680
    with pytest.raises(OutOfBudget, match="for a single prompt"):
        require_account(Budget(one - 1), 10**9, prompts=2, knockouts=10, entries=7, arrays=3)
    with pytest.raises(OutOfBudget, match="the ledger of"):
        require_account(Budget(one), 1679, prompts=2, knockouts=10, entries=7, arrays=3)


def test_a_row_has_its_own_keys_and_values_where_they_are_copied_and_its_read_outs() -> None:
    model, tokens = opened("gpt2"), 9
    size, copied, read, split, wider = (
        Footprint.of(model, tokens, copies_prefix, columns, attending)
        for copies_prefix, columns, attending in (
            (False, 0, 0),
            (True, 0, 0),
            (False, 5, 0),
            (False, 5, 2),
            (False, 5, 3),
        )
    )
    assert copied.row - size.row == 2 * model.anatomy.n_layers * model.anatomy.d_model * tokens * 4
    assert read.row - size.row == 5 * COLUMN_BYTES
    assert wider.row - split.row == 2 * COLUMN_BYTES < split.row - read.row
    assert size.prompt == copied.prompt == split.prompt > 2 * (copied.row - size.row), "the prefix, and its copy"


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
