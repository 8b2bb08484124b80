"""How well a score finds the parts that are labelled: ROC-AUC, average precision, precision among the first k."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy import stats

from hydrascope.analysis import Resampling, add_estimate, spread_interval
from hydrascope.significance._scores import Score

Drawn = Float[np.ndarray, "draws parts"]
Labels = Bool[np.ndarray, " parts"]
Found = Float[np.ndarray, " draws"]


def roc_auc(scores: Drawn, labels: Labels) -> Found:
    """Probability that a labelled part scores above another one; ties count half."""
    positives, negatives = int(labels.sum()), int((~labels).sum())
    above = stats.rankdata(scores, axis=1)[:, labels].sum(1) - positives * (positives + 1) / 2
    found: Found = above / (positives * negatives)
    return found


def average_precision(scores: Drawn, labels: Labels) -> Found:
    """Mean over labelled parts of the share of labelled ones among those that score no lower."""
    at_least = scores[:, None, :] >= scores[:, labels, None]
    found: Found = ((at_least & labels).sum(2) / at_least.sum(2)).mean(1)
    return found


def precision_at(scores: Drawn, labels: Labels) -> Found:
    """Share of labelled parts among the first k, with k their number; ties go to the earlier part."""
    first = np.argsort(-scores, axis=1, kind="stable")[:, : int(labels.sum())]
    found: Found = labels[first].mean(1)
    return found


MEASURES: Mapping[str, Callable[[Drawn, Labels], Found]] = {
    "auc": roc_auc,
    "average_precision": average_precision,
    "precision": precision_at,
}


def detection(
    scores: Sequence[Score], parts: Sequence[str], labels: Mapping[str, bool], resampling: Resampling
) -> pd.DataFrame:
    """How well each score finds the labelled parts.

    Args:
        scores: of the parts.
        parts: addresses of the parts.
        labels: address to whether it is one to be found; parts without a label are left out.
        resampling: groups of prompts; labels stay as they are in all resamples.

    Returns:
        One row per score that is known of every labelled part: `score`, `positives`, `parts`; `auc`,
        `average_precision` and `precision` (among the first k, with k the number of positives), each with `_lo` and
        `_hi`. No rows without both kinds of labels.
    """
    known = [i for i, part in enumerate(parts) if part in labels]
    truth, rows = np.array([labels[parts[i]] for i in known], bool), []
    for score in scores if 0 < truth.sum() < len(truth) else ():
        value = score.order(resampling)[known]
        if not np.isfinite(value).all():
            continue
        row: dict[str, Any] = {"score": score.name, "positives": int(truth.sum()), "parts": len(truth)}
        drawn = np.abs(score.drawn(resampling)[:, known])
        for name, measure in MEASURES.items():
            found = measure(drawn, truth) if np.isfinite(drawn).all() else np.full(len(drawn), np.nan)
            estimate = float(measure(value[None], truth)[0])
            add_estimate(row, name, spread_interval(estimate, found, resampling.units, (0, 1)))
        rows.append(row)
    rows.sort(key=lambda row: -float(row["auc"]))
    columns = ["score", "positives", "parts", *(f"{name}{end}" for name in MEASURES for end in ("", "_lo", "_hi"))]
    return pd.DataFrame(rows, columns=columns)
