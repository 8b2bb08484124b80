"""Calls in Python: natural values are taken, whatever else is refused in a sentence, and threads do not mix."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hydrascope as hs
from hydrascope.run import given_prompts
from tests.support import tiny

pytestmark = pytest.mark.usefixtures("proved_once")

Call = Callable[[Any], object]
PLAIN: dict[str, Any] = {"components": "attn.1", "ablation": "zero", "options": {"null_draws": 0}}


@pytest.fixture(scope="module")
def at_hand(
    tmp_path_factory: pytest.TempPathFactory, model_folder: Path, prompt_file: Path, rows: list[tiny.Row]
) -> Any:
    """What a notebook has at hand."""
    folder = tmp_path_factory.mktemp("python")
    model, prompts = hs.load(model_folder), hs.load_prompts(prompt_file)
    run = folder / "run"
    ledger = hs.knock_out(model, prompts, **PLAIN, out=run)
    book = folder / "book.txt"
    book.write_text(" ".join(row.text for row in rows))
    texts = [row.text for row in rows]
    dicts = [{"prompt": row.text, "target": f"w{row.top}"} for row in rows]
    return SimpleNamespace(
        folder=folder, model=model, model_folder=model_folder, prompts=prompts, file=prompt_file, texts=texts, run=run,
        dicts=dicts, ledger=ledger, book=book,
    )  # fmt: skip


def knocked_out(**given: Any) -> Call:
    def call(x: Any) -> object:
        found = {"model": x.model, "prompts": x.prompts, **PLAIN, **given}
        return hs.knock_out(found.pop("model"), found.pop("prompts"), **found)

    return call


NATURAL: list[tuple[str, Callable[[Any], Any]]] = [
    ("model", lambda x: str(x.model_folder)),
    ("model", lambda x: x.model_folder),
    ("prompts", lambda x: str(x.file)),
    ("prompts", lambda x: x.file),
    ("prompts", lambda x: x.dicts),
    ("prompts", lambda x: tuple(x.dicts)),
    ("prompts", lambda x: iter(x.dicts)),
    ("prompts", lambda x: list(x.prompts)),
    ("prompts", lambda x: pd.DataFrame(x.dicts)),
    ("prompts", lambda x: hs.PromptSet("mine", list(x.prompts))),  # type: ignore[arg-type]
    ("components", lambda x: ["attn.1"]),
    ("components", lambda x: ("a1",)),
    ("ablation", lambda x: hs.Zero()),
    ("ablation", lambda x: ["zero"]),
    ("ablation", lambda x: np.array(["zero"])),
    ("dose", lambda x: np.float32(1)),
    ("dose", lambda x: np.array([1.0])),
    ("seed", lambda x: np.int64(0)),
    ("options", lambda x: hs.Options(null_draws=0)),
    ("options", lambda x: {"null_draws": np.uint8(0), "bos": None}),
    ("progress", lambda x: None),
]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, at_hand: Any) -> Callable[..., dict[str, Any]]:
    """What a call's numbers would depend on, without making them."""
    seen: list[dict[str, Any]] = []

    def instead(runs: Any, *given: Any, **more: Any) -> tuple[Any, None]:
        seen.append(runs.main.settings)
        return at_hand.ledger.dataset, None

    def settings_of(**given: Any) -> dict[str, Any]:
        with monkeypatch.context() as patch:
            patch.setattr("hydrascope.knockout.execute_runs", instead)
            knocked_out(**given)(at_hand)
        return seen.pop()

    return settings_of


@pytest.mark.parametrize(("name", "value"), NATURAL)
def test_what_is_natural_is_taken_for_what_it_is(
    name: str, value: Callable[[Any], Any], at_hand: Any, settings: Callable[..., dict[str, Any]]
) -> None:
    assert settings(**{name: value(at_hand)}) == settings()


@pytest.mark.parametrize("kind", [list, tuple, iter, np.array, pd.Series])
def test_texts_alone_are_prompts(kind: Any, at_hand: Any, settings: Callable[..., dict[str, Any]]) -> None:
    prompts = hs.PromptSet("texts", tuple(hs.Prompt(text) for text in at_hand.texts))
    options = {"null_draws": 0, "target": "top"}
    assert settings(prompts=kind(at_hand.texts), options=options) == settings(prompts=prompts, options=options)


def test_names_and_lists_alone_make_a_run(at_hand: Any) -> None:
    found = hs.knock_out(
        str(at_hand.model_folder), at_hand.dicts, ["attn.1"], "zero", options={"null_draws": 0}
    ).dataset
    expected = at_hand.ledger.dataset
    np.testing.assert_array_equal(found["total_effect"].values, expected["total_effect"].values)


def test_names_of_ablations_make_companions(at_hand: Any, tmp_path: Path) -> None:
    ledger = hs.knock_out(
        at_hand.model, at_hand.dicts, ["attn.1"], ["zero", hs.Mean()], options={"null_draws": 0}, out=tmp_path / "run"
    )
    assert ledger.dataset.attrs["ablation"] == "zero" and set(ledger.also) == {"mean"}


