"""Knock-outs on ordinary text, token by token, on selected tokens and on all.

Rushing & Nanda 2024 (arXiv 2402.15390) look at the 2 % of tokens on which a head's direct effect is largest. That
selection decides the sign of the average, so both selections stand beside each other in every table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._repair import ABLATED_FROM, MEDIAN_FROM, SAME_SIGN_FROM
from hydrascope.analysis._statistics import Array, Resampling, divide, mean_interval, median_ratio, studentised
from hydrascope.errors import DetailDropped

Selection = Literal["top", "all"]
SELECTIONS: tuple[Selection, ...] = get_args(Selection)

TOP_SHARE = 0.02
"""The paper's share of tokens, chosen by the part's clean direct effect."""


class Selected(NamedTuple):
    """What a selection counts.

    Attributes:
        known: places along `ablated` of the knock-outs for which the selection is known.
        weight: 1 for rows that count for a knock-out, else 0, (rows, known); None where all rows count for all.
    """

    known: NDArray[np.intp]
    weight: Array | None


def selections(ds: xr.Dataset) -> dict[Selection, Selected]:
    """Selections to show: of ordinary text top tokens and all, otherwise all prompts."""
    everything = Selected(np.arange(ds.sizes["ablated"]), None)
    if not (access.reads_each(ds) and access.knows_direct(ds)):
        return {"all": everything}
    tokens = Tokens.of(ds)
    return {"top": Selected(tokens.known, _top(tokens.direct, TOP_SHARE).astype(np.float64)), "all": everything}


@dataclass(frozen=True)
class Tokens:
    """The knock-outs of a ledger whose own direct effect is known, token by token.

    Attributes:
        ds: the ledger.
        known: places of these knock-outs along `ablated`.
        direct: clean direct effects, (tokens, parts), in logits.
        own: own changes, (tokens, parts), in logits.
        total: total effects, (tokens, parts), in logits.
    """

    ds: xr.Dataset
    known: NDArray[np.intp]
    direct: Array
    own: Array
    total: Array

    @classmethod
    def of(cls, ds: xr.Dataset) -> Tokens:
        """Read the knock-outs from a ledger.

        Raises:
            DetailDropped: no knock-out's direct effect is known.
        """
        direct = access.ablated_direct(ds)
        known = np.flatnonzero(np.isfinite(direct).all(0))
        if not len(known):
            raise DetailDropped(
                "self-repair needs the direct effect of what was knocked out, and this run kept it of none; "
                "run it again with heads apart (--writers heads)"
            )
        own, total = (access.numbers(ds, name)[:, known] for name in ("own_change", "total_effect"))
        return cls(ds, known, direct[:, known], own, total)

    @cached_property
    def answers(self) -> dict[str, Array]:
        """What others gave back, (tokens, parts), by kind of writer, and `norm`.

        They sum to self-repair, `total - own`, within the ledger's tolerance. `bias` is among them only where a block's
        own norm rescales its biases.
        """
        found = {kind: self.response(kind) for kind in access.kinds(self.ds)}
        if (still := self.response("bias")).any():
            found["bias"] = still
        return found | {"norm": access.numbers(self.ds, "norm_effect")[:, self.known]}

    @cached_property
    def scale_ratio(self) -> Array:
        """Clean over ablated scale of the final norm; above 1 where the stream shrinks."""
        return access.numbers(self.ds, "scale_ratio")[:, self.known]

    def response(self, kind: str) -> Array:
        """Summed change of the writers of a kind that were not knocked out."""
        return access.response(self.ds, kind)[:, self.known]

    def columns(self) -> dict[str, Any]:
        """Address, layer and kind of every part."""
        return access.knockout_columns(self.ds, self.known)

    def removed(self, top_share: float) -> NDArray[np.bool_]:
        """Parts whose own change is large enough to speak of repair.

        On the part's top tokens it is at least a quarter of the direct effect; below, the replacement removed nothing.
        Other tokens would not do: what donors add and take away cancels there.
        """
        which = _top(self.direct, top_share)
        own, direct = (np.abs((which * values).sum(0)) for values in (self.own, self.direct))
        found: NDArray[np.bool_] = (own >= ABLATED_FROM * direct) & (own != 0)
        return found

    def chosen(self, selection: Selection, top_share: float, resampling: Resampling) -> Chosen:
        """The selected tokens of every part, or all of them."""
        which = _top(self.direct, top_share) if selection == "top" else np.ones(self.direct.shape, bool)
        return Chosen(which, self.own, resampling)


@dataclass(frozen=True)
class Chosen:
    """Which tokens count for each part, and statistics over them.

    Attributes:
        which: which tokens count, (tokens, parts).
        own: own changes of the parts, (tokens, parts), in logits.
        resampling: the bootstrap, over whole documents.
    """

    which: NDArray[np.bool_]
    own: Array
    resampling: Resampling

    @property
    def weight(self) -> Array:
        """1 for tokens that count, 0 for others."""
        return self.which.astype(np.float64)

    @cached_property
    def one_sign(self) -> NDArray[np.bool_]:
        """Parts whose own changes do not cancel, so that shares of them may be read.

        The mean is at least a quarter of the mean size. On all tokens together donors give about as much as they take.
        """
        return self._one_sign(self.weight * self.own)

    def pooled_one_sign(self, keep: NDArray[np.bool_]) -> bool:
        """Whether the own changes of several parts together do not cancel."""
        return bool(self._one_sign((self.weight * self.own)[:, keep].reshape(-1, 1))[0])

    @staticmethod
    def _one_sign(own: Array) -> NDArray[np.bool_]:
        total = own.sum(0)
        found: NDArray[np.bool_] = (np.abs(total) >= SAME_SIGN_FROM * np.abs(own).sum(0)) & (total != 0)
        return found

    def mean(self, values: Array) -> tuple[Array, Array, Array]:
        """Mean over the tokens, with its interval."""
        return mean_interval(values, self.resampling, self.weight)

    def linear(self, values: Array) -> Array:
        """Values whose plain mean over all tokens is the mean over the chosen ones, and varies as it does.

        Each is the mean and what its token adds to it, so that parts with different tokens can be tested together.
        """
        mean, share = self.mean(values)[0], self.weight.mean(0)
        found: Array = mean + self.weight * (values - mean) / share
        return found

    def share(self, values: Array) -> tuple[Array, Array, Array]:
        """Share of what the parts lost: the ratio of sums, unclipped, with its interval."""
        return self._ratio(self.weight * values, -self.weight * self.own)

    def median_share(self, values: Array) -> Array:
        """Median of single tokens' shares, where the own change is not small."""
        return median_ratio(np.where(self.which, values, 0), np.where(self.which, -self.own, 0), self._threshold)

    def mean_share(self, values: Array) -> Array:
        """Mean of single tokens' shares, where the own change is not small."""
        keep = self.which & (np.abs(self.own) >= self._threshold) & (self.own != 0)
        ratios = np.divide(values, -self.own, out=np.zeros_like(values), where=keep)
        return divide(ratios.sum(0), keep.sum(0).astype(np.float64))

    def pooled_mean(self, values: Array, keep: NDArray[np.bool_]) -> tuple[float, float, float]:
        """Mean over the tokens of several parts, with its interval."""
        return self._pooled(values, np.ones_like(values), keep)

    def pooled_share(self, values: Array, keep: NDArray[np.bool_]) -> tuple[float, float, float]:
        """Share of what several parts lost, a ratio of sums, with its interval."""
        return self._pooled(values, -self.own, keep)

    def _pooled(self, above: Array, below: Array, keep: NDArray[np.bool_]) -> tuple[float, float, float]:
        sums = [(self.weight * values)[:, keep].sum(1, keepdims=True) for values in (above, below)]
        mean, low, high = self._ratio(sums[0], sums[1])
        return float(mean[0]), float(low[0]), float(high[0])

    def _ratio(self, above: Array, below: Array) -> tuple[Array, Array, Array]:
        return studentised(self.resampling.sums(above), self.resampling.sums(below), self.resampling)

    @cached_property
    def _threshold(self) -> Array:
        return MEDIAN_FROM * divide((self.weight * np.abs(self.own)).sum(0), self.weight.sum(0))


def _top(direct: Array, share: float) -> NDArray[np.bool_]:
    """Largest values of each part, at least one; ties are taken in order."""
    count = max(1, round(share * len(direct)))
    order = np.argsort(-direct, axis=0, kind="stable")[:count]
    chosen = np.zeros(direct.shape, bool)
    np.put_along_axis(chosen, order, True, axis=0)
    return chosen
