"""Tasks by name: what they make, what they read, and how they follow the tokenizer."""

from __future__ import annotations

import copy
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

from hydrascope import zoo
from hydrascope.errors import EmptyPrompts, MalformedPrompt, PromptError
from hydrascope.prompts import Prompt, PromptSet, documents, encode, load, require_distinct_foils
from hydrascope.prompts.tasks import TASKS, _agreement, _greater_than, _ioi, listed_tasks
from hydrascope.prompts.tasks._task import partners
from tests.conftest import Cli

SHARED = Path(__file__).parents[3] / "shared"
real_files = pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the real files are not beside this checkout")


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def characters() -> PreTrainedTokenizerFast:
    """One token a character."""
    letters = ["<unk>", *map(chr, range(32, 127))]
    backend = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(letters)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


@pytest.fixture(scope="module")
def pieces() -> PreTrainedTokenizerFast:
    """Words that carry their space, most names whole, and years cut after the century unless they end in 50 to 59."""
    words = re.findall(r"[A-Za-z]+", " ".join((*_ioi._SENTENCES, *_ioi._PLACES, *_ioi._THINGS)))
    words += re.findall(r"[A-Za-z]+", " ".join((*_greater_than._SENTENCES, *_greater_than._SPANS)))
    names = _ioi._NAMES[:20]
    digits = [f"{n:02d}" for n in range(100)]
    tokens = [*("▁" + word for word in (*words, *names)), *("▁" + n for n in digits), *digits]
    tokens += [f"▁{century}{n}" for century in range(11, 20) for n in range(50, 60)]
    vocabulary = dict.fromkeys(["<unk>", *map(chr, range(33, 127)), "▁", *tokens])
    scores = [(token, -1.0 if len(token) > 1 else -20.0) for token in vocabulary]
    backend = Tokenizer(models.Unigram(scores, unk_id=0))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Metaspace(prepend_scheme="never")
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def written(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


# --- generated prompts -------------------------------------------------------------------------


def test_made_indirect_objects_name_one_person_twice() -> None:
    prompts = load("ioi")
    assert (prompts.name, prompts.source, len(prompts)) == ("ioi", "generated", 240)
    assert len({prompt.text for prompt in prompts}) == 240
    first = 0
    for prompt in prompts:
        text, io, s = prompt.text, prompt.target, prompt.foil
        assert text is not None and io is not None and s is not None
        assert (text.count(io), text.count(s)) == (1, 2)
        first += text.index(io) < text.index(s)
        swapped = text.replace(io, "@").replace(s, io).replace("@", s)
        assert prompt.counterfactual == swapped
        assert (swapped.count(io), swapped.count(s)) == (2, 1)
    assert 80 < first < 160, "either may be named first"
    assert len({prompt.group for prompt in prompts}) == 12
    assert load("ioi") == prompts


def test_names_follow_the_tokenizer(pieces: PreTrainedTokenizerFast) -> None:
    prompts = load("ioi", tokenizer=pieces)
    names = {prompt.target for prompt in prompts}
    assert names <= set(_ioi._NAMES[:20]) and len(names) > 10
    encoded = encode(prompts, pieces, vocabulary=len(pieces), context=200)
    assert require_distinct_foils(encoded).dropped == encoded.n_truncated_targets == 0
    for prompt in encoded.prompts:
        assert prompt.counterfactual_ids is not None
        assert len(prompt.ids) == len(prompt.counterfactual_ids)


def test_single_characters_tell_names_apart_behind_the_space(characters: PreTrainedTokenizerFast) -> None:
    prompts = load("ioi", tokenizer=characters)
    encoded = encode(prompts, characters, vocabulary=len(characters), context=200)
    assert require_distinct_foils(encoded).dropped == 0
    for prompt, given in zip(encoded.prompts, prompts, strict=True):
        assert given.text and given.target and given.foil and prompt.counterfactual_ids
        assert given.text.endswith((" to", " for"))
        assert characters.decode([prompt.ids[-1], prompt.counterfactual_ids[-1]]) == "  "
        assert characters.decode([prompt.target_id]) == given.target[0]
        assert len(given.target) == len(given.foil)
        assert len(prompt.ids) == len(prompt.counterfactual_ids)


def test_years_follow_the_tokenizer(pieces: PreTrainedTokenizerFast, characters: PreTrainedTokenizerFast) -> None:
    prompts = load("greater-than", tokenizer=pieces)
    assert len(prompts) == 240 and prompts.unfit == 0
    for prompt in prompts:
        assert prompt.text is not None
        found = re.search(r"year (\d\d)(\d\d) .* year (\d\d)$", prompt.text)
        assert found is not None and found[1] == found[3]
        assert not 49 <= int(found[2]) <= 60
        assert pieces.convert_ids_to_tokens([prompt.target_id, prompt.foil_id]) == [
            f"{int(found[2]) + step:02d}" for step in (1, -1)
        ]
        assert prompt.counterfactual == prompt.text.replace(found[1] + found[2], found[1] + "01")
    words = Tokenizer(models.WordLevel({"<unk>": 0, "year": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(EmptyPrompts, match="writes no year as its century and two digits, nor digit by digit"):
        load("greater-than", tokenizer=PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>"))
    with pytest.raises(PromptError, match=r"give its tokenizer, load_prompts\('greater-than', tokenizer"):
        load("greater-than")


def test_of_single_digits_the_decade_is_asked(characters: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    prompts = load("greater-than", tokenizer=characters)
    assert len(prompts) == 240 and prompts.unfit == 0
    for prompt in prompts:
        assert prompt.text is not None
        found = re.search(r"year (\d\d)(\d)(\d) .* year (\d\d)$", prompt.text)
        assert found is not None and found[1] == found[4]
        later, earlier = (characters.decode([one]) for one in (prompt.target_id, prompt.foil_id))
        assert [later, earlier] == [str(int(found[2]) + 1), str(int(found[2]) - 1)]
        assert all(f"{later}{last}" > f"{found[2]}{found[3]}" > f"{earlier}{last}" for last in range(10))
        assert earlier > "0", "the counterfactual begins in 01"
    rows = [f"From the year 13{year} to 13,From the year 1301 to 13,{year}" for year in ("32", "95", "09")]
    (tmp_path / "years.csv").write_text("\n".join(["clean,corrupted,label", *rows]) + "\n")
    read = load(f"greater-than:{tmp_path / 'years.csv'}", tokenizer=characters)
    assert [characters.decode([one.target_id, one.foil_id]) for one in read] == ["42"]
    assert read.unfit == 2


def test_made_sentences_agree() -> None:
    prompts = load("agreement")
    assert len(prompts) == len({prompt.text for prompt in prompts}) == 240
    singular = {" is", " was", " has", " does"}
    for prompt in prompts:
        assert prompt.text and prompt.counterfactual and prompt.foil
        subject, other = prompt.text.split()[1], prompt.counterfactual.split()[1]
        assert (prompt.target in singular) != (prompt.foil in singular)
        assert (subject in (other + "s", other[:-1])) and subject.endswith("s") != (prompt.target in singular)
        assert prompt.text.split()[2:] == prompt.counterfactual.split()[2:]
    assert len({str(prompt.text).split()[1].endswith("s") for prompt in prompts}) == 2


def test_made_sentences_are_as_long_as_their_counterfactuals(
    pieces: PreTrainedTokenizerFast, characters: PreTrainedTokenizerFast
) -> None:
    """Where the tokenizer has words that allow it: a plural of one token here, of one more there."""
    whole = [*_agreement._SUBJECTS[:4], *(f"{word}s" for word in _agreement._SUBJECTS[:3])]
    tokenizer = copy.deepcopy(pieces)
    tokenizer.add_tokens([f" {word}" for word in sorted(whole, key=len, reverse=True)])
    for task in ("ioi", "greater-than", "agreement"):
        prompts = load(task, tokenizer=tokenizer)
        encoded = encode(prompts, tokenizer, vocabulary=len(tokenizer), context=400)
        assert all(len(prompt.ids) == len(prompt.counterfactual_ids or ()) for prompt in encoded.prompts), task
    assert len({prompt.group for prompt in load("agreement", tokenizer=characters)}) == len(_agreement._SUBJECTS)


def test_a_tokenizer_that_does_not_know_the_words_is_refused() -> None:
    lerna = AutoTokenizer.from_pretrained(zoo.default().path)
    with pytest.raises(PromptError, match="does not know the words of the generated sentences; give a file, ioi:FILE"):
        load("ioi", tokenizer=lerna)


# --- files -------------------------------------------------------------------------------------


def test_indirect_objects_from_files(tmp_path: Path) -> None:
    rows: tuple[dict[str, Any], ...] = (
        {"prompt": "Then, Ada and Bo met. Ada gave it to", "answer": "Bo", "some/model": True},
        {"clean": "After Ada and Bo met, Bo gave it to", "corrupted": "After Ada and Bo met, Cy gave it to"},
    )
    prompts = load(f"ioi:{lines(tmp_path / 'two.jsonl', *rows)}")
    assert (prompts.name, prompts.source) == ("ioi-two", str(tmp_path / "two.jsonl"))
    assert prompts.prompts == (
        Prompt(rows[0]["prompt"], target="Bo", foil="Ada", counterfactual="Then, Bo and Ada met. Bo gave it to"),
        Prompt(rows[1]["clean"], target="Ada", foil="Bo", counterfactual=rows[1]["corrupted"]),
    )
    (tmp_path / "one.csv").write_text(
        f',clean,corrupted,correct_idx\n7,"{rows[1]["clean"]}","{rows[1]["corrupted"]}",9\n'
    )
    assert load(f"ioi:{tmp_path / 'one.csv'}").prompts == prompts.prompts[1:]


def test_a_built_in_set_stands_for_a_file() -> None:
    plain, prompts = load("indirect"), load("ioi:indirect")
    assert [p.text for p in prompts] == [p.text for p in plain]
    assert [p.counterfactual for p in prompts] == [p.counterfactual for p in plain]
    assert [f" {p.target}" for p in prompts] == [p.target for p in plain]
    assert all(p.foil != p.target and str(p.text).count(str(p.foil)) == 2 for p in prompts)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "Ada met Bo. Ada gave it to"}, "line 1: no two people joined by 'and' of whom one is named again"),
        (
            {"prompt": "Ada and Bo met. Ada gave it to", "answer": "Ada"},
            "the answer is 'Ada', but 'Bo' is the one named",
        ),
        ({"text": "Ada and Bo"}, "line 1: there is no text under 'clean' among 'text'; add it"),
    ],
)
def test_what_is_no_indirect_object_is_named(row: dict[str, str], says: str, tmp_path: Path) -> None:
    with pytest.raises(MalformedPrompt, match=re.escape(says)):
        load(f"ioi:{lines(tmp_path / 'p.jsonl', row)}")


def test_years_from_a_file(tmp_path: Path, pieces: PreTrainedTokenizerFast) -> None:
    cells = ["clean,corrupted,label"]
    cells += [
        f"The war lasted from the year 13{y} to the year 13,The war lasted from the year 1301 to the year 13,{y}"
        for y in (32, 55, 41)
    ]
    (tmp_path / "years.csv").write_text("\n".join(cells) + "\n")
    prompts = load(f"greater-than:{tmp_path / 'years.csv'}", tokenizer=pieces)
    assert prompts.unfit == 1, "1355 is one token"
    assert pieces.convert_ids_to_tokens([p.target_id for p in prompts]) == ["33", "42"]
    assert len({p.group for p in prompts}) == 1
    (tmp_path / "years.csv").write_text("clean,corrupted,label\nNever,Nowhere,12\n")
    with pytest.raises(MalformedPrompt, match="line 2: 'clean' must name a year that ends in the label"):
        load(f"greater-than:{tmp_path / 'years.csv'}", tokenizer=pieces)


def test_agreement_from_a_file(tmp_path: Path) -> None:
    row = {"clean_prefix": "The kids", "patch_prefix": "The kid", "clean_answer": " do", "patch_answer": " does"}
    back = {"clean_prefix": "The kid", "patch_prefix": "The kids", "clean_answer": " is", "patch_answer": " are"}
    prompts = load(f"agreement:{lines(tmp_path / 'a.json', row, back)}")
    assert prompts.prompts == (
        Prompt("The kids", target=" do", foil=" does", counterfactual="The kid", group="The kid / The kids"),
        Prompt("The kid", target=" is", foil=" are", counterfactual="The kids", group="The kid / The kids"),
    )


def counterfact_row(subject: str, true: str, template: str = "{} speaks") -> dict[str, Any]:
    return {
        "case_id": 1,
        "requested_rewrite": {
            "prompt": template,
            "subject": subject,
            "relation_id": "P1",
            "target_true": {"str": true},
            "target_new": {"str": "Latin"},
        },
    }


def test_counterfact_in_both_forms(tmp_path: Path) -> None:
    published = [counterfact_row("Ada", "French"), counterfact_row("Bo", "French"), counterfact_row("Cy", "Dutch")]
    (tmp_path / "c.json").write_text(json.dumps(published))
    prompts = load(f"counterfact:{tmp_path / 'c.json'}")
    assert prompts.prompts == (
        Prompt("Ada speaks", target="French", foil="Latin", counterfactual="Cy speaks", group="P1"),
        Prompt("Bo speaks", target="French", foil="Latin", counterfactual="Cy speaks", group="P1"),
        Prompt("Cy speaks", target="Dutch", foil="Latin", counterfactual="Ada speaks", group="P1"),
    )
    flat = lines(tmp_path / "flat.jsonl", *FLAT)
    assert load(f"counterfact:{flat}").prompts == FROM_FLAT
    with pytest.raises(MalformedPrompt, match="'requested_rewrite' lacks prompt"):
        load(f"counterfact:{lines(tmp_path / 'half.jsonl', {'requested_rewrite': {'prompt': 'x'}})}")


FLAT = tuple(
    {
        "prompt": f"{subject} is in",
        "relation_prefix": "",
        "relation_suffix": " is in",
        "relation_id": "P2",
        "subject": subject,
        "target_true": f" {place}",
        "target_false": " Mars",
    }
    for subject, place in (("Oslo", "Norway"), ("Lima", "Peru"))
)
FROM_FLAT = (
    Prompt("Oslo is in", target=" Norway", foil=" Mars", counterfactual="Lima is in", group="P2"),
    Prompt("Lima is in", target=" Peru", foil=" Mars", counterfactual="Oslo is in", group="P2"),
)


def test_known_facts_take_the_nearest_other_fact(tmp_path: Path) -> None:
    def fact(prompt: str, template: str, relation: str, attribute: str) -> dict[str, str]:
        return {"prompt": prompt, "template": template, "relation_id": relation, "attribute": attribute}

    rows = (
        fact("A lies in", "{} lies in", "P1", "X"),
        fact("B is in", "{} is in", "P1", "Y"),
        fact("C lies in", "{} lies in", "P1", "Z"),
        fact("D plays", "{} plays", "P2", "W"),
    )
    prompts = load(f"known-facts:{lines(tmp_path / 'k.json', *rows)}")
    assert [(p.foil, p.counterfactual) for p in prompts] == [
        ("Z", "C lies in"),
        ("Z", "C lies in"),
        ("X", "A lies in"),
        ("X", "A lies in"),
    ]
    assert [p.group for p in prompts] == ["P1", "P1", "P1", "P2"]


def test_partners_are_the_next_with_another_answer() -> None:
    assert partners("aab", [0, 0, 0]) == [2, 2, 0]
    assert partners("aabc", [0, 0, 1, 1]) == [None, None, 3, 2]
    assert partners("aabc", [0, 0, 1, 1], [0, 0, 0, 0]) == [2, 2, 3, 2]


def test_partners_of_the_same_length_go_before_others() -> None:
    lengths = [1, 2, 1, 2, 3]
    assert partners("abcde", [0] * 5, alike=lambda i, j: lengths[i] == lengths[j]) == [2, 3, 0, 1, 0]
    assert partners("aabb", [0, 0, 0, 0], alike=lambda i, j: (i, j) in {(0, 3), (2, 1)}) == [3, 2, 1, 0]


def test_counterfactuals_of_facts_and_relations_are_of_one_length_where_they_can_be(
    tmp_path: Path, characters: PreTrainedTokenizerFast
) -> None:
    subjects = [("Oslo", "Norway"), ("Lisbon", "Portugal"), ("Lima", "Peru"), ("Berlin", "Germany")]
    samples = [{"subject": subject, "object": answer} for subject, answer in subjects]
    (tmp_path / "country.json").write_text(json.dumps(relation("country", samples=samples)))
    found = load(f"relations:{tmp_path / 'country.json'}", tokenizer=characters)
    assert [str(p.counterfactual).split()[0] for p in found] == ["Lima", "Berlin", "Oslo", "Lisbon"]
    facts = [
        {"prompt": f"{s} is in", "template": "{} is in", "relation_id": "P", "attribute": a, "subject": s}
        for s, a in subjects
    ]
    known = load(f"known-facts:{lines(tmp_path / 'facts.jsonl', *facts)}", tokenizer=characters)
    assert [str(p.counterfactual).split()[0] for p in known] == ["Lima", "Berlin", "Oslo", "Lisbon"]


def relation(name: str, **more: Any) -> dict[str, Any]:
    samples = [{"subject": s, "object": o} for s, o in (("Oslo", "Norway"), ("Bergen", "Norway"), ("Lima", "Peru"))]
    return {"name": name, "prompt_templates": ["{} is in"], "samples": samples} | more


def test_relations_from_a_file_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "all" / "b").mkdir(parents=True)
    one, two = tmp_path / "all" / "country.json", tmp_path / "all" / "b" / "place.json"
    one.write_text(json.dumps(relation("country"), indent=1))
    two.write_text(json.dumps(relation("place", prompt_templates_zs=["Where is {}? In", "{} lies in"])))
    prompts = load(f"relations:{one}")
    assert prompts.prompts == (
        Prompt("Oslo is in", target="Norway", foil="Peru", counterfactual="Lima is in", group="country"),
        Prompt("Bergen is in", target="Norway", foil="Peru", counterfactual="Lima is in", group="country"),
        Prompt("Lima is in", target="Peru", foil="Norway", counterfactual="Oslo is in", group="country"),
    )
    both = load(f"relations:{tmp_path / 'all'}")
    assert [p.group for p in both] == ["place"] * 3 + ["country"] * 3
    assert [p.text for p in both[:3]] == ["Where is Oslo? In", "Bergen lies in", "Where is Lima? In"]
    assert [p.counterfactual for p in both[:2]] == ["Where is Lima? In", "Lima lies in"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "is no JSON object"),
        ("{", "line 1: no valid JSON"),
        (json.dumps(relation("r", prompt_templates=["is in"])), "must be a list of texts with {} for the subject"),
        (json.dumps(relation("r", samples=[{"subject": "x"}])), "'samples' must be a list of objects"),
        (json.dumps({k: v for k, v in relation("r").items() if k != "name"}), "no text under 'name'"),
    ],
)
def test_a_bad_relation_is_named(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(MalformedPrompt, match=re.escape(says)):
        load(f"relations:{tmp_path / 'r.json'}")


def test_an_empty_folder_of_relations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"holds no \.json file"):
        load(f"relations:{tmp_path}")


