"""What a knock-out took, what came back, and how linear the answer is.

All effects are "ablated minus clean", in logits of the target. A helpful component has a negative own change, and
repair is then positive. Two shares of the own change are told apart:

    restored            -CE / own            McGrath et al. 2023 (arXiv 2307.15771), norm left out
    restored_with_norm  -(CE + NORM) / own   Rushing & Nanda 2024 (arXiv 2402.15390), self-repair

0 is no repair, 1 full repair, above 1 over-correction, below 0 breakage.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._freeze import interactions
from hydrascope.analysis._outcomes import FLOOR as LEAST_LOSS
from hydrascope.analysis._outcomes import LEAST_SHARE, Account, OverPrompts, outcomes
from hydrascope.analysis._statistics import (
    RESAMPLES,
    Array,
    Line,
    Resampling,
    add_estimate,
    add_mean,
    fit_line,
    holm,
    mean_interval,
    median_ratio,
    ratio_interval,
    simultaneous_means,
    slope_difference,
    split_half_slope,
)

ABLATED_FROM = 0.25
"""Least |own change| of a removed part, as a share of its |direct effect|."""
SAME_SIGN_FROM = 0.25
"""Least |mean own change| as a share of the mean |own change|: below it the sum is a cancellation."""
FLOOR = 0.01
"""Least |mean own change| as a share of the mean |clean logit|."""
MEDIAN_FROM = 0.5
"""Least |own change| in a median ratio, as a share of the mean |own change|."""

Columns = dict[str, Any]


def layer_effects(ds: xr.Dataset, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Direct effect against total effect of every writer that was knocked out alone.

    In a model that repairs itself the direct effect exceeds the drop, -total_effect (figure 2 of McGrath et al.).

    Args:
        ds: the ledger.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        One row per writer knocked out: `ablated`, `ablated_layer`, `ablated_kind`, `n_prompts`; `direct_effect`,
        `total_effect`, `drop` (= -total_effect), each with `_lo` and `_hi` (logits); `correlation` of direct effect and
        drop over prompts, `r2` (its square), `r2_lo`, `r2_hi`; `share_exceeds`, the share of prompts whose direct
        effect is larger than their drop, with `_lo` and `_hi`.
    """
    ds = _whole_writers(ds)
    resampling = access.bootstrap(ds, resamples, seed)
    direct, total = access.ablated_direct(ds), access.numbers(ds, "total_effect")
    line = fit_line(direct, -total, resampling)
    table = access.knockout_columns(ds)
    table["n_prompts"] = ds.sizes["prompt"]
    for name, values in (("direct_effect", direct), ("total_effect", total), ("drop", -total)):
        add_mean(table, name, values, resampling)
    table["correlation"] = np.sign(line.slope.value) * np.sqrt(line.r2[0])
    add_estimate(table, "r2", line.r2)
    add_estimate(table, "share_exceeds", mean_interval((direct > -total).astype(float), resampling))
    return pd.DataFrame(table)


def effect_points(ds: xr.Dataset) -> pd.DataFrame:
    """The cloud behind `layer_effects`: one row per prompt and writer knocked out.

    Returns:
        `prompt`, `ablated`, `ablated_layer`, `ablated_kind`, `direct_effect`, `drop` (logits).
    """
    ds = _whole_writers(ds)
    prompts = ds["prompt"].values
    table: Columns = {"prompt": np.tile(prompts, ds.sizes["ablated"])}
    table |= {name: np.repeat(column, len(prompts)) for name, column in access.knockout_columns(ds).items()}
    table["direct_effect"] = access.ablated_direct(ds).T.ravel()
    table["drop"] = -access.numbers(ds, "total_effect").T.ravel()
    return pd.DataFrame(table)


