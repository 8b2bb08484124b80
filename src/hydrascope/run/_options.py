"""Every choice of how a run is made, once: its type, default, bounds and help.

The command line's options and their help are generated from these fields, Python takes them as `hs.Options`, and
`run.json` keeps them. A new option is a field here, the place that uses it, and its test.

A protocol is a named set of values, after what a paper did as far as it decides the numbers. It sets what is not given:

facts   McGrath et al. 2023 (arXiv 2307.15771): whole layers, knocked out and read at the last token of prompts that the
        model completes correctly; 15 resampled donors; the logit of the answer.
text    Rushing & Nanda 2024 (arXiv 2402.15390): single heads, knocked out at every position of ordinary text; one
        resampled donor; read at every position, the logit of the token that follows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from hydrascope.components import check_addresses
from hydrascope.errors import RunError, did_you_mean, shown
from hydrascope.prompts import Answers, Bos, TargetPolicy

Protocol = Literal["facts", "text"]

PROTOCOLS: dict[Protocol, dict[str, Any]] = {
    "facts": {
        "components": "writers",
        "donors": None,
        "positions": "last",
        "read": "last",
        "skip": 1,
        "cut": False,
        "target": "label",
        "null_draws": 2,
        "writers": "layers",
        "detail": "full",
        "distribution": True,
    },
    "text": {
        "components": "head",
        "donors": 1,
        "positions": "all",
        "read": "each",
        "skip": 1,
        "cut": True,
        "target": "top",
        "null_draws": 0,
        "writers": "heads",
        "detail": "kinds",
        "distribution": False,
    },
}
"""Values that each protocol sets; `donors` are of `resample`, `cut` says whether text is cut into pieces."""


def _by_protocol(name: str, description: str, **bounds: Any) -> Any:
    """A field whose default is the protocol's."""
    return Field(default_factory=lambda given: PROTOCOLS[given["protocol"]][name], description=description, **bounds)


def _joined(value: Any) -> Any:
    """Text with commas between, from a list or a number, as Python has them."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, str | bytes | Mapping):
        return value
    try:
        pieces = [_joined(piece) for piece in value]
    except TypeError:
        return value
    return ",".join(pieces) if all(isinstance(piece, str) for piece in pieces) else value


def _addresses(text: str) -> str:
    check_addresses(text)
    return text


def _amount(text: str) -> str:
    from hydrascope.engine import Budget  # waits for torch, as a command's help must not

    Budget.read(text)
    return text


Listing = Annotated[str, BeforeValidator(_joined)]


class Checked(BaseModel, frozen=True, extra="forbid"):
    """Data that is checked as it is made; a mistake is one sentence, and None stands for not given."""

    if not TYPE_CHECKING:  # which reads the arguments from the fields

        def __init__(self, *values: Any, **fields: Any) -> None:
            if values:
                raise RunError(f"{shown(values[0])} has no name; give every option by name, as in protocol='text'")
            super().__init__(**fields)

    @model_validator(mode="wrap")
    @classmethod
    def _told_in_a_sentence(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(cls._completed({name: value for name, value in given.items() if value is not None}))
        except ValidationError as error:
            raise RunError(_sentence(error, cls)) from None

    @classmethod
    def _completed(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values given, with those that follow from them."""
        return given

    def __setattr__(self, name: str, value: Any) -> None:
        raise RunError(f"what is asked of a run does not change; make a copy with .but({name}={shown(value)})")

    def but(self, **changes: Any) -> Self:
        """A copy with other values, checked again; values left to the protocol are left to it again."""
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**kept, **{name: value for name, value in changes.items() if value is not None}})


