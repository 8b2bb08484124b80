"""Finished runs side by side: many models and tasks in one table.

Nothing is computed anew here: every number is one that the run's own tables hold, but for the account of its attention
layers at middle depth taken together, which no run singles out and every run has.

_entry     one run: its facts, its headline row, its parts, the paper's claims
_survey    the tables of all runs
_told      the findings in sentences
"""

from hydrascope.analysis.atlas._entry import Entry, entry
from hydrascope.analysis.atlas._survey import Survey
from hydrascope.analysis.atlas._told import SurveySummary, summarise_survey

__all__ = ["Entry", "Survey", "SurveySummary", "entry", "summarise_survey"]
