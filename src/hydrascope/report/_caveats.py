"""How far to trust a run.

Each limit is stated only where the ledger records what it is about. An ablation's own caveat is the ledger's attribute
`ablation_caveat`.
"""

from __future__ import annotations

from collections.abc import Iterator

from hydrascope.analysis import CONCLUSIVE_FROM, MORE_GROUPS, rounding
from hydrascope.report._facts import edited
from hydrascope.report._run import Run


def caveats(run: Run) -> tuple[str, ...]:
    """Limits of the findings of this very run."""
    found = (
        *(_chosen_tokens() if run.of_tokens else _chosen_prompts(run)),
        "Who changes is not always who is needed. A writer that responds may be passing on what another one did; only "
        f"freezing it, or knocking out both, tells{_nothing_frozen(run)}.",
        "Every change is read at the output. A writer that helps by feeding a later one is counted there, not where it "
        "began.",
        _positions(run),
        str(run.ds.attrs["ablation_caveat"]),
        *_intervals(run),
        ""
        if run.of_tokens or "null_change" in run.ds
        else "Without the random-direction control, part of a slope may be the read-out saturating, not compensation.",
        _not_removed(run),
        rounding(run.ds) or "",
    )
    return tuple(filter(None, found))


def _chosen_tokens() -> tuple[str, ...]:
    return (
        "The top tokens are chosen by the clean direct effect, so they are not like other tokens: where a part happens "
        "to write most, others are likely to write much, too. The numbers of all tokens stand beside them for that "
        "reason, and the sign may differ.",
        "On all tokens a donor adds about as much as it takes away, so what is lost on average is close to nothing and "
        "shares of it mean nothing; logits do.",
    )


def _chosen_prompts(run: Run) -> tuple[str, ...]:
    a = run.ds.attrs
    if a["target_policy"] in ("top", "kl"):
        return (
            "The answer is the token that happened to rank first in the clean run, so any disturbance lowers it on "
            "average. This makes losses look larger than they are.",
        )
    if not int(a["prompts_dropped_wrong"]):
        return ()
    difference = a["target_policy"] == "difference"
    right = "with the answer above its foil" if difference else "that the model answers correctly"
    return (
        f"Only prompts {right} were kept. Such a choice by the clean logits makes any disturbance look a little worse "
        "than it is.",
    )


def _nothing_frozen(run: Run) -> str:
    if not run.of_tokens or len(run.tables.freeze):
        return ""
    return ", and nothing was frozen here: that needs the full account"


def _positions(run: Run) -> str:
    positions = str(run.ds.attrs["positions"])
    where = edited(positions)
    if positions == "all":
        later = "later tokens also see" if run.of_tokens else "the last one also sees"
        return (
            f"The part is replaced at all positions, so {later} earlier ones differently: some of the further loss is "
            "missing information, not a broken response."
        )
    if where == edited("last"):
        return "Only the last position is replaced; earlier positions are as in the clean run."
    return f"The part is replaced at {where} alone; elsewhere it still writes, from a context in which these changed."


def _intervals(run: Run) -> Iterator[str]:
    if run.of_tokens:
        yield "Bands and intervals are for one number at a time, over documents."
    elif len(who := run.tables.who_repairs) and (cells := int((~who["is_own"]).sum())):
        yield (
            f"The compensation matrix tests {cells:,} cells together; of those that it marks, one in twenty is "
            "expected to be zero in truth. Bands and intervals are for one number at a time."
        )
    if not run.tables.resampling.conclusive:
        units = "documents" if run.of_tokens else "independent groups of prompts"
        yield f"There are fewer than {CONCLUSIVE_FROM} {units}, too few for intervals; {MORE_GROUPS}."


def _not_removed(run: Run) -> str:
    if run.of_tokens:
        return ""
    table = run.tables.repair
    kept = [str(name) for name in table.loc[table["not_ablated"], "ablated"]]
    if not kept:
        return ""
    listed = ", ".join(kept[:8]) + (f" and {len(kept) - 8} more" if len(kept) > 8 else "")
    return (
        f"Donors carried the same contribution as the original in {listed}: these were hardly removed, and their small "
        "total effect is no sign of repair."
    )
