"""The tables of a run over ordinary text as its report shows them, and what its charts draw token by token."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import (
    SELECTIONS,
    TOP_SHARE,
    Array,
    Findings,
    Tokens,
    divide,
    mechanisms_by_depth,
    names,
    noun,
    self_repair_by_depth,
)
from hydrascope.figures.texts import REST, TOP

CHOICES = 6
"""Knock-outs whose tokens can be looked at."""
DRAWN = 700
"""Most tokens that are drawn of one of them, beside its top ones."""
BINS = 30
QUARTERS = ("first quarter", "second", "third", "last", "last layer", "half to last but one")


@dataclass
class TextTables:
    """Tables of one ledger of ordinary text.

    Attributes:
        findings: the tables that the analysis makes.
        focus: the knock-out that the verdict describes.
    """

    findings: Findings
    focus: str

    @property
    def ds(self) -> xr.Dataset:
        """The ledger."""
        return self.findings.ds

    @property
    def featured(self) -> str:
        """The knock-out shown first."""
        return self.focus

    @property
    def unit(self) -> str:
        """What effects are in, on an axis."""
        return "logits of the target"

    @property
    def layers(self) -> int:
        """Number of blocks of the model."""
        return int(self.ds.attrs["n_layers"])

    @property
    def many(self) -> str:
        """What was knocked out, in the plural."""
        return f"{noun(self.ds)}s"

    @property
    def repair(self) -> pd.DataFrame:
        """`analysis.self_repair.self_repair`."""
        return self.findings.self_repair

    @cached_property
    def repair_lines(self) -> pd.DataFrame:
        """`analysis.self_repair.by_depth`."""
        return self_repair_by_depth(self.repair, self.layers)

    @cached_property
    def mechanism_lines(self) -> pd.DataFrame:
        """`analysis.mechanisms.by_depth`."""
        return mechanisms_by_depth(self.findings.mechanisms, self.layers)

    @property
    def pooled(self) -> pd.DataFrame:
        """`analysis.mechanisms.pooled`."""
        return self.findings.pooled_mechanisms

    @cached_property
    def names(self) -> list[str]:
        """The knock-outs whose tokens can be looked at: the one described first, then those that lose most."""
        top = self.repair[(self.repair["selection"] == "top") & (self.repair["ablated"] != self.focus)]
        most = top.loc[top["own_change"].abs().nlargest(CHOICES - 1).index, "ablated"]
        return [self.focus, *map(str, most)]

    @cached_property
    def _tokens(self) -> Tokens:
        return Tokens.of(self.ds)

    def _columns(self) -> list[tuple[str, int]]:
        known = [str(name) for name in self._tokens.columns()["ablated"]]
        return [(name, known.index(name)) for name in self.names]

    @cached_property
    def _top(self) -> Array:
        return self._tokens.chosen("top", TOP_SHARE, self.findings.resampling).weight

    def points(self) -> pd.DataFrame:
        """Tokens of the chosen knock-outs: all top ones, and an even selection of the others."""
        text, target = (np.array(names(self.ds, name), dtype=object) for name in ("text", "target"))
        tables = []
        for name, k in self._columns():
            top = np.flatnonzero(self._top[:, k])[:DRAWN]
            rest = np.flatnonzero(self._top[:, k] == 0)
            rest = rest[np.unique(np.linspace(0, len(rest) - 1, min(DRAWN, len(rest))).round().astype(int))]
            for which, rows in ((REST, rest), (TOP, top)):  # the top ones are drawn above the others
                values = {"direct_effect": self._tokens.direct[rows, k], "total_effect": self._tokens.total[rows, k]}
                words = {"text": [_end(str(words)) for words in text[rows]], "target": target[rows]}
                tables.append(pd.DataFrame({"ablated": name, "which": which, **values, **words}))
        return pd.concat(tables, ignore_index=True)

    def bins(self) -> pd.DataFrame:
        """Histogram of the clean over the ablated scale of the final norm; what is far out is in the outer bins."""
        tables = []
        for name, k in self._columns():
            ratio = self._tokens.scale_ratio[:, k]
            ends = np.quantile(ratio, [0.005, 0.995])
            low, high = min(float(ends[0]), 0.999), max(float(ends[1]), 1.001)
            edges = np.linspace(low, high, BINS + 1)
            for selection in SELECTIONS:
                weight = self._top[:, k] if selection == "top" else np.ones(len(ratio))
                counts, _ = np.histogram(np.clip(ratio, low, high), edges, weights=weight)
                share = counts / weight.sum()
                table = {"low": edges[:-1], "high": edges[1:], "share": share}
                if selection == "all":  # drawn as a line, which ends where the last bin does
                    table = {"low": edges, "high": [*edges[1:], edges[-1]], "share": [*share, share[-1]]}
                tables.append(pd.DataFrame({"ablated": name, "selection": selection, **table}))
        return pd.concat(tables, ignore_index=True)

    def quarters(self) -> Array:
        """Share of the loss restored on top tokens by depth, all removed parts of a stretch together (`QUARTERS`)."""
        rows = self.repair[self.repair["removed"] & (self.repair["selection"] == "top")]
        layer, n = rows["ablated_layer"].to_numpy(), self.layers
        stretches = [(4 * layer // n) == quarter for quarter in range(4)]
        stretches += [layer == n - 1, (2 * layer >= n) & (layer < n - 1)]
        back, own = rows["self_repair"].to_numpy(), rows["own_change"].to_numpy()
        return np.array(
            [float(divide(back[some].sum(keepdims=True), -own[some].sum(keepdims=True))[0]) for some in stretches]
        )


def _end(text: str, most: int = 60) -> str:
    """The end of a context on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"… {line[-most:]}"
