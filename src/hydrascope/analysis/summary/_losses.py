"""Sentences on what was lost and what came back."""

from __future__ import annotations

import numpy as np

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._self_repair import self_repair_by_depth
from hydrascope.analysis.summary._told import Told, reads_once, where
from hydrascope.analysis.summary._words import answer, count, digits, loss, percent, signed, spread

_AFTER = {"attn": "later attention", "mlp": "the MLPs after it", "mixer": "later mixers"}
_SINGULAR = {"attn": "attention layer", "mlp": "MLP", "mixer": "mixer"}
_PLURAL = {"attn": "attention", "mlp": "MLPs", "mixer": "mixers"}


@where(reads_once)
def tell_account(told: Told) -> None:
    """Own change, answer of each kind of writer, norm effect, total effect.

    A knock-out picked among attention layers has intervals that hold for all of them.
    """
    focus, subject = told.focus, told.quantity.subject
    told.number("focus", told.ablated)
    told.reading("own_change", told.own)
    told.say(f"Knocking out {told.ablated} {loss(told.own, subject)}.")
    if focus["not_ablated"]:
        direct = float(focus["direct_effect"])
        told.number("direct_effect", direct)
        told.say(
            f"Its direct effect of {digits(direct)} logits was hardly changed by the replacement, so nothing "
            "here should be read as repair of it."
        )
    for kind in access.kinds(told.ds):
        if kind not in told.answering_kinds:
            told.say(f"No {_SINGULAR[kind]} comes after it.")
            continue
        corrected = kind == "attn" and told.asked is not None
        seen = told.attention.answer(told.asked) if corrected else told.column(f"compensation_{kind}")
        told.reading(f"compensation_{kind}", seen)
        told.say(f"In response, {_AFTER[kind]} {answer(seen, told.own, subject)}.")
    norm = told.reading("norm_effect", told.column("norm_effect"))
    total = told.reading("total_effect", told.column("total_effect"))
    told.say(
        f"By rescaling what is left, the final norm {answer(norm, told.own, subject)}; all together the "
        f"{told.quantity.logit} moved by {spread(total)}."
    )


@where(reads_once)
def tell_shares(told: Told) -> None:
    """Shares of the own change that are undone, where such ratios may be read."""
    if not told.focus["meaningful"] or told.own.sign == 0:
        return
    named = {f"restored_{kind}": _AFTER[kind] for kind in told.answering_kinds} | {"restored_norm": "the norm"}
    pieces = [f"{label} {_share(told, name)}" for name, label in named.items()]
    told.detail(
        f"As shares of the own change, positive where it is undone: {', '.join(pieces)}; together "
        f"{_share(told, 'restored_with_norm')}, or {_share(told, 'restored')} without the norm."
    )


def _share(told: Told, name: str) -> str:
    return spread(told.reading(name, told.column(name)), form=percent)


@where(reads_once)
def tell_line(told: Told) -> None:
    """How the answer grows with the loss, beyond noise and the random direction."""
    focus = told.focus
    if not np.isfinite(focus["slope"]) or not np.isfinite(focus["r2"]):
        return
    slope = told.reading("slope", told.column("slope"))
    told.number("r2", float(focus["r2"]))
    meaning = {
        -1: "prompts that lose more (or gain less) get more back",
        0: "it cannot be told whether prompts that lose more get more back",
        1: "prompts that lose more (or gain less) lose more again in response",
    }[slope.sign]
    told.say(
        f"The line of compensation on own change over prompts has slope {spread(slope)} and "
        f"R² {digits(float(focus['r2']))}: {meaning}."
    )
    if np.isfinite(focus["slope_iv_lo"]):
        corrected = told.reading("slope_iv", told.column("slope_iv"))
        told.detail(f"Corrected for donor noise the slope is {spread(corrected)}.")
    if np.isfinite(focus["slope_minus_null_lo"]):
        told.number("slope_null", float(focus["slope_null"]))
        more = told.reading("slope_minus_null", told.column("slope_minus_null"))
        compared = {
            -1: "the knock-out draws more repair per logit than the push",
            0: "the two cannot be told apart",
            1: "the knock-out draws less repair per logit than the push",
        }[more.sign]
        told.detail(
            f"A random push of the same length gives slope {digits(float(focus['slope_null']))}, a "
            f"difference of {spread(more)}: {compared}."
        )


@where(reads_once)
def tell_other_layers(told: Told) -> None:
    """How many attention layers are repaired or made worse, and gains that are taken back."""
    attention, (finding, _), subject = told.attention, told.found, told.quantity.subject
    if finding in ("not tested", "too few prompts"):
        return
    lost, taken_back = attention.with_signs(-1), attention.with_signs(1, -1)
    repaired, broken = len(attention.with_signs(-1, 1)), len(attention.with_signs(-1, -1))
    told.number("attention_knockouts", len(attention.table))
    told.number("attention_lost", len(lost))
    told.number("attention_repaired", repaired)
    told.number("attention_broken", broken)
    told.detail(
        f"{attention.noun.capitalize()}s with attention after them: {len(attention.table)}; clearly lower the "
        f"{subject} directly when knocked out: {len(lost)}; of these repaired by later attention: {repaired}, made "
        f"worse by it: {broken}."
    )
    if finding == "none":
        bound = max(0.0, *(float(row.answer_hi) for row in lost))
        told.number("largest_repair_not_excluded", bound)
        told.detail(f"Repair by later attention of more than {digits(bound)} logits is excluded for each.")
    for row in taken_back[:1]:
        told.number("taken_back_after", str(row.ablated))
        told.detail(
            f"{row.ablated} writes against the {subject}: without it the {subject} gains "
            f"{spread(attention.own(row))} logits directly, and later attention took back "
            f"{spread(attention.answer(row), -1)}."
        )


