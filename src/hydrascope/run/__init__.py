"""A run: what is asked, what is checked beforehand, and its ledger, batch by batch.

`RunRequest` is what is asked, `Options` the part of it that says how a run is made. `open_request` opens its model and
prompts, `prepare_runs` checks it and its companion runs, and `execute_runs` makes or continues them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydrascope._lazy import lazily

if TYPE_CHECKING:
    from hydrascope.run._alone import alone_with
    from hydrascope.run._companions import (
        Runs,
        execute_companions,
        execute_runs,
        folder_of_companions,
        freeze_at_most,
        freezing,
        prepare_runs,
    )
    from hydrascope.run._estimate import Estimate, estimate, matmul_rate
    from hydrascope.run._execution import dealt, execute, versions
    from hydrascope.run._given import (
        AblationsLike,
        ModelLike,
        PathLike,
        PromptsLike,
        given_ablations,
        given_for_sets,
        given_model,
        given_options,
        given_prompts,
    )
    from hydrascope.run._joining import told_unready, unready
    from hydrascope.run._opening import open_model, open_request
    from hydrascope.run._operations import Operations
    from hydrascope.run._options import PROTOCOLS, Checked, Options
    from hydrascope.run._record import record_of, recorded_request, store_prompts, stored_prompts
    from hydrascope.run._request import RunRequest, options_of
    from hydrascope.run._runner import Batch, Progress, Selection, Tell
    from hydrascope.run._shard import Shard
    from hydrascope.run._sharding import execute_shard
    from hydrascope.run._task import Task, default_folder, prepare

__all__ = [
    "PROTOCOLS",
    "AblationsLike",
    "Batch",
    "Checked",
    "Estimate",
    "ModelLike",
    "Operations",
    "Options",
    "PathLike",
    "Progress",
    "PromptsLike",
    "RunRequest",
    "Runs",
    "Selection",
    "Shard",
    "Task",
    "Tell",
    "alone_with",
    "dealt",
    "default_folder",
    "estimate",
    "execute",
    "execute_companions",
    "execute_runs",
    "execute_shard",
    "folder_of_companions",
    "freeze_at_most",
    "freezing",
    "given_ablations",
    "given_for_sets",
    "given_model",
    "given_options",
    "given_prompts",
    "matmul_rate",
    "open_model",
    "open_request",
    "options_of",
    "prepare",
    "prepare_runs",
    "record_of",
    "recorded_request",
    "store_prompts",
    "stored_prompts",
    "told_unready",
    "unready",
    "versions",
]

__getattr__ = lazily(
    __name__,
    {
        "_alone": "alone_with",
        "_given": "AblationsLike ModelLike PathLike PromptsLike given_ablations given_for_sets given_model "
        "given_options given_prompts",
        "_companions": "Runs execute_companions execute_runs folder_of_companions freeze_at_most freezing prepare_runs",
        "_execution": "dealt execute versions",
        "_opening": "open_model open_request",
        "_joining": "told_unready unready",
        "_operations": "Operations",
        "_options": "PROTOCOLS Checked Options",
        "_record": "record_of recorded_request store_prompts stored_prompts",
        "_request": "RunRequest options_of",
        "_shard": "Shard",
        "_sharding": "execute_shard",
        "_task": "Task default_folder prepare",
        "_estimate": "Estimate estimate matmul_rate",
        "_runner": "Batch Progress Selection Tell",
    },
)
