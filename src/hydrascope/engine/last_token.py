"""The last-token engine: every variant of a batch of prompts in one push of a single token.

Replacing something at the last position leaves all earlier keys and values as they were. So the prefix is computed once
and shared, and the last token goes through the model once with all variants as extra rows. A variant joins the batch at
the first block in which it differs (the batch grows like a staircase); at every writer the rows' read-outs are taken at
once, and no activation is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy import Directions, Hooks, Model, Site, hooked
from hydrascope.components import Component
from hydrascope.engine.capture import Clean
from hydrascope.engine.distribution import Distribution, read_logits
from hydrascope.engine.pattern import Pattern, WatchedHeads
from hydrascope.engine.routing import RoutedMlps, Routing
from hydrascope.engine.rows import Rows
from hydrascope.engine.splits import Aim
from hydrascope.engine.strategy import SharedPrefix, Strategy
from hydrascope.engine.variants import Variant, in_order_of_depth
from hydrascope.errors import NonFinite

_SHARED = SharedPrefix()


class _ReachedHead(Exception):
    """Ends the forward pass where the unembedding would begin."""


@dataclass(frozen=True)
class Swept:
    """Read-outs of a sweep; variant 0 is the clean run, the others follow in the order they were given.

    Attributes:
        reads: <write, w> of every writer, embedding first, not yet divided by the norm's scale; a writer that is read
            head by head has a column for each head and one for its bias. Where a variant had not begun, its entry is
            the clean one.
        sigma: the final norm's scale.
        distribution: target logit and measures of the next-token distribution.
        routing: how routed MLPs sent their tokens, if that was asked for.
        pattern: how attention changed, if that was asked for.
    """

    reads: Float[Tensor, "variants writers prompts"]
    sigma: Float[Tensor, "variants prompts"]
    distribution: Distribution
    routing: Routing | None = None
    pattern: Pattern | None = None


def sweep(
    model: Model,
    clean: Clean,
    variants: Sequence[Variant],
    read: Directions,
    *,
    strategy: Strategy = _SHARED,
    full: bool = True,
    probed: bool = True,
    aims: Mapping[Component, Aim] = MappingProxyType({}),
    before: Swept | None = None,
    routing: bool = False,
    heads: Mapping[Component, Aim] = MappingProxyType({}),
) -> Swept:
    """Push the last token of a batch through the model once, with all variants as extra rows.

    Args:
        model: the model.
        clean: its clean pass on the batch, with the prefix kept.
        variants: what to replace; values have one row per prompt of the batch.
        read: read-out direction of each prompt.
        strategy: how rows come by the prefix.
        full: also take log-probability, rank and KL divergence from the full distribution.
        probed: also keep all logits of the clean run.
        aims: for writers that are read unit by unit, their read-outs.
        before: a sweep of the same batch without variants. What blocks write that the strategy leaves out is taken
            from there; and in float32, where rows of another push round alike, the whole clean run is, instead of
            coming along.
        routing: also split changes of routed MLPs; the anatomy must allow it.
        heads: read-outs of the heads of attention writers whose changes are also split.

    Returns:
        Read-outs of all writers, scales and distributions, in float32 on the CPU.

    Raises:
        HookDidNotFire: an edit or a read-out did not happen exactly once.
        AnatomyRefused: the weights of a head that is to be split could not be seen.
        NonFinite: a variant leads to NaN or infinite logits; the message names it.
    """
    order = in_order_of_depth(variants)
    along = before is None or routing or bool(heads) or not model.all_float32
    state = _Sweep(model, clean, [variants[i] for i in order], read, strategy, aims, routing, heads, with_clean=along)
    if before is not None:
        state.take_over(before)
    with hooked() as hooks, torch.no_grad(), state.heads.watching(), suppress(_ReachedHead):
        state.attach(hooks)
        strategy.push(model.network, clean, len(variants) + along)
    state.check_fired(hooks)
    back = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.tensor(order, dtype=torch.long).argsort()])
    distribution = state.distribution(full, probed, None if along else before)
    if not torch.isfinite(distribution.logit).all():
        bad = int((~torch.isfinite(distribution.logit)).any(1).nonzero()[0])
        what = "the clean run" if bad == 0 else state.variants[bad - 1].name
        raise NonFinite(f"knocking out {what} leads to NaN or infinite logits; try --dtype float32")
    routed = state.routed.found.at(back) if routing else None
    pattern = state.heads.found.at(back) if heads else None
    sigma = state.sigma.cpu() if along or before is None else torch.cat([before.sigma[:1], state.sigma.cpu()])
    return Swept(state.reads.cpu()[back], sigma[back], distribution.at(back), routed, pattern)


def _columns(aim: Aim | None) -> int:
    return 1 if aim is None else aim.split.width


class _Sweep(Rows):
    """One push: the variants in order of depth, the hooks that edit and read, and what they read."""

    def __init__(
        self,
        model: Model,
        clean: Clean,
        variants: Sequence[Variant],
        read: Directions,
        strategy: Strategy,
        aims: Mapping[Component, Aim],
        routing: bool,
        heads: Mapping[Component, Aim],
        *,
        with_clean: bool,
    ) -> None:
        super().__init__(model, clean, variants, strategy, with_clean=with_clean)
        self.read, self.aims = read, aims
        widths = [_columns(aims.get(writer.component)) for writer in model.anatomy.writers]
        self.columns = list(accumulate(widths, initial=1))
        self.reads = torch.zeros(len(variants) + 1, self.columns[-1], self.layout.items, device=clean.ids.device)
        self.along = self.reads if with_clean else self.reads[1:]
        self.sigma = torch.empty(0)
        self.normed = torch.empty(0)
        self.routed = RoutedMlps(model, read.vectors, len(variants) + 1, self.edits, self.layout, routing)
        self.heads = WatchedHeads(model, heads, set(aims), len(variants) + 1, self.edits, self.layout)

    def attach(self, hooks: Hooks) -> None:
        anatomy, module = self.model.anatomy, self.model.network.get_submodule
        for layer, path in enumerate(anatomy.layers):
            hooks.on_input(module(path), f"start of block {layer}", lambda h, layer=layer: self._grow(h, layer))  # type: ignore[misc]
        for site in self.edits:
            if site.side == "input":
                hooks.on_input(module(site.module), str(site), lambda x, site=site: self._put(x.clone(), site))  # type: ignore[misc]
        self.routed.attach(hooks, self.first_block)
        self.heads.attach(hooks, self.first_block)
        for column, writer in zip(self.columns, anatomy.writers, strict=False):
            if writer.component.layer < self.first_block:
                continue
            if writer.component in self.aims:
                self._attach_units(hooks, self.aims[writer.component], column)
                continue
            for path, gain in zip(writer.modules, writer.gains, strict=True):
                site = Site(path, "output", anatomy.d_model)

                def see(output: Tensor, site: Site = site, column: int = column, gain: float = gain) -> None:
                    self._take(self._put(output, site), column, gain)

                hooks.on_output(module(path), str(site), see)
        if anatomy.tail.norm is not None:
            hooks.on_input(module(anatomy.tail.norm), "final norm", self._scale, times=anatomy.tail.norm_calls)
        hooks.on_input(module(anatomy.tail.head), "head", self._stop)

    def _attach_units(self, hooks: Hooks, aim: Aim, column: int) -> None:
        """Read a writer's units where they lie side by side, its scale behind the projection, and then book both."""
        split, module = aim.split, self.model.network.get_submodule
        site = Site(split.module, "output", self.model.anatomy.d_model)
        dots: list[Tensor] = []
        scales: list[Tensor] = []

        def units(inside: Tensor) -> None:
            dots.append(aim.by_unit(self.layout.items_of(inside.contiguous()).to(aim.vectors.device)))

        def scale(projected: Tensor) -> None:
            assert split.norm is not None
            scales.append(split.norm.scale(self.layout.items_of(projected.contiguous())).to(aim.vectors.device))

        def book(output: Tensor) -> None:
            written = self.layout.items_of(self._put(output, site))
            by_unit, rest = dots.pop(), aim.scaled
            if split.norm is not None:
                size = scales.pop()
                by_unit, rest = by_unit / size[..., None], rest / size
            reads = torch.cat([by_unit, (rest + aim.fixed).expand(by_unit.shape[:2])[..., None]], -1)
            replaced = [row for row, _, _ in self.edits.get(site, ())]
            reads[replaced] = 0
            whole = (written[replaced].to(self.read.vectors) * self.read.vectors).sum(-1) * split.gain
            reads[replaced, :, -1] = whole
            columns = slice(column, column + reads.shape[-1])
            self.along[: len(reads), columns] = reads.transpose(1, 2)
            self.along[len(reads) :, columns] = reads[0].T

        hooks.on_input(module(split.site.module), f"units of {split.writer}", units)
        if split.norm is not None:
            hooks.on_output(module(split.site.module), f"scale of {split.writer}", scale)
        hooks.on_output(module(split.module), str(site), book)

    def check_fired(self, hooks: Hooks) -> None:
        self.made |= self.routed.made
        super().check_fired(hooks)
        self.heads.check_told(self.first_block)

    def take_over(self, before: Swept) -> None:
        """Fill in the clean read-outs of what is left out: the first blocks with the embedding, or the clean run."""
        left_out = sum(w.component.layer < self.first_block for w in self.model.anatomy.writers)
        columns = slice(0, self.columns[left_out] if self.first_block else 0)
        clean = before.reads[0].to(self.reads.device)
        self.reads[:, columns] = clean[columns]
        if not self.with_clean:
            self.reads[0] = clean

    def distribution(self, full: bool, probed: bool, before: Swept | None) -> Distribution:
        tail = self.model.anatomy.tail
        head = self.model.network.get_submodule(tail.head)
        known = None if before is None else before.distribution
        return read_logits(head, tail, self.normed, self.read.tokens, full, probed, self.read.foils, known)

    def _grow(self, hidden: Tensor, layer: int) -> Tensor | None:
        if layer == 0 == self.first_block:
            self._take(hidden, 0, self.model.anatomy.embed_gain)
        return super()._grow(hidden, layer)

    def _take(self, output: Tensor, column: int, gain: float) -> None:
        rows = self.layout.items_of(output).float()
        reads = torch.einsum("vpd,pd->vp", rows, self.read.vectors.to(rows.device)) * gain
        reads = reads.to(self.reads.device)
        self.along[: len(reads), column] += reads
        self.along[len(reads) :, column] += reads[0]

    def _scale(self, resid: Tensor) -> None:
        self.sigma = self.model.anatomy.tail.sigma(self.layout.items_of(resid))

    def _stop(self, normed: Tensor) -> NoReturn:
        self.normed = self.layout.items_of(normed)
        if self.model.anatomy.tail.norm is None:
            self._scale(normed)
        raise _ReachedHead
