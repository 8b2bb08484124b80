"""Pure functions from a ledger to tables: what was lost, who answered, how sure we can be.

Every function takes the ledger's `xarray.Dataset` and returns a `pandas.DataFrame` (or a small frozen dataclass).
Nothing here needs a model, and nothing is stored: the ledger is the record. `Findings` computes each table of one
ledger once, under the names in `TABLES`; `summarise` says in plain sentences what they show. In a notebook use
`hydrascope.Ledger`, which has all of them as methods.

    closing        does total = own + others + norm hold
    repair         per knock-out: what was lost, what came back, how linear it is
    who_repairs    which writer answers which knock-out, and how concentrated the answer is
    mcgrath        which claims of McGrath et al. hold in this model
    late_mlps      what late MLPs take away, and how much of it they let go
    self_repair    on ordinary text: what comes back on each part's top tokens and on all, by which mechanism
    freeze         whose answer the repair depends on
    Comparison     what a second run loses and repairs more or less than a first
    Survey         many runs of many models and tasks in one table
    doses          what smaller doses of the same knock-outs show; `rank_agreement`, other ablations
"""

from hydrascope.analysis._ablation_comparison import ablation_loss, rank_agreement
from hydrascope.analysis._change_decomposition import (
    attention_split,
    attention_split_on_tokens,
    attention_split_totals,
    has_attention_split,
    has_routing,
    routing,
    routing_totals,
)
from hydrascope.analysis._closing import Closing, closing, rounding
from hydrascope.analysis._dose import doses, linearity
from hydrascope.analysis._erasure import late_mlps, released
from hydrascope.analysis._findings import TABLES, Findings
from hydrascope.analysis._freeze import (
    FREEZE_CONTROLS,
    FREEZE_MOST,
    choose_freezes,
    freeze,
    freezes_of,
    interactions,
)
from hydrascope.analysis._heads import has_heads, head_answers, heads
from hydrascope.analysis._layers import by_layer
from hydrascope.analysis._ledger_access import (
    ablated_direct,
    bootstrap,
    has_writers,
    knows_direct,
    names,
    reads_each,
    require_writers,
)
from hydrascope.analysis._mcgrath import mcgrath
from hydrascope.analysis._mechanisms import WHOLE, mechanisms, mechanisms_by_depth, pooled_mechanisms
from hydrascope.analysis._neurons import ALL_MLPS, has_neurons, neuron_curves, neuron_sparsity, neurons
from hydrascope.analysis._repair import compensation_points, effect_points, layer_effects, prompt_view, repair
from hydrascope.analysis._responders import concentration, who_repairs
from hydrascope.analysis._self_repair import self_repair, self_repair_by_depth
from hydrascope.analysis._short import SHORT, shortened
from hydrascope.analysis._statistics import (
    CONCLUSIVE_FROM,
    FEWEST_RANKED,
    MORE_GROUPS,
    RESAMPLES,
    SIGNIFICANT,
    Array,
    Estimate,
    Ordered,
    Resampling,
    add_estimate,
    divide,
    false_discovery,
    holm,
    kendalls_tau,
    mean_estimate,
    mean_interval,
    prompt_weights,
    ratio_interval,
    resample,
    simultaneous_means,
    spread_interval,
    unskewed_ratio_interval,
    with_ends,
)
from hydrascope.analysis._tokens import SELECTIONS, TOP_SHARE, Tokens
from hydrascope.analysis.atlas import Entry, Survey, SurveySummary, entry, summarise_survey
from hydrascope.analysis.comparison import Comparison, ComparisonSummary, summarise_comparison
from hydrascope.analysis.summary import (
    TOP_TOKENS,
    Quantity,
    Summary,
    ablation_loss_sentence,
    count,
    digits,
    listed,
    noun,
    percent,
    quantity,
    rank_agreement_sentence,
    summarise,
)

__all__ = [
    "ALL_MLPS",
    "CONCLUSIVE_FROM",
    "FEWEST_RANKED",
    "FREEZE_CONTROLS",
    "FREEZE_MOST",
    "MORE_GROUPS",
    "RESAMPLES",
    "SELECTIONS",
    "SHORT",
    "SIGNIFICANT",
    "TABLES",
    "TOP_SHARE",
    "TOP_TOKENS",
    "WHOLE",
    "Array",
    "Closing",
    "Comparison",
    "ComparisonSummary",
    "Entry",
    "Estimate",
    "Findings",
    "Ordered",
    "Quantity",
    "Resampling",
    "Summary",
    "Survey",
    "SurveySummary",
    "Tokens",
    "ablated_direct",
    "ablation_loss",
    "ablation_loss_sentence",
    "add_estimate",
    "attention_split",
    "attention_split_on_tokens",
    "attention_split_totals",
    "bootstrap",
    "by_layer",
    "choose_freezes",
    "closing",
    "compensation_points",
    "concentration",
    "count",
    "digits",
    "divide",
    "doses",
    "effect_points",
    "entry",
    "false_discovery",
    "freeze",
    "freezes_of",
    "has_attention_split",
    "has_heads",
    "has_neurons",
    "has_routing",
    "has_writers",
    "head_answers",
    "heads",
    "holm",
    "interactions",
    "kendalls_tau",
    "knows_direct",
    "late_mlps",
    "layer_effects",
    "linearity",
    "listed",
    "mcgrath",
    "mean_estimate",
    "mean_interval",
    "mechanisms",
    "mechanisms_by_depth",
    "names",
    "neuron_curves",
    "neuron_sparsity",
    "neurons",
    "noun",
    "percent",
    "pooled_mechanisms",
    "prompt_view",
    "prompt_weights",
    "quantity",
    "rank_agreement",
    "rank_agreement_sentence",
    "ratio_interval",
    "reads_each",
    "released",
    "repair",
    "require_writers",
    "resample",
    "rounding",
    "routing",
    "routing_totals",
    "self_repair",
    "self_repair_by_depth",
    "shortened",
    "simultaneous_means",
    "spread_interval",
    "summarise",
    "summarise_comparison",
    "summarise_survey",
    "unskewed_ratio_interval",
    "who_repairs",
    "with_ends",
]
