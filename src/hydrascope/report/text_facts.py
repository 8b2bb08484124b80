"""What a run over ordinary text was, and how far to trust it."""

from __future__ import annotations

import xarray as xr

from hydrascope.analysis import ROUGH_BELOW, rounding
from hydrascope.report import facts
from hydrascope.report.facts import Pairs
from hydrascope.report.text_tables import TextTables

OPENING = """import hydrascope as hs
ledger = hs.Ledger.open(".")
ledger.self_repair()
ledger.dataset.total_effect.sel(ablated="{ablated}").groupby("document").mean()"""


def headline_facts(ds: xr.Dataset) -> Pairs:
    """The few facts under the title."""
    known = dict(facts.headline_facts(ds))
    known["Replaced by"] = _replaced(ds)
    first = (("Tokens", f"{ds.sizes['prompt']:,}"), ("Documents", f"{_documents(ds):,}"))
    return (*first, *((name, value) for name, value in known.items() if name != "Prompts"))


def run_facts(ds: xr.Dataset) -> Pairs:
    """Everything about the run that a reader may ask for."""
    a = ds.attrs
    lengths = sorted({int(length) for length in ds["length"].values})
    texts = len(set(ds["document"].values))
    length = f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}"
    skipped = int(a["skipped_positions"])
    instead = {
        "Prompts": f"{a['prompts_name']}: {texts:,} texts of {length} tokens from {_documents(ds):,} documents",
        "Groups": "texts of one document are drawn together by the bootstrap",
        "Prompt set": f"digest {str(a['prompts_digest'])[:16]}",
        "Answer": "the token that the text really goes on with",
        "Replaced by": f"{_replaced(ds)}, at {_edited(str(a['positions']))}",
    }
    labels = {"Prompts": "Texts", "Groups": "Documents", "Prompt set": "Text set", "Answer": "Target"}
    found = [(labels.get(name, name), instead.get(name, value)) for name, value in facts.run_facts(ds)]
    read = "every position that has a next token"
    found.append(("Read at", f"{read}{_without(skipped)}"))
    if str(a.get("detail", "full")) != "full":
        found.append(("Kept", "sums by kind of writer and by what the writer did in the clean run"))
    return tuple(found)


def caveats(t: TextTables) -> tuple[str, ...]:
    """What limits the findings of this very run."""
    a = t.ds.attrs
    found = [
        "The top tokens are chosen by the clean direct effect, so they are not like other tokens: where a part happens "
        "to write most, others are likely to write much, too. The numbers of all tokens stand beside them for that "
        "reason, and the sign may differ.",
        "On all tokens a donor adds about as much as it takes away, so what is lost on average is close to nothing and "
        "shares of it mean nothing; logits do.",
        "Who changes is not always who is needed. A layer that answers may be passing on what another one did; "
        f"only holding one fixed tells{_nobody_held(t)}.",
        "Every answer is read at the output. A layer that helps by feeding a later one is counted there, not where it "
        "began.",
    ]
    if str(a["positions"]) == "all":
        found.append(
            "The part is replaced at all positions, so later tokens also see earlier ones differently: some of the "
            "further loss is missing information, not a broken answer."
        )
    if str(a["ablation"]) == "resample" and int(a["donors"]) == 1:
        found.append(
            "There is one donor for every text. Single tokens are noisy, and a writer that wanders from one side of "
            "zero to the other shows as letting go in one place and as new writing in another; means over many tokens "
            "are what to read."
        )
    if str(a["ablation"]) in facts.OFF_DISTRIBUTION:
        found.append(facts.OFF_DISTRIBUTION[str(a["ablation"])].replace("prompt", "text"))
    found.append("Bands and intervals are for one number at a time, over documents.")
    if _documents(t.ds) < ROUGH_BELOW:
        found.append(f"There are fewer than {ROUGH_BELOW} documents, so all intervals are rough.")
    if (rounded := rounding(t.ds)) is not None:
        found.append(rounded)
    return tuple(found)


def _nobody_held(t: TextTables) -> str:
    if len(t.findings.freeze):
        return ""
    return ", and nobody was held here: that needs attention layers knocked out as wholes and the full account"


def _replaced(ds: xr.Dataset) -> str:
    return dict(facts.headline_facts(ds))["Replaced by"].replace("prompt", "text")


def _without(skipped: int) -> str:
    return {0: "", 1: " but the first"}.get(skipped, f" but the first {skipped}")


def _documents(ds: xr.Dataset) -> int:
    return len(set(ds["group"].values))


def _edited(positions: str) -> str:
    return {"all": "all positions", "last": "the last position"}.get(positions, f"positions {positions}")