class Options(Checked, frozen=True, extra="forbid"):
    """How a knock-out run is made, beside model, prompts and ablation."""

    protocol: Protocol = Field(
        default="facts",
        description="facts: layers at the last token of prompts; text: heads at every position of ordinary text. Sets "
        "what other options leave out.",
    )
    components: Annotated[Listing, AfterValidator(_addresses)] = _by_protocol(
        "components", "What to knock out: attn,mlp or head.9.* or attn.3+attn.7 or head.2.1->mlp.5 ..."
    )
    positions: Listing = _by_protocol(
        "positions", "Where parts are knocked out: last, all, or positions such as 0,3,-1, counted from 0 or the end."
    )
    read: Literal["last", "each"] = _by_protocol(
        "read", "Where effects are read: last, or each position of the text but the last."
    )
    skip: int = _by_protocol("skip", "First positions that are not read with --read each (1).", ge=0)
    target: TargetPolicy = _by_protocol(
        "target",
        "label: each prompt's target; difference: its logit minus its foil's; top: the model's top token; random-top: "
        "one of its ten most probable; kl: the top token, ranked by KL divergence.",
    )
    answer: Answers = Field(
        default="first",
        description="Of answers of several tokens: first (the first token), or whole: all tokens, each read with those "
        "before it given, their logits and log-probabilities summed; donors then have answers as long.",
    )
    keep_wrong: bool = Field(default=False, description="Keep prompts that the model completes otherwise.")
    bos: Bos = Field(
        default="auto",
        description="Beginning-of-sequence token, never two: auto (the tokenizer's way), always, never.",
    )
    delimiter: str = Field(
        default="auto",
        description="What stands between prompt and answer where the file does not say: auto (a space where prose has "
        "one), none, or a text.",
    )
    null_draws: int = _by_protocol(
        "null_draws", "Draws of the negative control, a random displacement of the same norm (2; text 0).", ge=0
    )
    seed: int = Field(default=0, description="Of donors, noise and control.", ge=0)
    writers: Listing = _by_protocol(
        "writers", "What is accounted for apart: layers, heads, neurons, or head,neuron.6-7 ..."
    )
    detail: Literal["full", "kinds"] = _by_protocol(
        "detail", "full, or kinds: keep only sums by kind of writer, for very large sweeps."
    )
    distribution: bool = _by_protocol(
        "distribution",
        "Also measure log-probability, rank and KL divergence (text: no, unless an ablation is optimal or the target "
        "kl).",
    )
    split_attention: bool = Field(
        default=False,
        description="Split what answering attention changes into moved weights and changed values: cheap at the last "
        "token; in whole texts, attention without its fast kernels.",
    )
    memory: Annotated[str, AfterValidator(_amount)] | None = Field(
        default=None, description="Memory budget such as 4GB; half of what is free on the device if left out."
    )

    @classmethod
    def _completed(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        # what is ranked by KL divergence needs it
        return {"distribution": True, **given} if str(given.get("target")) == "kl" else given

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        from hydrascope.engine import Positions

        Positions(self.positions, self.read, self.skip)
        if self.target == "kl" and not self.distribution:
            raise RunError(
                "--target kl ranks knock-outs by KL divergence, which --no-distribution does not measure; leave one of "
                "them out"
            )
        return self


_ELSEWHERE = {
    "donors": "give it to the ablation, as in Resample(donors=15)",
    "limit": "take fewer prompts, as in load_prompts(...).spread(100)",
    "length": "cut the text with it, as in cut(documents(...), ..., Cut(length=128), ...)",
    "texts": "cut the text with it, as in cut(documents(...), ..., Cut(limit=100), ...)",
    **dict.fromkeys(("model", "prompts", "ablation", "dose", "freeze", "out"), "give it to the call itself"),
    **dict.fromkeys(
        ("device", "dtype", "adapter", "merge", "gguf", "allow_unused", "random_weights"), "give it to load"
    ),
}
"""What `Options` lacks and the command line has, and where it goes in Python."""

_EXPECTED = {
    "greater_than_equal": "give {ge} or more",
    "literal_error": "choose {expected}",
    "string_type": "write it as text in quotes",
    "too_short": "name at least one",
    **dict.fromkeys(("int_parsing", "int_from_float", "int_type", "int_parsing_size"), "give a whole number"),
    **dict.fromkeys(("float_parsing", "float_type", "finite_number"), "give a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "give true or false"),
}
"""What to do about a value, by pydantic's name of the mistake."""


def _sentence(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first mistake, in our words."""
    first = error.errors(include_url=False)[0]
    name, context = str(first["loc"][0]), first.get("ctx", {})
    if first["type"] == "extra_forbidden":
        hint = did_you_mean(name, kind.model_fields)
        if name in _ELSEWHERE and kind is Options:
            return f"'{name}' is no option of how a run is made; {_ELSEWHERE[name]}"
        return f"there is no option '{name}'{hint}; choose from {', '.join(kind.model_fields)}"
    otherwise = first["msg"][:1].lower() + first["msg"][1:]
    remedy = _EXPECTED.get(first["type"], otherwise).format(**context).replace("'", "")
    chosen = re.findall("'([^']+)'", str(context.get("expected", "")))
    hint = did_you_mean(str(first["input"]), chosen)
    return f"{name.replace('_', ' ')} cannot be {shown(first['input'])}{hint}; {remedy}"
