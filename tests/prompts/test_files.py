"""Prompt sets: construction, files, built-in names."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hydrascope.errors import EmptyPrompts, MalformedPrompt, PromptError
from hydrascope.prompts import Prompt, PromptSet, builtin_names, load

FACT = {
    "known_id": 0,
    "subject": "Vinson Massif",
    "attribute": "Antarctica",
    "template": "{} is located in the continent",
    "prediction": " of Antarctica. It is",
    "prompt": "Vinson Massif is located in the continent of",
    "relation_id": "P30",
    "some/model": True,
}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


# --- Prompt and PromptSet ---------------------------------------------------------------------


def test_ids_become_tuples_of_plain_integers() -> None:
    given: dict[str, Any] = {"input_ids": np.array([3, 4]), "target_id": np.int64(5), "counterfactual_input_ids": [6]}
    prompt = Prompt(**given)
    assert prompt.input_ids == (3, 4)
    assert prompt.counterfactual_input_ids == (6,)
    assert type(prompt.target_id) is int
    assert all(type(token) is int for token in prompt.input_ids)
    assert hash(prompt) == hash(Prompt(input_ids=(3, 4), target_id=5, counterfactual_input_ids=(6,)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "the prompt is empty; give it a text or input_ids"),
        ({"text": ""}, "the prompt is empty"),
        ({"input_ids": []}, "'input_ids' is empty; give at least one token id"),
        ({"input_ids": "3 4"}, "'input_ids' is '3 4'; write it as a list of whole numbers"),
        ({"input_ids": 7}, "'input_ids' is 7; write it as a list of whole numbers"),
        ({"input_ids": [1, 2.5]}, "'input_ids' holds 2.5, no token id; write whole numbers"),
        ({"input_ids": [True]}, "'input_ids' holds True, no token id"),
        ({"text": "x", "counterfactual_input_ids": []}, "'counterfactual_input_ids' is empty"),
        ({"text": "x", "target_id": "7"}, "'target_id' holds '7', no token id"),
        ({"text": "x", "foil_id": "7"}, "'foil_id' holds '7', no token id"),
        ({"text": "x", "foil": 5}, "'foil' is 5; write it as text"),
        ({"text": 5}, "'prompt' is 5; write it as text in quotes"),
        ({"text": "x", "target": 5}, "'target' is 5; write it as text"),
        ({"text": "x", "counterfactual": ["y"]}, "'counterfactual' is ['y']; write it as text"),
        ({"text": "x", "group": 1.5}, "'group' is 1.5; write it as text"),
        ({"text": "a\ud800b"}, "'prompt' holds half of a Unicode surrogate pair; remove it"),
    ],
)
def test_a_prompt_refuses_what_cannot_be_run(fields: dict[str, object], message: str) -> None:
    with pytest.raises(MalformedPrompt) as caught:
        Prompt(**fields)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


def test_digest_follows_the_content_and_only_the_content() -> None:
    prompts = load(["a", {"prompt": "b", "target": "c"}])
    same = PromptSet("other", prompts.prompts, source="elsewhere")
    assert prompts.digest == same.digest
    assert len(prompts.digest) == 64
    variants: list[list[Any]] = [
        ["a", "b"],
        [{"prompt": "b", "target": "c"}, "a"],
        ["a", {"prompt": "b", "target": "C"}],
        ["a", {"prompt": "b", "target": "c", "group": "g"}],
        ["a", {"prompt": "b", "counterfactual": "c"}],
    ]
    assert len({prompts.digest, *(load(variant).digest for variant in variants)}) == 6


def test_digest_is_the_same_on_every_machine() -> None:
    canonical = r'[{"input_ids":[1,2],"target_id":3,"text":"\u00e9"}]'
    prompts = load([{"prompt": "é", "input_ids": [1, 2], "target_id": 3}])
    assert prompts.digest == hashlib.sha256(canonical.encode()).hexdigest()


def test_a_set_is_a_sequence() -> None:
    prompts = load(["a", "b", "c"], name="letters")
    assert len(prompts) == 3
    assert [prompt.text for prompt in prompts] == ["a", "b", "c"]
    assert prompts[1].text == "b"
    assert prompts[1:] == PromptSet("letters", (Prompt("b"), Prompt("c")))
    assert prompts[:9] == prompts


def test_a_set_is_never_empty() -> None:
    with pytest.raises(EmptyPrompts, match=r"^prompt set 'inline' \(memory\) holds no prompt; give at least one$"):
        load([])
    with pytest.raises(EmptyPrompts, match="holds no prompt"):
        load(["a"])[1:]
    with pytest.raises(EmptyPrompts, match=r"^0 of 'inline' are no prompts; take at least 1$"):
        load(["a"]).spread(0)


# --- memory -----------------------------------------------------------------------------------


def test_lists_may_mix_texts_dictionaries_and_prompts() -> None:
    prompts = load(["a", {"input_ids": [1], "group": 4}, Prompt("b", target=" c")])
    assert prompts.prompts == (Prompt("a"), Prompt(input_ids=(1,), group="4"), Prompt("b", target=" c"))
    assert (prompts.name, prompts.source) == ("inline", "memory")
    assert load(prompts) is prompts
    assert load(prompts, name="x") == PromptSet("x", prompts.prompts)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (["a", ""], "prompt 1 of the list: the prompt is empty"),
        (["a", {"input_ids": []}], "prompt 1 of the list: 'input_ids' is empty"),
        ([7], "prompt 0 of the list: 7 is no JSON object"),
        (
            [list(range(99))],
            "prompt 0 of the list: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … is no JSON object",
        ),
    ],
)
def test_lists_are_checked_item_by_item(spec: list[object], message: str) -> None:
    with pytest.raises(MalformedPrompt) as caught:
        load(spec)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


def test_one_dictionary_is_no_set() -> None:
    with pytest.raises(PromptError, match="put it into a list"):
        load({"prompt": "a"})


# --- JSON -------------------------------------------------------------------------------------

ROWS = [
    {"prompt": "a\u2028b", "target": " c", "group": 3, "note": "ignored"},
    {"input_ids": [1, 2], "target_id": 3, "target": None, "counterfactual_input_ids": [4, 5]},
    {"prompt": "d", "counterfactual": "e", "group": "g", "foil": " f", "foil_id": 6},
]
PROMPTS = (
    Prompt("a\u2028b", target=" c", group="3"),
    Prompt(input_ids=(1, 2), target_id=3, counterfactual_input_ids=(4, 5)),
    Prompt("d", counterfactual="e", group="g", foil=" f", foil_id=6),
)


@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_lines_and_json_lists_hold_the_same(tmp_path: Path, ascii_only: bool) -> None:
    lines = "\r\n\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in ROWS) + "\n"
    whole = "\ufeff\n" + json.dumps(ROWS, indent=1, ensure_ascii=ascii_only)
    from_lines = load(write(tmp_path, "rows.jsonl", lines))
    from_list = load(str(write(tmp_path, "rows.json", whole)))
    assert from_lines.prompts == from_list.prompts == PROMPTS
    assert from_lines.name == from_list.name == "rows"
    assert from_lines.source == str(tmp_path / "rows.jsonl")
    assert load(tmp_path / "rows.json", name="mine").name == "mine"


def test_known_facts_are_recognised_by_their_keys(tmp_path: Path) -> None:
    prompts = load(write(tmp_path, "known.json", json.dumps([FACT])))
    assert prompts.prompts == (
        Prompt("Vinson Massif is located in the continent of", target="Antarctica", group="P30"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"prompt": "a"}\n\n{"prompt": "b"\n',
            "line 3: no valid JSON at column 15 (Expecting ',' delimiter); write one JSON object per line",
        ),
        ('[\n{"prompt": "a"},\n{"prompt"}\n]', "line 3: no valid JSON at column 10"),
        ('[{"prompt": "a"}, 5]', 'entry 2: 5 is no JSON object; write for example {"prompt": "..."}'),
        ('{"prompt": "a"}\n"b"', "line 2: 'b' is no JSON object"),
        ('{"prompt": "a"}\n{"prompt": ""}', "line 2: the prompt is empty"),
        (
            '{"promt": "a", "target": "b"}',
            "line 1: there is neither 'prompt' nor 'input_ids' among 'promt', 'target'; rename 'promt'",
        ),
        (
            '{"Input_IDs": [1]}',
            "line 1: there is neither 'prompt' nor 'input_ids' among 'Input_IDs'; rename 'Input_IDs'",
        ),
        ('{"text": "a"}', "line 1: there is neither 'prompt' nor 'input_ids' among 'text'; add one of them"),
        ("{}", "line 1: there is neither 'prompt' nor 'input_ids' among no columns; add one of them"),
    ],
)
def test_a_bad_json_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, "bad.jsonl", text)
    with pytest.raises(MalformedPrompt) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}, {message}")


# --- CSV --------------------------------------------------------------------------------------


def test_csv(tmp_path: Path) -> None:
    text = (
        "\ufeffprompt, target,target_id,input_ids,group,counterfactual,counterfactual_input_ids,note,foil,foil_id\r\n"
        '"one, two\nthree"," four",,,g,other,,x, five,\r\n'
        "\r\n"
        ',,7,"[1, 2, 3]",,,4 5,,,8\r\n'
        "plain\r\n"
    )
    assert load(write(tmp_path, "p.csv", text)).prompts == (
        Prompt("one, two\nthree", target=" four", foil=" five", group="g", counterfactual="other"),
        Prompt(input_ids=(1, 2, 3), target_id=7, foil_id=8, counterfactual_input_ids=(4, 5)),
        Prompt("plain"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "promt,target\na,b\n",
            "line 1: there is neither 'prompt' nor 'input_ids' among 'promt', 'target'; rename 'promt'",
        ),
        ('prompt,target\n"a\nb",c\n,d\n', "line 4: the prompt is empty"),
        (
            "prompt\na, b\n",
            "line 2: there are 2 cells under 1 columns; put quotes around a text that contains a comma",
        ),
        ("input_ids\n1 2\n1 x\n", "line 3: 'input_ids' holds 'x', no token id; write whole numbers"),
        ("prompt,target_id\na,1.5\n", "line 2: 'target_id' holds '1.5', no token id"),
        ('prompt\na\n"b\nc\n', "line 3: no valid CSV (unexpected end of data); check its quotes"),
    ],
)
def test_a_bad_csv_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, "bad.csv", text)
    with pytest.raises(MalformedPrompt) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}, {message}")


# --- any file ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [("e.jsonl", ""), ("e.jsonl", " \n\n"), ("e.json", "[]"), ("e.csv", ""), ("e.csv", "prompt,target\n\n")],
)
def test_a_file_without_prompts_is_refused(tmp_path: Path, name: str, text: str) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(EmptyPrompts) as caught:
        load(path)
    assert str(caught.value) == f"'{path}' holds no prompt; give at least one line with a 'prompt'"


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"missing\.jsonl' cannot be read \(No such file.*\); check the path$"):
        load(tmp_path / "missing.jsonl")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(PromptError, match="cannot be read"):
        load(tmp_path / "folder.csv")
    with pytest.raises(PromptError, match=r"is no prompt file; give a file that ends in \.jsonl, \.json, \.csv$"):
        load(write(tmp_path, "prompts.txt", "a"))
    with pytest.raises(PromptError, match="is no prompt file"):
        load("some/folder")
    (tmp_path / "latin.jsonl").write_bytes('{"prompt": "é"}'.encode("latin-1"))
    with pytest.raises(MalformedPrompt, match=r"is not UTF-8 text; save it as UTF-8$"):
        load(tmp_path / "latin.jsonl")


# --- built-in names ---------------------------------------------------------------------------


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the one of the default bundled model, and no sets beside its own."""
    monkeypatch.setattr("hydrascope.prompts._builtin._DATA", tmp_path / "none")
    zoo = SimpleNamespace(default=lambda: SimpleNamespace(prompts=tmp_path / "facts.jsonl"))
    monkeypatch.setattr("hydrascope.prompts._builtin.zoo", zoo)
    return tmp_path


def test_bundled_sets_are_found_by_name(bundled: Path) -> None:
    write(bundled, "facts.jsonl", '{"prompt": "a"}')
    write(bundled, "retrieval.jsonl", '{"prompt": "b"}')
    write(bundled, "card.json", "{}")
    assert builtin_names() == ["facts", "retrieval"]
    assert load("facts") == PromptSet("facts", (Prompt("a"),), source="bundled")
    assert load("retrieval", name="r") == PromptSet("r", (Prompt("b"),), source="bundled")
    with pytest.raises(PromptError) as caught:
        load("oio")
    assert str(caught.value) == (
        "there is no prompt set 'oio' (did you mean 'ioi'?); choose from facts, retrieval, or a task that "
        "'hydrascope tasks' lists, or give a .jsonl, .json or .csv file"
    )


def test_without_bundled_sets_the_error_says_so(bundled: Path) -> None:
    assert builtin_names() == []
    with pytest.raises(
        PromptError,
        match=r"^there is no prompt set 'facts' \(did you mean 'known-facts'\?\); "
        "choose a task that 'hydrascope tasks'",
    ):
        load("facts")
