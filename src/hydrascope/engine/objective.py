"""What an optimal constant minimises, and its gradient.

Every knock-out is a row of one push, as in a sweep, and each row has constants of its own; the gradient of the summed
losses is then each row's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy import Model, Place
from hydrascope.components import Knockout
from hydrascope.engine.capture import Clean
from hydrascope.engine.graded import divergence
from hydrascope.engine.passes import Passes
from hydrascope.engine.strategy import Strategy
from hydrascope.engine.variants import Edit, Variant
from hydrascope.errors import AblationError

Values = list[list[Tensor]]
"""One value at each place of each knock-out."""

Losses = Float[Tensor, " knockouts"]


@dataclass(frozen=True)
class Harm:
    """KL divergence from the clean next-token distribution in nats, mean over read positions of all prompts or texts.

    Attributes:
        model: the model.
        strategy: of a push with all knock-outs.
        knockouts: what goes through the model together.
        places: that each of them replaces, at every edited position by the same value.
        passes: the clean passes.
    """

    model: Model
    strategy: Strategy
    knockouts: Sequence[Knockout]
    places: Sequence[Sequence[Place]]
    passes: Passes

    def losses(self, values: Values) -> Losses:
        """Of every knock-out over everything."""
        total = torch.zeros(len(values))
        with torch.no_grad():
            for clean in self.passes.of(self.passes.all):
                total += self._sums(clean, values).cpu()
        return total / sum(self.passes.items)

    def losses_and_slopes(self, values: Values, step: int) -> tuple[Losses, Values]:
        """The same over what one step sees, and the gradient with respect to every value.

        Raises:
            AblationError: no gradient comes through the model.
        """
        leaves = [[value.detach().requires_grad_() for value in some] for some in values]
        flat = [leaf for some in leaves for leaf in some]
        slopes = [torch.zeros_like(leaf) for leaf in flat]
        total = torch.zeros(len(values))
        turn = self.passes.turn(step)
        items = sum(self.passes.items[batch] for batch in turn)
        for clean in self.passes.of(turn):
            with torch.enable_grad():
                loss = self._sums(clean, leaves) / items
            if not loss.requires_grad:
                raise AblationError(
                    "no gradient comes through this model, so no optimal value can be learned; choose mean"
                )
            for slope, found in zip(slopes, torch.autograd.grad(loss.sum(), flat), strict=True):
                slope += found
            total += loss.detach().cpu()
        rest = iter(slopes)
        return total, [[next(rest) for _ in some] for some in leaves]

    def _sums(self, clean: Clean, values: Values) -> Losses:
        """Over the read positions of one batch."""
        layout = self.strategy.layout(clean)
        shape = (layout.prompts, len(layout.edited), -1)
        variants = [
            Variant(
                str(knockout),
                knockout.first_layer,
                tuple(Edit(place, value.expand(*shape)) for place, value in zip(places, given, strict=True)),
            )
            for knockout, places, given in zip(self.knockouts, self.places, values, strict=True)
        ]
        return divergence(self.model, clean, variants, self.strategy).sum(1)
