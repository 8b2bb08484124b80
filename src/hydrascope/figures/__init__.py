"""Pure functions from the tables of `hydrascope.analysis` to Altair charts.

Every chart is a single responsive view that stands alone in a notebook, a page or a paper. They are
built in the light theme; `themed` gives the specification in another.
"""

from hydrascope.figures.balance import balance, balance_steps
from hydrascope.figures.build import MARKS, is_curve
from hydrascope.figures.compensation import (
    compensation_against_loss,
    parts_by_layer,
    restored_by_layer,
    slope_by_layer,
)
from hydrascope.figures.effects import agreement_by_layer, effect_by_layer, unembed_against_drop
from hydrascope.figures.erasure import late_mlp_effects, released_by_layer
from hydrascope.figures.freeze import removed_by_holding, repair_held
from hydrascope.figures.matrix import rows_shown, who_repairs
from hydrascope.figures.neurons import carried_by_few, half_by_layer, neuron_scatter, nth_neuron
from hydrascope.figures.redistribution import (
    moved_weight_by_layer,
    redistributed_by_layer,
    redistribution_by_answer,
    redistribution_by_depth,
)
from hydrascope.figures.relatives import dose_curves, half_share, rank_agreement
from hydrascope.figures.routing import rerouted_by_layer, routing_change_by_layer
from hydrascope.figures.single import prompt_views
from hydrascope.figures.texts import effect_against_change, mechanisms_by_depth, norm_ratio, repair_by_depth
from hydrascope.figures.theme import DARK, LIGHT, Theme, themed
from hydrascope.figures.units import has_unit_grid, head_answers, head_grid, unit_grid

__all__ = [
    "DARK",
    "LIGHT",
    "MARKS",
    "Theme",
    "agreement_by_layer",
    "balance",
    "balance_steps",
    "carried_by_few",
    "compensation_against_loss",
    "dose_curves",
    "effect_against_change",
    "effect_by_layer",
    "half_by_layer",
    "half_share",
    "has_unit_grid",
    "head_answers",
    "head_grid",
    "is_curve",
    "late_mlp_effects",
    "mechanisms_by_depth",
    "moved_weight_by_layer",
    "neuron_scatter",
    "norm_ratio",
    "nth_neuron",
    "parts_by_layer",
    "prompt_views",
    "rank_agreement",
    "redistributed_by_layer",
    "redistribution_by_answer",
    "redistribution_by_depth",
    "released_by_layer",
    "removed_by_holding",
    "repair_by_depth",
    "repair_held",
    "rerouted_by_layer",
    "restored_by_layer",
    "routing_change_by_layer",
    "rows_shown",
    "slope_by_layer",
    "themed",
    "unembed_against_drop",
    "unit_grid",
    "who_repairs",
]
