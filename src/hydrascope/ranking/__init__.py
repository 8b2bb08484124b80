"""A ranking: exact knock-outs of every part, the same beside the primaries, freezing, and cheap scores.

`RankRequest` is what is asked. `prepare_rank` checks it, `estimate_rank` says what it will cost, `execute_rank` makes
or continues it: every part alone (`singles`), each beside the primaries (`joint`), and the primaries with each frozen
(`frozen`), each a run of its own below `companions/` of the ranking's folder. `Rank` has the tables, and `rank` is the
verb in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydrascope._lazy import lazily

if TYPE_CHECKING:
    from hydrascope.ranking._estimate import estimate_rank
    from hydrascope.ranking._execution import Ranking, default_rank_folder, execute_rank, prepare_rank
    from hydrascope.ranking._rank import Rank
    from hydrascope.ranking._request import RankRequest
    from hydrascope.ranking._verb import rank

__all__ = [
    "Rank",
    "RankRequest",
    "Ranking",
    "default_rank_folder",
    "estimate_rank",
    "execute_rank",
    "prepare_rank",
    "rank",
]

__getattr__ = lazily(
    __name__,
    {
        "_estimate": "estimate_rank",
        "_execution": "Ranking default_rank_folder execute_rank prepare_rank",
        "_rank": "Rank",
        "_request": "RankRequest",
        "_verb": "rank",
    },
)
