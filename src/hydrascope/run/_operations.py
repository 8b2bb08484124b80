"""Floating-point operations of a model's forward, counted from its shapes; they need no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from hydrascope.anatomy import Model


@dataclass(frozen=True)
class Operations:
    """What a forward costs, by what it depends on: two operations for each weight or number that is met.

    Attributes:
        block: operations of a token in a block, mean over blocks; of routed experts only those that are chosen.
        pair: operations of a token and a key that it attends to in a block, mean over blocks.
        vocabulary: operations of a position that meets the vocabulary.
    """

    block: float
    pair: float
    vocabulary: float

    @classmethod
    def of(cls, model: Model) -> Operations:
        """Count those of an opened model."""
        anatomy = model.anatomy
        return cls.of_network(
            model.network,
            head=anatomy.tail.head,
            layers=anatomy.n_layers,
            chosen={site.module: site.top_k / site.n_experts for site in anatomy.experts},
            attending=sum(site.n_heads * site.head_dim for site in anatomy.heads),
            parameters=model.source.n_parameters,
        )

    @classmethod
    def of_network(
        cls,
        network: nn.Module,
        *,
        head: str,
        layers: int,
        chosen: Mapping[str, float],
        attending: int,
        parameters: int | None = None,
    ) -> Operations:
        """Count those of a network, which may be on the meta device.

        Args:
            network: a causal language model.
            head: path of the module that makes logits.
            layers: number of blocks.
            chosen: share of its experts that a token is routed to, by the path of the module that holds them.
            attending: width of all heads of all blocks together.
            parameters: number of parameters, where packed weights do not show it.
        """
        embedding, unembedding = (_weight(one) for one in (_embedding(network), network.get_submodule(head)))
        body: float = sum(weight.numel() for weight in network.parameters()) if parameters is None else parameters
        body -= embedding.numel() + (0 if unembedding is embedding else unembedding.numel())
        for path, share in chosen.items():
            body -= (1 - share) * sum(weight.numel() for weight in network.get_submodule(path).parameters())
        return cls(2.0 * body / layers, 4.0 * attending / layers, 2.0 * unembedding.numel())

    def total(self, tokens: float, pairs: float, read: float) -> float:
        """Operations of some work.

        Args:
            tokens: blocks that tokens pass, over all tokens.
            pairs: keys that tokens attend to, over all blocks they pass.
            read: positions that meet the vocabulary.
        """
        return self.block * tokens + self.pair * pairs + self.vocabulary * read


def _embedding(network: Any) -> nn.Module:
    found: nn.Module = network.get_input_embeddings()
    return found


def _weight(module: Any) -> nn.Parameter:
    found: nn.Parameter = module.weight
    return found
