"""Answers of several tokens: the sum over their tokens against plain float64 forwards, and what cannot be asked."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import hydrascope as hs
from hydrascope.anatomy import directions, examine
from hydrascope.components import parse_knockouts
from hydrascope.engine import Positions, edited_places
from hydrascope.errors import HydrascopeError, TooFewDonors
from hydrascope.report._facts import run_facts
from hydrascope.run import RunRequest, estimate, prepare
from tests.conftest import Cli
from tests.engine.test_texts import plain
from tests.run.test_text_runs import last_stream, values_of
from tests.support import digits, tiny
from tests.support.families import VOCABULARY, build
from tests.support.plain import slow_copy

TOLERANCE = 1e-4
COMPONENTS = "attn.0,mlp.1,attn.0+mlp.2"
ASKED = {
    "The war ended in the year": "1969",
    "The peace ended in the year": "2001",
    "The year ended in the war": "183",
    "The peace is": "Paris",
    "The year is": "un",
    "The war is": "of",
    "The year of the war": "183",
    "The year of the peace": "203",
    "The year of the year": "1",
    "of the year of peace": "773",
    "The war of the peace": "1966",
    "The end of the war": "believ",
}
"""Three shapes with three prompts or more, and some that are alone."""


@functools.cache
def model(name: str) -> hs.Model:
    return examine(build(name), digits.tokenizer(VOCABULARY), name=name)


def measured(name: str, ablation: hs.Ablation, prompts: Any = None, **options: Any) -> xr.Dataset:
    rows = [{"prompt": text, "target": answer} for text, answer in ASKED.items()] if prompts is None else prompts
    chosen = hs.Options(**{"answer": "whole", "keep_wrong": True, "null_draws": 0, **options})
    return hs.knock_out(model(name), hs.load_prompts(rows), COMPONENTS, ablation, options=chosen).dataset


def by_hand(name: str, ids: list[list[int]], k: int, one: int, put: Any, knockout: Any) -> dict[str, Any]:
    """Effects of one prompt, summed over the last `k` tokens, of a plain float64 forward with and without edits."""
    opened = model(name)
    slow, text = slow_copy(opened.network), torch.tensor(ids[one][:-1])
    edited = tuple(range(len(text) - k, len(text)))
    before, after = plain(slow, opened, text, edited), plain(slow, opened, text, edited, list(put.items()))
    stream, tail = last_stream(slow, opened, text), opened.anatomy.tail
    found: dict[str, Any] = dict.fromkeys(("total_effect", "change", "clean_logit", "log_prob_change"), 0.0)
    for position, target in zip(edited, ids[one][-k:], strict=True):
        logits = [x[1][position] for x in (before, after)]
        own = [float(x[target] - x.mean()) for x in logits]
        read = directions(opened.network, tail, torch.tensor([target])).vectors[0].double()
        found["clean_logit"] += own[0]
        found["total_effect"] += own[1] - own[0]
        log_prob = [float(x.log_softmax(-1)[target]) for x in logits]
        found["log_prob_change"] += log_prob[1] - log_prob[0]
        found["change"] += (after[0][position] - before[0][position]) @ read / float(tail.sigma(stream[position]))
    return found


@pytest.mark.parametrize(("name", "kind"), [("gpt2", "resample"), ("llama", "resample"), ("gpt2", "zero")])
def test_a_row_is_the_sum_over_the_tokens_of_plain_float64_forwards(name: str, kind: str) -> None:
    found = measured(name, hs.Zero() if kind == "zero" else hs.Resample(donors=2))
    opened = model(name)
    assert opened.tokenizer is not None
    slow = slow_copy(opened.network)
    ids = [list(opened.tokenizer(f"{text} {answer}")["input_ids"]) for text, answer in ASKED.items()]
    tokens = [len(answer) if answer.isdigit() else 1 for answer in ASKED.values()]
    shapes = [(len(one), k) for one, k in zip(ids, tokens, strict=True)]
    lending = [i for i, shape in enumerate(shapes) if kind == "zero" or shapes.count(shape) > 2]
    assert found["prompt"].values.tolist() == lending and found.attrs["prompts_dropped_alone"] == 12 - len(lending)
    assert len({tokens[i] for i in lending}) > 1 or kind == "zero"
    for knockout in parse_knockouts(COMPONENTS, opened.anatomy.inventory):
        places = edited_places(knockout, opened.anatomy)
        for row, one in enumerate(lending):
            k, where = tokens[one], Positions(span=tokens[one])
            own = values_of(slow, opened, torch.tensor(ids[one][:-1]), where, places)
            others = [i for i in lending if shapes[i] == shapes[one] and i != one]
            if kind == "zero":
                draws = [{place: torch.zeros_like(value) for place, value in own.items()}]
            else:
                if len(others) != 2:
                    continue  # of more, the table tells who lends
                draws = [values_of(slow, opened, torch.tensor(ids[i][:-1]), where, places) for i in others]
            right = [by_hand(name, ids, k, one, put, knockout) for put in draws]
            here = found.sel(ablated=str(knockout)).isel(prompt=row)
            for variable in ("total_effect", "log_prob_change"):
                mean = np.mean([draw[variable] for draw in right])
                assert float(here[variable]) == pytest.approx(mean, abs=TOLERANCE), (variable, one)
            assert float(here["clean_logit"]) == pytest.approx(right[0]["clean_logit"], abs=TOLERANCE)
            changes = np.mean([draw["change"].numpy() for draw in right], axis=0)
            np.testing.assert_allclose(here["change"].values[1:-1], changes, atol=TOLERANCE)
            if kind == "resample":
                spread = np.std([draw["total_effect"] for draw in right], ddof=1)
                assert float(here["total_effect_sd"]) == pytest.approx(spread, abs=TOLERANCE)
    assert float(np.abs(found["total_effect"]).min()) > 1e-4
    rest = found["total_effect"] - found["change"].sum("writer") - found["norm_effect"] - found["remainder"]
    assert float(np.abs(rest).max()) < 1e-5 and found.attrs["closing_error"] < 1e-4
    np.testing.assert_allclose(found["direct_effect"].sum("writer"), found["clean_logit"], atol=TOLERANCE)


def test_answers_of_one_token_are_those_of_the_first() -> None:
    rows = [{"prompt": text, "target": answer} for text, answer in ASKED.items() if not answer.isdigit()]
    one, other = (measured("gpt2", hs.Resample(donors=2), rows, answer=answer) for answer in ("whole", "first"))
    xr.testing.assert_equal(one, other)


def test_split_writers_and_controls_are_summed_too() -> None:
    how = {"writers": "heads", "split_attention": True, "null_draws": 1}
    found = measured("gpt2", hs.Resample(donors=2), **how)
    layers = measured("gpt2", hs.Resample(donors=2), null_draws=1)
    for name in ("total_effect", "norm_effect", "null_total_effect"):
        np.testing.assert_allclose(found[name], layers[name], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(found["change"].sum("writer"), layers["change"].sum("writer"), atol=1e-5)
    assert float(np.abs(found["pattern_effect"]).max()) > 1e-4
    assert float(found["moved_weight"].max()) <= 1


def test_only_answers_that_the_model_gives_whole_are_kept() -> None:
    """Of greedy answers all are kept; one whose second token differs is left out, with what the model said."""
    opened = model("gpt2")
    assert opened.tokenizer is not None
    asked: list[dict[str, Any]] = []
    said = []
    for prompt in list(ASKED)[:4]:
        ids = [*opened.tokenizer(prompt)["input_ids"]]
        for _ in range(2):
            ids.append(int(opened.network(torch.tensor([ids])).logits[0, -1].argmax()))
        said.append(ids[-2:])
        text = str(opened.tokenizer.decode(ids[-2:]))
        asked.append({"input_ids": ids[:-2], "target": text, "delimiter": "none"})
    encoded = prepare(opened, hs.load_prompts(asked), hs.Zero(), hs.Options(answer="whole")).encoded
    usable = [i for i, one in enumerate(encoded.prompts) if list(one.answer) == said[i]]
    assert len(usable) > 1, "the tokenizer reads some of the answers as the model wrote them"
    wrong = {**asked[usable[0]], "target": asked[usable[0]]["target"] + "-"}
    found = measured("gpt2", hs.Zero(), [*(asked[i] for i in usable), wrong], keep_wrong=False)
    assert (found.attrs["prompts_kept"], found.attrs["prompts_dropped_wrong"]) == (len(usable), 1)
    assert [row["index"] for row in json.loads(found.attrs["left_out"])] == [len(usable)]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (None, {"target": "top"}, "--answer whole reads the answers given with the prompts"),
        (None, {"read": "each"}, "--answer whole reads the answers given with the prompts"),
        ([{"prompt": "The war"}], {}, r"prompt 0 \(counted from 0\) has no target, which --answer whole needs"),
        (
            [{"prompt": "The war", "target": "19"}],
            {"keep_wrong": False},
            "the model gives the whole answer to none of 1",
        ),
    ],
)
def test_what_whole_answers_cannot_be_asked(rows: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(HydrascopeError, match=message):
        measured("gpt2", hs.Zero(), rows, **options)


def test_whole_answers_need_donors_as_long_with_other_answers() -> None:
    with pytest.raises(TooFewDonors, match="no prompt has 9 others of its length whose answers are as long, which"):
        measured("gpt2", hs.Resample(donors=9))
    alike = [{"prompt": text, "target": "1969"} for text in ("The war", "The peace", "The year")]
    with pytest.raises(TooFewDonors, match="0 with another target than its token '1969', 1 asked for"):
        measured("gpt2", hs.Resample(donors=1), alike)


def test_the_plan_and_the_report_say_so(cli: Cli, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydrascope.report._page.render", lambda dataset: "<html></html>")
    rows = [{"prompt": text, "target": answer} for text, answer in ASKED.items()]
    task = prepare(model("gpt2"), hs.load_prompts(rows), hs.Zero(), hs.Options(components="attn", answer="whole"))
    assert (estimate(task).prompts, estimate(task).read) == (
        12,
        sum(len(a) if a.isdigit() else 1 for a in ASKED.values()),
    )
    folder = tiny.save(tmp_path / "model", build("gpt2"), with_tokenizer=False)
    digits.tokenizer(VOCABULARY).save_pretrained(folder)
    file = tiny.write_lines(tmp_path / "asked.jsonl", rows)
    command = ("run", folder, "--prompts", file, "--components", "attn.0,attn.1", "--ablation", "zero", "--keep-wrong")
    said = cli(*command, "--answer", "whole", "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert "reading the sum of the logits of the answer's tokens" in said.err
    assert "example: prompt 0, <s>|The| war| ended| in| the| year|  -> '1|9|6|9'" in said.err
    found = hs.Ledger.open(tmp_path / "out")
    assert found.dataset["target"].values.tolist()[:2] == ["1969", "2001"]
    facts = dict(run_facts(found.dataset))
    assert facts["Answer"].endswith("the sum over all its tokens, each read with those before it given")
    assert "--answer whole" in RunRequest(answer="whole").command_line()
