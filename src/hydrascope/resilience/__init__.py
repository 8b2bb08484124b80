"""What a model survives, how important each part is when others fail, and who takes over.

Pure functions from the ledgers of a stress test to tables; nothing here needs a model. `Plan` says which sets of parts
are knocked out, `Resilience` has every table of the ledgers that come of it, and `verdict` tells them in sentences.
"""

from hydrascope.resilience._communities import CLEAR, NETWORKS, communities
from hydrascope.resilience._comparison import ResilienceComparison
from hydrascope.resilience._curve import degradation, quadrature, survived
from hydrascope.resilience._findings import ALLOWED, Resilience
from hydrascope.resilience._importance import FOLDS, Importance
from hydrascope.resilience._load import loads, shares
from hydrascope.resilience._pairs import additivity, hidden_pairs, pair_table, single_faults
from hydrascope.resilience._plan import Plan
from hydrascope.resilience._ranking import agreement, crossings, ranking
from hydrascope.resilience._sets import Faults, addresses, members
from hydrascope.resilience._two_ways import two_ways
from hydrascope.resilience._values import SetValues
from hydrascope.resilience._verdict import Verdict, overtaken, secure_parts, verdict
from hydrascope.resilience._worst import extended, next_sets, search

__all__ = [
    "ALLOWED",
    "CLEAR",
    "FOLDS",
    "NETWORKS",
    "Faults",
    "Importance",
    "Plan",
    "Resilience",
    "ResilienceComparison",
    "SetValues",
    "Verdict",
    "additivity",
    "addresses",
    "agreement",
    "communities",
    "crossings",
    "degradation",
    "extended",
    "hidden_pairs",
    "loads",
    "members",
    "next_sets",
    "overtaken",
    "pair_table",
    "quadrature",
    "ranking",
    "search",
    "secure_parts",
    "shares",
    "single_faults",
    "survived",
    "two_ways",
    "verdict",
]
