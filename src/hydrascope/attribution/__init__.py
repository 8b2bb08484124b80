"""Cheap scores of importance: what a few backward passes say a knock-out would do.

`attribute` estimates the total effect of every knock-out of a task from gradients of the clean run, with the very
prompts, donors and values that the exact run puts in place. `Scores` says which estimates; `direct_attribution` takes
one more from the exact run's ledger. No estimate is a measurement: hold it to the exact run on a sample at least.
"""

from hydrascope.attribution._attribute import attribute, direct_attribution
from hydrascope.attribution._scores import SCORES, Scores

__all__ = ["SCORES", "Scores", "attribute", "direct_attribution"]
