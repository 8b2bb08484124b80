"""Estimates as they are told: a mean and its sign, and the columns of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hydrascope.analysis._statistics._intervals import Estimate, mean_interval
from hydrascope.analysis._statistics._units import Array, Resampling


@dataclass(frozen=True)
class Reading:
    """A measured mean and what may be said about its sign.

    Attributes:
        mean: in logits, or whatever it is the mean of.
        lo: lower end of the 95 % interval; NaN if unknown.
        hi: upper end.
        conclusive: whether there are enough independent prompts to say anything about the sign.
    """

    mean: float
    lo: float
    hi: float
    conclusive: bool

    @property
    def sign(self) -> int:
        """1 or -1 when the interval excludes zero, otherwise 0; comparisons with NaN are false."""
        return (int(self.lo > 0) - int(self.hi < 0)) if self.conclusive else 0

    @property
    def still(self) -> bool:
        """Whether it is exactly zero on every prompt."""
        return self.mean == self.lo == self.hi == 0


def add_estimate(table: dict[str, Any], name: str, estimate: Estimate) -> None:
    """Add a column with its interval, `name`, `name_lo` and `name_hi`.

    Args:
        table: columns, or one row, by name.
        name: of the statistic.
        estimate: the statistic and the ends of its interval.
    """
    table.update(zip(with_ends(name), estimate, strict=True))


def add_single(row: dict[str, Any], name: str, estimate: Estimate) -> None:
    """Add the only cell of a statistic to a row, with its interval; see `add_estimate`."""
    add_estimate(row, name, (float(estimate[0][0]), float(estimate[1][0]), float(estimate[2][0])))


def add_mean(table: dict[str, Any], name: str, values: Array, resampling: Resampling) -> None:
    """Add a mean over prompts with its interval, and the plain mean, `name_plain`, where groups differ in size.

    Args:
        table: columns by name.
        name: of the statistic.
        values: shape (prompts, cells).
        resampling: what is independent.
    """
    add_estimate(table, name, mean_interval(values, resampling))
    if not resampling.even:
        table[f"{name}_plain"] = values.mean(0)


def with_ends(*names: str) -> list[str]:
    """The columns that `add_estimate` makes of some names, in its order."""
    return [f"{name}{end}" for name in names for end in ("", "_lo", "_hi")]
