"""Proofs on a given model that the engine agrees with plain forwards.

They cost some dozens of forwards of a few tokens per run.
"""

from hydrascope.engine.proof._attention_split import prove_attention_split
from hydrascope.engine.proof._edges import prove_edges
from hydrascope.engine.proof._engine import (
    AT_LAST_TOKEN,
    OF_WHOLE_TEXTS,
    Engine,
    choose_engine,
    prove_engine,
    prove_units,
)

__all__ = [
    "AT_LAST_TOKEN",
    "OF_WHOLE_TEXTS",
    "Engine",
    "choose_engine",
    "prove_attention_split",
    "prove_edges",
    "prove_engine",
    "prove_units",
]
