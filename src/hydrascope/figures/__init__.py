"""Pure functions from the tables of `hydrascope.analysis` to Altair charts.

Every chart is a single responsive view that stands alone in a notebook, a page or a paper. Charts are built in the
light theme; `themed` gives the specification in another, `save_chart` a file for a paper.
"""

from hydrascope.figures._atlas import claims_by_run, over_depth, shares_by_run, shares_over
from hydrascope.figures._balance import BALANCED, balance, balance_steps
from hydrascope.figures._chart import MARKS, View, evenly, every_nth
from hydrascope.figures._companions import (
    dose_curves,
    half_share,
    rank_agreement,
    removed_by_freezing,
    repair_frozen,
)
from hydrascope.figures._comparison import difference_by_layer, first_against_second, runs_by_depth
from hydrascope.figures._compensation import (
    compensation_by_prompt,
    parts_by_layer,
    restored_by_layer,
    slope_by_layer,
    slopes_shown,
)
from hydrascope.figures._context import (
    LEVEL_LABELS,
    effects_by_task,
    share_intervals,
    task_agreement,
    variance_shares,
)
from hydrascope.figures._effects import agreement_by_layer, direct_against_total, effect_by_layer, prompt_views
from hydrascope.figures._erasure import late_mlp_effects, released_by_layer
from hydrascope.figures._matrix import compensation_matrix, rows_shown
from hydrascope.figures._neurons import NTH, carried_by_few, half_by_layer, neuron_scatter, nth_neuron
from hydrascope.figures._over_layers import is_curve
from hydrascope.figures._paper import FORMS, Picture, chart_data, for_notebook, save_chart
from hydrascope.figures._pruning import pruning_curve, removal_order
from hydrascope.figures._resilience import (
    CURVES,
    accuracy_curve,
    degradation_curve,
    importance_curves,
    load_transfer,
    pair_matrix,
)
from hydrascope.figures._significance import (
    cheap_against_exact,
    conditional_scores,
    frozen_repair,
    score_agreement,
)
from hydrascope.figures._theme import (
    DARK,
    KIND_LABELS,
    LIGHT,
    PART_LABELS,
    Theme,
    recolouring,
    themed,
    vega_config,
)
from hydrascope.figures._tokens import (
    GIVERS,
    REST,
    SELECTED,
    TOP,
    effect_against_change,
    mechanisms_by_depth,
    norm_ratio,
    repair_by_depth,
)
from hydrascope.figures._two_ways import (
    ATTENTION,
    ROUTING,
    attention_by_depth,
    attention_by_writer,
    moved_by_layer,
    two_ways_by_layer,
)
from hydrascope.figures._units import has_unit_grid, head_answers, head_grid, unit_grid

__all__ = [
    "ATTENTION",
    "BALANCED",
    "CURVES",
    "DARK",
    "FORMS",
    "GIVERS",
    "KIND_LABELS",
    "LEVEL_LABELS",
    "LIGHT",
    "MARKS",
    "NTH",
    "PART_LABELS",
    "REST",
    "ROUTING",
    "SELECTED",
    "TOP",
    "Picture",
    "Theme",
    "View",
    "accuracy_curve",
    "agreement_by_layer",
    "attention_by_depth",
    "attention_by_writer",
    "balance",
    "balance_steps",
    "carried_by_few",
    "chart_data",
    "cheap_against_exact",
    "claims_by_run",
    "compensation_by_prompt",
    "compensation_matrix",
    "conditional_scores",
    "degradation_curve",
    "difference_by_layer",
    "direct_against_total",
    "dose_curves",
    "effect_against_change",
    "effect_by_layer",
    "effects_by_task",
    "evenly",
    "every_nth",
    "first_against_second",
    "for_notebook",
    "frozen_repair",
    "half_by_layer",
    "half_share",
    "has_unit_grid",
    "head_answers",
    "head_grid",
    "importance_curves",
    "is_curve",
    "late_mlp_effects",
    "load_transfer",
    "mechanisms_by_depth",
    "moved_by_layer",
    "neuron_scatter",
    "norm_ratio",
    "nth_neuron",
    "over_depth",
    "pair_matrix",
    "parts_by_layer",
    "prompt_views",
    "pruning_curve",
    "rank_agreement",
    "recolouring",
    "released_by_layer",
    "removal_order",
    "removed_by_freezing",
    "repair_by_depth",
    "repair_frozen",
    "restored_by_layer",
    "rows_shown",
    "runs_by_depth",
    "save_chart",
    "score_agreement",
    "share_intervals",
    "shares_by_run",
    "shares_over",
    "slope_by_layer",
    "slopes_shown",
    "task_agreement",
    "themed",
    "two_ways_by_layer",
    "unit_grid",
    "variance_shares",
    "vega_config",
]
