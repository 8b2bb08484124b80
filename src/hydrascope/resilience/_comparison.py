"""Two stress tests on the same prompts and the same random sets, and where they differ.

Values of both are subtracted prompt by prompt and mask by mask, so that what both share cancels: which prompts and
which sets were drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hydrascope.analysis import SIGNIFICANT, Array, add_estimate, digits, false_discovery, listed, percent
from hydrascope.errors import RunError
from hydrascope.resilience._curve import curve_cells
from hydrascope.resilience._findings import Resilience
from hydrascope.resilience._pairs import interactions
from hydrascope.resilience._two_ways import two_ways

NAMED = 4
"""Most parts, or pairs, that a sentence names."""


@dataclass(frozen=True)
class ResilienceComparison:
    """A second stress test beside a first; differences are the second's minus the first's.

    Attributes:
        first: tables of the one.
        second: tables of the other.
        names: what they are called.
    """

    first: Resilience
    second: Resilience
    names: tuple[str, str]

    def __post_init__(self) -> None:
        one, other = self.first, self.second
        alike = (
            ("parts", one.parts == other.parts),
            ("failure rates, number of masks or seed", _drawn(one) == _drawn(other)),
            ("prompts", one.ds.sizes["prompt"] == other.ds.sizes["prompt"] and _prompts(one) == _prompts(other)),
        )
        for what, same in alike:
            if not same:
                raise RunError(
                    f"the stress tests of {self.names[0]} and {self.names[1]} differ in their {what}, and cannot be "
                    "subtracted; make both with the same prompts, components, rates, masks and "
                    "seed (prompts that one model gets wrong are dropped, unless they are kept: --keep-wrong)"
                )

    def curve(self, value: str = "logit") -> pd.DataFrame:
        """Differences of the degradation curve.

        Args:
            value: `logit`, `log_prob`, `kl` or `accuracy`.

        Returns:
            One row per rate, 0 and 1 included: `rate`, `first`, `second`, and `difference` with its interval.
        """
        tests = (self.first, self.second)
        cells = [curve_cells(one.values(value), one.faults, one.resampling) for one in tests]
        table: dict[str, Any] = {"rate": np.array(self.first.faults.nodes)}
        return self._told(table, *cells)

    @cached_property
    def importance(self) -> pd.DataFrame:
        """Differences of importance under failure.

        Returns:
            One row per part and rate: `part`, `rate`, `first`, `second`, `difference` with its interval, and
            `significant` at a false discovery rate of 5 %.
        """
        parts, nodes = self.first.parts, self.first.faults.nodes
        places = [(part, node) for part in range(len(parts)) for node in range(len(nodes))]
        cells = [[one.samples.at(*place) for place in places] for one in (self.first, self.second)]
        table: dict[str, Any] = {
            "part": np.array([parts[part] for part, _ in places], object),
            "rate": np.array([nodes[node] for _, node in places]),
        }
        informative = [self.first.samples.informative(*place) for place in places]
        return self._told(table, *cells, informative=informative, searched=True)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """Differences of the interactions of pairs that both tests knocked out.

        Returns:
            One row per pair: `part`, `other`, `first`, `second`, `difference` with its interval, and `significant` at a
            false discovery rate of 5 %.
        """
        both = [pair for pair in self.first.paired if pair in set(self.second.paired)]
        sides = [np.array([self.first.parts[pair[side]] for pair in both], object) for side in (0, 1)]
        cells = [
            [column[:, None] for column in interactions(one.values(), both, one.resampling).T] if both else []
            for one in (self.first, self.second)
        ]
        return self._told(dict(zip(("part", "other"), sides, strict=True)), *cells, searched=True)

    def _told(
        self,
        table: dict[str, Any],
        first: list[Array],
        second: list[Array],
        *,
        informative: list[int] | None = None,
        searched: bool = False,
    ) -> pd.DataFrame:
        """A table with the means of both, and their differences."""
        for name, cells in (("first", first), ("second", second)):
            table[name] = np.array([cell.mean() for cell in cells])
        found = two_ways([b - a for a, b in zip(first, second, strict=True)], self.first.resampling, informative)
        add_estimate(table, "difference", found.interval)
        if searched:
            table["significant"] = false_discovery(found.p) < SIGNIFICANT if len(found.p) else np.zeros(0, bool)
        return pd.DataFrame(table)

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """What differs, in plain sentences."""
        return (*self._survival(), *self._parts(), *self._pairs())

    def _survival(self) -> Iterator[str]:
        first, second = self.names
        value, what = ("accuracy", "prompts that stay right") if self.first.survived else ("logit", "the logit")
        table = self.curve(value)
        inside = table[(table["rate"] > 0) & (table["rate"] < 1)]
        more, fewer = inside[inside["difference_lo"] > 0]["rate"], inside[inside["difference_hi"] < 0]["rate"]
        row = inside.to_dict("records")[int(inside["difference"].abs().argmax())]
        form = percent if value == "accuracy" else digits
        said = f"The largest difference in {what} is {form(row['difference'])} "
        said += (
            f"[{form(row['difference_lo'])}, {form(row['difference_hi'])}], where {percent(row['rate'])} of the parts "
        )
        said += f"fail ({second} {form(row['second'])}, {first} {form(row['first'])})"
        if len(more) or len(fewer):
            told = [
                f"clearly {word} at {listed([percent(rate) for rate in rates])}"
                for word, rates in (("more", more), ("fewer" if value == "accuracy" else "less", fewer))
                if len(rates)
            ]
            yield f"{said}; {second} keeps {' and '.join(told)}."
        else:
            yield f"{said}; at no rate do they clearly differ."

    def _parts(self) -> Iterator[str]:
        table = self.importance
        clear = table[table["significant"]].copy()
        clear["size"] = clear["difference"].abs()
        largest = clear.sort_values("size", ascending=False).drop_duplicates("part").head(NAMED)
        if len(largest):
            named = [
                f"{row['part']} at {percent(row['rate'])} ({digits(row['first'])} to {digits(row['second'])})"
                for row in largest.to_dict("records")
            ]
            yield f"Importance under failure differs most, from {self.names[0]} to {self.names[1]}, of {listed(named)}."

    def _pairs(self) -> Iterator[str]:
        table = self.pairs
        clear = table[table["significant"]]
        said = f"Of {len(table)} pairs, {len(clear)} clearly interact otherwise"
        largest = clear.loc[clear["difference"].abs().nlargest(NAMED).index]
        named = [
            f"{row['part']} with {row['other']} ({digits(row['first'])} to {digits(row['second'])})"
            for row in largest.to_dict("records")
        ]
        yield f"{said}{', most of all ' + listed(named) if named else ''}."


def _drawn(found: Resilience) -> tuple[Any, ...]:
    return found.plan.rates, found.plan.masks, found.plan.seed


def _prompts(found: Resilience) -> list[Any]:
    """What tells prompts apart: their place among those asked, and their text."""
    names = [name for name in ("prompt_index", "prompt_text", "text", "position") if name in found.ds.coords]
    return [found.ds[name].values.tolist() for name in names] + [found.groups]
