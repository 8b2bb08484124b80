"""What the command line asks for, from its words to tasks that are ready to go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import transformers

from hydrascope import protocols, zoo
from hydrascope.ablations import named_ablations
from hydrascope.anatomy import Model, load
from hydrascope.errors import PromptError, RunError
from hydrascope.prompts import Cut, PromptSet, cut, documents, is_text, named_task
from hydrascope.prompts import load as load_prompts
from hydrascope.protocols import Protocol
from hydrascope.run import belonging, doses
from hydrascope.task import Options, Task, prepare


@dataclass(frozen=True)
class Asked:
    """The options of `hydrascope run` that say what is done, and not where it is kept or how it is shown.

    Their meaning is in the command's help; None leaves the choice to the protocol or the ablation.
    """

    model: str | None
    prompts: str | None
    protocol: str
    components: str | None
    ablation: str
    dose: str
    donors: int | None
    positions: str | None
    read: str | None
    skip: int | None
    length: int | None
    texts: int | None
    target: str | None
    keep_wrong: bool
    bos: str
    null_draws: int | None
    seed: int
    device: str
    dtype: str
    memory: str | None
    writers: str | None
    detail: str | None
    distribution: bool | None
    split_attention: bool
    trust_remote_code: bool

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Asked:
        """Those among the parameters of a call of the command."""
        return cls(**{field.name: given[field.name] for field in fields(cls)})

    def family(self) -> tuple[Task, dict[str, Task]]:
        """The run, and the runs of other ablations and doses that belong to it, by name.

        Raises:
            HydrascopeError: what cannot be done, and what to do about it.
        """
        full, *lower = doses(self.dose)
        protocol = protocols.protocol(self.protocol)
        chosen, *others = named_ablations(self.ablation, self.donors, protocol.donors)
        measured = self.distribution
        if measured is None and any(one.learning is not None for one in (chosen, *others)):
            measured = True  # KL is what an optimal constant makes least, and is compared by
        options = _options(
            protocol,
            components=self.components,
            target=self.target,
            keep_wrong=self.keep_wrong,
            bos=self.bos,
            null_draws=self.null_draws,
            seed=self.seed,
            memory=self.memory,
            writers=self.writers,
            detail=self.detail,
            measured=measured,
            ablate=self.positions,
            read=self.read,
            skip=self.skip,
            dose=full,
            split_attention=self.split_attention,
        )
        how = _cutting(protocol, self.length, self.texts, options)
        model, prompts = _open_both(self.model, self.prompts, how, self.device, self.dtype, self.trust_remote_code)
        task = prepare(model, prompts, chosen, options)
        return task, belonging(task, others, lower)


def open_model(name: str | None, device: str, dtype: str, trust_remote_code: bool) -> Model:
    """Open a model, the bundled one by default, with the libraries' own chatter off."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    chosen = zoo.default().name if name is None else name
    return load(chosen, device=device, dtype=dtype, trust_remote_code=trust_remote_code)


def _default_prompts(model: str | None, how: Cut | None = None) -> str:
    """What a model is run on when nothing is asked for: a bundled model's own, or facts of the real world.

    Raises:
        PromptError: text is asked for, and no text goes with the model.
    """
    bundled = zoo.default() if model is None else zoo.find(model)
    if how is not None:
        text = None if bundled is None else bundled.path / "text.jsonl"
        if text is None or not text.exists():
            raise PromptError("the text protocol needs text; give --prompts FILE, a folder, or hub:OWNER/NAME")
        return str(text)
    return "world" if bundled is None else bundled.prompts.stem


def _options(protocol: Protocol, **given: Any) -> Options:
    """A protocol's options, less those that are given; None is not given."""
    told = {name: value for name, value in given.items() if value is not None}
    where = {name: told.pop(name) for name in ("ablate", "read", "skip") if name in told}
    return replace(protocol.options, positions=replace(protocol.options.positions, **where), **told)


def _cutting(protocol: Protocol, length: int | None, texts: int | None, chosen: Options) -> Cut | None:
    """How text is cut, for protocols that take text.

    Raises:
        RunError: a length or number of texts is given to a protocol that takes prompts as they are.
    """
    if protocol.length is None:
        if length is not None or texts is not None:
            raise RunError(
                "--length and --texts cut text into pieces, which --protocol facts does not; use --protocol text"
            )
        return None
    return Cut(length or protocol.length, texts, chosen.bos)


def _open_both(
    name: str | None, prompts: str | None, how: Cut | None, device: str, dtype: str, trust_remote_code: bool
) -> tuple[Model, PromptSet]:
    """Open a model and load the prompts it is to be run on, or the text, cut into pieces.

    Prompts where text is asked for are texts as they are, and only their number is limited.
    Mistakes in prompts are told before the model is opened, unless they are a task's, which depend on its tokenizer.
    """
    asked = prompts or _default_prompts(name, how)
    if how is not None and is_text(asked):
        found = documents(asked)
        model = open_model(name, device, dtype, trust_remote_code)
        label = Path(asked.removeprefix("hub:")).stem
        return model, cut(found, model.tokenizer, how, name=label, context=model.context)
    loaded = None if named_task(asked) else load_prompts(asked)
    model = open_model(name, device, dtype, trust_remote_code)
    loaded = load_prompts(asked, tokenizer=model.tokenizer) if loaded is None else loaded
    return model, loaded if how is None or how.limit is None else loaded.spread(how.limit)
