"""Where an answer begins: delimiters, spaces that tokenizers write apart, and prompts that cannot be cut there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from hydrascope.errors import PromptError, TargetError
from hydrascope.prompts import Cut, Document, Encoded, EncodedPrompt, Prompt, PromptSet, cut, encode, load
from hydrascope.prompts._delimiter import between
from hydrascope.run._record import _row
from tests.support import digits


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return digits.tokenizer()


def encoded(tokenizer: PreTrainedTokenizerFast, *prompts: Prompt, delimiter: str = "auto") -> Encoded:
    return encode(PromptSet("some", prompts), tokenizer, vocabulary=100, context=100, delimiter=delimiter)


def read(tokenizer: PreTrainedTokenizerFast, prompt: EncodedPrompt) -> tuple[str, str]:
    """The prompt as the model gets it, and the first token of its answer."""
    assert prompt.target_id is not None
    return str(tokenizer.decode(list(prompt.ids))), str(tokenizer.decode([prompt.target_id]))


@pytest.mark.parametrize(
    ("prompt", "answer", "space"),
    [
        ("The capital is", "Paris", True),
        ("The capital is ", "Paris", False),
        ("The capital is", " Paris", False),
        ("Answer:\n", "Paris", False),
        ('The city is called "', "Paris", False),
        ('He said "no"', "and", True),
        ("(", "and", False),
        ("state-of-the-", "art", False),
        ("He left -", "then", True),
        ("I don", "'t", False),
        ("I do", "n't", False),
        ("He called it", "'Paris'", True),
        ("It costs $", "1", False),
        ("2+2=", "4", False),
        ("x =", "4", True),
        ("It is", "-5", True),
        ("It is", ".5", True),
        ("well", "-known", False),
        ("The end", ".", False),
        ("日本的首都是", "东京", False),
        ("ไทย", "ไทย", False),
        ("The Chinese word is", "东京", True),
    ],
)
def test_a_space_stands_where_prose_has_one(prompt: str, answer: str, space: bool) -> None:
    assert between(prompt, answer, "auto") == (" " if space else "")
    assert between(prompt, answer, "none") == ""
    assert between(prompt, answer, "\n") == "\n"


def test_a_number_is_read_at_its_first_digit(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = Prompt(
        "The war ended in the year", target="1969", foil="2001", counterfactual="The peace ended in the year"
    )
    found = encoded(tokenizer, prompt).prompts[0]
    assert read(tokenizer, found) == ("<s>The war ended in the year ", "1")
    assert tokenizer.decode([found.foil_id]) == "2"
    assert tokenizer.decode(list(found.counterfactual_ids or ())) == "<s>The peace ended in the year "
    assert (found.moved, found.target_truncated) == (1, True)


def test_ids_are_followed_by_the_space_too(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tuple(tokenizer("The war ended in the year")["input_ids"])
    for given in (Prompt(input_ids=ids, target="1969"), Prompt("shown", input_ids=ids, target="1969")):
        found = encoded(tokenizer, given).prompts[0]
        assert found.ids == (*ids, tokenizer.convert_tokens_to_ids("▁"))
        assert tokenizer.decode([found.target_id]) == "1"
    assert encoded(tokenizer, Prompt(input_ids=ids, target="Paris")).prompts[0].ids == ids


@pytest.mark.parametrize(
    ("text", "target", "delimiter", "expected"),
    [
        ('The war is "', "Paris", "auto", ('<s>The war is "', "Paris")),
        ("the war-", "peace", "auto", ("<s>the war-", "peace")),
        ("The", "'t", "auto", ("<s>The", "'t")),
        ("The war is $", "1", "auto", ("<s>The war is $", "1")),
        ("The year", "1", "none", ("<s>The year", "1")),
        ("The year", "1", " -", ("<s>The year -", "1")),
        ("The year", "Paris", " of ", ("<s>The year of", " Paris")),
    ],
)
def test_the_delimiter_ends_the_prompt(
    tokenizer: PreTrainedTokenizerFast, text: str, target: str, delimiter: str, expected: tuple[str, str]
) -> None:
    by_option = encoded(tokenizer, Prompt(text, target=target), delimiter=delimiter)
    by_row = encoded(tokenizer, Prompt(text, target=target, delimiter=delimiter), delimiter="never used")
    assert read(tokenizer, by_option.prompts[0]) == read(tokenizer, by_row.prompts[0]) == expected


def test_a_prompt_that_cannot_be_cut_is_left_out_and_listed(tokenizer: PreTrainedTokenizerFast) -> None:
    prompts = (
        Prompt("The war", target="peace"),
        Prompt("un", target="believ", delimiter="none"),
        Prompt("The year", target="Paris", foil="1969"),
        Prompt("The year", target_id=3, foil="1969"),
        Prompt("The peace", target="war"),
    )
    found = encoded(tokenizer, *prompts)
    assert [prompt.index for prompt in found.prompts] == [0, 4]
    assert found.rows == {0: 0, 4: 1}
    assert [(one.index, one.why) for one in found.left_out] == [
        (1, "one token holds the end of the prompt and the beginning of target 'believ'"),
        (2, "its answers do not begin behind the same token"),
        (3, "its answers do not begin behind the same token"),
    ]
    fewer = encode(PromptSet("some", prompts), tokenizer, vocabulary=100, context=100, needed=("target",))
    assert [(prompt.index, prompt.foil_id) for prompt in fewer.prompts] == [(0, None), (2, None), (3, None), (4, None)]
    none = encode(PromptSet("some", prompts), tokenizer, vocabulary=100, context=100, needed=())
    assert [prompt.target_id is None for prompt in none.prompts] == [False, True, False, False, False]
    with pytest.raises(TargetError, match=r"^no prompt is left of 1: of prompt 0 \(counted from 0, 'un'\), one token"):
        encoded(tokenizer, prompts[1])


def test_a_beginning_that_the_text_names_is_there_once(tokenizer: PreTrainedTokenizerFast) -> None:
    plain, named = encoded(tokenizer, Prompt("The war is"), Prompt("<s>The war is")).prompts
    assert plain.ids == named.ids == tuple(tokenizer("The war is")["input_ids"])
    assert (plain.named_bos, named.named_bos) == (False, True)
    how = {"how": Cut(length=4), "name": "texts", "context": 9}
    one, other = (cut([Document("a", text + "The war is")], tokenizer, **how).prompts for text in ("", "<s>"))  # type: ignore[arg-type]
    assert one == other


def test_messages_go_through_the_template(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "user", "content": "the year"}]
    with pytest.raises(PromptError, match=r"given as messages\): 'messages' need a chat template, which"):
        encoded(tokenizer, Prompt(messages=tuple(messages), target="Paris"))
    chat = digits.tokenizer()
    chat.chat_template = (
        "<s>{% for m in messages %}{{ m.role }}-{{ m.content }}-{% endfor %}"
        "{% if add_generation_prompt %}peace-{% endif %}"
    )
    found = encoded(chat, load([{"messages": messages, "target": "Paris"}]).prompts[0]).prompts[0]
    assert found.text == "<s>user-the year-peace-"
    assert list(found.ids) == chat("user-the year-peace-")["input_ids"], "one beginning of sequence"
    assert chat.decode([found.target_id]) == "Paris"
    begun = [*messages, {"role": "assistant", "content": "the war"}]
    assert (
        encoded(chat, Prompt(messages=tuple(begun), target="is")).prompts[0].text
        == "<s>user-the year-assistant-the war"
    )
    chat.chat_template = "{{ raise_exception('no users') }}"
    with pytest.raises(PromptError, match=r"the model's chat template refuses the messages \(no users\); change them"):
        encoded(chat, Prompt(messages=tuple(messages)))


@pytest.mark.parametrize("messages", ["hello", [], [{"role": "user"}], [{"role": "user", "content": 3}]])
def test_messages_of_another_form_are_refused(messages: object) -> None:
    with pytest.raises(PromptError, match="'messages'"):
        load([{"messages": messages}])
    with pytest.raises(PromptError, match="there are 'messages' beside another prompt"):
        load([{"messages": [{"role": "user", "content": "a"}], "prompt": "a"}])


def test_several_answers_are_accepted(tokenizer: PreTrainedTokenizerFast) -> None:
    found = encoded(tokenizer, load([{"prompt": "The year", "target": ["Paris", "war"]}]).prompts[0]).prompts[0]
    paris, war = tokenizer.convert_tokens_to_ids(["▁Paris", "▁war"])
    assert (found.target_id, found.accepted) == (paris, (war,))


def test_a_runs_folder_keeps_all_of_a_prompt(tmp_path: Path) -> None:
    told = {"role": "user", "content": "the year"}
    rows: list[dict[str, object]] = [
        {"messages": [told], "target": ["1969", "69"], "delimiter": ""},
        {"prompt": "a", "target": 3, "accepted": [4]},
    ]
    kept = PromptSet("kept", load(rows).prompts)
    file = tmp_path / "kept.jsonl"
    file.write_text("".join(json.dumps(_row(prompt)) + "\n" for prompt in kept))
    assert load(file).digest == kept.digest
    assert load(file).prompts == kept.prompts


def test_rows_as_others_write_them() -> None:
    rows: list[dict[str, object]] = [
        {"clean": "a", "corrupted": "b", "answer": 1969, "foil": -2.5},
        {"prompt": "a", "counterfactual": "b", "target": "1969", "foil": "-2.5", "clean": "other"},
        {"prompt": "a", "counterfactual": "b", "target": ["1969"], "foil": "-2.5"},
    ]
    assert len(set(load(rows).prompts)) == 1
    with pytest.raises(PromptError, match="'target' is True; write it as text in quotes"):
        load([{"prompt": "a", "target": True}])
