"""Pruning: which parts can go, what that really costs, and the smaller model.

`PruneRequest` is what is asked. `prepare_prune` checks it, `estimate_prune` says what it will cost, `execute_prune`
makes or continues it: every ranking chooses parts on one half of the documents, and what it chose is judged on the
other. `Prune` has the tables and exports, `prune` is the verb in Python, `rankings/` holds one small class for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydrascope._lazy import lazily

if TYPE_CHECKING:
    from hydrascope.pruning._constants import constants_of
    from hydrascope.pruning._estimate import PruneEstimate, estimate_prune
    from hydrascope.pruning._execution import Pruning, default_prune_folder, execute_prune, prepare_prune
    from hydrascope.pruning._export import require_exportable
    from hydrascope.pruning._findings import Chosen, Findings
    from hydrascope.pruning._judge import Judge
    from hydrascope.pruning._judged import Judged, gap, share_drawn
    from hydrascope.pruning._prune import Prune
    from hydrascope.pruning._request import PruneRequest
    from hydrascope.pruning._store import Cost, Store
    from hydrascope.pruning._subject import Subject
    from hydrascope.pruning._texts import Texts, split
    from hydrascope.pruning._told import spread
    from hydrascope.pruning._verb import prune

__all__ = [
    "Chosen",
    "Cost",
    "Findings",
    "Judge",
    "Judged",
    "Prune",
    "PruneEstimate",
    "PruneRequest",
    "Pruning",
    "Store",
    "Subject",
    "Texts",
    "constants_of",
    "default_prune_folder",
    "estimate_prune",
    "execute_prune",
    "gap",
    "prepare_prune",
    "prune",
    "require_exportable",
    "share_drawn",
    "split",
    "spread",
]

__getattr__ = lazily(
    __name__,
    {
        "_constants": "constants_of",
        "_estimate": "PruneEstimate estimate_prune",
        "_execution": "Pruning default_prune_folder execute_prune prepare_prune",
        "_export": "require_exportable",
        "_findings": "Chosen Findings",
        "_judge": "Judge",
        "_judged": "Judged gap share_drawn",
        "_prune": "Prune",
        "_request": "PruneRequest",
        "_store": "Cost Store",
        "_subject": "Subject",
        "_texts": "Texts split",
        "_told": "spread",
        "_verb": "prune",
    },
)
