"""What the summary says must be true of the ledger, whatever its signs are."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrascope.analysis import Findings, Summary, summarise
from hydrascope.analysis._outcomes import FLOOR, LEAST_SHARE
from hydrascope.analysis.summary import _words as words
from tests.analysis.test_tables import ODD
from tests.support.synthetic import Plant, synthetic_ledger

DRAWS = 300
ATTENTION = [f"attn.{layer}" for layer in range(8)]
TABLES = ("repair", "who_repairs", "released", "late_mlps", "freeze")
BRACKET = re.compile(r"[+−]?[\d.]+(?:e−\d+)?(?: %)? \[[^\]]+\]")
REPAIR = ("come back", "gives back", "gave back")


def answer_of(ds: xr.Dataset, ablated: str, *kinds: str) -> np.ndarray:
    cell = ds.sel(ablated=ablated)
    mine = cell.writer_kind.isin(kinds) & ~cell.is_own
    return cell.change.isel(writer=np.flatnonzero(mine)).sum("writer").values.astype(float)


def quotable(findings: Findings) -> set[str]:
    """Every estimate of the tables with its interval, in every form that a sentence may give it."""
    found: set[str] = set()
    for name in TABLES:
        table = getattr(findings, name)
        for column in (c for c in table if f"{c}_lo" in table):
            for value, low, high in table[[column, f"{column}_lo", f"{column}_hi"]].to_numpy(dtype=np.float64):
                if not np.isfinite([value, low, high]).all():
                    continue
                for form in (words.digits, words.signed, words.percent):
                    found.add(f"{form(value)} [{form(low)}, {form(high)}]")
                    found.add(f"{form(-value)} [{form(-high)}, {form(-low)}]")
                found.add(f"+{words.digits(value)} [{words.digits(low)}, {words.digits(high)}]")
    return found


def check_against(findings: Findings, found: Summary) -> None:
    """One value and one interval for each number, those of the tables; and repair is said of what is repaired."""
    ds, table = findings.ds, findings.repair.set_index("ablated")
    told, row = [found.headline, *found.sentences], table.loc[found.focus]
    quoted, known = [text for line in told for text in BRACKET.findall(line)], quotable(findings)
    assert set(quoted) <= known, set(quoted) - known
    assert len(found.leading) <= 3 + (ds.attrs.get("target_policy") == "kl")
    assert all(isinstance(v, str) or np.isfinite(v) for v in found.numbers.values())
    assert not re.search(r"\b(nan|inf|a [aeiou]\w+|an [^aeiouM ]\w*)\b", " ".join(told))
    own = ds.own_change.sel(ablated=found.focus).values.astype(float)
    others = answer_of(ds, found.focus, "attn", "mlp", "mixer", "bias", "embed")
    norm = ds.norm_effect.sel(ablated=found.focus).values.astype(float)
    assert found.numbers["own_change"] == pytest.approx(own.mean(), abs=1e-5)
    assert found.numbers["self_repair"] == pytest.approx((others + norm).mean(), abs=1e-4)
    said = [line for line in told if any(word in line for word in REPAIR)]
    if found.finding == "repair":
        assert own.mean() < 0 < others.mean()
        assert row["self_repair_lo"] > 0 and row["compensation_lo"] > 0
        assert f"without {found.focus}" in found.headline
        assert f"{found.focus} loses" in " ".join(found.leading)
    else:
        assert not [line for line in said if not line.startswith("Clear losses") and "No clear loss" not in line]
    for name in table.index[table["outcome"] == "repaired"]:
        assert table.loc[name, "own_change"] < 0 < table.loc[name, "self_repair"]
    if found.finding == "breakage":
        assert own.mean() < 0 > others.mean()
        assert "No clear loss is repaired" in found.headline
    for name in str(found.numbers.get("hydra", "")).split(",") if found.numbers.get("hydra") else ():
        assert answer_of(ds, name, "attn").mean() > -LEAST_SHARE * float(ds.own_change.sel(ablated=name).mean())
    line = [text for text in told if text.startswith("Slope")]
    if line and "cannot be told" not in line[0]:
        slope = np.polyfit(own, others, 1)[0]
        assert ("get more back" in line[0]) == (slope < 0) == ("change −" in line[0])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    strength=st.sampled_from([-1.5, -0.3, 0.0, 0.3, 1.5]),
    attn=st.sampled_from([-0.8, -0.1, 0.0, 0.1, 0.6, 1.4]),
    mlp=st.sampled_from([-0.3, 0.0, 0.2]),
    norm=st.sampled_from([-0.1, 0.0, 0.1]),
    groups=st.sampled_from([2, 5, 8, 10, 40]),
    null=st.booleans(),
)
def test_every_sentence_is_true_of_the_ledger(
    seed: int, strength: float, attn: float, mlp: float, norm: float, groups: int, null: bool
) -> None:
    ds = synthetic_ledger(
        40,
        6,
        seed,
        ablated=["attn.1", "attn.3", "attn.4", "mlp.2"],
        plants=[Plant("attn.3", "attn.5", attn), Plant("attn.4", "attn.5", -attn / 2)],
        strength=strength,
        erasure=mlp,
        norm=norm,
        n_groups=groups,
        null=null,
    )
    findings = Findings(ds, DRAWS)
    found = summarise(findings)
    check_against(findings, found)
    if groups < 6:
        assert found.finding == "too few prompts"
        stated = " ".join(found.sentences)
        assert not any(phrase in stated for phrase in (*REPAIR, "is seen", " loses "))
        assert "too few to call any sign certain" in stated


@pytest.mark.parametrize(
    ("made", "finding"),
    [
        ({}, "repair"),
        ({"plants": [], "erasure": 0.0, "norm": 0.0}, "none"),
        ({"plants": [], "erasure": 0.0, "norm": 0.3}, "none"),
        ({"plants": [Plant("attn.4", "attn.6", -0.5)], "erasure": 0.0}, "breakage"),
        ({"plants": [Plant("attn.4", "mlp.6", 0.6)]}, "repair"),
        ({"ablated": [f"head.{i}.0" for i in range(8)], "plants": [Plant("head.4.0", "mlp.6", 0.6)]}, "repair"),
        ({"strength": -1.0, "ablated": ATTENTION}, "nothing lost"),
        ({"strength": 0.0, "ablated": ATTENTION}, "nothing lost"),
        ({"n_groups": 3}, "too few prompts"),
        ({"n_prompts": 4}, "too few prompts"),
    ],
)
def test_planted_findings_are_found(made: dict[str, Any], finding: str) -> None:
    findings = Findings(synthetic_ledger(**made), DRAWS)
    found = summarise(findings)
    assert found.finding == finding
    check_against(findings, found)


def test_the_clearest_repair_and_who_repairs_are_named() -> None:
    found = summarise(Findings(synthetic_ledger()))
    assert re.match(
        r"Of the [\d.]+ logits lost without attn\.4, \d+ % \[.*\] come back, most through attn\.6", found.headline
    )
    assert "(slope −0.8" in found.headline
    assert found.headline.endswith("logits: the Hydra effect proper.")
    assert found.numbers["repaired"] == 3
    counts, clearest, hydra = found.leading
    assert counts.startswith("Clear losses: ")
    assert clearest.startswith("Repaired most clearly: attn.4 loses")
    assert "is seen at attn.4 (+" in hydra


def test_attention_that_answers_what_mlps_take_away_again_is_not_called_repair() -> None:
    ds = synthetic_ledger(
        plants=[Plant("attn.4", "attn.6", 0.5), Plant("attn.4", "mlp.6", -0.5)], erasure=0.0, norm=0.0
    )
    found = summarise(Findings(ds, DRAWS))
    assert found.finding == "none"
    assert found.focus == "attn.4"
    assert found.headline.startswith("No clear loss of a part is repaired on the whole")
    assert found.headline.endswith("logits without attn.4, though not repaired on the whole.")
    assert not any(word in " ".join(found.sentences) for word in REPAIR)
    assert "Not yet confirmed by freezing: hydrascope freeze holds what answers attn.4." in found.details
    frozen = ds.sel(ablated=["attn.4"]).copy(deep=True)
    frozen["change"].loc[{"writer": "attn.6"}] = 0
    told = summarise(Findings(ds, DRAWS, frozen=frozen.assign_coords(ablated=["attn.4/attn.6"])))
    (sentence,) = (one for one in told.details if "by freezing" in one)
    assert sentence.startswith("Confirmed by freezing: with attn.6 held at its clean output ")
    assert "of what later attention gives back is gone" in sentence
    assert float(told.numbers["frozen_removed"]) > 0.8


def test_the_norm_alone_is_told_as_the_norm_s() -> None:
    findings = Findings(synthetic_ledger(plants=[], erasure=0.0, norm=0.3), DRAWS)
    found, table = summarise(findings), findings.repair
    assert "what comes back is the final norm’s" in found.headline
    assert found.numbers["norm"] == (table["outcome"] == "norm").sum() > 0
    assert found.numbers["repaired"] == 0


def test_where_nothing_is_seen_the_bound_and_the_next_step_are_told() -> None:
    findings = Findings(synthetic_ledger(plants=[], erasure=0.0, norm=0.0), DRAWS)
    found, table = summarise(findings), findings.repair
    bound = words.digits(max(0.0, table["attn_below"].max()))
    assert f"of attention it is below {bound} logits." in found.leading[1]
    assert found.leading[2].startswith("Next: heads can cancel inside attn.")
    asked = table[table["attn_below"].notna()]
    assert set(asked["ablated_kind"]) == {"attn"} and asked["lost"].all()


def test_losses_and_answers_below_the_floor_are_negligible() -> None:
    findings = Findings(synthetic_ledger(noise=0.001, donor_noise=0.0), DRAWS)
    table, size = findings.repair, FLOOR * float(np.abs(findings.ds.clean_logit).mean())
    assert (table.loc[table["lost"], "own_change"] <= -size).all()
    assert ((table["own_change_hi"] < 0) & (table["own_change"] > -size) & ~table["lost"]).any()
    few = Findings(
        synthetic_ledger(noise=0.001, donor_noise=0.0, plants=[Plant("attn.4", "attn.6", 0.05)], erasure=0.0)
    )
    row = few.repair.set_index("ablated").loc["attn.4"]
    assert row["compensation_lo"] > 0
    assert row["outcome"] != "repaired"
    assert f"Losses below {words.digits(size)} logits" in " ".join(summarise(findings).details)


def test_further_loss_that_does_not_grow_with_the_loss_is_not_called_breakage() -> None:
    """Whatever is disturbed lowers a token that was chosen for being on top."""
    ds = synthetic_ledger(plants=[], erasure=0.0, norm=0.0)
    k, writer = list(ds.ablated.values).index("attn.4"), list(ds.writer.values).index("mlp.6")
    for name in ("change", "total_effect"):
        values = ds[name].values
        values[(slice(None), k, writer) if name == "change" else (slice(None), k)] -= 1.0
    assert summarise(Findings(ds, DRAWS)).finding == "none"


def test_no_repair_anywhere_is_hardly_ever_called_repair() -> None:
    plain: dict[str, Any] = {"plants": [], "erasure": 0.0, "n_layers": 6, "n_groups": 15, "norm": 0.0}
    findings = [summarise(Findings(synthetic_ledger(45, seed=s, **plain), 100)).finding for s in range(25)]
    assert sum(finding != "none" for finding in findings) <= 4  # at 5 % each, five or more: 1 in 100


def test_a_response_without_a_loss_is_no_repair() -> None:
    ds = synthetic_ledger(strength=0.0, plants=[], ablated=ATTENTION)
    writer = ds.writer.values.tolist().index("attn.6")
    ds["change"].values[:, :4, writer] += 0.5
    ds["total_effect"].values[:, :4] += 0.5
    assert summarise(Findings(ds, DRAWS)).finding == "nothing lost"


def test_a_gain_that_is_taken_back_is_told() -> None:
    found = summarise(Findings(synthetic_ledger(strength=-1.5), DRAWS))
    assert found.numbers["largest_gain_knockout"] == "attn.4"
    assert "attn.4 writes against the target" in " ".join(found.details)
    assert "are taken back" in " ".join(found.details)


def test_a_component_that_was_not_removed_is_not_called_repaired() -> None:
    ds = synthetic_ledger()
    k = ds.ablated.values.tolist().index("attn.4")
    removed = 0.8 * ds.own_change.values[:, k]
    ds["change"].values[:, k, ds.is_own.values[k]] -= removed[:, None]
    ds["own_change"].values[:, k] -= removed
    ds["total_effect"].values[:, k] -= removed
    found = summarise(Findings(ds, DRAWS))
    assert found.focus != "attn.4"
    alone = summarise(Findings(ds.isel(ablated=[k]), DRAWS))
    assert alone.finding == "nothing lost"
    assert "Hardly changed by the replacement, so no loss of these was measured: attn.4." in alone.details


def test_a_ledger_that_does_not_close_is_not_to_be_trusted() -> None:
    ds = synthetic_ledger()
    ds["total_effect"].values[0, 0] += 1
    assert any("The ledger does not close" in text for text in summarise(Findings(ds, DRAWS)).leading)
    assert any("The ledger closes" in text for text in summarise(Findings(synthetic_ledger(), DRAWS)).details)


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
@pytest.mark.filterwarnings("error")
def test_odd_ledgers_get_a_summary(odd: dict[str, Any]) -> None:
    findings = Findings(synthetic_ledger(**odd), 50)
    found = summarise(findings)
    check_against(findings, found)
    assert found.headline
    assert found.focus in findings.ds.ablated.values


def test_a_single_group_is_said_to_be_one() -> None:
    stated = " ".join(summarise(Findings(synthetic_ledger(n_groups=1), DRAWS)).sentences)
    assert "All prompts are of one group" in stated


def test_same_ledger_same_summary() -> None:
    ds = synthetic_ledger()
    assert summarise(Findings(ds, 50)) == summarise(Findings(ds, 50))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.0, "0"), (-0.0, "0"), (1.234, "1.23"), (-12.34, "−12.3"), (0.0567, "0.057"), (1e-7, "1e−7")),
        *((0.123, "0.12"), (-0.0004, "−4e−4"), (123.4, "123.4")),
    ],
)
def test_numbers_are_short_and_carry_a_true_minus(value: float, text: str) -> None:
    assert words.digits(value) == text


def test_percent_never_shows_minus_zero() -> None:
    assert [words.percent(x) for x in (-0.001, 0.504, -0.25)] == ["0 %", "50 %", "−25 %"]


def test_nouns_have_their_article_and_lists_their_and() -> None:
    assert [words.a(noun) for noun in ("attention layer", "head", "MLP")] == ["an attention layer", "a head", "an MLP"]
    assert [words.listed(["x", "y", "z"][:n]) for n in (1, 2, 3)] == ["x", "x and y", "x, y and z"]


@pytest.mark.parametrize("only", ["attn", "head"])
def test_the_headline_names_what_was_knocked_out(only: str) -> None:
    names = ATTENTION if only == "attn" else [f"head.{i}.0" for i in range(8)]
    ds = synthetic_ledger(ablated=names, plants=[], erasure=0.0, norm=0.0, strength=0.0)
    noun = {"attn": "attention layer", "head": "head"}[only]
    assert summarise(Findings(ds, DRAWS)).headline == (
        f"No {noun} that was knocked out clearly lowers the target, in 60 prompts."
    )


def test_the_strongest_row_is_the_one_with_the_largest_lower_end() -> None:
    findings = Findings(synthetic_ledger(plants=[Plant("attn.3", "mlp.6", 0.9), Plant("attn.4", "attn.6", 0.5)]), DRAWS)
    repaired: pd.DataFrame = findings.repair.query("outcome == 'repaired'")
    assert len(repaired) > 1
    assert summarise(findings).focus == repaired.set_index("ablated")["self_repair_lo"].idxmax()
