"""The engine: interventions on a model, read at every writer, and the account that closes.

`measure` does one batch: a clean run recorded once (`record`), interventions as extra rows of its forwards
(`run_interventions`), and an account of each. A `Plan` says what is done; `choose_engine` finds and proves how.
"""

from hydrascope.engine._account import Account, Arrays
from hydrascope.engine._activations import (
    ActivationStatistics,
    Origin,
    Values,
    ValueStore,
    position_means,
    record_runs,
    statistics_of_texts,
    values_of,
)
from hydrascope.engine._attention import watching
from hydrascope.engine._axes import Column, Detail, Masks, columns
from hydrascope.engine._clean import CleanRun, record
from hydrascope.engine._clean_cache import CleanBatches, CleanCache, batches_of_prompts, batches_of_texts
from hydrascope.engine._constants import ConstantStore
from hydrascope.engine._edges import blocks_to_receiver, sender_places
from hydrascope.engine._forward import ReachedHead, Readings, run_interventions
from hydrascope.engine._interventions import Edit, Intervention
from hydrascope.engine._measure import BatchContext, Constants, Items, measure
from hydrascope.engine._memory import (
    READ_A_STEP,
    Budget,
    Footprint,
    ForwardSize,
    blocks_of,
    forward_size,
    logit_bytes,
    prompts_at_once,
    prompts_in_account,
    require_account,
    room,
    same_length_batches,
    size_of,
    texts_at_once,
)
from hydrascope.engine._optimal import CANDIDATES, KLObjective, Learning, frozen_weights, learn, require_learnable
from hydrascope.engine._plan import Job, Plan, edited_places, frozen_places
from hydrascope.engine._positions import Layout, Positions, Read
from hydrascope.engine._removal import Trunk
from hydrascope.engine._strategies import ExpandedCache, FromBlock, SharedPrefix, Strategy, WholeSequence
from hydrascope.engine._units import UnitDecomposition, decompose_writers, readouts
from hydrascope.engine.proof import (
    AT_LAST_TOKEN,
    OF_WHOLE_TEXTS,
    Engine,
    choose_engine,
    prove_attention_split,
    prove_edges,
    prove_engine,
    prove_units,
)

__all__ = [
    "AT_LAST_TOKEN",
    "CANDIDATES",
    "OF_WHOLE_TEXTS",
    "READ_A_STEP",
    "Account",
    "ActivationStatistics",
    "Arrays",
    "BatchContext",
    "Budget",
    "CleanBatches",
    "CleanCache",
    "CleanRun",
    "Column",
    "ConstantStore",
    "Constants",
    "Detail",
    "Edit",
    "Engine",
    "ExpandedCache",
    "Footprint",
    "ForwardSize",
    "FromBlock",
    "Intervention",
    "Items",
    "Job",
    "KLObjective",
    "Layout",
    "Learning",
    "Masks",
    "Origin",
    "Plan",
    "Positions",
    "ReachedHead",
    "Read",
    "Readings",
    "SharedPrefix",
    "Strategy",
    "Trunk",
    "UnitDecomposition",
    "ValueStore",
    "Values",
    "WholeSequence",
    "batches_of_prompts",
    "batches_of_texts",
    "blocks_of",
    "blocks_to_receiver",
    "choose_engine",
    "columns",
    "decompose_writers",
    "edited_places",
    "forward_size",
    "frozen_places",
    "frozen_weights",
    "learn",
    "logit_bytes",
    "measure",
    "position_means",
    "prompts_at_once",
    "prompts_in_account",
    "prove_attention_split",
    "prove_edges",
    "prove_engine",
    "prove_units",
    "readouts",
    "record",
    "record_runs",
    "require_account",
    "require_learnable",
    "room",
    "run_interventions",
    "same_length_batches",
    "sender_places",
    "size_of",
    "statistics_of_texts",
    "texts_at_once",
    "values_of",
    "watching",
]
