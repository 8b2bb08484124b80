"""What a caller in Python hands over, in whatever form is natural, made into what a run takes.

Models by name, prompts as lists and tables, ablations by name: whatever else is handed over is refused in a sentence.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from hydrascope.ablations import REGISTRY, Ablation, Resample, named_ablations
from hydrascope.anatomy import Model, load
from hydrascope.errors import AblationError, ModelError, RunError, shown
from hydrascope.prompts import Cut, Document, Prompt, PromptSet, Table, cut, documents, given_documents, is_text
from hydrascope.prompts import load as load_prompts
from hydrascope.run._options import PROTOCOLS, Options

PathLike = str | os.PathLike[str]
ModelLike = Model | str | Path | nn.Module
PromptsLike = PromptSet | PathLike | Table | Iterable[str | Mapping[str, object] | Prompt | Document]
AblationsLike = Ablation | str | Iterable[Ablation | str] | None


def given_model(given: ModelLike, *, trust_remote_code: bool = False) -> Model:
    """An opened model, from itself, a name, a folder or a module in memory.

    Raises:
        ModelError: it is none of these, or cannot be opened.
    """
    try:
        return given if isinstance(given, Model) else load(given, trust_remote_code=trust_remote_code)
    except OSError as error:  # such as a text that is too long for a name
        raise ModelError(f"{shown(given)} is no model that can be opened ({error.strerror or error})") from error


def given_prompts(given: PromptsLike, model: Model, options: Options) -> PromptSet:
    """Prompts from a set, a file, a name, a list or a table; text is cut where the protocol is `text`.

    Args:
        given: what `hydrascope.load_prompts` takes, or with the protocol `text` also what `hydrascope.documents` takes
            or returns, and rows with `text`.
        model: model whose tokenizer tasks and texts need.
        options: how the run is made.

    Raises:
        PromptError: it is none of these, or cannot be read.
    """
    if PROTOCOLS[options.protocol]["cut"]:
        text, name = given_documents(given), "inline"
        if isinstance(given, str | os.PathLike) and is_text(os.fspath(given)):
            text, name = documents(given), Path(os.fspath(given).removeprefix("hub:")).stem
        if text:
            return cut(text, model.tokenizer, Cut(bos=options.bos), name=name, context=model.context)
    return load_prompts(given, tokenizer=model.tokenizer)  # type: ignore[arg-type]  # which refuses documents


def given_ablations(given: AblationsLike, options: Options) -> tuple[Ablation, ...]:
    """Ablations from objects and names, the run's own first; none leaves the choice to the protocol.

    Raises:
        AblationError: one of them is no ablation.
    """
    found: list[Ablation] = []
    for one in _several(given):
        if isinstance(one, str):
            found += named_ablations(one, dealt=PROTOCOLS[options.protocol]["donors"])
        elif isinstance(one, Ablation):
            found.append(one)
        else:
            made = f"{one.__name__}()" if isinstance(one, type) else f"one of {', '.join(sorted(REGISTRY))}"
            raise AblationError(f"{shown(one)} is no ablation; give {made}")
    return tuple(found)


def given_for_sets(given: Ablation | str | None, options: Options) -> tuple[Ablation, ...]:
    """The ablation of a verb that knocks out many sets: one donor each where nothing else is said.

    Raises:
        AblationError: it is none.
    """
    named = named_ablations(given, 1) if isinstance(given, str) else given
    return given_ablations(named or Resample(donors=1), options)


def given_options(given: Options | Mapping[str, Any] | None, **usual: Any) -> Options:
    """Options from themselves, or from a dictionary with their names.

    Args:
        given: the options, or a dictionary; None for none.
        usual: what holds where a dictionary says nothing.

    Raises:
        RunError: it is neither, or a value cannot be.
    """
    if isinstance(given, Options):
        return given
    if given is None or isinstance(given, Mapping):
        return Options(**usual | {str(name): value for name, value in (given or {}).items()})
    raise RunError(f"{shown(given)} is no set of options; give hydrascope.Options(...)")


def _several(given: Any) -> Iterable[Any]:
    if given is None:
        return ()
    return given if isinstance(given, Iterable) and not isinstance(given, str | type) else (given,)
