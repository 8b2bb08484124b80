"""A run as it is asked for, by the command line or by Python, and kept in `run.json`.

A finished or broken-off run is continued, frozen and reported from it. Whether code that comes with a model may run is
no part of it: a run's folder can come from somebody else.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic.fields import FieldInfo

from hydrascope.errors import HydrascopeError, ModelError, RunError, did_you_mean
from hydrascope.run._options import PROTOCOLS, Options

if TYPE_CHECKING:  # a command's help is made from the fields, and must not wait for torch
    from hydrascope.ablations import Ablation
    from hydrascope.anatomy import Model, ModelSource
    from hydrascope.prompts import Cut, PromptSet


def _listed(value: Any) -> Any:
    """A list from text with commas between, as a command has it, or from a single value."""
    if isinstance(value, str):
        return tuple(one.strip() for one in value.split(","))
    return tuple(value) if isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0 else (value,)


def _each_once(values: tuple[str | float, ...]) -> tuple[Any, ...]:
    named = [value if isinstance(value, str) else f"{value:g}" for value in values]  # as companion runs are named
    twice = [name for name in named if named.count(name) > 1]
    if twice:
        raise RunError(f"{twice[0]} is asked for twice; name each once")
    return values


def _at_most_whole(dose: float) -> float:
    if not 0 <= dose <= 1:
        raise RunError(f"dose cannot be {dose:g}; give a number from 0 to 1")
    return dose


def _of_numbers(dtype: str) -> str:
    if dtype not in _FORMATS:
        hint = did_you_mean(_NICKNAMES.get(dtype.lower(), dtype), _FORMATS)
        raise ModelError(f"no number format '{dtype}'{hint}; choose {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}")
    return dtype


_FORMATS = ("float32", "bfloat16", "float16", "float64", "auto")
_NICKNAMES = {"fp32": "float32", "float": "float32", "fp16": "float16", "half": "float16", "fp64": "float64"}

Names = Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(_each_once), Field(min_length=1)]
Dose = Annotated[float, AfterValidator(_at_most_whole)]
Doses = Annotated[
    tuple[Dose, ...],
    BeforeValidator(_listed),
    AfterValidator(lambda doses: tuple(sorted(_each_once(doses), reverse=True))),
    Field(min_length=1),
]


class RunRequest(Options, frozen=True, extra="forbid"):
    """Everything that is asked of a run. Fields with a description are options of `hydrascope run`.

    Attributes:
        ablation: names, the run's own first; the others make companion runs.
        dose: the run's own dose, the largest, first; the others make companion runs.
        parameters: fields of the ablations by name, where the command line cannot give them.
        in_memory: what was handed over in Python and nothing can open again.
    """

    verb: ClassVar[str] = "run"
    """The command that makes it."""

    model: str | None = Field(
        default=None, description="A folder, a bundled name or a hub id; the bundled model if left out."
    )
    prompts: str | None = Field(
        default=None,
        description="A JSONL, JSON or CSV file, a built-in set, a task (ioi) or TASK:FILE; see 'tasks'. Rows of one "
        "'group' are not independent: intervals need six groups or more. With "
        "--protocol text also a text file, a folder or hub:OWNER/NAME.",
    )
    limit: int | None = Field(default=None, ge=1, description="Most prompts, evenly spread over all; all if left out.")
    length: int | None = Field(default=None, ge=3, description="Tokens of the pieces that text is cut into (128).")
    texts: int | None = Field(
        default=None, ge=1, description="Most pieces of text, evenly spread over all; all if left out."
    )
    ablation: Names = Field(
        default=("resample",),
        description="zero, mean, position-mean, optimal, resample, noise or counterfactual; or several, with commas "
        "between: the first is the run, and how far the others agree with it is told.",
    )
    donors: int | None = Field(default=None, description="Replacement values per prompt (resample 15, noise 5).")
    dose: Doses = Field(
        default=(1.0,),
        description="How far parts are knocked out, 0 to 1: what is put in place is (1 - dose) of the prompt's own "
        "value and dose of the replacement, for an edge of what its receiver writes; or several, such as 0.25,0.5,1, "
        "for dose curves.",
    )
    freeze: bool = Field(
        default=True,
        description="Freeze the strongest responders of repaired parts, to learn whether they are needed.",
    )
    device: str = Field(
        default="auto",
        description="cpu, cuda, cuda:1 ..., mps or xpu (proved as all are, but never tried here); auto: a CUDA GPU if "
        "there is one; map: spread over GPUs, memory, disk.",
    )
    dtype: Annotated[str, AfterValidator(_of_numbers)] = Field(
        default="float32", description="float32, bfloat16, float16, or auto for the form the weights are stored in."
    )
    adapter: str | None = Field(default=None, description="Folder or hub id of an adapter, such as LoRA, to put in.")
    merge: bool = Field(
        default=True, description="Add an adapter to the weights; otherwise its parts stay modules of their own."
    )
    gguf: str | None = Field(default=None, description="A GGUF file in the model's folder or under its hub id.")
    allow_unused: bool = Field(
        default=False, description="Go on where the checkpoint holds tensors that its config gives no place."
    )
    random_weights: int | None = Field(
        default=None,
        ge=0,
        description="Seed of random weights in place of the trained ones: a control of the same shape that learned "
        "nothing.",
    )
    parameters: dict[str, dict[str, Any]] = Field(default_factory=dict)
    in_memory: tuple[Literal["model", "prompts", "ablation", "scores"], ...] = ()

    @classmethod
    def _completed(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        from hydrascope.ablations import REGISTRY

        if "ablation" in given:
            given = {**given, "ablation": _listed(given["ablation"])}
        known = [name for name in given.get("ablation", ()) if isinstance(name, str) and name in REGISTRY]
        learned = any(REGISTRY[name]().learning is not None for name in known)
        # an optimal constant minimises KL and is compared by it
        return super()._completed({"distribution": True, **given} if learned else given)

    @model_validator(mode="after")
    def _needs_what_it_is_given(self) -> Self:
        from hydrascope.engine import Positions

        if not PROTOCOLS[self.protocol]["cut"] and not (self.length is None and self.texts is None):
            raise RunError(
                "--length and --texts cut text into pieces, which --protocol facts does not; use --protocol text"
            )
        if self.length is not None:
            Positions(self.positions, self.read, self.skip).read_in(self.length)
        return self

    @classmethod
    def of(
        cls,
        model: Model,
        prompts: PromptSet,
        ablations: Sequence[Ablation],
        dose: Any,
        options: Options,
        *,
        freeze: bool,
        out: Path | None,
    ) -> Self:
        """The request of a call in Python.

        Args:
            model: the opened model.
            prompts: the prompts as they are run.
            ablations: the run's own first; none leaves the choice to the protocol.
            dose: doses of the run and of its companions, a number or several.
            options: how the run is made.
            freeze: whether responders are frozen.
            out: folder that keeps the run, and with it the prompts.
        """
        from hydrascope.run_directory import PROMPTS

        name, source = _name_of(model), _source_of(prompts) or (None if out is None else str(out / PROMPTS))
        given: dict[str, Any] = {field: getattr(options, field) for field in options.model_fields_set}
        if ablations:
            given["ablation"] = tuple(ablation.name for ablation in ablations)
        request = cls(
            **given,
            model=name,
            prompts=source,
            dose=dose,
            freeze=freeze,
            device=str(model.device) if len(model.devices) == 1 else "map",
            dtype=model.source.dtype,
            **_opened_with(model.source),
            in_memory=(
                *(("model",) if name is None else ()),
                *(("prompts",) if source is None else ()),
                *(() if all(map(_is_registered, ablations)) else ("ablation",)),
            ),
        )
        return request._with_parameters(ablations) if ablations and "ablation" not in request.in_memory else request

    def _with_parameters(self, ablations: Sequence[Ablation]) -> Self:
        """The request with ablations by number of donors if that says all, otherwise field by field."""
        for donors in dict.fromkeys((None, *(ablation.draws for ablation in ablations))):
            said = self.but(donors=donors)
            try:
                if said.ablations() == tuple(ablations):
                    return said
            except HydrascopeError:  # one of them cannot have that number
                continue
        return self.but(parameters={ablation.name: vars(ablation) for ablation in ablations})

    @property
    def options(self) -> Options:
        """How the run is made."""
        return Options(**{name: getattr(self, name) for name in Options.model_fields})

    @property
    def cut(self) -> Cut | None:
        """How text is cut; None where prompts are taken as they are."""
        from hydrascope.prompts import Cut

        return Cut(self.length, self.texts, self.bos) if PROTOCOLS[self.protocol]["cut"] else None

    def ablations(self) -> tuple[Ablation, ...]:
        """The run's own ablation, and those of its companions.

        Raises:
            AblationError: no such name, or a number of donors that makes no sense for it.
            RunError: one was handed over in Python and is none of this package's.
        """
        from hydrascope.ablations import REGISTRY, named_ablations

        if "ablation" in self.in_memory:
            raise RunError(
                f"this run's ablation '{self.ablation[0]}' was handed over in Python and is none of hydrascope's; call "
                "hydrascope.freeze(RUN, ablation=...) there with it"
            )
        if self.parameters:
            try:
                return tuple(REGISTRY[name](**self.parameters[name]) for name in self.ablation)
            except (KeyError, TypeError):
                raise RunError(f"no ablation {','.join(self.ablation)} takes {self.parameters}; run it again") from None
        return named_ablations(",".join(self.ablation), self.donors, PROTOCOLS[self.protocol]["donors"])

    def command_line(self) -> str:
        """The request as a command, or a sentence that says why there is none."""
        what = [*self.in_memory, *(["ablation's parameters"] if self.parameters else [])]
        if what:
            return f"No command makes this run again: its {' and '.join(what)} can only be given in Python."
        usual = type(self)(protocol=self.protocol, ablation=self.ablation)
        itself = {"ablation": type(self).model_fields["ablation"].default, "protocol": type(self)().protocol}
        words = ["hydrascope", self.verb] if self.model is None else ["hydrascope", self.verb, self.model]
        for name in options_of(type(self)):
            value = getattr(self, name)
            if value != itself.get(name, getattr(usual, name)):
                words += _as_words(name, value)
        return shlex.join(words)

    def sibling_command(self, sibling: str) -> str:
        """The command for the sibling model; empty where no command does it.

        Args:
            sibling: name of the other model; empty if there is none.
        """
        sayable = sibling and not self.parameters and not set(self.in_memory) - {"model"}
        return self.but(model=sibling, in_memory=()).command_line() if sayable else ""


def options_of(kind: type[Options], without: Sequence[str] = ("model",)) -> dict[str, FieldInfo]:
    """Fields that are options of a command: what is run first, then how.

    Args:
        kind: class with the fields.
        without: fields to leave out, by default the command's argument.
    """
    own = {name: field for name, field in kind.model_fields.items() if name not in Options.model_fields}
    found = {**own, **Options.model_fields}
    return {name: field for name, field in found.items() if field.description and name not in without}


def _as_words(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", ",".join(map(_plain, value)) if isinstance(value, tuple) else _plain(value)]


def _plain(value: Any) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _name_of(model: Model) -> str | None:
    """A name under which the model can be opened again, if there is one."""
    from hydrascope import zoo

    name = model.source.name
    if model.source.adapter or model.source.gguf or "@" in name:  # its weights are more than the library has a name of
        return name
    opened = str(getattr(model.network, "name_or_path", ""))  # empty where it was made in memory
    bundled = zoo.find(name)
    same = opened in (name, str(Path(name)), "" if bundled is None else str(bundled.path))
    return (name if same else opened) if opened else None


def _opened_with(source: ModelSource) -> dict[str, Any]:
    """The options that a model was opened with."""
    named = source.name  # a file, or a folder that is an adapter, says itself what it is
    return {
        "adapter": None if source.adapter == named else source.adapter or None,
        "merge": source.merged or not source.adapter,
        "gguf": None if Path(named).name == source.gguf else source.gguf or None,
        "allow_unused": bool(source.unused),
        "random_weights": source.random_weights,
    }


def _source_of(prompts: PromptSet) -> str | None:
    """A name or file under which exactly these prompts can be loaded again, if there is one."""
    from hydrascope.prompts import builtin_names, load

    source = prompts.name if prompts.source == "bundled" else prompts.source
    if source not in builtin_names() and not Path(source).is_file():
        return None
    try:
        return source if load(source).digest == prompts.digest else None
    except HydrascopeError:
        return None


def _is_registered(ablation: Ablation) -> bool:
    from hydrascope.ablations import REGISTRY

    return REGISTRY.get(ablation.name) is type(ablation)
