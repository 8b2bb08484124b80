"""Sentences on ordinary text: what late parts lose on their top tokens and on all, and what comes back how."""

from __future__ import annotations

import numpy as np

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._mechanisms import WHOLE
from hydrascope.analysis._self_repair import self_repair_by_depth
from hydrascope.analysis.summary._told import Told, where
from hydrascope.analysis.summary._words import TOP_TOKENS, count, digits, percent, signed, spread

_PLURAL = {"attn": "attention", "mlp": "MLPs", "mixer": "mixers"}
_GIVERS = {"norm": "the final norm", "mlp": "MLPs", "attn": "attention", "mixer": "mixers"}
_NEXT_TO_NOTHING = 0.005
"""Shares that round to 0 %."""


@where(access.reads_each)
def tell_mechanisms(told: Told) -> None:
    """By which mechanism late parts get back what they lose on their top tokens."""
    if told.nothing_pooled:
        return
    ways, known = [], set(told.findings.pooled_mechanisms["mechanism"])
    for kind in access.KINDS:
        if f"{kind}_suppression" not in known:
            continue
        means = [float(told.pooled("top", f"{kind}_{way}")["mean"]) for way in ("suppression", "promotion")]
        for way, mean in zip(("suppression", "promotion"), means, strict=True):
            told.number(f"{kind}_{way}_top", mean)
        ways.append(
            f"{_PLURAL[kind]} that wrote against the target {signed(means[0])}, {_PLURAL[kind]} that wrote for it "
            f"{signed(means[1])}"
        )
    norm = told.reading("norm_top", told.column("mean", told.pooled("top", "norm")))
    told.detail(f"By mechanism, in logits: {'; '.join([*ways, f'the final norm {spread(norm, form=signed)}'])}.")


@where(access.reads_each)
def tell_all_tokens(told: Told) -> None:
    """That the sign depends on the tokens, if it does."""
    table = self_repair_by_depth(told.findings.self_repair, int(told.ds.attrs["n_layers"]))
    table = table[table["selection"] == "all"]
    if table.empty or told.nothing_pooled:
        return
    below, layers = int((table["self_repair"] <= 0).sum()), len(table)
    told.number("layers_not_above_zero", below)
    told.number("layers", layers)
    found, top = told.column("mean", told.pooled("all")), told.column("mean", told.pooled("top"))
    moral = " The sign depends on which tokens are looked at." if found.sign * top.sign < 0 else ""
    told.detail(
        f"On all tokens the mean self-repair of these {told.noun}s is {spread(found)} logits; it is zero or below in "
        f"{below} of {count(layers, 'layer')}.{moral}"
    )


@where(access.reads_each)
def tell_kept_on_texts(told: Told) -> None:
    """Parts that the replacement left in place on their top tokens."""
    kept = [str(name) for name in told.rows("removed", False)["ablated"]]
    if kept:
        listed = ", ".join(kept[:8]) + (f" and {len(kept) - 8} more" if len(kept) > 8 else "")
        told.detail(f"Donors left the direct effect of {listed} as it was, so nothing about these is repair.")


@where(access.reads_each)
def tell_norm(told: Told) -> None:
    """How often the stream is smaller without a part."""
    removed = told.rows("removed")
    late = removed[2 * removed["ablated_layer"] >= int(told.ds.attrs["n_layers"])]
    if late.empty:
        return
    share = float(np.average(late["share_norm_shrinks"], weights=late["n_items"]))
    told.number("share_norm_shrinks", share)
    told.detail(
        f"On {percent(share)} of the top tokens of {told.noun}s in the second half the stream before the final "
        "norm is smaller without them, so that the norm makes more of what is left."
    )


def headline_of_texts(told: Told) -> str:
    """What becomes of the losses of the second half, on top tokens and on all."""
    many, documents = f"{told.noun}s", count(told.documents, "document")
    if told.nothing_pooled:
        return f"No {told.noun} of the second half was really removed, in {documents}."
    top = told.pooled("top")
    mean, share = (told.reading(f"{name}_top", told.column(column, top)) for name, column in _POOLED.items())
    if not told.conclusive:
        return f"We cannot tell from {documents} whether losses of {many} are repaired."
    where = f"On {TOP_TOKENS} where each {told.noun} matters most"
    if mean.sign == 0 or not top["meaningful"]:
        said = f"whether losses of {many} in the second half are repaired cannot be told from chance"
        return f"{where}, {said}; {_on_all_tokens(told)}."
    if abs(share.mean) < _NEXT_TO_NOTHING:
        said = f"the rest gives back next to nothing of what {many} of the second half lose"
        return f"{where}, {said}; {_on_all_tokens(told)}."
    givers = _by_giver(told)
    for name, value in givers.items():
        told.number(f"restored_top_{name}", value)
    largest_first = sorted(givers.items(), key=lambda item: -abs(item[1]))
    how = ", ".join(f"{_GIVERS[name]} {percent(value)}" for name, value in largest_first)
    does, size = ("gives back", share.mean) if mean.sign > 0 else ("loses a further", -share.mean)
    return (
        f"{where}, the rest {does} {percent(size)} of what {many} of the second half lose ({how}); "
        f"{_on_all_tokens(told)}."
    )


_POOLED = {"self_repair": "mean", "restored": "share"}


def _on_all_tokens(told: Told) -> str:
    found = told.reading("self_repair_all", told.column("mean", told.pooled("all")))
    if found.sign == 0 or abs(found.mean) <= told.floor:
        return "on all tokens nothing can be told from zero"
    what = "it also gives back" if found.sign > 0 else "it makes things worse by"
    return f"on all tokens {what} {digits(abs(found.mean))} logits a {told.noun}"


def _by_giver(told: Told) -> dict[str, float]:
    """Shares given back on top tokens by attention, MLPs and norm, each with both of its ways together."""
    table = told.findings.pooled_mechanisms
    rows = table[(table["selection"] == "top") & (table["mechanism"] != WHOLE)]
    summed = rows["share"].groupby(rows["mechanism"].str.split("_").str[0], sort=False).sum()
    return {name: float(summed[name]) for name in _GIVERS if name in summed}
