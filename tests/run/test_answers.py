"""Runs on prompts as people have them: the right token against plain float64 forwards, and what is said beforehand."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import hydrascope as hs
from hydrascope.anatomy import examine
from hydrascope.errors import TooFewDonors
from hydrascope.report._facts import run_facts
from hydrascope.run._task import prepare
from tests.conftest import INTRODUCTION, Cli
from tests.support import digits, tiny
from tests.support.dealt import resample_table
from tests.support.families import FAMILIES, VOCABULARY, build
from tests.support.reference import reference_ledger

NUMBERS = ("direct_effect", "clean_logit", "change", "own_change", "norm_effect", "total_effect", "kl")
YEARS = {"The war ended in the year": "1969", "The peace of the year is": "2001", "in the war": "Paris", 'is "': "un"}


@functools.cache
def model() -> hs.Model:
    """A tiny GPT-2 whose tokenizer writes each digit and the space before a number apart."""
    return examine(build("gpt2"), digits.tokenizer(VOCABULARY), name="gpt2")


def measured(prompts: list[Any], ablation: hs.Ablation, **options: Any) -> xr.Dataset:
    chosen = hs.Options(**{"keep_wrong": True, "null_draws": 0, "components": "attn.0,mlp.1", **options})
    return hs.knock_out(model(), hs.load_prompts(prompts), ablation=ablation, options=chosen).dataset


def require_equal(found: xr.Dataset, prompts: list[list[int]], targets: list[int], *how: Any) -> None:
    """The ledger is that of one plain float64 forward a prompt, knock-out and donor."""
    parts = [(("attn", 0),), (("mlp", 1),)]
    right = reference_ledger(build("gpt2"), FAMILIES["gpt2"], prompts, targets, parts, *how)
    for name in NUMBERS:
        np.testing.assert_allclose(found[name], right[name], rtol=0, atol=1e-4, err_msg=name)
    assert float(np.abs(right["total_effect"]).min()) > 1e-4, "a knock-out that does nothing proves nothing"


def test_answers_are_read_at_their_own_first_token() -> None:
    """The digit behind the space, the word with its space, the word behind an opening quote."""
    found = measured([{"prompt": text, "target": answer} for text, answer in YEARS.items()], hs.Zero())
    assert found["target"].values.tolist() == ["1", "2", " Paris", "un"]
    written = model().tokenizer
    assert written is not None
    ids = [[0, *written(text, add_special_tokens=False)["input_ids"]] for text in YEARS]
    ids = [[*one, 2] if answer.isdigit() else one for one, answer in zip(ids, YEARS.values(), strict=True)]
    require_equal(found, ids, found["target_token"].values.tolist(), "zero")


def test_prompts_of_the_same_tokens_never_lend_to_each_other() -> None:
    ids = [[5, 9, 7], [5, 9, 7], [8, 20, 6], [8, 20, 6], [30, 31, 32]]
    targets = [11, 12, 13, 14, 15]
    rows = [{"input_ids": one, "target_id": target} for one, target in zip(ids, targets, strict=True)]
    found = measured(rows, hs.Resample(donors=3), seed=3)
    require_equal(found, ids, targets, "resample", resample_table(ids, targets, 3, 3))
    with pytest.raises(
        TooFewDonors, match=r"than its token .+ and other tokens, 4 asked for; take at most 3 \(--donors 3"
    ):
        measured(rows, hs.Resample(donors=4))


def test_repeated_texts_are_measured_once_and_counted() -> None:
    drawn = torch.randint(3, VOCABULARY, (4, 6), generator=torch.Generator().manual_seed(2)).tolist()
    where = {"positions": "all", "read": "each", "target": "top", "distribution": False}
    texts = [{"input_ids": one} for one in [*drawn, *drawn, drawn[0]]]
    found = measured(texts, hs.Resample(donors=1), **where)
    assert sorted(set(found["document"].values.tolist())) == [0, 1, 2, 3]
    assert (found.attrs["prompts_dropped_repeated"], found.attrs["prompts_dropped_alone"]) == (5, 0)
    assert float(np.abs(found["total_effect"]).min()) > 1e-6, "every text gets another's activations"
    once = measured(texts[:4], hs.Resample(donors=1), **where)
    np.testing.assert_array_equal(found["total_effect"], once["total_effect"])
    assert measured(texts, hs.Zero(), **where).attrs["prompts_dropped_repeated"] == 0
    with pytest.raises(TooFewDonors, match="and 1 different ones have 6 tokens, so each has 0 to draw from"):
        measured(texts[4:5] * 9, hs.Resample(donors=1), **where)


@pytest.mark.parametrize("where", [{}, {"positions": "all"}, {"positions": "all", "read": "each"}])
def test_nothing_random_depends_on_a_prompts_place(where: dict[str, str]) -> None:
    drawn = torch.randint(3, VOCABULARY, (8, 6), generator=torch.Generator().manual_seed(4)).tolist()
    order = [5, 2, 7, 0, 3, 1, 6, 4]
    options: dict[str, Any] = {"target": "random-top", "null_draws": 1, "distribution": False, **where}
    one, other = (
        measured([{"input_ids": drawn[i]} for i in some], hs.Noise(donors=2), **options) for some in (range(8), order)
    )
    each = one.sizes["prompt"] // 8
    moved = np.concatenate([np.arange(each) + i * each for i in order])
    assert other["target_token"].values.tolist() == one["target_token"].values[moved].tolist()
    for name in ("total_effect", "change", "null_total_effect", "null_change"):
        np.testing.assert_allclose(other[name], one[name].values[moved], rtol=0, atol=2e-5, err_msg=name)


def test_an_accepted_answer_is_the_target_where_the_model_gives_it(rows: list[tiny.Row], model_folder: Path) -> None:
    opened = hs.load(str(model_folder))
    asked = [{"prompt": row.text, "target": ["w5", f"w{row.top}"]} for row in rows[:8]]
    found = hs.knock_out(opened, hs.load_prompts(asked), "attn.1", hs.Zero()).dataset
    assert found["target"].values.tolist() == [f"w{row.top}" for row in rows[:8]]
    kept = hs.Options(keep_wrong=True)
    neither = [{"prompt": row.text, "target": ["w5", "w6"]} for row in rows[:8] if row.top not in (5, 6)]
    wrong = hs.knock_out(opened, hs.load_prompts(neither), "attn.1", hs.Zero(), options=kept).dataset
    assert set(wrong["target"].values.tolist()) == {"w5"}


@pytest.mark.usefixtures("proved_once")
def test_a_run_says_first_what_it_is_made_on(
    model_folder: Path, rows: list[tiny.Row], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hydrascope.report._page.render", lambda dataset: "<html></html>")
    asked: list[dict[str, object]] = [{"prompt": row.text, "target": f"w{row.top}"} for row in rows[:20]]
    asked[3]["target"] = "w4" if rows[3].top != 4 else "w5"
    asked[4] |= {"target": "w7", "delimiter": "none"}
    file = tiny.write_lines(tmp_path / "asked.jsonl", asked)
    command = ("run", model_folder, "--prompts", file, "--components", "attn.1", "--donors", "2", "--no-freeze")
    said = cli(*command, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert re.fullmatch(INTRODUCTION, said.err), said.err
    lines = said.err.splitlines()
    assert lines[:2] == [
        "model: tiny, 3 layers, float32 on cpu",
        "task: 1 knock-outs (attn.1) on 18 of 20 prompts of 'asked', by resample, reading the target's logit",
    ]
    assert "left out: 1, the model puts another token first" in lines
    assert "left out: 1, one token holds the end of the prompt and the beginning of target" in lines
    assert f"  3 '{rows[3].text}': '{asked[3]['target']}' wanted, the model says 'w{rows[3].top}'" in lines
    pieces = "|".join(rows[0].text.split())
    assert f"example: prompt 0, <s>|{pieces} -> 'w{rows[0].top}'" in lines
    assert lines[-1] == "groups: 18 independent ones among 18 prompts, enough for intervals"
    attributes = hs.Ledger.open(tmp_path / "out").dataset.attrs
    assert [row["said"] for row in json.loads(attributes["left_out"]) if row["index"] == 3] == [f"w{rows[3].top}"]
    facts = dict(run_facts(hs.Ledger.open(tmp_path / "out").dataset))
    assert f"3 “{rows[3].text}”: “{asked[3]['target']}” wanted, “w{rows[3].top}” said" in facts["Left out"]
    assert facts["Example"] == f"prompt 0, <s>|{pieces} -> 'w{rows[0].top}'"
    assert "1 dropped because the tokenizer begins no token where their answers begin" in facts["Prompts"]
    assert cli(*command, "--out", tmp_path / "json", "--json").err == ""


def test_a_limit_takes_prompts_evenly(model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli) -> None:
    command = ("run", model_folder, "--prompts", prompt_file, "--components", "attn.1", "--donors", "2", "--limit")
    assert "\n10 prompts x 1 knock-outs" in "\n" + cli(*command, "10", "--dry-run").out
    assert "limit cannot be 0; give 1 or more" in cli(*command, "0").refusal()
    few = cli(*command, "2").refusal()
    assert "has too few donors: 1 with another target than its token 'w" in few and "(--donors 1)" in few
    said = cli(*command, "10", "--no-freeze", "--detail", "kinds", "--out", tmp_path / "out")
    assert f"on 10 of 10 prompts of '{prompt_file.stem}' (spread over all 40), by resample" in said.err


def test_a_delimiter_is_one_of_the_settings() -> None:
    prompts = hs.load_prompts([{"prompt": "The year", "target": "1"}])
    settings = [prepare(model(), prompts, hs.Zero(), hs.Options(delimiter=one)).settings for one in ("auto", "none")]
    assert [one["delimiter"] for one in settings] == ["auto", "none"]
