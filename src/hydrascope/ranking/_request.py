"""A ranking as it is asked for, by the command line or by Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from hydrascope.errors import RunError
from hydrascope.run import RunRequest


class RankRequest(RunRequest, frozen=True, extra="forbid"):
    """Everything that is asked of a ranking: a run's request, the primaries, and what is held against the exact run."""

    verb: ClassVar[str] = "rank"

    primaries: str | None = Field(
        default=None,
        description="Parts whose backups are sought, such as attn.11 or head.23.0,head.23.2, lost together; the part "
        "whose loss is repaired most if left out.",
    )
    labels: str | None = Field(
        default=None,
        description="JSON or CSV file that says which parts are to be found: a list of addresses, or address (column "
        "'part') to true or false (column 'label'); or a circuit file.",
    )
    cheap: bool = Field(
        default=True, description="Also estimate every effect from gradients, to hold it to the exact one."
    )
    top: int = Field(default=3, description="Parts that are frozen together, and first parts that are compared.", ge=2)
    stress: str | None = Field(
        default=None,
        description="Folder of a stress test of the same parts and prompts, whose scores join the table.",
    )
    why: int | None = Field(
        default=None,
        description="Number of a prompt: also search the smallest set of parts whose loss flips its answer.",
        ge=0,
    )
    donors: int | None = Field(default=None, description="Replacement values per prompt (1).")

    @classmethod
    def _completed(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        # every candidate is knocked out thrice, and prompts average over donors
        return {"donors": 1, "null_draws": 0, "freeze": False, "detail": "full", **super()._completed(given)}

    @model_validator(mode="after")
    def _one_run(self) -> Self:
        if len(self.ablation) > 1 or self.dose != (1.0,):
            raise RunError("a ranking has one ablation and no doses; make a ranking of each")
        if self.read == "each" and self.cheap and "cheap" in self.model_fields_set:
            raise RunError(
                "cheap scores are held to the exact run prompt by prompt; leave them out (--no-cheap) where "
                "effects are read at each position (--read each)"
            )
        if self.why is not None and (self.read == "each" or not self.distribution):
            raise RunError(
                "whether an answer flips is read from the next-token distribution after a prompt; leave the "
                "question out (--why)"
            )
        return self
