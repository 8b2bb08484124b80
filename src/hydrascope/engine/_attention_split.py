"""Attention in a forward: every head's change split into where it looks and what it finds there.

With a and a' a head's weights over keys j in the clean run and under a knock-out, v and v' the keys' values, W its
stretch of the output projection, w a read-out direction, and u_j = <v_j, W^T w> (divided by the scale of a post-norm,
where one follows), the change of what it writes is exactly

    sum_j a'_j u'_j - sum_j a_j u_j = sum_j (a'_j - a_j) (u_j + u'_j) / 2 + sum_j (a_j + a'_j) / 2 (u'_j - u_j)
                                      pattern_effect: weights move           value_effect: values change

Weights sum to one, so that a constant added to all u_j leaves the pattern effect as it is. A sink is a key whose value
is zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hydrascope.anatomy import Hooks, Model
from hydrascope.components import Component
from hydrascope.engine._attention import PatternValueProducts, Recorder, recording
from hydrascope.engine._interventions import Edits
from hydrascope.engine._positions import Layout
from hydrascope.engine._units import UnitDecomposition, UnitReadout, readout
from hydrascope.errors import AnatomyRefused

CHECK = "moved weights"
"""Name of the check that a model must pass for its attention's changes to be split."""

MEND = "leave attention unsplit (--split-attention)"
"""What to do where the check fails."""


@dataclass(frozen=True)
class AttentionSplit:
    """How attention changed in a forward, by attention writer, or by head where heads are columns.

    Attributes:
        pattern_effect: read-out of moved weights, not divided by the norm's scale.
        value_effect: read-out of changed values, not divided by the norm's scale.
        moved: share of the weight that moved, averaged over a writer's heads.
    """

    pattern_effect: Float[Tensor, "interventions columns items"]
    value_effect: Float[Tensor, "interventions columns items"]
    moved: Float[Tensor, "interventions columns items"]

    def at(self, rows: Tensor) -> AttentionSplit:
        """Some interventions, on the CPU."""
        return AttentionSplit(*(tensor.cpu()[rows] for tensor in (self.pattern_effect, self.value_effect, self.moved)))


def head_readouts(
    model: Model,
    heads: Sequence[UnitDecomposition],
    known: Mapping[Component, UnitReadout],
    vectors: Float[Tensor, "items d"],
) -> dict[Component, UnitReadout]:
    """Read-outs of all heads; those in `known` are taken from there."""
    return {split.writer: known.get(split.writer) or readout(model.network, split, vectors) for split in heads}


class AttentionSplitter:
    """Splits the attention of one forward by writer or head.

    Args:
        readouts: read-outs of the heads of every attention writer; none if attention is not to be split.
        apart: writers whose heads are columns of their own.
        interventions: rows of a prompt at the end of the forward, the clean one included.
        edits: the forward's replacements.
        layout: positions that are replaced and read.
    """

    def __init__(
        self,
        model: Model,
        readouts: Mapping[Component, UnitReadout],
        apart: Collection[Component],
        interventions: int,
        edits: Edits,
        layout: Layout,
    ) -> None:
        self.model, self.readouts, self.edits, self.layout = model, readouts, edits, layout
        self.columns: dict[Component, slice] = {}
        start = 0
        for writer, one in readouts.items():
            stop = start + (one.split.units if writer in apart else 1)
            self.columns[writer], start = slice(start, stop), stop
        device = next((one.vectors.device for one in readouts.values()), None)
        shape = (interventions, start, layout.items)
        self.found = AttentionSplit(*(torch.zeros(shape, device=device) for _ in range(3)))
        blocks = enumerate(map(model.network.get_submodule, model.anatomy.layers))
        self.block_of = {id(module): layer for layer, block in blocks for module in block.modules()}
        self.told: Counter[Component] = Counter()
        self.waiting: dict[Component, PatternValueProducts] = {}

    def recording(self) -> AbstractContextManager[None]:
        """Record the model's attention during the forward, if it is to be split."""
        return recording(self.model.network, Recorder(self.layout, self._told)) if self.readouts else nullcontext()

    def attach(self, hooks: Hooks, first_block: int = 0) -> None:
        """Hook the post-norms behind heads, to take their scale."""
        for writer, one in self.readouts.items():
            if one.split.norm is None or writer.layer < first_block:
                continue

            def scale(projected: Tensor, one: UnitReadout = one) -> None:
                norm = one.split.norm
                assert norm is not None
                rows = norm.scale(self.layout.items_of(projected.contiguous()))
                if (seen := self.waiting.pop(one.split.writer, None)) is not None:
                    self._book(one, seen, rows.to(one.vectors.device))

            module = self.model.network.get_submodule(one.split.site.module)
            hooks.on_output(module, f"scale behind the heads of {writer}", scale)

    def check_told(self, first_block: int) -> None:
        """Refuse a forward in which a writer's weights were not recorded exactly once."""
        for writer in self.readouts:
            if writer.layer >= first_block and self.told[writer] != 1:
                does = "does not go" if not self.told[writer] else "goes more than once"
                raise AnatomyRefused(
                    CHECK,
                    f"{writer} {does} through the attention interface of transformers, so its weights cannot be seen; "
                    f"{MEND}",
                )

    def _told(self, module: nn.Module, products: PatternValueProducts) -> None:
        writer = Component("attn", self.block_of.get(id(module), -1))
        if (one := self.readouts.get(writer)) is None:
            return
        self.told[writer] += 1
        if products.own.shape[-2:].numel() != one.vectors.shape[-1]:
            raise AnatomyRefused(
                CHECK, f"what the heads of {writer} return is not what their output projection takes; {MEND}"
            )
        if one.split.norm is None:
            self._book(one, products, None)
        else:
            self.waiting[writer] = products

    def _book(
        self, one: UnitReadout, seen: PatternValueProducts, scale: Float[Tensor, "interventions items"] | None
    ) -> None:
        writer = one.split.writer
        clean, looked, valued, own = (
            _read(one, product) for product in (seen.clean, seen.looked, seen.valued, seen.own)
        )
        moved = seen.moved.to(clean.device, copy=True)
        where = torch.from_numpy(self.layout.edited_items).to(clean.device)
        for row, heads in self._replaced(one.split):  # such a head writes neither what it looks at nor what it finds
            for products in (looked, valued, own):
                products[row][where, heads] = clean[0][where, heads]
            moved[row][where, heads] = 0
        now = torch.ones_like(own[..., :1]) if scale is None else scale[..., None]
        before = now[:1]
        pattern_effect = ((looked - clean) / before + (own - valued) / now) / 2
        value_effect = ((valued + own) / now - (clean + looked) / before) / 2
        columns = self.columns[writer]
        if columns.stop - columns.start == 1:
            pattern_effect, value_effect = (part.sum(-1, keepdim=True) for part in (pattern_effect, value_effect))
            moved = moved.mean(-1, keepdim=True)
        for whole, part in zip(
            (self.found.pattern_effect, self.found.value_effect, self.found.moved),
            (pattern_effect, value_effect, moved),
            strict=True,
        ):
            whole[: len(part), columns] = part.transpose(1, 2)

    def _replaced(self, split: UnitDecomposition) -> list[tuple[int, slice]]:
        """Interventions that replace heads of a writer, each with its range of heads."""
        width = split.site.width // split.units
        return [(row, slice(s.start // width, s.stop // width)) for row, s, _ in self.edits.get(split.site, ())]


def _read(
    one: UnitReadout, returned: Float[Tensor, "interventions items heads dv"]
) -> Float[Tensor, "interventions items heads"]:
    return one.by_unit(returned.flatten(2).to(one.vectors.device))
