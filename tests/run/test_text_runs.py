"""Runs over whole texts: the ledger against plain float64 forwards, donors, resuming, what the user may get wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import hydrascope as hs
from hydrascope import figures
from hydrascope.ablations import Ablation, PositionMean
from hydrascope.analysis import Findings
from hydrascope.anatomy import Place, directions
from hydrascope.components import parse_knockouts
from hydrascope.engine import Positions, _measure, edited_places, measure
from hydrascope.errors import AblationError, HydrascopeError, RunError, TooFewDonors
from hydrascope.ledger import LedgerBuffer, LedgerFile, _buffer, rows_of_a_chunk
from hydrascope.ledger._schema import rows_of_a_file
from hydrascope.report import render
from hydrascope.run import _runner, _text_run
from hydrascope.run._task import prepare
from tests.engine.test_texts import opened, plain
from tests.support.families import VOCABULARY
from tests.support.plain import slow_copy
from tests.support.positions import where

LENGTHS = (7, 9, 7, 9, 7)  # no padding: the two lengths are batches of their own
COMPONENTS = "attn.1,mlp.0,head.1.2,attn.0+mlp.2"
TOLERANCE = 1e-4


def prompts(lengths=LENGTHS, seed: int = 3) -> hs.PromptSet:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]
    return hs.PromptSet("texts", tuple(hs.Prompt(input_ids=tuple(ids), target_id=ids[0]) for ids in made))


def ledger(name: str, ablation: Ablation, scope: Positions, components: str = COMPONENTS, **more) -> xr.Dataset:
    options = hs.Options(null_draws=more.pop("null_draws", 0), keep_wrong=True, **where(scope), **more)
    return hs.knock_out(opened(name), prompts(), components, ablation, options=options).dataset


def values_of(slow, model, text, scope: Positions, places) -> dict[Place, torch.Tensor]:
    """What a text has at every edited position of some places, by a plain pass."""
    seen: dict[Place, torch.Tensor] = {}
    handles = []
    for place in places:
        module = slow.get_submodule(place.site.module)

        def keep(tensor, place=place):
            rows = tensor.reshape(len(text), -1)[list(scope.ablated_in(len(text)))]
            seen[place] = rows[:, place.span].clone()

        if place.site.side == "input":
            handles.append(module.register_forward_pre_hook(lambda _, args, keep=keep: keep(args[0])))
        else:
            handles.append(
                module.register_forward_hook(lambda _, __, y, keep=keep: keep(y[0] if isinstance(y, tuple) else y))
            )
    try:
        with torch.no_grad():
            slow(input_ids=text[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def last_stream(slow, model, text) -> torch.Tensor:
    """What enters the final norm, [tokens, d]."""
    seen: list[torch.Tensor] = []
    norm = slow.get_submodule(model.anatomy.tail.norm)
    handle = norm.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    try:
        with torch.no_grad():
            slow(input_ids=text[None], use_cache=False)
    finally:
        handle.remove()
    return seen[-1]


@pytest.mark.parametrize("kind", ["zero", "mean", "position-mean"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_a_ledger_of_texts_is_that_of_plain_float64_forwards(name: str, kind: str) -> None:
    scope = Positions("all", "each", skip=2)
    ablation: Any = {"zero": hs.Zero(), "mean": hs.Mean(), "position-mean": PositionMean()}[kind]
    ds, model = ledger(name, ablation, scope), opened(name)
    slow = slow_copy(model.network)
    texts = [torch.tensor(prompt.input_ids) for prompt in prompts()]
    for knockout in parse_knockouts(COMPONENTS, model.anatomy.inventory):
        places = edited_places(knockout, model.anatomy)
        for number in (0, 1):
            text = texts[number]
            edited, values = scope.ablated_in(len(text)), [values_of(slow, model, t, scope, places) for t in texts]
            put = {}
            for place in places:
                same = torch.stack([v[place] for v, t in zip(values, texts, strict=True) if len(t) == len(text)])
                mean = torch.cat([v[place] for v in values]).mean(0).expand(same.shape[1:])
                put[place] = {"zero": torch.zeros_like(mean), "mean": mean, "position-mean": same.mean(0)}[kind]
            before = plain(slow, model, text, edited)
            after = plain(slow, model, text, edited, list(put.items()))
            stream = last_stream(slow, model, text)
            for position in scope.read_in(len(text)):
                target = int(text[position + 1])
                row = ds.sel(ablated=str(knockout)).isel(
                    prompt=int(np.flatnonzero((ds["document"] == number) & (ds["position"] == position))[0])
                )
                assert int(row["target_token"]) == target
                read = directions(model.network, model.anatomy.tail, torch.tensor([target]))
                logits = [x[1][position][target] - x[1][position].mean() for x in (before, after)]
                assert float(row["total_effect"]) == pytest.approx(float(logits[1] - logits[0]), abs=TOLERANCE)
                sigma = float(model.anatomy.tail.sigma(stream[position]))
                changes = (after[0][position] - before[0][position]) @ read.vectors[0].double() / sigma
                np.testing.assert_allclose(row["change"].values[1:-1], changes, atol=TOLERANCE)
    rest = ds["total_effect"] - ds["change"].sum("writer") - ds["norm_effect"] - ds["remainder"]
    assert float(np.abs(rest).max()) < 1e-5
    assert ds.attrs["closing_error"] < 1e-4
    assert ds.sizes["prompt"] == sum(n - 1 - 2 for n in LENGTHS)


def test_effects_at_the_last_token_are_the_same_from_both_engines() -> None:
    options = {"target": "label", "writers": "heads"}
    short = ledger("llama", hs.Zero(), Positions(), **options)
    whole = ledger("llama", hs.Zero(), Positions("-1,-1", "last"), **options)
    assert short.attrs["engine"] != whole.attrs["engine"]
    for name in ("change", "norm_effect", "total_effect", "own_change", "kl", "log_prob_change", "clean_logit"):
        np.testing.assert_allclose(whole[name], short[name], atol=2e-5, err_msg=name)


def test_donors_are_other_texts_of_the_same_length(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = []
    real = measure

    def watched(work, *args, **more):
        tables.append((work.plan.table.copy(), len(work.keys)))
        return real(work, *args, **more)

    monkeypatch.setattr(_runner, "measure", watched)
    ds = ledger("gpt2", hs.Resample(donors=1), Positions("all", "each"))
    assert ds.sizes["prompt"] == sum(n - 2 for n in LENGTHS)
    for table, count in tables:
        assert table.shape == (1, count)
        assert (np.sort(table[0]) == np.arange(count)).all(), "everyone lends once"
        assert (table[0] != np.arange(count)).all(), "nobody to himself"


@pytest.mark.parametrize("scope", [Positions(), Positions("all"), Positions("all", "each")])
def test_a_permuted_file_gives_the_same_donors(scope: Positions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydrascope.engine._memory.TEXTS_IN_BLOCK", 4)  # texts of one length lend in two blocks
    whole = prompts((7,) * 9 + (9,) * 3)
    order = np.random.default_rng(1).permutation(len(whole)).tolist()
    permuted = hs.PromptSet("permuted", tuple(whole[i] for i in order))
    options = hs.Options(components=COMPONENTS, null_draws=0, keep_wrong=True, **where(scope))
    one, other = (
        hs.knock_out(opened("gpt2"), some, ablation=hs.Resample(donors=2), options=options).dataset
        for some in (whole, permuted)
    )
    each = len(scope.read_in(7)), len(scope.read_in(9))
    counts = [each[len(prompt.input_ids or ()) == 9] for prompt in whole]
    rows = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
    moved = np.concatenate([rows[i] for i in order])
    assert (np.diff(other["prompt"]) > 0).all(), "the rows are the file's"
    for name in ("total_effect", "change", "kl"):
        np.testing.assert_allclose(other[name], one[name][moved], rtol=0, atol=2e-5, err_msg=name)


def test_noise_and_null_run_on_texts_and_close() -> None:
    ds = ledger("gpt2", hs.Noise(donors=2), Positions("0,2,-1", "each"), null_draws=1, distribution=False)
    assert ds.attrs["closing_error"] < 1e-4
    assert "kl" not in ds
    assert float(np.abs(ds["null_total_effect"]).max()) > 1e-3
    ahead = ds["position"].values == 1  # position 0 is knocked out, so what stands at 1 can change by attention alone
    assert ahead.any()


def test_positions_before_the_first_knock_out_do_not_change() -> None:
    ds = ledger("llama", hs.Zero(), Positions("3", "each"))
    before = ds["position"].values < 3
    assert float(np.abs(ds["total_effect"].values[before]).max()) < 1e-6
    assert float(np.abs(ds["total_effect"].values[~before]).max()) > 1e-2


def test_a_run_that_was_interrupted_ends_in_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = hs.Options(positions="all", read="each", null_draws=1, keep_wrong=True)
    monkeypatch.setattr(_text_run, "texts_at_once", lambda *args: 1)

    def run(out: Path) -> xr.Dataset:
        return hs.knock_out(
            opened("gpt2"), prompts(), COMPONENTS, hs.Resample(donors=1), options=options, out=out
        ).dataset

    right = run(tmp_path / "whole")
    real, calls = measure, list[int]()

    def failing(*args, **more):
        calls.append(0)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(_runner, "measure", failing)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    monkeypatch.setattr(_runner, "measure", lambda *args, **more: (calls.append(1), real(*args, **more))[1])
    found = run(tmp_path / "killed")
    assert sum(calls) == len(LENGTHS) - 3, "what was done is not done again"
    for name in right.data_vars:
        np.testing.assert_array_equal(found[name].values, right[name].values, err_msg=str(name))


def test_rows_are_written_together_and_whatever_happens() -> None:
    written: list[tuple[range, dict[str, np.ndarray]]] = []

    class File(LedgerFile):
        def __init__(self) -> None:
            pass

        def done(self) -> np.ndarray:
            return np.array([True, True, False, False, True])

        def write(self, rows: range, arrays: Mapping[str, np.ndarray]) -> None:
            written.append((rows, dict(arrays)))

    def rows(start: int, stop: int) -> tuple[range, dict[str, np.ndarray]]:
        by_row = np.arange(start, stop, dtype=float)
        return range(start, stop), {"kl": by_row[:, None], "change_by_half": by_row[None, :, None, None].repeat(2, 0)}

    def interrupted() -> None:
        with LedgerBuffer(File(), 10.0) as found:
            done = [found.is_done(some) for some in (range(2), range(3), range(4, 5))]
            assert done == [True, False, True]
            found.add(*rows(0, 2))
            found.add(*rows(2, 3))
            assert not written
            found.add(*rows(4, 6))  # a gap: what came before cannot wait any longer
            assert [some for some, _ in written] == [range(3)]
            found.add(*rows(6, 7))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [some for some, _ in written] == [range(3), range(4, 7)]
    assert [arrays["kl"].tolist() for _, arrays in written] == [[[0], [1], [2]], [[4], [5], [6]]]
    assert written[1][1]["change_by_half"].shape == (2, 3, 1, 1)


@pytest.mark.parametrize(("where", "limit"), [(_text_run.TextRun, "wait"), (_buffer, "BYTES")])
def test_rows_do_not_wait_long(where: Any, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, limit, 0)
    writes, real = [], LedgerFile.write
    monkeypatch.setattr(LedgerFile, "write", lambda file, rows, arrays: (writes.append(rows), real(file, rows, arrays)))
    monkeypatch.setattr(_text_run, "texts_at_once", lambda *args: 1)
    ds = ledger("gpt2", hs.Zero(), Positions("all", "each"))
    assert len(writes) == len(LENGTHS) and sum(map(len, writes)) == ds.sizes["prompt"]


@pytest.mark.parametrize(
    ("size", "expected"), [(2**20, [range(3), range(3, 6)]), (16, [range(2), range(2, 4), range(4, 6)])]
)
def test_rows_wait_until_they_are_many_or_the_last_write_is_long_ago(
    size: int, expected: list[range], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[range] = []
    clock = [0.0]

    class File(LedgerFile):
        def __init__(self) -> None:
            pass

        def done(self) -> np.ndarray:
            return np.zeros(6, bool)

        def write(self, rows: range, arrays: Mapping[str, np.ndarray]) -> None:
            written.append(rows)

    monkeypatch.setattr(_buffer, "BYTES", size)
    monkeypatch.setattr(_buffer, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    found = LedgerBuffer(File(), 10.0)
    for row, clock[0] in enumerate((1.0, 9.9, 10.0, 10.1, 19.9, 20.0)):
        found.add(range(row, row + 1), {"kl": np.zeros((1, 1))})
    assert written == expected


def test_files_of_a_ledger_are_neither_tiny_nor_huge() -> None:
    assert rows_of_a_chunk(knockouts=144, entries=9) == 404
    assert rows_of_a_chunk(knockouts=36864, entries=49) == 1
    assert rows_of_a_file([10, 12]) == 136
    assert rows_of_a_file([]) == 16384
    assert rows_of_a_file([36864, 49]) == 1


def test_pushes_shrink_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ledger("gpt2", hs.Zero(), Positions("all", "each"))
    real, sizes = _measure._measure, list[int]()

    def tight(context, rows, clean, items, size, *more):
        sizes.append(size)
        if size > 2:
            raise torch.cuda.OutOfMemoryError("no room")
        return real(context, rows, clean, items, size, *more)

    monkeypatch.setattr(_measure, "_measure", tight)
    found = ledger("gpt2", hs.Zero(), Positions("all", "each"))
    assert max(sizes) > 2 >= min(sizes)
    np.testing.assert_allclose(found["total_effect"], right["total_effect"], atol=1e-5)


@pytest.mark.parametrize(
    ("scope", "more", "error", "said"),
    [
        (Positions("all", "last"), {}, TooFewDonors, "a donor at several positions must be as long as the text"),
        (Positions("12", "each"), {}, RunError, "there is no position 12 in a text of 7 tokens"),
        (Positions("all", "each", skip=6), {}, RunError, "a text of 7 tokens has no position left to read"),
    ],
)
def test_what_cannot_be_done_is_said(
    scope: Positions, more: dict[str, Any], error: type[HydrascopeError], said: str
) -> None:
    with pytest.raises(error, match=said):
        ledger("gpt2", hs.Resample(donors=3), scope, **more)


def test_counterfactuals_of_another_length_are_refused_before_anything_is_done() -> None:
    ids = [prompt.input_ids for prompt in prompts().prompts]
    pairs = [(ids[0], ids[2]), (ids[2], ids[1]), (ids[1], ids[3])]  # the second is longer than its prompt
    asked = hs.PromptSet("pairs", tuple(hs.Prompt(input_ids=a, counterfactual_input_ids=b) for a, b in pairs))
    options = hs.Options(components="attn.1", positions="all", null_draws=0)
    said = r"1 of 3 counterfactuals .*\(prompt 1, counted from 0, has 7 tokens and its counterfactual 9\); leave these"
    with pytest.raises(AblationError, match=said):
        prepare(opened("gpt2"), asked, hs.Counterfactual(), options)
    prepare(
        opened("gpt2"), asked, hs.Counterfactual(), hs.Options(components="attn.1")
    )  # at the last token any length will do
    found = hs.knock_out(opened("gpt2"), asked[::2], ablation=hs.Counterfactual(), options=options).dataset
    assert float(np.abs(found["total_effect"]).max()) > 1e-3


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ablate": "first"}, "'first' is no set of positions"),
        ({"read": "some"}, "effects cannot be read at 'some'"),
        ({"skip": -1}, "-1 positions cannot be skipped"),
    ],
)
def test_a_scope_that_makes_no_sense_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError, match=said):
        Positions(**values)


def test_texts_without_enough_others_of_their_length_are_left_out_and_counted() -> None:
    options = hs.Options(positions="all", read="each", null_draws=0)
    found = hs.knock_out(opened("gpt2"), prompts((7, 7, 9)), "attn.1", hs.Resample(donors=1), options=options).dataset
    assert found.attrs["prompts_dropped_alone"] == 1
    assert set(found["length"].values) == {7}


@pytest.mark.parametrize("writers", ["layers", "heads"])
@pytest.mark.parametrize("held", ["attn.0/attn.1,attn.0/attn.2,attn.0/attn.1/attn.2", "attn.0/mlp.1"])
def test_who_is_needed_has_a_section_whatever_is_kept_apart_and_whoever_was_held(writers: str, held: str) -> None:
    ds = ledger("gpt2", hs.Zero(), Positions("all", "each"), f"attn.0,mlp.0,{held}", writers=writers)
    page = render(Findings(ds, resamples=50))
    assert "who is needed" in page and "With attn.0 knocked out" in page
    bars = json.dumps(
        figures.repair_frozen(Findings(ds, resamples=50).by_layer.freeze, "attn.0", "attention", "").to_dict()
    )
    assert bars.count("nothing frozen") >= 1 and bars.count("attn.1" if "attn.1" in held else "mlp.1") >= 1
