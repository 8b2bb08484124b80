from __future__ import annotations

import random

import pytest
import torch

from zoo.corpus import BLOCKED, IGNORED, Corpus
from zoo.documents import Mixture, document, is_held_out
from zoo.phrasings import INDIRECT_HELD_OUT, PHRASINGS
from zoo.prompts import all_fact_prompts, indirect_prompts, retrieval_prompts, spread, text_prompts
from zoo.vocabulary import BEGIN, SPECIAL, build_tokenizer, words
from zoo.world import FACTS, FIRST_NAMES, PERSON_VALUES


@pytest.fixture(scope="module")
def sample() -> list[str]:
    rng = random.Random(5)
    later = Mixture(lists=0.1, notes=0.2, late=True)
    return [document(rng, later if index % 4 else Mixture(), index / 8000) for index in range(8000)]


def test_corpus_uses_known_words_only_and_trains_every_word_of_the_prompts(sample: list[str]) -> None:
    seen = {word for text in sample for word in text.split()}
    assert seen <= set(words())
    prompts = [*all_fact_prompts(), *retrieval_prompts(20, seed=0), *indirect_prompts(20, seed=0)]
    asked = {word for prompt in prompts for word in (prompt.prompt + prompt.target).split()}
    assert asked <= seen


def test_what_is_held_out_never_occurs_in_the_corpus(sample: list[str]) -> None:
    text = " ".join(sample)
    for prompt in [*all_fact_prompts(), *indirect_prompts(20, seed=0)]:
        sentence = prompt.prompt[0].lower() + prompt.prompt[1:]
        assert prompt.prompt not in text
        assert f" {sentence} " not in text
    for sentence in text.split(" . "):
        present = sentence.split()
        people = [word for word in present if word in FIRST_NAMES]
        if len(people) == 1 and len(present) > 3:
            values = [word for word in present if word in PERSON_VALUES["home"]]
            assert not any(is_held_out(people[0], value) for value in values)


def test_held_out_phrasings_differ_from_every_taught_one() -> None:
    for phrasings in PHRASINGS.values():
        ever = phrasings.taught + phrasings.late + phrasings.turned
        taught = {" ".join(w for w in text.split() if w[0] != "<") for text in ever}
        assert not taught & set(phrasings.held_out)
        assert len(phrasings.held_out) >= 3
    assert len(INDIRECT_HELD_OUT) >= 4


def test_later_lessons_stay_out_unless_a_mixture_asks_for_them() -> None:
    rng = random.Random(1)
    plain = " ".join(document(rng, Mixture(), 1.0) for _ in range(1500))
    later = " ".join(document(rng, Mixture(late=True, lists=0.2), 1.0) for _ in range(1500))
    for text, expected in ((plain, False), (later, True)):
        assert ("or money" in text) == expected  # a late phrasing
        assert any(len(sentence.split()) == 2 for sentence in text.split(" . ")) == expected  # a note


def test_batch_depends_on_seed_and_step_alone() -> None:
    one = Corpus(3, Mixture(), rows=4, length=48)
    two = Corpus(3, Mixture(), rows=4, length=48)
    two.batch(0, 0.0)
    assert torch.equal(one.batch(7, 0.5).tokens, two.batch(7, 0.5).tokens)
    assert not torch.equal(one.batch(7, 0.5).tokens, one.batch(8, 0.5).tokens)


def test_packed_documents_see_themselves_only() -> None:
    batch = Corpus(0, Mixture(), rows=8, length=64).batch(0, 0.5)
    begin = SPECIAL.index(BEGIN)
    starts = (batch.tokens == begin).cumsum(1)
    for row in range(8):
        visible = batch.mask[row, 0] > BLOCKED / 2
        used = batch.labels[row] != IGNORED
        for token in used.nonzero().flatten().tolist():
            keys = visible[token].nonzero().flatten()
            assert keys.max() == token
            assert set(starts[row, keys].tolist()) == {int(starts[row, token])}
            assert batch.positions[row, token] == len(keys) - 1
    assert (batch.labels != IGNORED).float().mean() > 0.8


def test_tokenizer_agrees_with_the_corpus_and_keeps_answers_single() -> None:
    tokenizer = build_tokenizer(64)
    corpus = Corpus(0, Mixture(), rows=1, length=64)
    text = "The capital of France is Paris ."
    assert tokenizer(text).input_ids == corpus.encode(text)
    assert tokenizer("The capital of France is Paris.").input_ids == corpus.encode(text)
    for table in FACTS.values():
        for answer in table.values():
            assert len(tokenizer(f" {answer}", add_special_tokens=False).input_ids) == 1


@pytest.mark.parametrize("make", [all_fact_prompts, lambda: retrieval_prompts(3, 1), lambda: indirect_prompts(5, 1)])
def test_prompts_extend_by_one_token_and_counterfactuals_match_in_length(make) -> None:
    tokenizer = build_tokenizer(64)
    for prompt in make():
        asked = tokenizer(prompt.prompt).input_ids
        assert tokenizer(prompt.prompt + prompt.target).input_ids[:-1] == asked
        assert len(tokenizer(prompt.counterfactual).input_ids) == len(asked)
        assert prompt.counterfactual != prompt.prompt
        assert tokenizer.unk_token_id not in asked


def test_facts_are_true_and_spread_varies_the_targets() -> None:
    prompts = all_fact_prompts()
    french = [prompt for prompt in prompts if prompt.group == "capital-2" and "France" in prompt.prompt]
    assert [(p.prompt, p.target) for p in french] == [("The name of the capital of France is", " Paris")]
    chosen = spread(prompts, 6, seed=0)
    groups = {prompt.group for prompt in chosen}
    assert len(groups) == sum(len(phrasings.held_out) for phrasings in PHRASINGS.values())
    for group in groups:
        targets = [prompt.target for prompt in chosen if prompt.group == group]
        assert len(targets) == 6
        assert len(set(targets)) >= 5


def test_plain_text_is_cut_at_a_word_that_the_document_goes_on_with() -> None:
    tokenizer = build_tokenizer(64)
    prompts = text_prompts(60, seed=4)
    assert prompts == text_prompts(60, seed=4)
    assert len({prompt.group for prompt in prompts}) == 60
    assert len({len(prompt.prompt.split()) for prompt in prompts}) > 10
    for prompt in prompts:
        asked = tokenizer(prompt.prompt).input_ids
        assert len(asked) > 6
        assert tokenizer(prompt.prompt + prompt.target).input_ids[:-1] == asked
        assert tokenizer.unk_token_id not in asked
        assert prompt.counterfactual is None


def test_retrieval_answer_stands_in_the_prompt_beside_its_name() -> None:
    for prompt in retrieval_prompts(4, seed=9):
        *stated, asked = prompt.prompt.split(" . ")
        (name,) = [word for word in asked.split() if word in FIRST_NAMES]
        (source,) = [sentence for sentence in stated if name in sentence.split()]
        assert source.split()[-1] == prompt.target.strip()
