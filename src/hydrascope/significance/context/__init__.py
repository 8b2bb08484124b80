"""How a part's importance depends on what the model is asked: on the task, the group of prompts, the prompt, the donor.

_variance      shares of the variance, from a random-effects model
_concordance   how far tasks order parts alike
_tasks         effects by task, and parts that matter only somewhere
_findings      all tables of one model's ledgers
_told          the findings in sentences
"""

from hydrascope.significance.context._concordance import Rated, concordance, kendalls_w
from hydrascope.significance.context._findings import Contexts
from hydrascope.significance.context._tasks import effects_by_task, only_somewhere
from hydrascope.significance.context._told import told_context
from hydrascope.significance.context._variance import LEVELS, Nested, OfTask, variance_table

__all__ = [
    "LEVELS",
    "Contexts",
    "Nested",
    "OfTask",
    "Rated",
    "concordance",
    "effects_by_task",
    "kendalls_w",
    "only_somewhere",
    "told_context",
    "variance_table",
]
