"""Opens what a request names: the model, and the prompts or the text that it is run on."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from hydrascope import zoo
from hydrascope.anatomy import Model, load
from hydrascope.errors import PromptError, RunError, UnknownModel, did_you_mean
from hydrascope.prompts import PromptSet, cut, documents, is_text, named_task
from hydrascope.prompts import load as load_prompts
from hydrascope.run._request import RunRequest


def _saying_what_was_meant(opening: Callable[..., Model]) -> Callable[..., Model]:
    """Add to an unknown model's error which bundled model, or which folder beside it, may have been meant."""

    @wraps(opening)
    def opened(request: RunRequest, **more: Any) -> Model:
        try:
            return opening(request, **more)
        except UnknownModel as error:
            name = str(request.model)
            if Path(name).suffix in (".jsonl", ".json", ".csv", ".txt"):
                raise UnknownModel(f"{error} (prompts go behind --prompts)") from error
            beside = [str(config.parent) for config in Path(name).parent.glob("*/config.json")]
            raise UnknownModel(
                f"{error}{did_you_mean(name, (*(one.name for one in zoo.bundled()), *beside))}"
            ) from error

    return opened


@_saying_what_was_meant
def open_model(request: RunRequest, *, trust_remote_code: bool = False) -> Model:
    """Open a request's model, the bundled one by default.

    Args:
        request: what is asked.
        trust_remote_code: run code that comes with the weights.

    Raises:
        RunError: the model was handed over in Python and has no name.
    """
    if "model" in request.in_memory:
        raise RunError(
            "this run's model was handed over in Python and cannot be opened by name; call hydrascope.freeze(RUN, "
            "model) there with it"
        )
    name = zoo.default().name if request.model is None else request.model
    return load(
        name,
        device=request.device,
        dtype=request.dtype,
        trust_remote_code=trust_remote_code,
        adapter=request.adapter,
        merge=request.merge,
        gguf=request.gguf,
        allow_unused=request.allow_unused,
        random_weights=request.random_weights,
    )


def open_request(
    request: RunRequest, *, trust_remote_code: bool = False, opening: Callable[..., Model] = open_model
) -> tuple[Model, PromptSet]:
    """Open a model and load the prompts it is to be run on, or the text, cut into pieces.

    Where text is asked for, prompts are texts as they are, and only their number is limited. Mistakes in prompts are
    found before the model is opened, unless they are a task's, which depend on its tokenizer.

    Args:
        request: what is asked.
        trust_remote_code: run code that comes with the weights.
        opening: opens the request's model, where that is more than `open_model`.
    """
    source, how = request.prompts or _usual_prompts(request), request.cut
    if how is not None and is_text(source):
        found = documents(source)
        model = opening(request, trust_remote_code=trust_remote_code)
        name = Path(source.removeprefix("hub:")).stem
        pieces = cut(found, model.tokenizer, how, name=name, context=model.context)
        return model, pieces if request.limit is None else pieces.spread(request.limit)
    loaded = None if named_task(source) else load_prompts(source)
    model = opening(request, trust_remote_code=trust_remote_code)
    loaded = load_prompts(source, tokenizer=model.tokenizer) if loaded is None else loaded
    limits = [limit for limit in (request.limit, None if how is None else how.limit) if limit is not None]
    return model, loaded.spread(min(limits, default=len(loaded)))


def _usual_prompts(request: RunRequest) -> str:
    """Default prompts: a bundled model's own, or facts of the real world.

    Raises:
        PromptError: text is asked for, and no text goes with the model.
    """
    bundled = zoo.default() if request.model is None else zoo.find(request.model)
    if request.cut is not None:
        text = None if bundled is None else bundled.path / "text.jsonl"
        if text is None or not text.exists():
            raise PromptError("the text protocol needs text; give --prompts FILE, a folder, or hub:OWNER/NAME")
        return str(text)
    return "world" if bundled is None else bundled.prompts.stem