def test_last_words(tmp_path: Path) -> None:
    expected = (Prompt("She met his friend", target="Menzies"), Prompt("“Is it", target="you"))
    rows = [{"text": "She met his friend Menzies"}, {"text": "“Is it you?”"}]
    assert load(f"lambada:{lines(tmp_path / 'l.jsonl', *rows)}").prompts == expected
    (tmp_path / "l.txt").write_text("She met his friend Menzies\n\n“Is it you?”\n")
    assert load(f"lambada:{tmp_path / 'l.txt'}").prompts == expected
    with pytest.raises(MalformedPrompt, match="line 1: the passage has no last word"):
        load(f"lambada:{lines(tmp_path / 'one.jsonl', {'text': 'Alone.'})}")


# --- the hub -----------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A library that has one table under every name, and notes what is asked of it."""
    asked: list[tuple[Any, ...]] = []

    def load_dataset(name: str, config: str | None, split: str) -> list[dict[str, Any]]:
        asked.append((name, config, split))
        if "lambada" in name:
            return [{"text": "the last word"}]
        if "pile" in name:
            return [{"text": "one"}, {"text": ""}, {"text": "two"}]
        return list(FLAT) if "counterfact" in name else [{"prompt": "a", "target": "b", "foil": "c"}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return asked


def test_tables_of_the_hub(hub: list[tuple[Any, ...]]) -> None:
    assert load("counterfact") == PromptSet("counterfact", FROM_FLAT, source="hub:NeelNanda/counterfact-tracing")
    assert load("lambada").prompts == (Prompt("the last", target="word"),)
    assert load("hub:some/table:test").prompts == (Prompt("a", target="b", foil="c"),)
    assert [document.text for document in documents("hub:some/pile")] == ["one", "two"]
    assert hub == [
        ("NeelNanda/counterfact-tracing", None, "train"),
        ("EleutherAI/lambada_openai", "default", "test"),
        ("some/table", None, "test"),
        ("some/pile", None, "train"),
    ]


def test_without_the_library_one_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch, cli: Cli, model_folder: Path
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    said = cli("run", model_folder, "--prompts", "counterfact").refusal()
    assert said.endswith("the library 'datasets' is not installed; install hydrascope[hub], or give a file")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ConnectionError("Couldn't reach the Hub. Check it.\nTry again"), "(Couldn't reach the Hub)"),
        (ValueError(), "(ValueError)"),
    ],
)
def test_without_a_network_one_sentence_says_so(
    error: Exception, says: str, monkeypatch: pytest.MonkeyPatch, cli: Cli, model_folder: Path
) -> None:
    def load_dataset(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    said = cli("run", model_folder, "--prompts", "lambada").refusal()
    assert f"'EleutherAI/lambada_openai' cannot be loaded from the Hugging Face hub {says}" in said


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("relations", "the task 'relations' reads what you give it; write relations:FILE or FOLDER"),
        ("ioi:nowhere.jsonl", "'nowhere.jsonl' cannot be read (No such file or directory)"),
        ("ioi:nowhere", "'nowhere' is no prompt file"),
        ("oio:nowhere", "there is no prompt set 'oio:nowhere'"),
    ],
)
def test_what_is_not_there_is_said(spec: str, says: str, model_folder: Path, cli: Cli) -> None:
    assert says in cli("run", model_folder, "--prompts", spec).refusal()


