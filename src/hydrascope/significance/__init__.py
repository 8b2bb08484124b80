"""Who backs whom up, and how far scores of importance agree with what a knock-out really costs.

Pure functions from ledgers to tables; nothing here needs a model. `Significance` has every table of one ranking, and
`told` says in sentences what they show.
"""

from hydrascope.significance._circuit import circuit_text, is_circuit, read_circuit
from hydrascope.significance._conditional import Effects, backups, find_primaries
from hydrascope.significance._detection import average_precision, detection, precision_at, roc_auc
from hydrascope.significance._findings import STRESS_SCORES, Significance
from hydrascope.significance._flips import LARGEST, Flip, flip_table
from hydrascope.significance._freezing import chosen_sets, freezing
from hydrascope.significance._scores import EXACT, Score, ScoreElsewhere, agreement, calibration, misjudged, score_table
from hydrascope.significance._told import told
from hydrascope.significance.context import Contexts, told_context

__all__ = [
    "EXACT",
    "LARGEST",
    "STRESS_SCORES",
    "Contexts",
    "Effects",
    "Flip",
    "Score",
    "ScoreElsewhere",
    "Significance",
    "agreement",
    "average_precision",
    "backups",
    "calibration",
    "chosen_sets",
    "circuit_text",
    "detection",
    "find_primaries",
    "flip_table",
    "freezing",
    "is_circuit",
    "misjudged",
    "precision_at",
    "read_circuit",
    "roc_auc",
    "score_table",
    "told",
    "told_context",
]
