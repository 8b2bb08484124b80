"""One run of an atlas: what it was, its headline row, its parts, and which claims of the paper hold in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._findings import Findings
from hydrascope.analysis._mcgrath import FROM, MIDDLE
from hydrascope.analysis._mechanisms import WHOLE
from hydrascope.analysis._pooled import POOLED, effects, pooled
from hydrascope.analysis._repair import SAME_SIGN_FROM
from hydrascope.analysis._self_repair import relative
from hydrascope.analysis._statistics import with_ends
from hydrascope.analysis.summary import Summary, summarise

_STEP = re.compile(r"(?:step|checkpoint)[-_]?(\d+)")
"""How a step of training is written in the name of a revision or of a checkpoint's folder."""

EFFECTS = (
    *("direct_effect", "own_change", "compensation_attn", "compensation_mlp", "compensation_mixer", "compensation"),
    *("norm_effect", "self_repair", "total_effect", "restored", "restored_with_norm", "slope", "r2"),
)
"""Columns of `repair` that an atlas has, each with its interval."""
SHARES = ("restored", "restored_with_norm")
"""Those that mean nothing where little was lost."""
_LABELS = ("own_change_p", "lost", "outcome", "hydra", "hidden_by")


@dataclass(frozen=True)
class Entry:
    """One run of an atlas.

    Attributes:
        facts: what was run, by the column of every table.
        headline: what it shows as a whole, by column.
        parts: a row per knock-out.
        claims: a row per claim of the paper; none of whole texts.
    """

    facts: Mapping[str, Any]
    headline: Mapping[str, Any]
    parts: pd.DataFrame
    claims: pd.DataFrame


def entry(findings: Findings, run: str, report: str = "") -> Entry:
    """The rows of one run.

    Args:
        findings: tables of its ledger.
        run: what it is called.
        report: where its report is; empty where it has none.

    Raises:
        DetailDropped: the ledger keeps only sums by kind of writer or, on texts, no knock-out's direct effect.
    """
    facts = _facts(findings, run, report)
    claims = pd.DataFrame() if access.reads_each(findings.ds) else findings.mcgrath
    return Entry(facts, _headline(findings, summarise(findings)), _parts(findings), claims)


def _facts(findings: Findings, run: str, report: str) -> dict[str, Any]:
    ds = findings.ds
    a = ds.attrs
    label, drawn = str(a["model_name"]), str(a.get("random_weights", ""))
    steps = _STEP.findall(f"{a['model']} {a['revision']}")
    return {
        "run": run,
        "report": report,
        "model": label,
        "shape": label.split("+random-")[0] if drawn else label,
        "random_weights": bool(drawn),
        "parameters": int(a["n_parameters"]),
        "layers": int(a["n_layers"]),
        "revision": str(a["revision"]),
        "step": float(steps[-1]) if steps else np.nan,
        "task": str(a["prompts_name"]),
        "protocol": str(a["protocol"]),
        "read": "each" if access.reads_each(ds) else "last",
        "ablation": str(a["ablation"]),
        "donors": int(a["donors"]),
        "dose": float(a["dose"]),
        "positions": str(a["positions"]),
        "target": str(a["target_policy"]),
        "seed": int(a["seed"]),
        "dtype": str(a["dtype"]),
        "prompts": ds.sizes["prompt"],
        "groups": findings.resampling.units,
    }


def _parts(findings: Findings) -> pd.DataFrame:
    """The account of every knock-out, with shares of clear losses only."""
    it = findings if access.reads_each(findings.ds) else findings.by_layer
    table = it.account
    depth = relative(table["ablated_layer"], int(it.ds.attrs["n_layers"]))
    named = {"ablated": table["ablated"], "unit": table["ablated_kind"], "layer": table["ablated_layer"]}
    found = pd.DataFrame({**named, "depth": depth})
    shares = with_ends(*SHARES)
    for name in with_ends(*EFFECTS):
        values = table[name] if name in table else pd.Series(np.nan, table.index)
        found[name] = values.where(table["meaningful"]) if name in shares else values
    for name in _LABELS:
        found[name] = table.get(name, np.nan)
    return found.reset_index(drop=True)


def _headline(findings: Findings, said: Summary) -> dict[str, Any]:
    table = findings.account if access.reads_each(findings.ds) else findings.by_layer.account
    counts = {"knockouts": len(table), "lost": int(table["lost"].sum()), "answered": int(table["hydra"].sum())}
    for outcome in ("repaired", "made worse", "norm"):
        counts[outcome.replace(" ", "_")] = int((table["outcome"] == outcome).sum())
    row = {"finding": said.finding, "headline": said.headline, "focus": said.focus, **counts}
    row["command"] = str(findings.ds.attrs["command"])
    together = _of_tokens(findings) if access.reads_each(findings.ds) else _of_prompts(findings)
    blank = dict.fromkeys(with_ends(*(f"pooled_{name}" for name in (*POOLED, *SHARES))), np.nan)
    named = {f"pooled_{name}": value for name, value in together.items()}
    return {**row, "pooled_parts": 0, **blank, **named}


def _of_prompts(findings: Findings) -> dict[str, Any]:
    """Attention layers at middle depth together, or their heads where these were knocked out.

    Shares are left out where nothing is lost for certain, or where losses and gains all but cancel.
    """
    ds = findings.by_layer.ds
    columns = access.knockout_columns(ds)
    depth = columns["ablated_layer"] / int(ds.attrs["n_layers"])
    middle = (depth >= FROM) & (depth <= MIDDLE)
    for kind in ("attn", "head"):
        if (of := middle & (columns["ablated_kind"] == kind)).any():
            values, resampling = effects(ds), findings.by_layer.resampling
            found = pooled(values, of, resampling)
            size = float(resampling.mean(np.abs(values["own_change"][:, of])).mean())
            if not (found["own_change_hi"] < 0 and -found["own_change"] >= SAME_SIGN_FROM * size):
                found |= dict.fromkeys(with_ends(*SHARES), np.nan)
            return {"parts": found.pop("knockouts"), **found}
    return {}


def _of_tokens(findings: Findings) -> dict[str, Any]:
    """All parts of the second half of the layers together, on the top tokens of each."""
    table = findings.pooled_mechanisms
    if table.empty:
        return {}
    [row] = table[(table["selection"] == "top") & (table["mechanism"] == WHOLE)].to_dict("records")
    found = {"parts": row["parts"], **{name: row[name] for name in with_ends("own_change")}}
    found |= {name.replace("mean", "self_repair"): row[name] for name in with_ends("mean")}
    shares = with_ends("share")
    return found | {
        name.replace("share", "restored_with_norm"): row[name] if row["meaningful"] else np.nan for name in shares
    }
