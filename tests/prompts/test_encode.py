"""Encoding of prompts and targets with tokenizers of several kinds, and the filter."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from hydrascope.errors import EmptyPrompts, MalformedPrompt, PromptError, PromptTooLong, TargetError
from hydrascope.prompts import Encoded, Prompt, PromptSet, answered_correctly, encode, load

TEXT = "The capital of France is Paris. The capital of Japan is Tokyo. Mount Fuji is in Japan."
LIMITS: dict[str, Any] = {"vocabulary": 1000, "context": 100}


def wrap(backend: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2: words carry the space before them; the tokenizer adds nothing by itself."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([TEXT] * 20, trainer)
    return wrap(backend, bos_token="<|end|>", eos_token="<|end|>", unk_token="<|end|>")


def sentence_like(template: str) -> PreTrainedTokenizerFast:
    """As Llama: a space mark before every word, the first included, and a template around."""
    words = ["<unk>", "<s>", "</s>", "▁", "▁The", "▁capital", "▁of", "▁France", "▁is", "▁Paris"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 1), ("</s>", 2)])
    return wrap(backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    return sentence_like("<s> $A")


@pytest.fixture(scope="module")
def characters() -> PreTrainedTokenizerFast:
    """One token per character, and one for the beginning."""
    letters = ["<unk>", "<s>", *sorted(set(TEXT))]
    backend = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(letters)}, unk_token="<unk>"))
    backend.normalizer = normalizers.Prepend(" ")
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return wrap(backend, bos_token="<s>", unk_token="<unk>")


def one(tokenizer: PreTrainedTokenizerFast | None, prompt: Prompt, **options: object) -> Encoded:
    return encode(load([prompt]), tokenizer, **(LIMITS | options))


def target_of(tokenizer: PreTrainedTokenizerFast, text: str, target: str) -> tuple[str, bool]:
    """The target as the tokenizer writes it, and whether there was more of it."""
    prompt = one(tokenizer, Prompt(text, target=target)).prompts[0]
    assert prompt.target_id is not None
    assert prompt.target_text == target
    return tokenizer.convert_ids_to_tokens(prompt.target_id), prompt.target_truncated


# --- beginning of the sequence ----------------------------------------------------------------


def test_auto_is_what_the_tokenizer_does(byte_level: PreTrainedTokenizerFast, words: PreTrainedTokenizerFast) -> None:
    text = "The capital of France is"
    assert list(one(byte_level, Prompt(text)).prompts[0].ids) == byte_level(text)["input_ids"]
    assert list(one(words, Prompt(text)).prompts[0].ids) == words(text)["input_ids"]
    assert words.convert_ids_to_tokens(one(words, Prompt(text)).prompts[0].ids[:2]) == ["<s>", "▁The"]


@pytest.mark.parametrize("template", ["<s> $A </s>", "<s> $A </s> </s>"])
def test_auto_drops_what_is_appended_after_the_text(template: str, words: PreTrainedTokenizerFast) -> None:
    appends = sentence_like(template)
    assert appends("France is")["input_ids"][-1] == 2
    assert one(appends, Prompt("France is")).prompts[0].ids == one(words, Prompt("France is")).prompts[0].ids
    # An end token that is part of the text is no addition.
    assert one(appends, Prompt("France</s>")).prompts[0].ids[-1] == 2
    assert one(words, Prompt("France</s>")).prompts[0].ids[-1] == 2


def test_always_is_exactly_one_and_never_is_none(
    byte_level: PreTrainedTokenizerFast, words: PreTrainedTokenizerFast
) -> None:
    for tokenizer in (byte_level, words):
        bare = tuple(tokenizer("France is", add_special_tokens=False)["input_ids"])
        for text in ("France is", tokenizer.bos_token + "France is"):
            always = one(tokenizer, Prompt(text), bos="always")
            never = one(tokenizer, Prompt(text), bos="never")
            assert always.prompts[0].ids == (tokenizer.bos_token_id, *bare)
            assert never.prompts[0].ids == bare
            assert (always.bos, never.bos) == ("always", "never")


def test_always_needs_a_token_for_it(characters: PreTrainedTokenizerFast) -> None:
    without = wrap(characters.backend_tokenizer, unk_token="<unk>")
    with pytest.raises(PromptError, match="has no beginning-of-sequence token; take the policy auto or never"):
        one(without, Prompt("is"), bos="always")


def test_ids_are_taken_as_they_are_under_every_policy(words: PreTrainedTokenizerFast) -> None:
    for bos in ("auto", "always", "never"):
        prompt = one(words, Prompt(input_ids=(5, 6), counterfactual_input_ids=(7,)), bos=bos).prompts[0]
        assert (prompt.ids, prompt.counterfactual_ids) == ((5, 6), (7,))


def test_counterfactuals_follow_the_same_policy(words: PreTrainedTokenizerFast) -> None:
    prompt = Prompt("France is", counterfactual="Paris is")
    for bos, length in (("auto", 3), ("always", 3), ("never", 2)):
        encoded = one(words, prompt, bos=bos).prompts[0]
        assert encoded.counterfactual_ids is not None
        assert len(encoded.ids) == len(encoded.counterfactual_ids) == length
        assert (encoded.counterfactual_ids[0] == 1) == (bos != "never")


# --- targets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("The capital of France is", "Paris", ("ĠParis", False)),
        ("The capital of France is", " Paris", ("ĠParis", False)),
        ("The capital of France is", "Paris is", ("ĠParis", True)),
        ("The capital of France is ", " Paris", ("ĠParis", False)),
        ("The capital of France is", "<|end|>", ("<|end|>", False)),
    ],
)
def test_targets_of_a_byte_level_tokenizer(
    byte_level: PreTrainedTokenizerFast, text: str, target: str, expected: tuple[str, bool]
) -> None:
    assert target_of(byte_level, text, target) == expected


def test_a_final_space_is_read_with_the_answer(byte_level: PreTrainedTokenizerFast) -> None:
    """Kept, it would stand between the prompt and a word that no text writes so."""
    text = "The capital of France is"
    joined = byte_level.convert_ids_to_tokens(byte_level(text + " Paris is")["input_ids"])
    assert joined[-3:] == ["Ġis", "ĠParis", "Ġis"]
    for target in ("Paris", "Paris is"):
        prompt = one(byte_level, Prompt(text + " ", target=target, counterfactual=text + " ")).prompts[0]
        assert list(prompt.ids) == byte_level(text)["input_ids"] == list(prompt.counterfactual_ids or ())
        assert byte_level.convert_ids_to_tokens(prompt.target_id) == "ĠParis"
        assert prompt.trimmed
    assert not one(byte_level, Prompt(text, target="Paris")).prompts[0].trimmed


def test_targets_of_a_tokenizer_that_marks_every_word(words: PreTrainedTokenizerFast) -> None:
    assert target_of(words, "The capital of France is", "Paris") == ("▁Paris", False)
    assert target_of(words, "The capital of France is", "Paris is") == ("▁Paris", True)
    # Tokenised alone, " Paris" would begin with a lone space mark, which is not what follows.
    assert words.convert_ids_to_tokens(words(" Paris", add_special_tokens=False)["input_ids"])[0] == "▁"
    assert target_of(words, "The capital of France is ", "Paris") == ("▁Paris", False)
    given = one(words, Prompt(input_ids=(1, 5), target="Paris")).prompts[0]
    assert words.convert_ids_to_tokens(given.target_id) == "▁Paris"


def test_targets_of_single_characters(characters: PreTrainedTokenizerFast) -> None:
    """The space between ends the prompt, and the target is the first letter."""
    for text in ("The capital is", "The capital is "):
        assert target_of(characters, text, "Paris") == ("P", True)
        assert characters.decode(one(characters, Prompt(text, target="Paris")).prompts[0].ids[-1:]) == " "
    assert target_of(characters, "The capital is ", "P") == ("P", False)


def test_ids_with_text_find_the_target_after_the_text(byte_level: PreTrainedTokenizerFast) -> None:
    prompt = one(byte_level, Prompt("France is", input_ids=(9, 8), target="Paris")).prompts[0]
    assert prompt.ids == (9, 8)
    assert prompt.text == "France is"
    assert byte_level.decode([prompt.target_id]) == " Paris"


def test_white_space_can_be_the_target(byte_level: PreTrainedTokenizerFast) -> None:
    assert target_of(byte_level, "France is", " ") == ("Ġ", False)
    given = one(byte_level, Prompt(input_ids=(9, 8), target=" ")).prompts[0]
    assert byte_level.decode([given.target_id]) == " "


def test_foils_are_found_as_targets_are(byte_level: PreTrainedTokenizerFast, words: PreTrainedTokenizerFast) -> None:
    prompt = one(byte_level, Prompt("The capital of France is", target="Paris", foil="Japan is")).prompts[0]
    assert byte_level.convert_ids_to_tokens([prompt.target_id, prompt.foil_id]) == ["ĠParis", "ĠJapan"]
    assert prompt.target_truncated, "of the foil, too, only the first token is used"
    assert prompt.pair == (prompt.target_id, prompt.foil_id)
    assert one(byte_level, Prompt("France is", foil="Japan", foil_id=7)).prompts[0].foil_id == 7
    assert one(byte_level, Prompt("France is", foil="Japan")).prompts[0].pair is None
    with pytest.raises(TargetError, match="does not know the first token of foil 'Rome'; give answers that"):
        one(words, Prompt("The capital is", foil="Rome"))
    with pytest.raises(TargetError, match="the foil is empty"):
        one(words, Prompt("France", foil=""))
    with pytest.raises(TargetError, match="the foil has token id 1000, but the model has ids 0 to 999"):
        one(None, Prompt(input_ids=(1,), foil_id=1000))
    with pytest.raises(TargetError, match="the foil is text, but there is no tokenizer; give 'foil_id'"):
        one(None, Prompt(input_ids=(1,), foil="a"))


def test_a_target_id_decides_over_the_text(byte_level: PreTrainedTokenizerFast) -> None:
    with_text = one(byte_level, Prompt("France is", target="Paris is", target_id=7)).prompts[0]
    assert (with_text.target_id, with_text.target_text, with_text.target_truncated) == (7, "Paris is", False)
    without = one(byte_level, Prompt("France is", target_id=7)).prompts[0]
    assert (without.target_id, without.target_text) == (7, byte_level.decode([7]))


def test_truncated_targets_are_counted_or_refused(byte_level: PreTrainedTokenizerFast) -> None:
    prompts = load([Prompt("Mount", target="Fuji"), Prompt("Mount", target="Fuji is"), Prompt("Mount")], name="mounts")
    encoded = encode(prompts, byte_level, **LIMITS)
    assert [prompt.target_truncated for prompt in encoded.prompts] == [False, True, False]
    assert encoded.n_truncated_targets == 1
    assert encode(prompts[:1], byte_level, single_token_targets="require", **LIMITS).prompts[0].target_id
    with pytest.raises(TargetError) as caught:
        encode(prompts, byte_level, single_token_targets="require", **LIMITS)
    assert str(caught.value) == (
        "prompt 1 (counted from 0, 'Mount'): target 'Fuji is' is 2 tokens (' Fuji', ' is'); "
        "give a target of one token, or allow that its first token is used"
    )


def test_the_unknown_token_is_no_target_unless_it_is_meant(words: PreTrainedTokenizerFast) -> None:
    with pytest.raises(TargetError, match="the tokenizer does not know the first token of target 'Rome'"):
        one(words, Prompt("The capital is", target="Rome"))
    assert target_of(words, "The capital is ", "<unk>") == ("<unk>", False)


def test_prompts_whose_answers_cannot_be_written_are_left_out_together(words: PreTrainedTokenizerFast) -> None:
    asked = [("Rome", None), ("capital", None), ("Oslo", None), ("capital", "Rome")]
    prompts = load([Prompt("The capital is", target=target, foil=foil) for target, foil in asked], name="asked")
    found = encode(prompts, words, **LIMITS)
    why = "the tokenizer does not know the first token of"
    assert [prompt.index for prompt in found.prompts] == [1]
    assert [(one.index, one.why) for one in found.left_out] == [
        (0, f"{why} target 'Rome'"),
        (2, f"{why} target 'Oslo'"),
        (3, f"{why} foil 'Rome'"),
    ]
    without_foils = encode(prompts, words, **LIMITS, needed=("target",))
    assert [(prompt.index, prompt.foil_id) for prompt in without_foils.prompts] == [(1, None), (3, None)]
    assert len(encode(prompts, words, **LIMITS, needed=()).prompts) == 4


def test_targets_that_are_none(words: PreTrainedTokenizerFast) -> None:
    class Deaf:
        """A tokenizer that drops what it does not know."""

        unk_token_id = unk_token = bos_token_id = None

        def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
            return {"input_ids": [ord(letter) for letter in text if letter.isalpha()]}

        def decode(self, ids: list[int]) -> str:
            return "".join(map(chr, ids))

    with pytest.raises(TargetError, match=r"^prompt 0 \(counted from 0, 'France'\): the target is empty; give it"):
        one(words, Prompt("France", target=""))
    with pytest.raises(TargetError, match=r"the tokenizer has no token for target '\?'; give"):
        one(Deaf(), Prompt("France", target="?"))


# --- limits and missing tokenizers ------------------------------------------------------------


def test_without_a_tokenizer_ids_suffice() -> None:
    prompts = [Prompt(input_ids=(3, 4), target_id=5), Prompt("shown", input_ids=(6,))]
    encoded = encode(load(prompts), None, **LIMITS)
    assert [(p.ids, p.text, p.target_id, p.target_text) for p in encoded.prompts] == [
        ((3, 4), "3 4", 5, "5"),
        ((6,), "shown", None, None),
    ]


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        (
            Prompt("a"),
            PromptError,
            "'a'): the prompt is text, but the model has no tokenizer; give token ids",
        ),
        (
            Prompt(input_ids=(1,), counterfactual="a"),
            PromptError,
            "given as ids): the counterfactual is text, but the model has no tokenizer; give token ids",
        ),
        (
            Prompt(input_ids=(1,), target="a"),
            TargetError,
            "given as ids): the target is text, but there is no tokenizer; give 'target_id'",
        ),
        (
            Prompt(input_ids=(1, 1000)),
            MalformedPrompt,
            "given as ids): the prompt holds token id 1000, but the model has ids 0 to 999; "
            "check that ids and tokenizer belong to this model",
        ),
        (Prompt(input_ids=(-1,)), MalformedPrompt, "given as ids): the prompt holds token id -1"),
        (
            Prompt(input_ids=(1,), counterfactual_input_ids=(1000,)),
            MalformedPrompt,
            "given as ids): the counterfactual holds token id 1000",
        ),
        (
            Prompt(input_ids=(1,), target_id=1000),
            TargetError,
            "given as ids): the target has token id 1000, but the model has ids 0 to 999; "
            "check that ids and tokenizer belong to this model",
        ),
        (Prompt(input_ids=(1,), target_id=-1), TargetError, "given as ids): the target has token id -1"),
        (
            Prompt("word " * 20, input_ids=(1,) * 101),
            PromptTooLong,
            "'word word word word word word word word…'): the prompt has 101 tokens, but the model's "
            "context holds 100; shorten it or leave it out",
        ),
        (
            Prompt(input_ids=(1,), counterfactual_input_ids=(1,) * 101),
            PromptTooLong,
            "given as ids): the counterfactual has 101 tokens",
        ),
    ],
)
def test_limits(prompt: Prompt, error: type[PromptError], message: str) -> None:
    prompts = load([Prompt(input_ids=(999,) * 100, target_id=999), prompt])
    with pytest.raises(PromptError) as caught:
        encode(prompts, None, **LIMITS)
    assert type(caught.value) is error
    assert str(caught.value).startswith(f"prompt 1 (counted from 0, {message}")


def test_limits_hold_for_texts_too(words: PreTrainedTokenizerFast) -> None:
    with pytest.raises(PromptTooLong, match="the prompt has 4 tokens, but the model's context holds 3"):
        one(words, Prompt("The capital is"), context=3)
    assert len(one(words, Prompt("The capital is"), context=3, bos="never").prompts[0].ids) == 3
    paris = words.convert_tokens_to_ids("▁Paris")
    with pytest.raises(TargetError, match=f"the target has token id {paris}, but"):
        one(words, Prompt("is", input_ids=(1,), target="Paris"), vocabulary=paris)


def test_texts_without_tokens_are_refused(words: PreTrainedTokenizerFast) -> None:
    nothing = wrap(words.backend_tokenizer, bos_token="<s>")
    nothing.backend_tokenizer.normalizer = normalizers.Replace("~", "")
    with pytest.raises(MalformedPrompt, match="the prompt has no tokens; give it a text that has some"):
        one(nothing, Prompt("~"))
    with pytest.raises(MalformedPrompt, match="the counterfactual has no tokens"):
        one(nothing, Prompt("France", counterfactual=""))
    assert one(words, Prompt("<s>"), bos="always").prompts[0].ids == (1,)
    with pytest.raises(MalformedPrompt, match="the prompt has no tokens"):
        one(words, Prompt("<s>"), bos="never")


@pytest.mark.parametrize(
    ("option", "choices"), [("bos", "auto, always, never"), ("single_token_targets", "first, require")]
)
def test_unknown_policies_are_refused(option: str, choices: str) -> None:
    with pytest.raises(PromptError, match=f"^there is no policy 'maybe'; choose from {choices}$"):
        one(None, Prompt(input_ids=(1,)), **{option: "maybe"})


# --- groups and lengths -----------------------------------------------------------------------


def test_every_prompt_without_group_is_its_own() -> None:
    prompts = load([Prompt(input_ids=(1,), group=group) for group in (None, "g", "g", None, "3")])
    encoded = encode(prompts, None, **LIMITS)
    assert [prompt.group for prompt in encoded.prompts] == ["0", "g", "g", "#3", "3"]
    assert [prompt.index for prompt in encoded.prompts] == [0, 1, 2, 3, 4]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=30))
def test_by_length_splits_without_loss(lengths: list[int]) -> None:
    encoded = encode(load([Prompt(input_ids=(1,) * length) for length in lengths]), None, **LIMITS)
    groups = encoded.by_length()
    assert list(groups) == sorted(set(lengths))
    for length, prompts in groups.items():
        assert {len(prompt.ids) for prompt in prompts} == {length}
        assert [prompt.index for prompt in prompts] == [i for i, n in enumerate(lengths) if n == length]


# --- the filter -------------------------------------------------------------------------------


def with_targets(*targets: int | None) -> Encoded:
    prompts = tuple(Prompt(input_ids=(1,), target_id=target) for target in targets)
    return encode(PromptSet("p", prompts), None, **LIMITS)


def test_only_correctly_completed_prompts_are_kept() -> None:
    kept = answered_correctly(with_targets(5, 6, None, 7), [5, 9, 9, 7])
    assert [prompt.index for prompt in kept.prompts] == [0, 2, 3]
    assert kept.encoded.by_length() == {1: kept.prompts}
    assert kept.dropped == 1


def test_none_left_is_an_error() -> None:
    with pytest.raises(EmptyPrompts) as caught:
        answered_correctly(with_targets(5, 6), [6, 5])
    assert str(caught.value) == (
        "the model's most probable next token is the target in none of the 2 prompts; "
        "give prompts that it completes correctly, or take its top token as the target (--target top)"
    )
