"""Which parts go first: the field's rankings and our own, one small class each.

A ranking chooses, from text to calibrate on alone, the parts that go at every size. What it chose is judged elsewhere,
on text that it never saw.

_given         random, last, and a user's own scores
_magnitude     by the weights
_stream        by what a block does to the residual stream
_reading       by what a part writes on the next token
_gradient      first-order Taylor
_removal       by what its removal costs: alone, or again after every removal
_under_removal by what it costs while others are gone too, and by pairs
"""

from hydrascope.pruning.rankings._base import RANKINGS, Choice, Ranking, ranking_named
from hydrascope.pruning.rankings._given import OWN, Last, Random, Scored
from hydrascope.pruning.rankings._gradient import Taylor
from hydrascope.pruning.rankings._magnitude import Magnitude
from hydrascope.pruning.rankings._reading import DirectEffect, OwnChange
from hydrascope.pruning.rankings._removal import Divergence, Greedy, Loss
from hydrascope.pruning.rankings._stream import Angular, Influence
from hydrascope.pruning.rankings._under_removal import Elimination, Importance, Pairs

__all__ = [
    "OWN",
    "RANKINGS",
    "Angular",
    "Choice",
    "DirectEffect",
    "Divergence",
    "Elimination",
    "Greedy",
    "Importance",
    "Influence",
    "Last",
    "Loss",
    "Magnitude",
    "OwnChange",
    "Pairs",
    "Random",
    "Ranking",
    "Scored",
    "Taylor",
    "ranking_named",
]
