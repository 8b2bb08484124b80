"""The figures of an atlas, `plot` of an `Atlas`."""

from __future__ import annotations

from typing import ClassVar, Literal

from hydrascope import figures
from hydrascope.analysis import Survey
from hydrascope.report._atlas import drawable, units
from hydrascope.report._figure import ONE, Chart, Choices, Figures, figure


def _with_claims(found: Survey) -> Choices:
    return ONE if len(found.claims) else ()


def _with_shares(found: Survey) -> Choices:
    shares = ("restored", "restored_with_norm")
    return [{"share": share} for share in shares if found.runs[f"pooled_{share}"].notna().any()]


def _with_spread(found: Survey) -> Choices:
    known = found.runs[found.runs["pooled_restored_with_norm"].notna()]
    return [{"across": across} for across in ("parameters", "step") if known[across].dropna().nunique() > 1]


def _with_parts(found: Survey) -> Choices:
    return [
        {"unit": unit, "value": value}
        for unit in units(found.parts)
        for value in ("own_change", "total_effect", "restored_with_norm")
        if drawable(found.parts, unit, value)
    ]


class AtlasFigures(Figures[Survey]):
    """The figures of an atlas: each method returns an Altair chart with its data inside."""

    _WHAT: ClassVar[str] = "atlas"

    @figure(_with_claims, "no run knocks out layers at the last token")
    def claims(self) -> Chart:
        """Which claim of McGrath et al. holds in which run."""
        return figures.claims_by_run(self._run.claims)

    @figure(_with_shares, "no run clearly loses anything at middle depth")
    def shares(self, share: Literal["restored", "restored_with_norm"] = "restored_with_norm") -> Chart:
        """What comes back of the loss at middle depth, a row per run.

        Args:
            share: `restored`, by later layers alone, or `restored_with_norm`.
        """
        return figures.shares_by_run(self._run.runs, share)

    @figure(_with_spread, "its models are of one size and one step of training")
    def over(self, across: Literal["parameters", "step"] = "parameters") -> Chart:
        """What comes back over the size of the model or the step of training, a point per run.

        Args:
            across: `parameters` or `step`.
        """
        return figures.shares_over(self._run.runs, across)

    @figure(_with_parts, "its runs knock out nothing that has a depth")
    def depth(
        self,
        unit: str = "attn",
        value: Literal["own_change", "total_effect", "restored_with_norm"] = "restored_with_norm",
    ) -> Chart:
        """An effect of every part of one kind over relative depth.

        Args:
            unit: kind of part, `attn`, `mlp` or `head`.
            value: `own_change`, `total_effect`, or `restored_with_norm` of clear losses.
        """
        return figures.over_depth(self._run.parts, unit, value)
