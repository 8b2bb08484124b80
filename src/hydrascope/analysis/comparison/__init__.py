"""Two runs side by side: what the second loses and repairs more or less than the first, and through whom.

_pairs      which prompts and knock-outs the runs share
_tables     differences with intervals, prompt by prompt; relative depth where nothing is shared
_told       the findings in sentences
"""

from hydrascope.analysis.comparison._pairs import Pairing, pair
from hydrascope.analysis.comparison._tables import DEPTHS, Comparison
from hydrascope.analysis.comparison._told import ComparisonSummary, summarise_comparison

__all__ = ["DEPTHS", "Comparison", "ComparisonSummary", "Pairing", "pair", "summarise_comparison"]