@where(reads_once)
def tell_distribution(told: Told) -> None:
    """Which knock-outs change the whole distribution most, where that is the target."""
    table = told.findings.repair
    if told.ds.attrs.get("target_policy") != "kl" or "kl" not in table:
        return
    first, *rest = (row for _, row in table.nlargest(3, "kl").iterrows())
    reading = told.reading("largest_kl", told.column("kl", first))
    told.number("largest_kl_knockout", str(first["ablated"]))
    others = " and ".join(f"{row['ablated']} ({digits(float(row['kl']))})" for row in rest)
    told.say(
        f"By KL divergence from the clean distribution, {first['ablated']} matters most: {spread(reading)} nats"
        f"{f', before {others}' if others else ''}."
    )
    told.detail(
        "KL divergence has no linear read-out, so everything else here is about the token that ranks first in the "
        "clean run."
    )


@where(access.reads_each)
def tell_top_tokens(told: Told) -> None:
    """What late parts lose on their top tokens, and what comes back by which mechanism."""
    if told.nothing_pooled:
        return
    top = told.pooled("top")
    own, back = told.column("own_change", top), told.column("mean", top)
    told.number("late_parts", int(top["parts"]))
    told.number("own_change_top", own.mean)
    told.say(
        f"Knocking out a {told.noun} of the second half {loss(own)} on its top tokens (mean over "
        f"{count(int(top['parts']), told.noun)}); what the rest does about it adds {spread(back)}."
    )
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
    norm = told.column("mean", told.pooled("top", "norm"))
    told.number("norm_top", norm.mean)
    told.say(f"By mechanism, in logits: {'; '.join([*ways, f'the final norm {spread(norm, form=signed)}'])}.")


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
    told.say(
        f"On all tokens the same {told.noun}s’ mean self-repair is {spread(found)} logits; it is zero or below in "
        f"{below} of {count(layers, 'layer')}.{moral}"
    )


@where(access.reads_each)
def tell_extremes(told: Told) -> None:
    """The part that is repaired most, and the one whose loss brings most further loss."""
    if not told.conclusive:
        return
    sure = told.removed[told.removed["self_repair_lo"] > told.floor]
    if len(sure):
        row = sure.sort_values("self_repair").iloc[-1]
        told.number("best_self_repair", float(row["self_repair"]))
        told.number("best_own_change", float(row["own_change"]))
        share = f", {percent(row['restored'])} of it" if row["meaningful"] and row["own_change"] < 0 else ""
        told.say(
            f"Most comes back for {row['ablated']}: {spread(told.column('self_repair', row))} logits for "
            f"{digits(-row['own_change'])} lost{share}."
        )
    worse = told.removed[told.removed["self_repair_hi"] < -told.floor]
    if len(worse):
        row = worse.sort_values("self_repair").iloc[0]
        told.number("worst_self_repair", float(row["self_repair"]))
        told.say(
            f"Without {row['ablated']} more breaks: beside the {digits(-row['own_change'])} logits it "
            f"wrote itself, {spread(told.column('self_repair', row), -1)} more are lost."
        )


@where(access.reads_each)
def tell_counts(told: Told) -> None:
    """How many parts are repaired, and which were not removed."""
    up = int((told.removed["self_repair_lo"] > told.floor).sum())
    down = int((told.removed["self_repair_hi"] < -told.floor).sum())
    counts = {"parts": len(told.top), "parts_removed": len(told.removed), "parts_repaired": up, "parts_broken": down}
    for name, value in counts.items():
        told.number(name, value)
    if told.conclusive:
        told.detail(
            f"Of {count(len(told.removed), told.noun)} removed, {up} are clearly repaired on their top tokens and "
            f"{down} clearly followed by further loss, by intervals for one at a time."
        )
    kept = [str(name) for name in told.top.loc[~told.top["removed"], "ablated"]]
    if kept:
        listed = ", ".join(kept[:8]) + (f" and {len(kept) - 8} more" if len(kept) > 8 else "")
        told.detail(f"Donors left the direct effect of {listed} as it was, so nothing about these is repair.")


@where(access.reads_each)
def tell_norm(told: Told) -> None:
    """How often the stream is smaller without a part."""
    late = told.removed[2 * told.removed["ablated_layer"] >= int(told.ds.attrs["n_layers"])]
    if late.empty:
        return
    share = float(np.average(late["share_norm_shrinks"], weights=late["n_items"]))
    told.number("share_norm_shrinks", share)
    told.detail(
        f"On {percent(share)} of the top tokens of {told.noun}s in the second half the stream before the final "
        "norm is smaller without them, so that the norm makes more of what is left."
    )
