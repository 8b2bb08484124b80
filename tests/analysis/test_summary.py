"""What the summary says must be true of the ledger, whatever its signs are."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrascope.analysis import Findings, Summary, summarise
from hydrascope.analysis._statistics import Reading
from hydrascope.analysis.summary import _words as words
from tests.analysis.test_tables import ODD
from tests.support.synthetic import Plant, synthetic_ledger

DRAWS = 300
TRUE_SIGN = {
    "gave back": (-1, 1),
    "lost a further": (-1, -1),
    "took back": (1, -1),
    "added a further": (1, 1),
    "raised the target by": (0, 1),
    "lowered the target by": (0, -1),
}
"""Phrase to the signs of own change and answer that it claims."""


def standard_error(ds: xr.Dataset, values: np.ndarray) -> float:
    """Of the mean over groups of prompts; over prompts where there is one group only."""
    groups = np.unique(ds.group.values)
    if len(groups) > 1:
        values = np.array([values[ds.group.values == group].mean() for group in groups])
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def answer_of(ds: xr.Dataset, ablated: str, kind: str) -> np.ndarray:
    cell = ds.sel(ablated=ablated)
    mine = (cell.writer_kind == kind) & ~cell.is_own
    return cell.change.isel(writer=np.flatnonzero(mine)).sum("writer").values.astype(float)


def sentence(found: Summary, start: str) -> str:
    matching = [text for text in found.sentences if text.startswith(start)]
    assert len(matching) == 1, found.sentences
    return matching[0]


def check_against(ds: xr.Dataset, found: Summary) -> None:
    """Recompute what the sentences claim with ten lines of xarray."""
    own = ds.own_change.sel(ablated=found.focus).values.astype(float)
    answers = {
        "later attention": answer_of(ds, found.focus, "attn"),
        "the MLPs after it": answer_of(ds, found.focus, "mlp"),
        "the final norm": ds.norm_effect.sel(ablated=found.focus).values.astype(float),
    }
    for text in found.sentences:
        if not text.startswith(("In response", "By rescaling")):
            continue
        values = next(v for label, v in answers.items() if label in text)
        stated = [phrase for phrase in TRUE_SIGN if phrase in text]
        if stated:
            own_sign, sign = TRUE_SIGN[stated[0]]
            assert np.sign(values.mean()) == sign, text
            assert own_sign in (0, np.sign(own.mean())), text
            assert number_in(text) == pytest.approx(abs(values.mean()), rel=0.06, abs=1e-3), text
            assert abs(values.mean()) > 1.2 * standard_error(ds, values), text
        elif "did not move" not in text:
            assert "cannot be told from zero" in text or "so few prompts" in text
    lost = sentence(found, "Knocking out")
    if "takes" in lost:
        assert own.mean() < 0
    if "adds" in lost:
        assert own.mean() > 0
    check_headline(ds, found)
    check_line_and_late(ds, found, own)


def check_headline(ds: xr.Dataset, found: Summary) -> None:
    text = found.headline
    own = float(ds.own_change.sel(ablated=found.focus).mean())
    attn = float(answer_of(ds, found.focus, "attn").mean())
    if found.finding == "repair":
        assert own < 0 < attn
        assert f"With {found.focus} knocked out" in text
        assert [float(n) for n in re.findall(r"\b\d+\.\d+\b(?= logits| lost)", text)] == pytest.approx(
            [attn, -own], rel=0.06, abs=1e-3
        )
    elif found.finding == "breakage":
        assert own < 0 > attn
        assert "No clear loss" in text
    else:
        assert "gives back" not in text
    if match := re.search(r"most of it through ([\w.]+)\.$", text):
        cell = ds.change.mean("prompt").sel(ablated=found.focus)
        assert float(cell.sel(writer=match[1])) > 0.5 * attn
        rest = cell.isel(writer=np.flatnonzero((cell.writer_kind == "attn") & (cell.writer != found.focus)))
        assert match[1] == str(rest.writer.values[rest.values.argmax()])


def check_line_and_late(ds: xr.Dataset, found: Summary, own: np.ndarray) -> None:
    compensation = ds.change.sel(ablated=found.focus).sum("writer").values - own
    for text in found.sentences:
        if "The line of compensation" in text and "cannot be told" not in text:
            slope = np.polyfit(own, compensation, 1)[0]
            assert ("get more back" in text) == (slope < 0)
    late = ds.isel(writer=np.flatnonzero((ds.writer_kind == "mlp") & (2 * ds.writer_layer >= ds.n_layers)))
    shown = found.numbers
    if late.sizes["writer"]:
        written = float(late.direct_effect.sum("writer").mean())
        text = sentence(found, "In the clean run the late MLPs")
        assert "against the target: erasure" not in text or written < 0
        assert "for the target: no erasure" not in text or written > 0
        assert shown["late_mlp_direct_effect"] == pytest.approx(written, abs=1e-5)
    assert shown["own_change"] == pytest.approx(own.mean(), abs=1e-5)
    assert all(isinstance(v, str) or np.isfinite(v) for v in shown.values())
    assert not re.search(r"\b(nan|inf)\b", " ".join([found.headline, *found.sentences]))


def number_in(text: str) -> float:
    """The first number after the verb."""
    digits = re.search(r"(?<![\w.])(\d+\.?\d*(?:e−\d+)?)(?= \[)", text)
    assert digits, text
    return float(digits[1].replace("−", "-"))


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
    found = summarise(Findings(ds, DRAWS))
    check_against(ds, found)
    if groups < 6:
        assert found.finding == "too few prompts"
        stated = " ".join(found.sentences)
        assert not any(phrase in stated for phrase in TRUE_SIGN)
        assert "too few to call any sign certain" in stated


@pytest.mark.parametrize(
    ("made", "finding"),
    [
        ({}, "repair"),
        ({"plants": [], "erasure": 0.0}, "none"),
        ({"plants": [Plant("attn.4", "attn.6", -0.5)]}, "breakage"),
        ({"strength": -1.0}, "nothing lost"),
        ({"strength": 0.0}, "nothing lost"),
        ({"n_groups": 3}, "too few prompts"),
        ({"n_prompts": 4}, "too few prompts"),
        ({"ablated": ["mlp.2", "head.4.0", "attn.7"]}, "not tested"),
        ({"n_prompts": 1, "n_layers": 1}, "not tested"),
    ],
)
def test_planted_findings_are_found(made: dict[str, Any], finding: str) -> None:
    ds = synthetic_ledger(**made)
    found = summarise(Findings(ds, DRAWS))
    assert found.finding == finding
    check_against(ds, found)


def test_the_strongest_repair_and_its_repairer_are_named() -> None:
    found = summarise(Findings(synthetic_ledger()))
    assert found.headline.startswith("With attn.4 knocked out, later attention gives back 0.99 logits")
    assert found.headline.endswith("most of it through attn.6.")
    assert found.numbers["restored_attn"] == pytest.approx(0.7, abs=0.02)
    assert found.numbers["attention_repaired"] == 1
    assert "attn.6 makes up 86 %" in " ".join(found.sentences)


def test_no_repair_anywhere_is_hardly_ever_called_repair() -> None:
    plain: dict[str, Any] = {"plants": [], "erasure": 0.0, "n_layers": 6, "n_groups": 15}
    findings = [summarise(Findings(synthetic_ledger(45, seed=s, **plain), 100)).finding for s in range(25)]
    assert sum(finding != "none" for finding in findings) <= 4  # at 5 % each, five or more: 1 in 100


def test_a_response_without_a_loss_is_no_repair() -> None:
    ds = synthetic_ledger(strength=0.0, plants=[])
    writer = ds.writer.values.tolist().index("attn.6")
    ds["change"].values[:, :8, writer] += 0.5  # the first four attention layers and MLPs
    ds["total_effect"].values[:, :8] += 0.5
    assert summarise(Findings(ds, DRAWS)).finding == "nothing lost"


def test_a_gain_that_later_attention_takes_back_is_told() -> None:
    found = summarise(Findings(synthetic_ledger(strength=-1.5), DRAWS))
    assert found.numbers["taken_back_after"] == "attn.4"
    assert "attn.4 writes against the target" in " ".join(found.sentences)


def test_a_component_that_was_not_removed_is_not_called_repaired() -> None:
    ds = synthetic_ledger()
    k = ds.ablated.values.tolist().index("attn.4")
    removed = 0.8 * ds.own_change.values[:, k]
    ds["change"].values[:, k, ds.is_own.values[k]] -= removed[:, None]
    ds["own_change"].values[:, k] -= removed
    ds["total_effect"].values[:, k] -= removed
    found = summarise(Findings(ds, DRAWS))
    assert found.focus != "attn.4" or found.finding != "repair"
    alone = summarise(Findings(ds.isel(ablated=[k]), DRAWS))
    assert "hardly changed by the replacement" in " ".join(alone.sentences)


def test_a_ledger_that_does_not_close_is_not_to_be_trusted() -> None:
    ds = synthetic_ledger()
    ds["total_effect"].values[0, 0] += 1
    assert "does not close" in sentence(summarise(Findings(ds, DRAWS)), "The ledger")
    assert "closes" in sentence(summarise(Findings(synthetic_ledger(), DRAWS)), "The ledger")


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
@pytest.mark.filterwarnings("error")
def test_odd_ledgers_get_a_summary(odd: dict[str, Any]) -> None:
    ds = synthetic_ledger(**odd)
    found = summarise(Findings(ds, 50))
    check_against(ds, found)
    assert found.headline
    assert found.focus in ds.ablated.values


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


@pytest.mark.parametrize(("own", "there"), [(-1, True), (1, True), (0, True), (-1, False)])
def test_phrases_follow_the_interval_and_not_the_mean(own: int, there: bool) -> None:
    lost = Reading(own, own - 0.1, own + 0.1, there)
    wide = Reading(0.5, -0.1, 1.1, there)
    assert "cannot be told" in words.answer(wide, lost) or not there
    sure = words.answer(Reading(-0.5, -0.6, -0.4, there), lost)
    expected = {-1: "lost a further", 1: "took back", 0: "lowered the target by"}[own]
    assert (expected in sure) == there
    assert "0.50 [0.40, 0.60]" in sure or not there


def test_heads_are_asked_where_no_attention_layer_was_knocked_out() -> None:
    heads = [f"head.{layer}.{unit}" for layer in range(8) for unit in range(2)]
    ds = synthetic_ledger(ablated=heads, plants=[Plant("head.3.1", "attn.5", 0.8)])
    found = summarise(Findings(ds, DRAWS))
    check_against(ds, found)
    assert (found.finding, found.focus) == ("repair", "head.3.1")
    assert "Heads with attention after them: 14;" in " ".join(found.details)
    nothing = summarise(Findings(synthetic_ledger(ablated=heads, strength=0.0), DRAWS))
    assert nothing.headline.startswith("No head that was knocked out clearly lowers the target directly")


@pytest.mark.parametrize("erases", [True, False])
def test_erasure_that_is_not_there_is_not_said_to_go_on(erases: bool) -> None:
    ds = synthetic_ledger()
    mlps = np.flatnonzero(ds.writer_kind == "mlp")
    ds["direct_effect"].values[:, mlps] = -1 if erases else 1
    ds["change"].values[:, :, mlps] = 0
    told = [text for text in summarise(Findings(ds, DRAWS)).leading if "knocked out they" in text]
    assert told == (["With attn.4 knocked out they went on erasing as before."] if erases else [])


def test_findings_lead_and_what_supports_them_follows() -> None:
    found = summarise(Findings(synthetic_ledger()))
    assert 5 <= len(found.leading) <= 8
    assert found.sentences == found.leading + found.details
    starts = (
        "Knocking out",
        "In response, later",
        "In response, the MLPs",
        "By rescaling",
        "Of the",
        "The line",
        "In the",
    )
    assert tuple(next(s for s in starts if text.startswith(s)) for text in found.leading[:7]) == starts
