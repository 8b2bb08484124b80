"""The format of a ledger: its variables with their dimensions and meaning, and its labels."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import xarray as xr

FORMAT = 3

CLOSED = "closing_error"
"""Attribute of a ledger that is whole and was found to close."""

CHUNK_BYTES = 4 * 2**20
"""About the bytes in a variable's file where work does not come in batches."""

FILE_BYTES = 64 * 2**10
"""Least size of a variable's file, where rows are small: each file takes a block of the disk, and time to open."""

FLAT = {"name": "default", "separator": "."}
"""Names of a variable's files, all in one folder: making and removing folders is what most of the time would go to."""

_ACCOUNT = ("prompt", "ablated", "writer")
_BY_PROMPT = ("prompt", "ablated")

VARIABLES: dict[str, tuple[tuple[str, ...], str]] = {
    "direct_effect": (("prompt", "writer"), "direct effect of a writer in the clean run, clean norm scale"),
    "change": (_ACCOUNT, "change of a writer's direct effect under the ablation, clean norm scale, mean over draws"),
    "change_sd": (_ACCOUNT, "sample standard deviation of the change over draws (n - 1), 0 with one"),
    "change_by_half": (("half", *_ACCOUNT), "the change averaged over even and over odd draws"),
    "null_change": (_ACCOUNT, "the change when a random displacement of the same norm replaces the real one"),
    "own_direct_effect": (_BY_PROMPT, "clean direct effect of what is ablated, where only sums by kind are kept"),
    "rerouted_change": (_ACCOUNT, "what of a routed MLP's change is due to its routing, mean over draws; others 0"),
    "routing_change": (_ACCOUNT, "share of a routed MLP's chosen experts that the clean run did not choose; others 0"),
    "pattern_effect": (_ACCOUNT, "what moved weights add to attention's change, mean over draws; others 0"),
    "moved_weight": (_ACCOUNT, "share of attention's weight that moved to other keys, mean over heads; others 0"),
    "own_change": (_BY_PROMPT, "change of the ablated component's own direct effect"),
    "norm_effect": (_BY_PROMPT, "what the final norm's change of scale adds"),
    "total_effect": (_BY_PROMPT, "ablated minus clean {logit}, measured from the model's logits before a soft-cap"),
    "total_effect_sd": (_BY_PROMPT, "sample standard deviation of the total effect over draws (n - 1), 0 with one"),
    "remainder": (_BY_PROMPT, "total effect minus the sum of its parts"),
    "scale_ratio": (_BY_PROMPT, "clean over ablated scale of the final norm"),
    "log_prob_change": (_BY_PROMPT, "change of the target's log-probability, nats"),
    "kl": (_BY_PROMPT, "KL divergence of the ablated from the clean next-token distribution, nats"),
    "rank_change": (_BY_PROMPT, "change of the target's rank"),
    "target_first": (_BY_PROMPT, "share of draws in which {first}"),
    "null_norm_effect": (_BY_PROMPT, "norm effect of the random displacement"),
    "null_total_effect": (_BY_PROMPT, "total effect of the random displacement"),
    "clean_logit": (("prompt",), "{logit} of the clean run"),
    "clean_prob": (("prompt",), "probability of the target in the clean run"),
    "clean_target_first": (("prompt",), "whether in the clean run {first}"),
    "clean_remainder": (("prompt",), "clean logit minus the sum of direct effects"),
    "worst_remainder": (("prompt",), "largest |remainder| / max(1, |total|) over all draws of a prompt"),
    "parity_error": (("prompt",), "largest difference of a clean logit from the untouched model's"),
}
"""Dimensions and meaning of every variable of a ledger. In logits of the target token, or of target minus foil
(`logit` in the text), unless said otherwise; `first` is what the model does when it is right.
"""

UNKNOWN = ("own_direct_effect",)
"""Variables that are NaN where something is not known: units of a writer that the account keeps whole."""

MEASURES = ("log_prob_change", "kl", "rank_change", "target_first", "clean_prob", "clean_target_first")
"""Variables that take the whole vocabulary of every row."""

_CONTROL = ("null_change", "null_norm_effect", "null_total_effect")
_ROUTING = ("rerouted_change", "routing_change")


def kept_variables(
    *,
    draws: int,
    null_draws: int,
    full: bool = True,
    routed: bool = False,
    split: bool = False,
    with_distribution: bool = True,
) -> tuple[str, ...]:
    """Names of the variables of a ledger.

    Args:
        draws: replacement values per prompt.
        null_draws: draws of the random-direction control.
        full: every writer's change is kept, not only sums by kind.
        routed: changes of routed MLPs are split.
        split: changes of attention are split.
        with_distribution: the next-token distribution is measured.
    """
    absent = {
        *(() if draws > 1 else ("change_by_half",)),
        *(() if null_draws else _CONTROL),
        *(("own_direct_effect",) if full else ()),
        *(() if routed else _ROUTING),
        *(() if split else ("pattern_effect",)),
        *(() if split and full else ("moved_weight",)),
        *(() if with_distribution else MEASURES),
    }
    return tuple(name for name in VARIABLES if name not in absent)


def numbers_kept(variables: Collection[str]) -> int:
    """Numbers that a ledger keeps of each prompt, knock-out and writer."""
    kept = [VARIABLES[name][0] for name in variables]
    return sum(2 if "half" in dims else 1 for dims in kept if "writer" in dims and "ablated" in dims)


def rows_of_a_chunk(knockouts: int, entries: int) -> int:
    """Rows that share a file of each variable: few enough to write again, enough to read quickly."""
    return max(1, CHUNK_BYTES // (4 * 2 * knockouts * entries))


def rows_of_a_file(sizes: Sequence[int]) -> int:
    """Rows of a variable that make a file worth opening.

    Args:
        sizes: lengths of the variable's dimensions but `prompt`.
    """
    return max(1, FILE_BYTES // (4 * math.prod(sizes)))


def label_dataset(
    prompts: Mapping[str, np.ndarray],
    ablated: Mapping[str, np.ndarray],
    writers: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
) -> xr.Dataset:
    """Coordinates and masks of a ledger; each mapping's first entry names its dimension."""
    dataset = xr.Dataset({name: (("ablated", "writer"), mask) for name, mask in masks.items()})
    for dim, columns in (("prompt", prompts), ("ablated", ablated), ("writer", writers)):
        dataset = dataset.assign_coords({name: (dim, _plain(column)) for name, column in columns.items()})
    return dataset


def _plain(column: np.ndarray) -> np.ndarray:
    """Text as variable-length strings: Zarr 3 has no stable form for fixed-width ones."""
    return column.astype(np.dtypes.StringDType()) if column.dtype.kind in "UO" else column
