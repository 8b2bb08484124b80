"""A pruned model as a folder that the plain library opens.

`export` removes whole blocks by a shorter config and zeroes the columns of everything smaller, writes weights,
tokenizer, generation config and card, opens the folder again and holds it to the model without the parts: a folder that
computes something else is refused and does not stay.
"""

from hydrascope.exporting._export import Exported, export
from hydrascope.exporting._folder import require_free
from hydrascope.exporting._smaller import require_savable
from hydrascope.exporting._speed import Speed

__all__ = ["Exported", "Speed", "export", "require_free", "require_savable"]
