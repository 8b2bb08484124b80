"""The findings of a run in plain sentences, each chosen by the numbers that it states.

Costs as much as the tables that `summarise` reads.
"""

from hydrascope.analysis.summary._ablations import ablation_loss_sentence, rank_agreement_sentence
from hydrascope.analysis.summary._summary import Summary, summarise
from hydrascope.analysis.summary._words import TOP_TOKENS, Quantity, count, digits, listed, noun, percent, quantity

__all__ = [
    "TOP_TOKENS",
    "Quantity",
    "Summary",
    "ablation_loss_sentence",
    "count",
    "digits",
    "listed",
    "noun",
    "percent",
    "quantity",
    "rank_agreement_sentence",
    "summarise",
]
