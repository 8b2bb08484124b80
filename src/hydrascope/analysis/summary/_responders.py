"""Sentences on who answered: the control, the strongest, the frozen, late MLPs."""

from __future__ import annotations

import pandas as pd

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._attention_repair import Row
from hydrascope.analysis._erasure import late
from hydrascope.analysis._statistics import Reading
from hydrascope.analysis.summary._told import Told, reads_once, where
from hydrascope.analysis.summary._words import count, digits, doubt, percent, signed, spread


@where(reads_once)
def tell_control(told: Told) -> None:
    """Later attention's answer to a random direction of the same norm, for comparison."""
    if "null_change" not in told.ds or "attn" not in told.answering_kinds:
        return
    one = told.ds.isel(ablated=[access.knockout_index(told.ds, told.ablated)])
    real, null = access.response(one, "attn"), access.response(one, "attn", variable="null_change")
    pushed = told.reading("null_compensation_attn", told.measure(null))
    more = told.reading("compensation_attn_minus_null", told.measure(real - null))
    compared = {
        1: f"{digits(more.mean)} below its answer to the knock-out",
        0: "which cannot be told from its answer to the knock-out",
        -1: f"{digits(-more.mean)} above its answer to the knock-out",
    }[more.sign]
    told.detail(
        f"A random push of the same length at the same place moved later attention by {spread(pushed)}, {compared}."
    )


@where(reads_once)
def tell_responders(told: Told) -> None:
    """Which later writer answered most, and how much of the answer it makes up."""
    cells = told.findings.who_repairs
    cells = cells[~cells["is_own"]]
    tested, cells = len(cells), cells[cells["ablated"] == told.ablated]
    attn = cells[cells["writer_kind"] == "attn"]
    pool, among = (attn, "attention layers") if len(attn) else (cells, "writers")
    direction = -1.0 if pool["change"].sum() < 0 else 1.0
    if pool.empty or not pool["change"].any():
        return
    top: Row = pool.iloc[int((direction * pool["change"]).to_numpy().argmax())]
    told.number("top_responder", str(top["writer"]))
    told.number("top_responder_change", float(top["change"]))
    told.number("cells", tested)
    sure = "" if top["significant"] else "not "
    told.say(
        f"Of the {among} after it, {top['writer']} answered most: {signed(float(top['change']))} logits, "
        f"{sure}different from zero once corrected for {count(tested, 'cell')}."
    )
    shares = told.findings.concentration
    shares = shares[(shares["ablated"] == told.ablated) & (shares["scope"] == "attn")]
    if not top["significant"] or shares.empty or shares["responders"].iloc[0] < 3:
        return
    share: Row = shares.iloc[0]
    told.number("attention_responders", int(share["responders"]))
    for name in ("top1", "top2"):
        told.number(f"{name}_share", float(share[f"{name}_share"]))
    told.detail(
        f"{share['top1']} makes up {percent(share['top1_share'])} of the summed size of the changes of the "
        f"{share['responders']} attention layers after it, {share['top1']} and {share['top2']} together "
        f"{percent(share['top2_share'])}."
    )


@where(reads_once)
def tell_freeze(told: Told) -> None:
    """How much of the repair hung on its strongest responder, and on others."""
    table = told.findings.freeze
    here = table[(table["ablated"] == told.ablated) & table["meaningful"]]
    frozen, whole = (_row(here, "responder", measure) for measure in ("attention", "with_norm"))
    if frozen is None or frozen["repair"] < 0:
        return
    told.number("frozen_responder", str(frozen["frozen"]))
    removed = told.reading("frozen_removed", told.column("removed", frozen))
    sentence = f"Holding {frozen['frozen']} at its clean output {_removes(removed)} of what later attention gave back"
    if (others := _row(here, "controls", "attention")) is not None:
        usual = told.reading("frozen_removed_control", told.column("removed", others))
        beyond = told.reading("frozen_removed_minus_control", told.column("removed_minus_control", frozen))
        sentence += f"; holding another layer ({others['frozen']}) {spread(usual, form=percent)}"
        sentence += "" if beyond.sign > 0 else ", so it is not shown to matter more than any other"
    else:
        sentence += ", as it must, being the only attention layer behind it"
    told.say(f"{sentence}.")
    if whole is not None and whole["repair"] > 0:
        removed = told.reading("frozen_removed_with_norm", told.column("removed", whole))
        told.detail(
            f"Of all that was given back, MLPs and final norm included, holding {frozen['frozen']} "
            f"{_removes(removed)}; where this is less than its answer, others gave back more instead."
        )


def _row(table: pd.DataFrame, role: str, measure: str) -> Row | None:
    found = table[(table["role"] == role) & (table["measure"] == measure)]
    return None if found.empty else found.iloc[0]


def _removes(removed: Reading) -> str:
    share = spread(removed, form=percent)
    return f"removes {share}" if removed.sign > 0 else f"does not clearly remove any (measured: {share})"


@where(reads_once)
def tell_late_mlps(told: Told) -> None:
    """Whether late MLPs write against the target, and let go under the knock-out."""
    columns = late(told.ds) & (access.writer_kinds(told.ds) == "mlp")
    if not columns.any():
        return
    whole = told.measure(access.numbers(told.ds, "direct_effect")[:, columns].sum(1))
    told.reading("late_mlp_direct_effect", whole)
    each, subject = told.findings.late_mlps, told.quantity.subject
    erasing = int(each["erases"].sum())
    told.number("late_mlps", len(each))
    told.number("late_mlps_erasing", erasing)
    side = {
        -1: f"write {spread(whole, -1)} logits against the {subject}: erasure",
        0: f"write {spread(whole)} logits to the {subject}, {doubt(whole)}",
        1: f"write {spread(whole)} logits for the {subject}: no erasure on the whole",
    }[whole.sign]
    told.say(f"In the clean run the late MLPs together {side}; {erasing} of {len(each)} clearly erase.")
    table = told.findings.released
    for _, row in table[(table["ablated"] == told.ablated) & (table["kind"] == "mlp")].iterrows():
        freed = told.reading("late_mlp_suppression_change", told.column("suppression", row))
        if not (erasing or whole.sign < 0 or freed.sign):
            continue  # nothing is erased, and nothing begins to be
        change = {
            1: f"erased {spread(freed)} logits less",
            0: "went on erasing as before"
            if freed.still
            else f"changed what they erase by {spread(freed)} logits, {doubt(freed)}",
            -1: f"erased {spread(freed, -1)} logits more",
        }[freed.sign]
        told.say(f"With {told.ablated} knocked out they {change}.")