def test_every_task_is_listed(cli: Cli) -> None:
    shown = cli("tasks").out.splitlines()
    assert [line.split(":")[0] for line in listed_tasks()] == list(TASKS)
    assert shown[-len(TASKS) :] == list(listed_tasks())
    assert any(
        line.startswith("counterfact: ") and "21,919 prompts from the Hugging Face hub" in line for line in shown
    )


# --- documents ---------------------------------------------------------------------------------


def test_documents_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b" / "c.txt").write_text("three<|endoftext|>\n<|endoftext|>four\n")
    (tmp_path / "d.txt").write_text(" \n = First = \n\n x \n = = Part = = \n y \n = Second = \n z \n")
    lines(tmp_path / "e.jsonl", {"text": "five"}, {"text": ""}, {"text": "six"})
    (tmp_path / "notes.bin").write_bytes(b"\x00")
    found = documents(tmp_path)
    assert [document.text for document in found] == [
        "one\n\ntwo\n",
        "three",
        "four\n",
        " = First = \n\n x \n = = Part = = \n y \n",
        " = Second = \n z \n",
        "five",
        "six",
    ]
    assert len({document.name for document in found}) == 7
    assert found[0].name == str(tmp_path / "a.txt")
    (tmp_path / "none").mkdir()
    with pytest.raises(EmptyPrompts, match="holds no text"):
        documents(tmp_path / "none")
    with pytest.raises(PromptError, match=r"is no text; give a file that ends in \.txt"):
        documents(tmp_path / "notes.bin")
    with pytest.raises(PromptError, match="cannot be read"):
        documents(tmp_path / "gone.txt")


