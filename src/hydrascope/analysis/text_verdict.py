"""What a run over ordinary text shows, in plain sentences, each chosen by the numbers that it states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hydrascope.analysis.findings import Findings
from hydrascope.analysis.mechanisms import WHOLE
from hydrascope.analysis.question import Finding
from hydrascope.analysis.self_repair import by_depth
from hydrascope.analysis.statistics import CONCLUSIVE_FROM, ROUGH_BELOW
from hydrascope.analysis.telling import Number
from hydrascope.analysis.tokens import TOP_SHARE
from hydrascope.analysis.verdict import Verdict
from hydrascope.analysis.wording import Reading, count, digits, loss, percent, signed, spread

_NOUNS = {"head": "head", "attn": "attention layer", "mlp": "MLP", "neuron": "neuron", "layer": "layer"}
_GIVERS = {"norm": "the final norm", "mlp": "MLPs", "attn": "attention", "mixer": "mixers"}
TOP = f"the {100 * TOP_SHARE:g} % of tokens"
"""How sentences call the selected tokens."""


NEXT_TO_NOTHING = 0.005
"""Shares that round to 0 %."""


def noun(ds: Any) -> str:
    """What was knocked out, in the singular: `part` where kinds are mixed."""
    kinds = {str(kind) for kind in ds["ablated_kind"].values}
    return _NOUNS.get(kinds.pop(), "part") if len(kinds) == 1 else "part"


def text_verdict(findings: Findings) -> Verdict:
    """State what a ledger of ordinary text shows.

    Args:
        findings: its tables.

    Returns:
        The verdict; its `finding` is about the parts of the second half of the layers, on their top tokens.

    Raises:
        DetailDropped: the direct effect of nothing that was knocked out is known.
    """
    told = _Told(findings)
    finding, headline = told.headline()
    leading, details = [*told.loss(), *told.all_tokens(), *told.best()], [*told.counts(), *told.norm(), *told.trust()]
    return Verdict(finding, headline, told.focus, tuple(leading), tuple(details), told.numbers)


class _Told:
    """Tables, and the numbers that sentences were made from."""

    def __init__(self, findings: Findings) -> None:
        self.findings, self.ds = findings, findings.ds
        self.documents = len(set(self.ds["group"].values))
        self.certain = self.documents >= CONCLUSIVE_FROM
        self.noun = noun(self.ds)
        self.floor = findings.closing.error  # what is smaller is rounding
        table = findings.self_repair
        self.top = table[table["selection"] == "top"].set_index("ablated", drop=False)
        self.removed = self.top[self.top["removed"]]
        self.pooled = findings.pooled_mechanisms
        self.numbers: dict[str, Number] = {
            "tokens": self.ds.sizes["prompt"],
            "documents": self.documents,
            "parts": len(self.top),
            "parts_removed": len(self.removed),
        }
        self.focus = self._focus()

    def _focus(self) -> str:
        rows = self.removed if len(self.removed) else self.top
        sure = rows[rows["self_repair_lo"] > self.floor]
        value = sure["self_repair"] if len(sure) else rows["own_change"].abs()
        return str(value.idxmax())

    def reading(self, row: Any, name: str) -> Reading:
        return Reading(float(row[name]), float(row[f"{name}_lo"]), float(row[f"{name}_hi"]), self.certain)

    def row(self, selection: str, mechanism: str = WHOLE) -> pd.Series[Any]:
        """One line of the pooled table; there is one."""
        found = self.pooled[(self.pooled["selection"] == selection) & (self.pooled["mechanism"] == mechanism)]
        return found.iloc[0]

    def by_giver(self, selection: str, value: str) -> dict[str, float]:
        """Attention, MLPs and norm, each with both of its ways together."""
        rows = self.pooled[(self.pooled["selection"] == selection) & (self.pooled["mechanism"] != WHOLE)]
        kind = rows["mechanism"].str.split("_").str[0]
        summed = rows[value].groupby(kind, sort=False).sum()
        return {str(name): float(summed[name]) for name in _GIVERS if name in summed}

    def headline(self) -> tuple[Finding, str]:
        many = f"{self.noun}s"
        documents = count(self.documents, "document")
        if self.pooled.empty:
            return "nothing lost", f"No {self.noun} of the second half was really removed, in {documents}."
        top = self.row("top")
        mean, share = self.reading(top, "mean"), self.reading(top, "share")
        self.numbers |= {"restored_top": share.mean, "self_repair_top": mean.mean}
        if not self.certain:
            return "too few prompts", f"We cannot tell from {documents} whether losses of {many} are repaired."
        where = f"On {TOP} where each {self.noun} matters most"
        if mean.sign == 0 or not top["meaningful"]:
            said = f"whether losses of {many} in the second half are repaired cannot be told from chance"
            return "none", f"{where}, {said}; {self._all_in_short()}."
        if abs(share.mean) < NEXT_TO_NOTHING:
            said = f"the rest gives back next to nothing of what {many} of the second half lose"
            return "none", f"{where}, {said}; {self._all_in_short()}."
        givers = self.by_giver("top", "share")
        self.numbers |= {f"restored_top_{name}": value for name, value in givers.items()}
        how = ", ".join(f"{_GIVERS[name]} {percent(value)}" for name, value in _largest_first(givers))
        if mean.sign > 0:
            said = f"the rest gives back {percent(share.mean)} of what {many} of the second half lose"
            return "repair", f"{where}, {said} ({how}); {self._all_in_short()}."
        said = f"the rest loses a further {percent(-share.mean)} of what {many} of the second half lose"
        return "breakage", f"{where}, {said} ({how}); {self._all_in_short()}."

    def _all_in_short(self) -> str:
        found = self.reading(self.row("all"), "mean")
        self.numbers["self_repair_all"] = found.mean
        if found.sign == 0 or abs(found.mean) <= self.floor:
            return "on all tokens nothing can be told from zero"
        what = "it also gives back" if found.sign > 0 else "it makes things worse by"
        return f"on all tokens {what} {digits(abs(found.mean))} logits a {self.noun}"

    def loss(self) -> list[str]:
        """What late parts lose on their top tokens, and what comes back by which mechanism."""
        if self.pooled.empty:
            return []
        top = self.row("top")
        own, back = self.reading(top, "own_change"), self.reading(top, "mean")
        self.numbers |= {"late_parts": int(top["parts"]), "own_change_top": own.mean}
        sentences = [
            f"Knocking out a {self.noun} of the second half {loss(own)} on its top tokens (mean over "
            f"{count(int(top['parts']), self.noun)}); what the rest does about it adds {spread(back)}."
        ]
        ways = []
        for kind in ("attn", "mlp", "mixer"):
            if f"{kind}_suppression" not in set(self.pooled["mechanism"]):
                continue
            away, new = (self.reading(self.row("top", f"{kind}_{way}"), "mean") for way in ("suppression", "promotion"))
            self.numbers |= {f"{kind}_suppression_top": away.mean, f"{kind}_promotion_top": new.mean}
            ways.append(
                f"{_GIVERS[kind]} that wrote against the target {signed(away.mean)}, {_GIVERS[kind]} that wrote for it "
                f"{signed(new.mean)}"
            )
        norm = self.reading(self.row("top", "norm"), "mean")
        self.numbers["norm_top"] = norm.mean
        ways.append(f"the final norm {spread(norm, form=signed)}")
        return [*sentences, f"By mechanism, in logits: {'; '.join(ways)}."]

    def all_tokens(self) -> list[str]:
        """That the sign depends on the tokens, if it does."""
        table = by_depth(self.findings.self_repair, int(self.ds.attrs["n_layers"]))
        table = table[table["selection"] == "all"]
        if table.empty or self.pooled.empty:
            return []
        below, layers = int((table["self_repair"] <= 0).sum()), len(table)
        self.numbers |= {"layers_not_above_zero": below, "layers": layers}
        found, top = self.reading(self.row("all"), "mean"), self.reading(self.row("top"), "mean")
        opposite = found.sign * top.sign < 0
        moral = " The sign depends on which tokens are looked at." if opposite else ""
        return [
            f"On all tokens the same {self.noun}s’ mean self-repair is {spread(found)} logits; it is zero or below in "
            f"{below} of {count(layers, 'layer')}.{moral}"
        ]

    def best(self) -> list[str]:
        """The part that is repaired most, and the one whose loss brings most further loss."""
        sentences = []
        sure = self.removed[self.removed["self_repair_lo"] > self.floor]
        if self.certain and len(sure):
            row = sure.sort_values("self_repair").iloc[-1]
            self.numbers |= {"best_self_repair": float(row["self_repair"]), "best_own_change": float(row["own_change"])}
            share = f", {percent(row['restored'])} of it" if row["meaningful"] and row["own_change"] < 0 else ""
            sentences.append(
                f"Most comes back for {row['ablated']}: {spread(self.reading(row, 'self_repair'))} logits for "
                f"{digits(-row['own_change'])} lost{share}."
            )
        worse = self.removed[self.removed["self_repair_hi"] < -self.floor]
        if self.certain and len(worse):
            row = worse.sort_values("self_repair").iloc[0]
            self.numbers["worst_self_repair"] = float(row["self_repair"])
            sentences.append(
                f"Without {row['ablated']} more breaks: beside the {digits(-row['own_change'])} logits it "
                f"wrote itself, {spread(self.reading(row, 'self_repair'), -1)} more are lost."
            )
        return sentences

    def counts(self) -> list[str]:
        """How many parts are repaired, and which were not removed."""
        up = int((self.removed["self_repair_lo"] > self.floor).sum())
        down = int((self.removed["self_repair_hi"] < -self.floor).sum())
        self.numbers |= {"parts_repaired": up, "parts_broken": down}
        sentences = []
        if self.certain:
            sentences.append(
                f"Of {count(len(self.removed), self.noun)} removed, {up} are clearly repaired on their top tokens and "
                f"{down} clearly followed by further loss, by intervals for one at a time."
            )
        kept = [str(name) for name in self.top.loc[~self.top["removed"], "ablated"]]
        if kept:
            listed = ", ".join(kept[:8]) + (f" and {len(kept) - 8} more" if len(kept) > 8 else "")
            sentences.append(f"Donors left the direct effect of {listed} as it was, so nothing about these is repair.")
        return sentences

    def norm(self) -> list[str]:
        """How often the stream is smaller without a part."""
        late = self.removed[2 * self.removed["ablated_layer"] >= int(self.ds.attrs["n_layers"])]
        if late.empty:
            return []
        share = float(np.average(late["share_norm_shrinks"], weights=late["n_items"]))
        self.numbers["share_norm_shrinks"] = share
        return [
            f"On {percent(share)} of the top tokens of {self.noun}s in the second half the stream before the final "
            "norm is smaller without them, so that the norm makes more of what is left."
        ]

    def trust(self) -> list[str]:
        """Closing, and how many documents stand behind it."""
        closing = self.findings.closing
        self.numbers["closing_error"] = closing.error
        held = "closes" if closing.closes else "does not close"
        rough = self.documents < ROUGH_BELOW
        return [
            f"The ledger {held}: on every token the parts sum to the total within {digits(closing.error)}.",
            *(["There are fewer than 8 documents, so intervals are rough."] if rough else []),
        ]


def _largest_first(values: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(values.items(), key=lambda item: -abs(item[1]))
