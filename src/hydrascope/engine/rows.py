"""The rows of one push: where each variant joins, and what is replaced in it.

Rows are ordered variant-major (row = variant * prompts + prompt); variant 0 is the clean run, where it comes along.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hydrascope.anatomy import Hooks, Model, Site
from hydrascope.engine.capture import Clean
from hydrascope.engine.strategy import Strategy
from hydrascope.engine.variants import Variant
from hydrascope.errors import HookDidNotFire


class Rows:
    """What the hooks of every kind of push share.

    Args:
        model: the model.
        clean: its clean pass on the batch.
        variants: what is replaced, in order of depth.
        strategy: how rows come by the prefix, and whether they may join late.
        with_clean: the clean run comes along as the first variant; rows that join late are copies of it.
    """

    def __init__(
        self,
        model: Model,
        clean: Clean,
        variants: Sequence[Variant],
        strategy: Strategy,
        *,
        with_clean: bool = True,
    ) -> None:
        self.model, self.clean, self.variants = model, clean, variants
        self.layout, self.first_block = strategy.layout(clean), strategy.first_block
        self.staircase, self.with_clean = strategy.staircase, with_clean
        firsts = [variant.first_layer if self.staircase else 0 for variant in variants]
        self.begun = [1 + sum(first <= layer for first in firsts) for layer in range(model.anatomy.n_layers)]
        self.edits: dict[Site, list[tuple[int, slice, Tensor]]] = {}
        for row, variant in enumerate(variants, start=int(with_clean)):
            for edit in variant.edits:
                value = edit.value if edit.value.ndim == 3 else edit.value[:, None]
                self.edits.setdefault(edit.place.site, []).append((row, edit.place.span, value))
        self.made: set[Site] = set()

    def check_fired(self, hooks: Hooks) -> None:
        """Refuse a push in which a hook or an edit did not happen exactly once.

        Raises:
            HookDidNotFire: naming it.
        """
        hooks.require_fired()
        if lost := set(self.edits) - self.made:
            raise HookDidNotFire(f"nothing was replaced at {min(lost)}, so the result would be silently wrong")

    def _grow(self, hidden: Tensor, layer: int) -> Tensor | None:
        """The block's input with copies of the clean row for the variants that begin there."""
        if not self.staircase:
            return None
        new = self.begun[layer] - (self.begun[layer - 1] if layer else 1)
        if not new:
            return None
        return torch.cat([hidden, hidden[: self.layout.prompts].repeat(new, *(1,) * (hidden.ndim - 1))])

    def _put(self, tensor: Tensor, site: Site) -> Tensor:
        """Replace in place what the variants replace at this site."""
        for variant, span, value in self.edits.get(site, ()):
            self.layout.put(tensor, variant, span, value)
            self.made.add(site)
        return tensor