# --- the real files ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpt2() -> Any:
    folder = SHARED / "data" / "tokenizers" / "gpt2"
    return GPT2Tokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))


@real_files
@pytest.mark.parametrize(
    ("spec", "count", "unfit", "alike"),
    [
        ("ioi:ioi/ioi.json", 841, 0, 2),
        ("ioi:ioi/ioi_llama.csv", 499, 0, 0),
        ("greater-than:greater_than/greater_than_data.csv", 982, 18, 0),
        ("agreement:agreement/nounpp_test.json", 480, 0, 0),
        ("agreement:agreement/simple_test.json", 120, 0, 0),
        ("known-facts:facts/known_1000.json", 1209, 0, 0),
        ("relations:relations/factual/company_hq.json", 674, 0, 0),
        ("relations:relations/linguistic", 806, 0, 1),
        ("ioi", 240, 0, 0),
        ("greater-than", 240, 0, 0),
        ("agreement", 240, 0, 0),
    ],
)
def test_real_files_with_a_real_tokenizer(spec: str, count: int, unfit: int, alike: int, gpt2: Any) -> None:
    task, _, where = spec.partition(":")
    prompts = load(f"{task}:{SHARED / 'data' / where}" if where else task, tokenizer=gpt2)
    assert (len(prompts), prompts.unfit) == (count, unfit)
    encoded = encode(prompts, gpt2, vocabulary=len(gpt2), context=1024)
    assert require_distinct_foils(encoded).dropped == alike
    assert all(prompt.counterfactual_ids != prompt.ids for prompt in encoded.prompts)
    if not where:
        assert all(len(prompt.ids) == len(prompt.counterfactual_ids or ()) for prompt in encoded.prompts)
        assert encoded.n_truncated_targets == 0


@real_files
def test_real_text_is_cut_at_its_articles() -> None:
    found = documents(SHARED / "data" / "text" / "valid.txt")
    assert len(found) == 60
    assert all(document.text.startswith(" = ") for document in found)
