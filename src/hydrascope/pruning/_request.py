"""A pruning as it is asked for, by the command line or by Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hydrascope.errors import RunError
from hydrascope.run import RunRequest

Units = Literal["blocks", "sublayers", "kvgroups", "heads", "neurons"]
Replace = Literal["removal", "zero", "mean", "optimal"]
ALL = "all"


def _listed(value: Any) -> Any:
    if isinstance(value, int | float):
        return (value,)
    return tuple(one.strip() for one in value.split(",") if one.strip()) if isinstance(value, str) else value


def _shares(values: tuple[float, ...]) -> tuple[float, ...]:
    for value in values:
        if not 0 < value < 1:
            raise RunError(f"a share of the parts cannot be {value:g}; give numbers between 0 and 1, such as 0.1,0.2")
    return tuple(sorted(set(values)))


class PruneRequest(RunRequest, frozen=True, extra="forbid"):
    """Everything that is asked of a pruning: a run's request on ordinary text, what can go, how much and by whom."""

    verb: ClassVar[str] = "prune"

    prompts: str | None = Field(
        default=None,
        description="A folder of text files, a file with several documents (JSON lines or CSV with 'text', or text "
        "with <|endoftext|> between them), or hub:OWNER/NAME; by default the bundled model's own text.",
    )
    units: Units = Field(default="blocks", description="What can go: blocks, sublayers, kvgroups, heads or neurons.")
    ranking: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)] = Field(
        default=(ALL,),
        description="all, or rankings with commas between: elimination,greedy ...; scores for those of --scores.",
    )
    scores: str | None = Field(
        default=None, description="Scores of your own, the lowest of which goes first: JSON by address, or CSV."
    )
    remove: int | None = Field(default=None, description="How many go; by default the curve of --shares.", ge=1)
    shares: (
        Annotated[tuple[float, ...], BeforeValidator(_listed), AfterValidator(_shares), Field(min_length=1)] | None
    ) = Field(
        default=None,
        description="Shares of the parts that go, with commas between (0.1,0.2,0.3; with --keep-loss every tenth).",
    )
    keep_loss: float | None = Field(
        default=None,
        description="Remove as much as keeps the loss within this multiple of the whole model's.",
        gt=1,
        allow_inf_nan=False,
    )
    replace: Replace = Field(
        default="removal",
        description="What a part leaves in its place: removal (nothing), zero, mean (its mean output) or optimal (the "
        "constant that does the least harm).",
    )
    calibrate: int = Field(default=4096, description="Predicted tokens that rankings see.", ge=1)
    test: int = Field(default=8192, description="Predicted tokens of other documents that they are judged on.", ge=1)
    draws: int = Field(
        default=20,
        description="Random sets of each size: their mean is the ranking random, and it is told how well the scores of "
        "each ranking foretell what they cost.",
        ge=1,
    )
    tasks: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        default=(), description="Tasks on which chosen sets are judged, too, with commas between: facts,ioi."
    )
    seed: int = Field(default=0, description="Of random sets, and of which documents rankings see.", ge=0)
    exhaustive: int = Field(
        default=0, description="Largest size for which all sets are judged, to tell what each ranking misses.", ge=0
    )

    @classmethod
    def _completed(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"protocol": "text", "freeze": False, **super()._completed(given)}

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if self.remove is not None and (self.keep_loss is not None or self.shares is not None):
            raise RunError("--remove says how many go; leave --keep-loss and --shares out")
        if self.protocol != "text":
            raise RunError("what a smaller model loses is measured on ordinary text; leave --protocol out")
        return self
