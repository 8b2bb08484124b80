"""Estimates that count every group of prompts once, and how sure they are.

_units         which observations are independent, how much each prompt weighs
_intervals     one estimate: t intervals of means, the jackknife for ratios and whatever else is made of sums
_regression    lines through clouds of prompts
_families      many questions at once: families, searches
_overlap       sets drawn at random
_ranks         how alike two orders are
_reading       estimates in tables and sentences
"""

from hydrascope.analysis._statistics._families import (
    Simultaneous,
    false_discovery,
    holm,
    search,
    simultaneous_means,
)
from hydrascope.analysis._statistics._intervals import (
    ERROR_FLOOR,
    LEVEL,
    SIGNIFICANT,
    Estimate,
    Estimated,
    jackknife,
    mean_estimate,
    mean_interval,
    median_ratio,
    ratio_interval,
    spread_interval,
    studentised,
    unskewed_ratio_interval,
)
from hydrascope.analysis._statistics._overlap import jaccard_by_chance
from hydrascope.analysis._statistics._ranks import Ordered, kendalls_tau
from hydrascope.analysis._statistics._reading import Reading, add_estimate, add_mean, add_single, with_ends
from hydrascope.analysis._statistics._regression import (
    FEWEST_RANKED,
    Line,
    fit_line,
    slope_difference,
    spearman,
    split_half_slope,
)
from hydrascope.analysis._statistics._units import (
    CONCLUSIVE_FROM,
    MORE_GROUPS,
    RESAMPLES,
    Array,
    Resampling,
    divide,
    prompt_weights,
    resample,
)

__all__ = [
    "CONCLUSIVE_FROM",
    "ERROR_FLOOR",
    "FEWEST_RANKED",
    "LEVEL",
    "MORE_GROUPS",
    "RESAMPLES",
    "SIGNIFICANT",
    "Array",
    "Estimate",
    "Estimated",
    "Line",
    "Ordered",
    "Reading",
    "Resampling",
    "Simultaneous",
    "add_estimate",
    "add_mean",
    "add_single",
    "divide",
    "false_discovery",
    "fit_line",
    "holm",
    "jaccard_by_chance",
    "jackknife",
    "kendalls_tau",
    "mean_estimate",
    "mean_interval",
    "median_ratio",
    "prompt_weights",
    "ratio_interval",
    "resample",
    "search",
    "simultaneous_means",
    "slope_difference",
    "spearman",
    "split_half_slope",
    "spread_interval",
    "studentised",
    "unskewed_ratio_interval",
    "with_ends",
]