def repair(ds: xr.Dataset, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """The account of every knock-out, and the line of compensation on own change.

    The line is over prompts (figure 7 of McGrath et al., equation 33). Its null is the line under a random-direction
    control of the same norm: what a saturating read-out gives back to anything.

    Args:
        ds: the ledger.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        One row per knock-out. Columns:

        * `ablated`, `ablated_layer`, `ablated_kind`, `n_prompts`;
        * `direct_effect` (NaN for units inside a writer), `own_change`, `compensation_attn`, `compensation_mlp`
          (`compensation_mixer` if the model has one), `compensation`, `norm_effect`, `self_repair` (both together),
          `total_effect`: means over prompts in logits, each with `_lo` and `_hi`, and `_plain`, the mean in which
          prompts rather than groups weigh alike, if groups differ in size; `kl`, the divergence from the clean
          next-token distribution in nats, if it was measured;
        * `own_change_p`, whether anything is lost, adjusted over all rows (max-|t|); of the rows where it is below 5 %,
          `compensation_p` and `self_repair_p`, each adjusted over these rows, NaN elsewhere;
        * `restored`, `restored_with_norm`, `restored_attn`, `restored_mlp` (...), `restored_norm`: ratios of sums, each
          with `_lo` and `_hi`; `restored_median` and `restored_with_norm_median` over prompts with a substantial own
          change;
        * `not_ablated`: |mean own change| below a quarter of |mean direct effect|, so that the donors never removed the
          component; `meaningful`: the ratios may be read, because the component was removed, its own change has an
          interval without zero, one sign in most prompts and at least 1 % of the clean logit;
        * `slope` (negative is repair, -1 full repair), `slope_lo`, `slope_hi`, `intercept`, `r2`, `r2_lo`, `r2_hi`,
          `slope_p` (t over groups, Holm-adjusted over the rows); `slope_attn`, `r2_attn`, `slope_mlp`, `r2_mlp`, ...,
          each with `_lo`, `_hi`;
        * `slope_iv`, `slope_iv_lo`, `slope_iv_hi`: from split halves of the donors; NaN with one;
        * `slope_null`, `r2_null`, `slope_minus_null`, each with `_lo`, `_hi`: NaN without null;
        * `compensation_minus_null` and `compensation_attn_minus_null`, beyond the random direction, each with `_lo`,
          `_hi`; NaN without null;
        * `lost`, `outcome`, `hydra`, `attn_below`, `hidden_by`: what became of each loss, see `_outcomes`;
        * `too_few_groups`: fewer than 6 independent groups of prompts, so that there are no intervals.
    """
    resampling = access.bootstrap(ds, resamples, seed)
    own = access.numbers(ds, "own_change")
    answers = {kind: access.response(ds, kind) for kind in access.kinds(ds)}
    compensation = access.response(ds)
    norm = access.numbers(ds, "norm_effect")
    direct = access.ablated_direct(ds)

    table = access.knockout_columns(ds)
    table["n_prompts"] = ds.sizes["prompt"]
    means = {"direct_effect": direct, "own_change": own}
    means |= {f"compensation_{kind}": answer for kind, answer in answers.items()}
    means |= {"compensation": compensation, "norm_effect": norm, "self_repair": compensation + norm}
    means |= {name: access.numbers(ds, name) for name in ("total_effect", "kl") if name in ds}
    for name, values in means.items():
        add_mean(table, name, values, resampling)
    _add_families(table, {"compensation": compensation, "self_repair": compensation + norm}, own, resampling)

    returned = {"restored": compensation, "restored_with_norm": compensation + norm}
    returned |= {f"restored_{kind}": answer for kind, answer in answers.items()} | {"restored_norm": norm}
    for name, values in returned.items():
        add_estimate(table, name, ratio_interval(values, -own, resampling))
    threshold = MEDIAN_FROM * resampling.mean(np.abs(own))
    for name in ("restored", "restored_with_norm"):
        table[f"{name}_median"] = median_ratio(returned[name], -own, threshold)
    _add_flags(table, own, access.numbers(ds, "clean_logit"), resampling)

    line = fit_line(own, compensation, resampling)
    _add_line(table, "", line)
    table["intercept"] = line.intercept
    table["slope_p"] = holm(np.where(line.slope.error > 0, line.slope.p, np.nan))  # who is not answered has no line
    for kind, answer in answers.items():
        _add_line(table, f"_{kind}", fit_line(own, answer, resampling))
    _add_split_halves(table, ds, resampling)
    _add_null(table, ds, (own, compensation), resampling)
    _add_outcomes(table, ds, answers, resampling)
    table["too_few_groups"] = not resampling.conclusive
    return pd.DataFrame(table)


def compensation_points(ds: xr.Dataset, ablated: str) -> pd.DataFrame:
    """The cloud behind one row of `repair`.

    Args:
        ds: the ledger.
        ablated: address of the knock-out.

    Returns:
        One row per prompt: `prompt`, `text`, `target`, `group`, `direct_effect`, `own_change`, `compensation_attn`,
        `compensation_mlp`, ..., `compensation`, `norm_effect`, `total_effect` (logits).

    Raises:
        ComponentError: the ledger has no such knock-out.
    """
    k = access.knockout_index(ds, ablated)
    one = ds.isel(ablated=[k])
    columns: Columns = {"prompt": ds["prompt"].values}
    columns |= {name: access.names(ds, name) for name in ("text", "target", "group") if name in ds.coords}
    columns |= {"direct_effect": access.ablated_direct(one)[:, 0]}
    columns |= {"own_change": access.numbers(one, "own_change")[:, 0]}
    columns |= {f"compensation_{kind}": access.response(one, kind)[:, 0] for kind in access.kinds(ds)}
    columns |= {"compensation": access.response(one)[:, 0]}
    columns |= {name: access.numbers(one, name)[:, 0] for name in ("norm_effect", "total_effect")}
    return pd.DataFrame(columns)


def prompt_view(ds: xr.Dataset, prompt: int, ablated: str) -> pd.DataFrame:
    """Direct effect of every writer on one prompt, clean and under one knock-out.

    Args:
        ds: the ledger.
        prompt: original index of the prompt, as in the `prompt` coordinate.
        ablated: address of the knock-out.

    Returns:
        One row per writer, in the order of writing: `writer`, `writer_kind`, `writer_layer`, `is_own`, `clean`,
        `ablated` (= clean + change), `change`, `sd` over donors (logits, on the clean norm scale).

    Raises:
        ComponentError: the ledger has no such knock-out.
        PromptError: the ledger has no such prompt.
    """
    access.require_writers(ds, "the view of one prompt")
    one = ds.isel(prompt=access.prompt_index(ds, prompt), ablated=access.knockout_index(ds, ablated))
    clean, change = access.numbers(one, "direct_effect"), access.numbers(one, "change")
    return pd.DataFrame(
        {
            "writer": access.names(ds, "writer"),
            "writer_kind": access.writer_kinds(ds),
            "writer_layer": ds["writer_layer"].values.astype(int),
            "is_own": one["is_own"].values.astype(bool),
            "clean": clean,
            "ablated": clean + change,
            "change": change,
            "sd": access.numbers(one, "change_sd"),
        }
    )


def _whole_writers(ds: xr.Dataset) -> xr.Dataset:
    access.require_writers(ds, "the direct effect of what was knocked out")
    known = set(access.names(ds, "writer")) | access.divided(ds)
    return ds.isel(ablated=[i for i, name in enumerate(access.names(ds, "ablated")) if name in known])


def _add_line(table: Columns, suffix: str, line: Line) -> None:
    add_estimate(table, f"slope{suffix}", line.slope.interval)
    add_estimate(table, f"r2{suffix}", line.r2)


def _add_families(table: Columns, answers: dict[str, Array], own: Array, resampling: Resampling) -> None:
    """Is anything lost, asked of all knock-outs at once; then, of those that lose something, is any of it undone."""
    losses = simultaneous_means(own, resampling)
    table["own_change_p"] = losses.p
    lost = np.flatnonzero(losses.significant)
    for name, values in answers.items():
        p = np.full(own.shape[1], np.nan)
        p[lost] = simultaneous_means(values[:, lost], resampling).p
        table[f"{name}_p"] = p


def _add_flags(table: Columns, own: Array, clean_logit: Array, resampling: Resampling) -> None:
    size = np.abs(table["own_change"])
    # NaN direct effects (heads) compare as False: nothing says that they were not ablated
    table["not_ablated"] = size < ABLATED_FROM * np.abs(table["direct_effect"])
    certain = (table["own_change_lo"] > 0) | (table["own_change_hi"] < 0)
    one_sign = size >= SAME_SIGN_FROM * resampling.mean(np.abs(own))
    large = size >= FLOOR * resampling.mean(np.abs(clean_logit))
    table["meaningful"] = certain & one_sign & large & ~table["not_ablated"]


def _add_split_halves(table: Columns, ds: xr.Dataset, resampling: Resampling) -> None:
    if "change_by_half" in ds:
        add_estimate(table, "slope_iv", split_half_slope(*access.half_response(ds), resampling).interval)
    else:
        _add_nothing(table, "slope_iv")


def _add_null(table: Columns, ds: xr.Dataset, real: tuple[Array, Array], resampling: Resampling) -> None:
    if "null_change" in ds:
        null = (
            access.response(ds, variable="null_change", own=True),
            access.response(ds, variable="null_change"),
        )
        _add_line(table, "_null", fit_line(*null, resampling))
        add_estimate(table, "slope_minus_null", slope_difference(real, null, resampling).interval)
    else:
        _add_nothing(table, "slope_null")
        _add_nothing(table, "r2_null")
        _add_nothing(table, "slope_minus_null")


def _add_outcomes(table: Columns, ds: xr.Dataset, answers: dict[str, Array], resampling: Resampling) -> None:
    control = None
    for name in ("compensation_minus_null", "compensation_attn_minus_null"):
        _add_nothing(table, name)
    if "null_change" in ds:
        control = {kind: access.response(ds, kind, variable="null_change") for kind in answers}
        beyond = {kind: answer - control[kind] for kind, answer in answers.items()}
        whole = access.response(ds) - access.response(ds, variable="null_change")
        add_estimate(table, "compensation_minus_null", mean_interval(whole, resampling))
        if "attn" in beyond:
            add_estimate(table, "compensation_attn_minus_null", mean_interval(beyond["attn"], resampling))
    clean = float(resampling.mean(np.abs(access.numbers(ds, "clean_logit"))))
    account = Account(
        own=access.numbers(ds, "own_change"),
        answers=answers,
        norm=access.numbers(ds, "norm_effect"),
        control=control,
        removed=table["meaningful"],
        growing=(table["slope_lo"] > 0) & ~(table["slope_minus_null_lo"] <= 0),
        kinds=table["ablated_kind"],
        clean=clean,
        kept=table["not_ablated"] & (np.abs(table["direct_effect"]) >= LEAST_LOSS * clean),
        shared=np.isin(table["ablated"], _shared(ds, resampling)),
        means=OverPrompts(resampling),
    )
    table |= outcomes(account, resampling)


def _shared(ds: xr.Dataset, resampling: Resampling) -> list[str]:
    """Parts that cost more jointly with another than both do alone, although neither answers the other."""
    joint = interactions(ds, resamples=resampling.resamples)
    quiet = joint["answer"].abs() < LEAST_SHARE * joint["interaction"].abs()
    pairs = joint[(joint["interaction_hi"] < 0) & quiet]
    return [*pairs["ablated"], *pairs["responder"]]


def _add_nothing(table: Columns, name: str) -> None:
    blank = np.full(len(table["ablated"]), np.nan)
    add_estimate(table, name, (blank, blank, blank))
