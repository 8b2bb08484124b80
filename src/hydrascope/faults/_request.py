"""A stress test as it is asked for, by the command line or by Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hydrascope.errors import RunError
from hydrascope.resilience import FOLDS, Plan
from hydrascope.run import PROTOCOLS, RunRequest


def _listed(value: Any) -> Any:
    """A list from text with commas between, as a command has it."""
    return tuple(one.strip() for one in value.split(",")) if isinstance(value, str) else value


def _rates(values: tuple[float, ...]) -> tuple[float, ...]:
    for value in values:
        if not 0 < value < 1:
            raise RunError(f"a failure rate cannot be {value:g}; give numbers between 0 and 1, such as 0.1,0.3,0.5")
    return tuple(sorted(set(values)))


Ablation = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
Rates = Annotated[tuple[float, ...], BeforeValidator(_listed), AfterValidator(_rates), Field(min_length=1)]


class StressRequest(RunRequest, frozen=True, extra="forbid"):
    """Everything that is asked of a stress test: a run's request, and which sets of parts fail together."""

    verb: ClassVar[str] = "stress"

    components: str = Field(
        default_factory=lambda given: PROTOCOLS[given["protocol"]]["components"],
        description="The parts that can fail: attn,mlp or head.9.* or attn.4-9 ...",
    )
    ablation: Ablation = Field(
        default=("resample",), description="zero, mean, position-mean, resample, noise or counterfactual."
    )
    donors: int | None = Field(default=None, description="Replacement values per prompt (1).")
    rates: Rates = Field(
        default=(0.1, 0.2, 0.3, 0.5, 0.7, 0.9),
        description="Failure rates, with commas between: how probable it is that a part fails.",
    )
    masks: int = Field(default=64, description="Random sets of parts at each failure rate.", ge=2 * FOLDS)
    pairs: int = Field(
        default=32,
        description="How many parts, those that lose or cost most alone, are also knocked out two by two.",
        ge=0,
    )
    worst: int = Field(
        default=3, description="Largest size for which the worst set of parts is searched; 0 for none.", ge=0
    )
    accuracy: float | None = Field(
        default=None,
        description="Share of prompts that must stay right for the model to survive (0.5; against foils 0.75, since "
        "half is chance).",
        ge=0,
        le=1,
    )
    loss: float = Field(
        default=0.5, description="Logits that a prompt must lose for a part, or a pair, to count as not secure.", gt=0
    )

    @classmethod
    def _completed(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        # one donor for each prompt: random sets and prompts are many, and average it
        usual = {"donors": 1, "null_draws": 0, "freeze": False, "distribution": True, "detail": "full"}
        return {**usual, **super()._completed(given)}

    @model_validator(mode="after")
    def _one_run(self) -> Self:
        if len(self.ablation) > 1 or self.dose != (1.0,):
            raise RunError("a stress test has one ablation and no doses; make a test of each")
        return self

    @property
    def surviving(self) -> float:
        """Share of prompts that must stay right."""
        if self.accuracy is not None:
            return self.accuracy
        return 0.75 if self.target == "difference" else 0.5

    @property
    def plan(self) -> Plan:
        """Which sets of parts are knocked out."""
        return Plan(self.rates, self.masks, self.pairs, self.worst, self.seed)
