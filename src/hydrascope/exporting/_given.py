"""What a caller hands to `export`, in whatever form is natural, made into addresses and token ids."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from hydrascope.anatomy import Model
from hydrascope.errors import ComponentError, PromptError, shown
from hydrascope.prompts import Prompt, PromptSet, encode
from hydrascope.run import Options, PromptsLike, given_prompts

ComponentsLike = str | Iterable[str]
TextsLike = PromptsLike | Iterable[Sequence[int]]

AT_ONCE = 4
"""Real texts that are compared."""


def given_addresses(given: ComponentsLike) -> str:
    """Addresses with commas between, from that or a list of them.

    Raises:
        ComponentError: it is neither.
    """
    several: list[str] = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else []
    if not several or not all(isinstance(one, str) for one in several):
        raise ComponentError(f"{shown(given)} names no parts; give addresses, such as 'layer.6,layer.7'")
    return ",".join(several)


def given_texts(given: TextsLike, model: Model) -> list[tuple[int, ...]]:
    """Token ids of the first few texts: of prompts in any form, or lists of ids.

    Raises:
        PromptError: they are none of these, or the model cannot take them.
    """
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | os.PathLike | PromptSet | Mapping):
        given = [_prompt(one) for one in islice(given, AT_ONCE)]
        if not given:
            return []
    prompts = given_prompts(given, model, Options())
    few = replace(prompts, prompts=prompts.prompts[:AT_ONCE])
    encoded = encode(few, model.tokenizer, vocabulary=model.anatomy.n_vocab, context=model.context, needed=())
    return [one.ids for one in encoded.prompts]


def _prompt(given: object) -> str | Mapping[str, object] | Prompt:
    if isinstance(given, str | Mapping | Prompt):
        return given
    try:
        return Prompt(input_ids=tuple(map(int, given)))  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise PromptError(f"{shown(given)} is no text; give texts, lists of token ids or a set of prompts") from None