def test_a_text_file_is_cut_where_the_protocol_is_text(at_hand: Any, tmp_path: Path) -> None:
    """The model takes 16 tokens, and nobody asked for the usual 128."""
    found = given_prompts(at_hand.book, at_hand.model, hs.Options(protocol="text"))
    assert {len(one.input_ids or ()) for one in found} == {16}


def test_a_table_with_gaps_has_prompts_without_targets(at_hand: Any) -> None:
    table = pd.DataFrame([{"prompt": "w4 w5", "target": "w6", "group": 3}, {"prompt": "w7", "target": np.nan}])
    found = hs.load_prompts(table)
    assert found[0] == hs.Prompt("w4 w5", target="w6", group="3")
    assert found[1] == hs.Prompt("w7")


def test_freezing_takes_a_ledger_and_a_model_by_name(at_hand: Any, tmp_path: Path) -> None:
    ledger = hs.knock_out(at_hand.model, at_hand.prompts, **PLAIN, out=tmp_path / "run")
    for run, model in ((ledger, at_hand.model), (str(ledger.path), str(at_hand.model_folder)), (ledger.path, None)):
        assert hs.freeze(run, model, "zero").path == ledger.path  # type: ignore[arg-type]


def test_short_addresses_are_read_in_tables(at_hand: Any) -> None:
    assert set(at_hand.ledger.who_repairs("a1")["ablated"]) == {"attn.1"}


