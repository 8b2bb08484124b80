"""One forward of a batch with many interventions, as extra rows.

An intervention joins the batch at the first block in which it differs (the batch grows like a staircase), or all of
them begin together at a later block. Every writer is read as it writes and no activation is kept, so that a forward
costs about the clean run plus half a row of single tokens for each intervention. Replacing something at the last
position leaves all earlier keys and values as they were, so the prefix is computed once and shared.

Rows are ordered intervention-major (row = intervention * prompts + prompt); intervention 0 is the clean run, where it
comes along.
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
from hydrascope.engine._attention_split import AttentionSplit, AttentionSplitter
from hydrascope.engine._clean import CleanRun
from hydrascope.engine._distribution import Distribution, read_logits
from hydrascope.engine._interventions import Intervention, in_order_of_depth
from hydrascope.engine._routing import RoutedMlps, Routing
from hydrascope.engine._strategies import Strategy
from hydrascope.engine._units import UnitReadout
from hydrascope.errors import HookDidNotFire, NonFinite


class ReachedHead(Exception):
    """Ends the forward where the unembedding would begin."""


class Rows:
    """Rows of a forward and their edits, common to all forwards.

    Args:
        clean: clean run on the batch.
        interventions: interventions in order of depth.
        strategy: how rows share the clean run, and whether they join late.
        with_clean: the clean run comes along as intervention 0; rows that join late are copies of it.
    """

    def __init__(
        self,
        model: Model,
        clean: CleanRun,
        interventions: Sequence[Intervention],
        strategy: Strategy,
        *,
        with_clean: bool = True,
    ) -> None:
        self.model, self.clean, self.interventions = model, clean, interventions
        self.layout, self.first_block = strategy.layout(clean), strategy.first_block
        self.staircase, self.with_clean = strategy.staircase, with_clean
        firsts = [intervention.first_layer if self.staircase else 0 for intervention in interventions]
        self.begun = [1 + sum(first <= layer for first in firsts) for layer in range(model.anatomy.n_layers)]
        self.edits: dict[Site, list[tuple[int, slice, Tensor]]] = {}
        for row, intervention in enumerate(interventions, start=int(with_clean)):
            for edit in intervention.edits:
                self.edits.setdefault(edit.place.site, []).append((row, edit.place.span, edit.value))
        self.made: set[Site] = set()

    def check_fired(self, hooks: Hooks) -> None:
        """Refuse a forward in which a hook or an edit did not happen exactly once."""
        hooks.require_fired()
        if lost := set(self.edits) - self.made:
            raise HookDidNotFire(f"nothing was replaced at {min(lost)}, so the result would be silently wrong")

    def _grow(self, hidden: Tensor, layer: int) -> Tensor | None:
        """The block's input with copies of the clean row for the interventions that begin there."""
        if not self.staircase:
            return None
        new = self.begun[layer] - (self.begun[layer - 1] if layer else 1)
        if not new:
            return None
        return torch.cat([hidden, hidden[: self.layout.prompts].repeat(new, *(1,) * (hidden.ndim - 1))])

    def _put(self, tensor: Tensor, site: Site) -> Tensor:
        """Replace in place what the interventions replace at this site."""
        for intervention, span, value in self.edits.get(site, ()):
            self.layout.put(tensor, intervention, span, value)
            self.made.add(site)
        return tensor


