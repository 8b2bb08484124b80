"""Attention in a sweep: every head's change split into where it looks and what it finds there.

With a and a' a head's weights over keys j in the clean run and under a knock-out, v and v' the keys' values, W its
stretch of the output projection, w a read-out direction, and u_j = <v_j, W^T w> (divided by the scale of a post-norm,
where one follows), the change of what it writes is exactly

    sum_j a'_j u'_j - sum_j a_j u_j = sum_j (a'_j - a_j) (u_j + u'_j) / 2 + sum_j (a_j + a'_j) / 2 (u'_j - u_j)
                                      redistributed: weights move           revalued: values change

Weights sum to one, so that what is redistributed does not depend on a constant added to all u_j. A sink is a key whose
value is zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hydrascope.anatomy import Hooks, Model, Site
from hydrascope.components import Component
from hydrascope.engine.layout import Layout
from hydrascope.engine.splits import Aim, Split, aim
from hydrascope.engine.watching import Crossed, Watch, watching
from hydrascope.errors import AnatomyRefused

CHECK = "moved weights"
"""Name of the check that a model must pass for its attention's changes to be split."""

MEND = "leave out --split-attention"
"""What to do where it does not."""

Edits = Mapping[Site, Sequence[tuple[int, slice, Tensor]]]
"""For each site the variants in which it is replaced, the stretch and the value."""


@dataclass(frozen=True)
class Pattern:
    """How attention changed in a sweep; a column for each attention writer, or for each head where heads are apart.

    Attributes:
        redistributed: what moved weights add to the read-out, not divided by the norm's scale.
        revalued: what changed values add to it.
        moved: share of the weight that moved, the mean over a writer's heads.
    """

    redistributed: Float[Tensor, "variants columns items"]
    revalued: Float[Tensor, "variants columns items"]
    moved: Float[Tensor, "variants columns items"]

    def at(self, rows: Tensor) -> Pattern:
        """Some variants, on the CPU."""
        return Pattern(*(tensor.cpu()[rows] for tensor in (self.redistributed, self.revalued, self.moved)))


def head_aims(
    model: Model, heads: Sequence[Split], known: Mapping[Component, Aim], vectors: Float[Tensor, "items d"]
) -> dict[Component, Aim]:
    """Read-outs of all heads, those taken over that are known because heads are columns of their own."""
    return {split.writer: known.get(split.writer) or aim(model.network, split, vectors) for split in heads}


class WatchedHeads:
    """The attention of one push: what it is told, and what that means for each writer or head.

    Args:
        model: the model.
        aims: read-outs of the heads of every attention writer; none if attention is not to be split.
        apart: writers whose heads have columns of their own.
        variants: rows of a prompt at the end of the push, the clean one included.
        edits: what is replaced.
        layout: which positions are replaced and read.
    """

    def __init__(
        self,
        model: Model,
        aims: Mapping[Component, Aim],
        apart: Collection[Component],
        variants: int,
        edits: Edits,
        layout: Layout,
    ) -> None:
        self.model, self.aims, self.edits, self.layout = model, aims, edits, layout
        self.columns: dict[Component, slice] = {}
        start = 0
        for writer, one in aims.items():
            stop = start + (one.split.units if writer in apart else 1)
            self.columns[writer], start = slice(start, stop), stop
        device = next((one.vectors.device for one in aims.values()), None)
        shape = (variants, start, layout.items)
        self.found = Pattern(*(torch.zeros(shape, device=device) for _ in range(3)))
        blocks = enumerate(map(model.network.get_submodule, model.anatomy.layers))
        self.block_of = {id(module): layer for layer, block in blocks for module in block.modules()}
        self.told: Counter[Component] = Counter()
        self.waiting: dict[Component, Crossed] = {}

    def watching(self) -> AbstractContextManager[None]:
        """The model's attention as it has to be computed during the push."""
        return watching(self.model.network, Watch(self.layout, self._told)) if self.aims else nullcontext()

    def attach(self, hooks: Hooks, first_block: int = 0) -> None:
        """Hooks that take the scale of post-norms behind heads."""
        for writer, one in self.aims.items():
            if one.split.norm is None or writer.layer < first_block:
                continue

            def scale(projected: Tensor, one: Aim = one) -> None:
                norm = one.split.norm
                assert norm is not None
                rows = norm.scale(self.layout.items_of(projected.contiguous()))
                if (seen := self.waiting.pop(one.split.writer, None)) is not None:
                    self._book(one, seen, rows.to(one.vectors.device))

            module = self.model.network.get_submodule(one.split.site.module)
            hooks.on_output(module, f"scale behind the heads of {writer}", scale)

    def check_told(self, first_block: int) -> None:
        """Refuse a push in which the weights of a block were not seen exactly once.

        Raises:
            AnatomyRefused: naming it.
        """
        for writer in self.aims:
            if writer.layer >= first_block and self.told[writer] != 1:
                does = "does not go" if not self.told[writer] else "goes more than once"
                raise AnatomyRefused(
                    CHECK,
                    f"{writer} {does} through the attention interface of transformers, so its weights cannot be seen; "
                    f"{MEND}",
                )

    def _told(self, module: nn.Module, crossed: Crossed) -> None:
        writer = Component("attn", self.block_of.get(id(module), -1))
        if (one := self.aims.get(writer)) is None:
            return
        self.told[writer] += 1
        if crossed.own.shape[-2:].numel() != one.vectors.shape[-1]:
            raise AnatomyRefused(
                CHECK, f"what the heads of {writer} return is not what their output projection takes; {MEND}"
            )
        if one.split.norm is None:
            self._book(one, crossed, None)
        else:
            self.waiting[writer] = crossed

    def _book(self, one: Aim, crossed: Crossed, scale: Float[Tensor, "variants items"] | None) -> None:
        writer = one.split.writer
        products = (crossed.clean, crossed.looked, crossed.valued, crossed.own)
        clean, looked, valued, own = (_read(one, product) for product in products)
        moved = crossed.moved.to(clean.device, copy=True)
        for row, heads in self._replaced(one.split):  # such a head writes neither what it looks at nor what it finds
            looked[row, :, heads] = valued[row, :, heads] = own[row, :, heads] = clean[0, :, heads]
            moved[row, :, heads] = 0
        now = torch.ones_like(own[..., :1]) if scale is None else scale[..., None]
        before = now[:1]
        redistributed = ((looked - clean) / before + (own - valued) / now) / 2
        revalued = ((valued + own) / now - (clean + looked) / before) / 2
        columns = self.columns[writer]
        if columns.stop - columns.start == 1:
            redistributed, revalued = (part.sum(-1, keepdim=True) for part in (redistributed, revalued))
            moved = moved.mean(-1, keepdim=True)
        for whole, part in zip(
            (self.found.redistributed, self.found.revalued, self.found.moved),
            (redistributed, revalued, moved),
            strict=True,
        ):
            whole[: len(part), columns] = part.transpose(1, 2)

    def _replaced(self, split: Split) -> list[tuple[int, slice]]:
        """The variants in which heads of a writer are replaced, and which."""
        width = split.site.width // split.units
        return [(row, slice(s.start // width, s.stop // width)) for row, s, _ in self.edits.get(split.site, ())]


def _read(one: Aim, returned: Float[Tensor, "variants items heads dv"]) -> Float[Tensor, "variants items heads"]:
    return one.by_unit(returned.flatten(2).to(one.vectors.device))