REFUSED: list[tuple[str, Call]] = [
    ("'xxx", knocked_out(model="x" * 5000)),
    ("None is no set of prompts", knocked_out(prompts=None)),
    ("5 is no set of prompts", knocked_out(prompts=5)),
    ("b'w4' is no set of prompts", knocked_out(prompts=b"w4")),
    ("a dictionary is one prompt, not a set of them", knocked_out(prompts={"prompt": ["w4"]})),
    ("prompt 0 of the list: 1 is no JSON object", knocked_out(prompts=[1, 2])),
    ("prompt 0 of the list: None is no JSON object", knocked_out(prompts=[None])),
    ("prompt 0 of the list: nan is no JSON object", knocked_out(prompts=[float("nan")])),
    ("prompt set 'inline' (memory) holds no prompt", knocked_out(prompts=[])),
    ("prompt set 'inline' (memory) holds no prompt", knocked_out(prompts=pd.DataFrame({"prompt": []}))),
    ("there is neither 'prompt' nor 'input_ids' among 'text'", knocked_out(prompts=pd.DataFrame({"text": ["w4"]}))),
    ("there is no prompt set 'The capital of France is'", knocked_out(prompts="The capital of France is")),
    ("there is no prompt set 'w4 w4", knocked_out(prompts="w4 " * 3000)),
    ("there is no prompt set 'iol' (did you mean 'ioi'?)", knocked_out(prompts="iol")),
    ("'nowhere.jsonl' cannot be read", knocked_out(prompts="nowhere.jsonl")),
    ("'a\\x00.jsonl' cannot be read", knocked_out(prompts="a\0.jsonl")),
    ("'3' is not a component address", knocked_out(components=3)),
    ("'' names no component", knocked_out(components=[])),
    ("components cannot be {'attn': 3}; write it as text", knocked_out(components={"attn": 3})),
    ("no ablation 'zeros' (did you mean 'zero'?); choose", knocked_out(ablation="zeros")),
    ("<class 'hydrascope.ablations._zero.Zero'> is no ablation; give Zero()", knocked_out(ablation=hs.Zero)),
    ("0 is no ablation; give one of counterfactual, mean", knocked_out(ablation=0)),
    ("zero is asked for twice", knocked_out(ablation=["zero", "zero"])),
    ("dose cannot be 'much'; give a number", knocked_out(dose="much")),
    ("dose cannot be []; name at least one", knocked_out(dose=[])),
    ("dose cannot be nan", knocked_out(dose=float("nan"))),
    ("0.3 is asked for twice", knocked_out(dose=[0.3, 0.3000001])),
    ("seed cannot be 1.5; give a whole number", knocked_out(seed=1.5)),
    ("'text' is no set of options; give hydrascope.Options(...)", knocked_out(options="text")),
    ("there is no option 'nul_draws' (did you mean 'null_draws'?)", knocked_out(options={"nul_draws": 0})),
    ("'donors' is no option of how a run is made; give it to the ablation", knocked_out(options={"donors": 2})),
    ("'dose' is no option of how a run is made; give it to the call", knocked_out(options={"dose": 0.5})),
    ("'limit' is no option of how a run is made; take fewer prompts", knocked_out(options={"limit": 3})),
    ("'text' has no name; give every option by name", lambda x: hs.Options("text")),  # type: ignore[call-arg]
    ("'a' is no place in 'asked'; prompts are counted from 0", lambda x: x.prompts["a"]),
    ("freeze cannot be 'often'; give true or false", knocked_out(freeze="often")),
    ("3 names no folder", knocked_out(out=3)),
    ("'' names no folder", knocked_out(out="")),
    ("'a\\x00b' names no folder", knocked_out(out="a\0b")),
    ("progress cannot be 3; give a function", knocked_out(progress=3)),
    ("donors cannot be '3'; give a whole number, 1 or more", lambda x: hs.Resample(donors="3")),  # type: ignore[arg-type]
    ("donors cannot be 0; give a whole number, 1 or more", lambda x: hs.Resample(donors=0)),
    ("donors cannot be True; give a whole number, 1 or more", lambda x: hs.Noise(donors=True)),
    ("scale cannot be nan; give a number above 0", lambda x: hs.Noise(scale=float("nan"))),
    ("steps cannot be None; give a whole number", lambda x: hs.Optimal(steps=None)),  # type: ignore[arg-type]
    ("rate cannot be 'fast'; give a number above 0", lambda x: hs.Optimal(rate="fast")),  # type: ignore[arg-type]
    ("'gpt2' is no tokenizer", lambda x: hs.load_prompts("ioi", tokenizer="gpt2")),  # type: ignore[arg-type]
    ("the name of a prompt set cannot be 3", lambda x: hs.load_prompts(x.file, name=3)),  # type: ignore[arg-type]
    ("prompt 0 of 'n' is 'w4', no Prompt", lambda x: hs.PromptSet("n", ("w4",))),  # type: ignore[arg-type]
    ("None is no source of text", lambda x: hs.documents(None)),  # type: ignore[arg-type]
    ("texts cannot be cut by 128", lambda x: hs.cut(hs.documents(x.book), None, 128, name="n", context=9)),  # type: ignore[arg-type]
    ("only documents can be cut", lambda x: hs.cut("w4", x.model.tokenizer, hs.Cut(), name="n", context=9)),  # type: ignore[arg-type]
    ("length cannot be 'a'; give a whole number", lambda x: hs.Cut(length="a")),  # type: ignore[arg-type]
    ("bos cannot be 'maybe'; choose auto", lambda x: hs.Cut(bos="maybe")),  # type: ignore[arg-type]
    ("the text of document 'a' is None", lambda x: hs.Document("a", None)),  # type: ignore[arg-type]
    ("3 is no ledger; open a run's with", lambda x: hs.Ledger(3)),  # type: ignore[arg-type]
    ("None names no folder", lambda x: hs.Ledger.open(None)),  # type: ignore[arg-type]
    ("no ledger in 'nowhere'", lambda x: hs.Ledger.open("nowhere")),
    ("this run did not knock out 'atn.1' (did you mean 'attn.1'?)", lambda x: x.ledger.who_repairs("atn.1")),
    ("this run did not knock out \"['attn.1']\"", lambda x: x.ledger.who_repairs(["attn.1"])),
    ("3 names no folder", lambda x: x.ledger.report(3)),
    ("no ledger in 'nowhere'", lambda x: hs.freeze("nowhere")),
    ("this ledger's run was not kept", lambda x: hs.freeze(hs.Ledger(x.ledger.dataset))),
    ("device cannot be 0; write it as text", lambda x: hs.freeze(x.run, device=0)),  # type: ignore[arg-type]
    ("memory cannot be 4; write it as text", lambda x: hs.freeze(x.run, memory=4)),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(("says", "call"), REFUSED, ids=[says for says, _ in REFUSED])
def test_everything_else_is_refused_in_a_sentence(says: str, call: Call, at_hand: Any) -> None:
    with pytest.raises(hs.HydrascopeError) as refused:
        call(at_hand)
    sentence = str(refused.value)
    assert sentence.startswith(says)
    assert sentence.isprintable() and len(sentence) < 700
    assert not re.search(r"[.!?]\s+[A-Z]|[.!?]$", sentence), f"more than one sentence: {sentence}"


def test_messages_steer_no_terminal_and_have_a_length() -> None:
    said = str(hs.RunError("red \x1b[31m, a line\n, a bell \a, " + "x" * 5000 + "; do this"))
    assert said.startswith(r"red \x1b[31m, a line\n, a bell \x07, xxx")
    assert said.endswith("xxx; do this") and len(said) < 700


def test_threads_wait_for_each_other_at_one_model(at_hand: Any) -> None:
    def total_effects(components: str) -> np.ndarray:
        found = hs.knock_out(
            at_hand.model, at_hand.prompts, components, hs.Resample(donors=2), options={"null_draws": 1}
        )
        return found.dataset["total_effect"].values

    alone = [total_effects("attn"), total_effects("mlp")]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(total_effects, ["attn", "mlp"]))
    np.testing.assert_array_equal(together, alone)


def test_a_call_from_inside_a_call_is_refused_instead_of_waiting_for_ever(at_hand: Any) -> None:
    def again(stage: str, done: int, total: int) -> None:
        knocked_out()(at_hand)

    outcome: list[str] = []

    def call() -> None:
        try:
            knocked_out(progress=again)(at_hand)
        except hs.RunError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(60)
    assert outcome == [
        "this model is at work in the call that this one is made from; wait for its end, or load another"
    ]
    knocked_out()(at_hand)  # its turn is over