def copied(tensor: Tensor) -> Tensor:
    """Copy a tensor to write in: the module's caller may need the original elsewhere."""
    return tensor.clone(memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class Readings:
    """Read-outs of a forward; intervention 0 is the clean run, others keep their given order.

    Attributes:
        reads: <write, w> of every writer or its units and bias, embedding first, not divided by the norm's scale; clean
            where an intervention had not begun.
        sigma: scale of the final norm.
        distribution: target logit and measures of the next-token distribution.
        routing: how routers sent their tokens, if asked for.
        pattern: how attention changed, if asked for.
    """

    reads: Float[Tensor, "interventions writers prompts"]
    sigma: Float[Tensor, "interventions prompts"]
    distribution: Distribution
    routing: Routing | None = None
    pattern: AttentionSplit | None = None

    @classmethod
    def joined(cls, clean: Readings, others: Sequence[Readings]) -> Readings:
        """Join a clean run by itself and interventions in forwards of their own."""
        reads, sigma, logit, log_prob, kl, rank = (
            torch.cat([take(clean), *(take(one)[1:] for one in others)])
            for take in (
                lambda one: one.reads,
                lambda one: one.sigma,
                lambda one: one.distribution.logit,
                lambda one: one.distribution.log_prob,
                lambda one: one.distribution.kl,
                lambda one: one.distribution.rank,
            )
        )
        return cls(reads, sigma, Distribution(logit, log_prob, kl, rank, clean.distribution.probe))


def run_interventions(
    model: Model,
    clean: CleanRun,
    interventions: Sequence[Intervention],
    read: Directions,
    *,
    strategy: Strategy,
    with_distribution: bool = True,
    with_clean_logits: bool = True,
    readouts: Mapping[Component, UnitReadout] = MappingProxyType({}),
    before: Readings | None = None,
    routing: bool = False,
    heads: Mapping[Component, UnitReadout] = MappingProxyType({}),
) -> Readings:
    """Run a batch once, with all interventions as extra rows, and read every writer.

    Args:
        model: the model.
        clean: clean run on the batch, with what the strategy needs.
        interventions: what to replace.
        read: read-out direction of each prompt.
        strategy: how rows share the clean run.
        with_distribution: take log-probability, rank and KL divergence, which costs the whole vocabulary of every row.
        with_clean_logits: keep all logits of the clean run.
        readouts: read-outs of the writers that are read unit by unit.
        before: readings of this batch without interventions, for the writers below the strategy's first block. In
            float32, where rows of another forward round alike, they also stand for the whole clean run.
        routing: split changes of routed MLPs; the anatomy must allow it.
        heads: read-outs of the heads of attention writers whose changes are split.

    Returns:
        Read-outs of all writers, scales and distributions, in float32 on the CPU.

    Raises:
        HookDidNotFire: an edit or a read-out did not happen exactly once.
        AnatomyRefused: the weights of a head that is to be split could not be seen.
        NonFinite: an intervention leads to NaN or infinite logits; the message names it.
    """
    order = in_order_of_depth(interventions)
    along = before is None or routing or bool(heads) or not model.all_float32
    state = _Sweep(
        model, clean, [interventions[i] for i in order], read, strategy, readouts, routing, heads, with_clean=along
    )
    if before is not None:
        state.take_over(before)
    with hooked() as hooks, torch.no_grad(), state.heads.recording(), suppress(ReachedHead):
        state.attach(hooks)
        strategy.run(model.network, clean, len(interventions) + along)
    state.check_fired(hooks)
    back = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.tensor(order, dtype=torch.long).argsort()])
    distribution = state.distribution(with_distribution, with_clean_logits, None if along else before)
    if not torch.isfinite(distribution.logit).all():
        bad = int((~torch.isfinite(distribution.logit)).any(1).nonzero()[0])
        what = "the clean run" if bad == 0 else state.interventions[bad - 1].name
        raise NonFinite(f"knocking out {what} leads to NaN or infinite logits; {model.mend}")
    routed = state.routed.found.at(back) if routing else None
    pattern = state.heads.found.at(back) if heads else None
    sigma = state.sigma.cpu() if along or before is None else torch.cat([before.sigma[:1], state.sigma.cpu()])
    return Readings(state.reads.cpu()[back], sigma[back], distribution.at(back), routed, pattern)


def _columns(aim: UnitReadout | None) -> int:
    return 1 if aim is None else aim.split.width


class _Sweep(Rows):
    """One forward of interventions in order of depth: hooks that edit and read, and their read-outs."""

    def __init__(
        self,
        model: Model,
        clean: CleanRun,
        interventions: Sequence[Intervention],
        read: Directions,
        strategy: Strategy,
        readouts: Mapping[Component, UnitReadout],
        routing: bool,
        heads: Mapping[Component, UnitReadout],
        *,
        with_clean: bool,
    ) -> None:
        super().__init__(model, clean, interventions, strategy, with_clean=with_clean)
        self.read, self.readouts = read, readouts
        widths = [_columns(readouts.get(writer.component)) for writer in model.anatomy.writers]
        self.columns = list(accumulate(widths, initial=1))
        self.reads = torch.zeros(len(interventions) + 1, self.columns[-1], self.layout.items, device=clean.ids.device)
        self.along = self.reads if with_clean else self.reads[1:]
        self.sigma = torch.empty(0)
        self.normed = torch.empty(0)
        self.routed = RoutedMlps(model, read.vectors, len(interventions) + 1, self.edits, self.layout, routing)
        self.heads = AttentionSplitter(model, heads, set(readouts), len(interventions) + 1, self.edits, self.layout)

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
            if writer.component in self.readouts:
                self._attach_units(hooks, self.readouts[writer.component], column)
                continue
            for path, gain in zip(writer.modules, writer.gains, strict=True):
                site = Site(path, "output", anatomy.d_model)

                def see(output: Tensor, site: Site = site, column: int = column, gain: float = gain) -> None:
                    self._take(self._put(output, site), column, gain)

                hooks.on_output(module(path), str(site), see)
        if anatomy.tail.norm is not None:
            hooks.on_input(module(anatomy.tail.norm), "final norm", self._scale, times=anatomy.tail.norm_calls)
        hooks.on_input(module(anatomy.tail.head), "head", self._stop)

    def _attach_units(self, hooks: Hooks, aim: UnitReadout, column: int) -> None:
        """Read a writer's units before its projection and a post-norm's scale behind it; book both at the write."""
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

    def take_over(self, before: Readings) -> None:
        """Fill in clean read-outs of what the forward leaves out: the first blocks, or the clean run."""
        left_out = sum(w.component.layer < self.first_block for w in self.model.anatomy.writers)
        columns = slice(0, self.columns[left_out] if self.first_block else 0)
        clean = before.reads[0].to(self.reads.device)
        self.reads[:, columns] = clean[columns]
        if not self.with_clean:
            self.reads[0] = clean

    def distribution(self, with_distribution: bool, with_clean_logits: bool, before: Readings | None) -> Distribution:
        tail = self.model.anatomy.tail
        head = self.model.network.get_submodule(tail.head)
        known = None if before is None else before.distribution
        return read_logits(
            head, tail, self.normed, self.read.tokens, with_distribution, with_clean_logits, self.read.foils, known
        )

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
        raise ReachedHead
