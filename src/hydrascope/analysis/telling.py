"""One function per finding: each adds its sentences, and the numbers in them, to what is told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import parts
from hydrascope.analysis.closing import Closing
from hydrascope.analysis.erasure import late
from hydrascope.analysis.findings import Findings
from hydrascope.analysis.quantity import quantity
from hydrascope.analysis.question import AttentionAnswers, Finding, Row
from hydrascope.analysis.responders import answering
from hydrascope.analysis.statistics import Array, Resampling, mean_interval
from hydrascope.analysis.wording import Reading, answer, count, digits, loss, percent, signed, spread

Number = float | int | str

_AFTER = {"attn": "later attention", "mlp": "the MLPs after it", "mixer": "later mixers"}
_SINGULAR = {"attn": "attention layer", "mlp": "MLP", "mixer": "mixer"}


class Told:
    """Sentences about one knock-out, and the numbers in them, as they are told.

    Attributes:
        ds: the ledger.
        focus: the row of the repair table that is described.
        ablated: its address.
        index: its position in the ledger.
        resampling: the bootstrap plan.
        quantity: what the account is of, in words.
        own: what the knock-out did directly; may be narrowed or widened while telling.
        leading: what has been said first.
        details: what has been said beside it.
        numbers: the numbers in it, by name; all finite.
    """

    def __init__(self, ds: xr.Dataset, focus: Row, resampling: Resampling) -> None:
        self.ds, self.focus, self.resampling = ds, focus, resampling
        self.ablated = str(focus["ablated"])
        self.index = parts.knockout_index(ds, self.ablated)
        self.quantity = quantity(ds)
        self.own = self.column("own_change")
        self.leading: list[str] = []
        self.details: list[str] = []
        self.numbers: dict[str, Number] = {}

    def say(self, sentence: str) -> None:
        """Add a leading sentence."""
        self.leading.append(sentence)

    def detail(self, sentence: str) -> None:
        """Add a sentence that stands behind the leading ones."""
        self.details.append(sentence)

    def number(self, name: str, value: Number) -> None:
        """Add a number, unless it is not finite."""
        if isinstance(value, str) or np.isfinite(value):
            self.numbers[name] = value

    def reading(self, name: str, reading: Reading) -> Reading:
        """Add a mean with its interval."""
        for suffix, value in (("", reading.mean), ("_lo", reading.lo), ("_hi", reading.hi)):
            self.number(name + suffix, value)
        return reading

    def column(self, name: str, row: Row | None = None) -> Reading:
        """A column of a table with its interval; of the repair table unless a row is given."""
        row = self.focus if row is None else row
        ends = (float(row[name]), float(row[f"{name}_lo"]), float(row[f"{name}_hi"]))
        return Reading(*ends, self.resampling.conclusive)

    def measure(self, values: Array) -> Reading:
        """Mean of one number per prompt."""
        mean, lo, hi = (float(end[0]) for end in mean_interval(values.reshape(-1, 1), self.resampling))
        return Reading(mean, lo, hi, self.resampling.conclusive)

    @property
    def answering_kinds(self) -> list[str]:
        """Kinds of writers that can answer this knock-out."""
        free = set(parts.writer_kinds(self.ds)[answering(self.ds)[self.index]])
        return [kind for kind in parts.KINDS if kind in free]


def tell_account(told: Told, attention: AttentionAnswers) -> None:
    """What was lost, what each kind of writer answered, the norm, the total.

    Where the knock-out was picked among attention layers, its intervals are those that hold for
    all of them.
    """
    focus = told.focus
    asked = attention.row_of(told.ablated)
    if asked is not None:
        told.own = attention.own(asked)
    told.number("focus", told.ablated)
    told.reading("own_change", told.own)
    told.say(f"Knocking out {told.ablated} {loss(told.own, told.quantity.subject)}.")
    if focus["not_ablated"]:
        direct = float(focus["direct_effect"])
        told.number("direct_effect", direct)
        told.say(
            f"Its direct effect of {digits(direct)} logits was hardly changed by the replacement, so nothing "
            "here should be read as repair of it."
        )
    for kind in parts.kinds(told.ds):
        if kind not in told.answering_kinds:
            told.say(f"No {_SINGULAR[kind]} comes after it.")
            continue
        corrected = kind == "attn" and asked is not None
        seen = attention.answer(asked) if corrected else told.column(f"compensation_{kind}")
        told.reading(f"compensation_{kind}", seen)
        told.say(f"In response, {_AFTER[kind]} {answer(seen, told.own, told.quantity.subject)}.")
    norm = told.reading("norm_effect", told.column("norm_effect"))
    total = told.reading("total_effect", told.column("total_effect"))
    told.say(
        f"By rescaling what is left, the final norm {answer(norm, told.own, told.quantity.subject)}; all together the "
        f"{told.quantity.logit} moved by {spread(total)}."
    )


def tell_control(told: Told) -> None:
    """Whether a random push of the same length draws the same answer from later attention."""
    if "null_change" not in told.ds or "attn" not in told.answering_kinds:
        return
    one = told.ds.isel(ablated=[told.index])
    real, null = parts.response(one, "attn"), parts.response(one, "attn", variable="null_change")
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


def tell_responders(told: Told, cells: pd.DataFrame, shares: pd.DataFrame) -> None:
    """Which later writer answered most, and how much of the answer it makes up."""
    tested = int((~cells["is_own"]).sum())
    cells = cells[(cells["ablated"] == told.ablated) & ~cells["is_own"]]
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


def tell_shares(told: Told) -> None:
    """Shares of the own change that are undone, where such ratios may be read."""
    if not told.focus["meaningful"] or told.own.sign == 0:
        return
    named = {f"restored_{kind}": _AFTER[kind] for kind in told.answering_kinds}
    named |= {"restored_norm": "the norm"}
    pieces = [f"{label} {_share(told, name)}" for name, label in named.items()]
    told.detail(
        f"As shares of the own change, positive where it is undone: {', '.join(pieces)}; together "
        f"{_share(told, 'restored_with_norm')}, or {_share(told, 'restored')} without the norm."
    )


def _share(told: Told, name: str) -> str:
    return spread(told.reading(name, told.column(name)), form=percent)


def tell_line(told: Told) -> None:
    """How the answer grows with the loss from prompt to prompt, beyond noise and beyond any push."""
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


def tell_other_layers(told: Told, attention: AttentionAnswers, finding: Finding) -> None:
    """How many attention layers are repaired or made worse, and gains that are taken back."""
    if finding in ("not tested", "too few prompts"):
        return
    subject = told.quantity.subject
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


def tell_late_mlps(told: Told, findings: Findings) -> None:
    """Whether late MLPs write against the target, and whether they let go under the knock-out."""
    ds = told.ds
    columns = late(ds) & (parts.writer_kinds(ds) == "mlp")
    if not columns.any():
        return
    whole = told.measure(parts.numbers(ds, "direct_effect")[:, columns].sum(1))
    told.reading("late_mlp_direct_effect", whole)
    each, subject = findings.late_mlps, told.quantity.subject
    erasing = int(each["erases"].sum())
    told.number("late_mlps", len(each))
    told.number("late_mlps_erasing", erasing)
    side = {
        -1: f"write {spread(whole, -1)} logits against the {subject}: erasure",
        0: f"write {spread(whole)} logits to the {subject}, {whole.doubt}",
        1: f"write {spread(whole)} logits for the {subject}: no erasure on the whole",
    }[whole.sign]
    told.say(f"In the clean run the late MLPs together {side}; {erasing} of {len(each)} clearly erase.")
    table = findings.released
    for _, row in table[(table["ablated"] == told.ablated) & (table["kind"] == "mlp")].iterrows():
        freed = told.reading("late_mlp_suppression_change", told.column("suppression", row))
        if not (erasing or whole.sign < 0 or freed.sign):
            continue  # nothing is erased, and nothing begins to be
        change = {
            1: f"erased {spread(freed)} logits less",
            0: "went on erasing as before"
            if freed.still
            else f"changed what they erase by {spread(freed)} logits, {freed.doubt}",
            -1: f"erased {spread(freed, -1)} logits more",
        }[freed.sign]
        told.say(f"With {told.ablated} knocked out they {change}.")


def tell_distribution(told: Told, table: pd.DataFrame) -> None:
    """Where the whole distribution is what is asked about: which knock-outs change it most."""
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


def tell_closing(told: Told, result: Closing) -> None:
    """Whether the ledger may be trusted."""
    error = max(result.error, result.clean_error)
    told.number("closing_error", result.error)
    told.number("clean_closing_error", result.clean_error)
    told.number("closing_tolerance", result.tolerance)
    if result.closes:
        told.detail(
            f"The ledger closes: effects and clean logits are the sums of their parts within {digits(error)} "
            f"(tolerance {digits(result.tolerance)})."
        )
    else:
        told.say(
            f"The ledger does not close, so nothing here can be trusted: sums miss by {digits(error)} "
            f"(tolerance {digits(result.tolerance)}), among the total effects most at {result.ablated}, "
            f"prompt {result.prompt}."
        )


def tell_donors(told: Told) -> None:
    """Donors that could not be kept from naming a token of the prompt's pair."""
    sharing = int(told.ds.attrs.get("donors_sharing", 0))
    if not sharing:
        return
    donors = int(told.ds.attrs["donors"]) * told.ds.sizes["prompt"]
    told.number("donors_sharing", sharing)
    told.detail(
        f"For want of others, {sharing:,} of {donors:,} donors have a prompt's answer or foil among their own: these "
        f"turn the {told.quantity.subject} round, or leave half of it, instead of taking it away, so what is lost is "
        "not what unrelated prompts would show."
    )


def tell_caution(told: Told) -> None:
    """Few groups, or a single one."""
    resampling, prompts = told.resampling, count(told.ds.sizes["prompt"], "prompt")
    units = f"{prompts} in {count(resampling.units, 'group')}" if resampling.by_group else prompts
    if not resampling.conclusive:
        told.say(f"{units}: too few to call any sign certain.")
    elif resampling.rough:
        told.detail(f"{units}: so few that the intervals are rough.")
    else:
        told.detail(f"Brackets are 95 % intervals over {units}.")
    if "group" in told.ds.coords and 1 == len(set(parts.names(told.ds, "group"))) < told.ds.sizes["prompt"]:
        told.detail("All prompts are of one group, so the intervals speak for prompts of that group only.")
