"""What supports the verdict on one knock-out: who answered, frozen or not, how it grows, and late MLPs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._erasure import late
from hydrascope.analysis.summary._told import Row, Told, extreme, reads_once, where
from hydrascope.analysis.summary._verdict import answered
from hydrascope.analysis.summary._words import count, digits, percent, signed, spread

_LATE = {"attn": "late attention changes", "mlp": "the late MLPs change", "mixer": "the late mixers change"}


@where(reads_once)
def tell_responder(told: Told) -> None:
    """Which later writer answered most, and by which mechanism its kind does."""
    cells = told.findings.who_repairs
    cells = cells[~cells["is_own"]]
    tested, cells = len(cells), cells[cells["ablated"] == told.ablated]
    if not told.conclusive or cells.empty or not cells["change"].any():
        return
    down = told.focus["outcome"] == "made worse"
    top = extreme(cells, "change", -1 if down else 1)
    told.number("top_responder", str(top["writer"]))
    change = told.reading("top_responder_change", told.column("change", top))
    kind = str(top["writer_kind"])
    sentence = f"After {told.ablated} {top['writer']} answers most, {spread(change, form=signed)} logits"
    sentence += "" if top["significant"] else f", not singled out from {count(tested, 'cell')}"
    table = told.findings.released
    rows = table[(table["ablated"] == told.ablated) & (table["kind"] == kind)] if len(table) else table
    for _, row in rows.iterrows():
        ways = {name: told.reading(f"{kind}_{name}", told.column(name, row)) for name in ("suppression", "promotion")}
        sentence += (
            f"; of what {_LATE[kind]}, released suppression is {spread(ways['suppression'], form=signed)}, new "
            f"promotion {spread(ways['promotion'], form=signed)}"
        )
    told.detail(f"{sentence}.")


@where(reads_once)
def tell_freeze(told: Told) -> None:
    """Whether the repair, or else attention's answer to attention, hung on its strongest responder."""
    answers = answered(told) if told.conclusive else pd.DataFrame()
    if told.finding == "repair":
        ablated, measure, who = told.ablated, "compensation", "later writers give"
    elif len(answers):
        ablated, measure, who = str(answers.iloc[0]["ablated"]), "attention", "later attention gives"
    else:
        return
    table = told.findings.freeze
    here = table[(table["ablated"] == ablated) & table["meaningful"] & (table["measure"] == measure)]
    frozen, others = (_row(here, role) for role in ("responder", "controls"))
    if frozen is None or frozen["repair"] < 0:
        told.detail(f"Not yet confirmed by freezing: hydrascope freeze holds what answers {ablated}.")
        return
    told.number("frozen_responder", str(frozen["frozen"]))
    removed = told.reading("frozen_removed", told.column("removed", frozen))
    clear = removed.sign > 0
    whose = "" if ablated == told.ablated else f" for {ablated}"
    sentence = (
        f"{'Confirmed' if clear else 'Not confirmed'} by freezing: with {frozen['frozen']} held at its clean output "
        f"{spread(removed, form=percent)} of what {who} back{whose} is gone"
    )
    if others is not None:
        usual = told.reading("frozen_removed_control", told.column("removed", others))
        sentence += f", with {others['frozen']} instead {spread(usual, form=percent)}"
    told.detail(f"{sentence}.")


def _row(table: pd.DataFrame, role: str) -> Row | None:
    found = table[table["role"] == role]
    return None if found.empty else found.iloc[0]


@where(reads_once)
def tell_line(told: Told) -> None:
    """How the answer grows with the loss from prompt to prompt, beside noise and a random direction."""
    focus = told.focus
    if not np.isfinite(focus["slope"]) or not np.isfinite(focus["r2"]):
        return
    slope = told.reading("slope", told.column("slope"))
    r2 = told.reading("r2", told.column("r2"))
    meaning = {
        -1: "prompts that lose more get more back",
        0: "whether prompts that lose more get more back cannot be told",
        1: "prompts that lose more lose more again in response",
    }[slope.sign]
    told.detail(f"Slope of compensation on own change {spread(slope)}, R² {spread(r2)}: {meaning}.")
    if np.isfinite(focus["slope_iv_lo"]):
        told.detail(
            f"Corrected for donor noise the slope is {spread(told.reading('slope_iv', told.column('slope_iv')))}."
        )
    if np.isfinite(focus["slope_minus_null_lo"]):
        null = told.reading("slope_null", told.column("slope_null"))
        more = told.reading("slope_minus_null", told.column("slope_minus_null"))
        told.detail(f"Under a random direction as long it is {spread(null)}; the difference is {spread(more)}.")


@where(reads_once)
def tell_kept(told: Told) -> None:
    """Parts that the replacement left in place."""
    kept = [str(name) for name in told.rows("not_ablated")["ablated"]]
    if kept:
        more = f" and {len(kept) - 8} more" if len(kept) > 8 else ""
        told.detail(
            f"Hardly changed by the replacement, so no loss of these was measured: {', '.join(kept[:8])}{more}."
        )


@where(reads_once)
def tell_gains(told: Told) -> None:
    """Gains where a part wrote against the target."""
    table = told.table
    gains = table[table["meaningful"] & (table["own_change_lo"] > 0)]
    if not told.conclusive or gains.empty:
        return
    row = extreme(gains, "own_change")
    gain = told.reading("largest_gain", told.column("own_change", row))
    told.number("largest_gain_knockout", str(row["ablated"]))
    answer = told.column("self_repair", row)
    back = f"; {spread(answer, -1)} are taken back" if answer.sign < 0 else ""
    subject = told.quantity.subject
    told.detail(f"{row['ablated']} writes against the {subject}: without it {spread(gain)} logits are gained{back}.")


@where(reads_once)
def tell_late_mlps(told: Told) -> None:
    """Whether late MLPs write against the target."""
    each, subject = told.findings.late_mlps, told.quantity.subject
    if not told.conclusive or not (late(told.ds) & (access.writer_kinds(told.ds) == "mlp")).any():
        return
    erasing = each[each["erases"]]
    told.number("late_mlps", len(each))
    told.number("late_mlps_erasing", len(erasing))
    sentence = f"Late MLPs that clearly write against the {subject} in the clean run: {len(erasing)} of {len(each)}"
    if len(erasing):
        row = extreme(erasing, "direct_effect", -1)
        written = told.reading("strongest_erasure", told.column("direct_effect", row))
        sentence += f", most of all {row['writer']} ({spread(written)})"
    told.detail(f"{sentence}.")


@where(reads_once)
def tell_claims(told: Told) -> None:
    """Which claims of McGrath et al. hold here."""
    if not told.conclusive or not (told.table["lost"] & (told.table["ablated_kind"] == "attn")).any():
        return
    table, pieces = told.findings.mcgrath, []
    for verdict, words in (("holds", "hold"), ("does not", "do not"), ("cannot be told", "cannot be told")):
        names = [str(name) for name in table.loc[table["verdict"] == verdict, "claim"]]
        told.number(f"mcgrath_{words.replace(' ', '_')}", len(names))
        pieces += [f"that {words}: {', '.join(names)}"] if names else []
    told.detail(f"Claims of McGrath et al. {'; '.join(pieces)}.")


@where(reads_once)
def tell_distribution(told: Told) -> None:
    """Where the whole distribution is what is asked about: which knock-outs change it most."""
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
