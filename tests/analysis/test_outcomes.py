"""What became of each loss, what hides it, and which claims of McGrath et al. hold: on answers that were planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from hydrascope.analysis import Findings, repair, summarise
from tests.support.synthetic import Plant, synthetic_ledger

DRAWS = 300


def plain(**more: Any) -> xr.Dataset:
    made: dict[str, Any] = {"plants": [], "erasure": 0.0, "norm": 0.0}
    return synthetic_ledger(**(made | more))


def labels(ds: xr.Dataset) -> dict[str, str]:
    table = repair(ds, resamples=DRAWS)
    return dict(zip(table["ablated"], table["hidden_by"], strict=True))


def test_a_loss_is_hidden_by_whoever_gives_back_most() -> None:
    assert labels(plain(plants=[Plant("attn.4", "attn.6", 0.6)], norm=0.1))["attn.4"] == "active"
    assert labels(plain(plants=[Plant("attn.4", "mlp.6", 0.6)], norm=0.1))["attn.4"] == "active"
    assert labels(plain(plants=[Plant("attn.4", "attn.6", 0.2)], norm=0.6))["attn.4"] == "norm"
    assert labels(plain(norm=0.6))["attn.4"] == "norm"
    assert labels(plain())["attn.4"] == "nothing"
    assert labels(plain(strength=-1.5))["attn.4"] == ""


def test_what_the_replacement_left_in_place_is_no_hidden_loss() -> None:
    ds = plain()
    k = list(ds.ablated.values).index("attn.4")
    kept = ds.own_change.values[:, k].copy()
    ds["change"].values[:, k, ds.is_own.values[k]] -= kept[:, None]
    ds["own_change"].values[:, k] -= kept
    ds["total_effect"].values[:, k] -= kept
    assert labels(ds)["attn.4"] == "not removed"


@pytest.mark.parametrize("answers", [False, True])
def test_two_parts_that_do_the_same_are_passive_only_where_neither_answers(answers: bool) -> None:
    """Jointly they cost more than both alone, and what either writes does not change without the other."""
    plants = [Plant("attn.3", "attn.4", 0.5)] if answers else []
    alone = plain(ablated=["attn.3", "attn.4"], plants=plants, noise=0.02)
    joint = alone.isel(ablated=[0]).assign_coords(ablated=["attn.3+attn.4"], ablated_kind=("ablated", ["joint"]))
    joint["is_own"] = alone["is_own"].any("ablated").expand_dims(ablated=["attn.3+attn.4"])
    for name in ("own_change", "total_effect"):
        both = alone[name].sum("ablated") - (0.4 if name == "total_effect" else 0.0)
        joint[name] = both.expand_dims("ablated", 1).assign_coords(ablated=["attn.3+attn.4"])
    ds = xr.concat([alone, joint], "ablated", data_vars="minimal", join="outer").assign_attrs(alone.attrs)
    found = labels(ds)
    assert found["attn.4"] == ("nothing" if answers else "passive")


def test_labels_are_told_in_the_summary() -> None:
    findings = Findings(synthetic_ledger(), DRAWS)
    found, table = summarise(findings), findings.repair
    [told] = [text for text in found.details if text.startswith("What hides the clear losses: ")]
    for label in ("active", "norm", "nothing"):
        names = table.loc[table["lost"] & (table["hidden_by"] == label), "ablated"]
        assert found.numbers[f"hidden_by_{label}"] == len(names)
        assert all(name in told for name in names)


def claims(**more: Any) -> dict[str, str]:
    table = Findings(plain(**more), DRAWS).mcgrath
    return dict(zip(table["claim"], table["verdict"], strict=True))


def test_claims_hold_where_they_were_planted_and_do_not_elsewhere() -> None:
    there = claims(plants=[Plant("attn.4", "attn.6", 0.7)], noise=0.02, donor_noise=0.0)
    assert there["repair at middle layers"] == there["slope below 1"] == there["R²"] == "holds"
    nowhere = claims(noise=0.02, donor_noise=0.0)
    assert nowhere["repair at middle layers"] == "does not"
    assert nowhere["localised response"] == "cannot be told"
    beyond = claims(plants=[Plant("attn.4", "attn.6", 1.4)], noise=0.02, donor_noise=0.0)
    assert beyond["slope below 1"] == "does not"
    few = claims(plants=[Plant("attn.4", "attn.6", 0.7)], n_groups=3)
    assert set(few.values()) == {"cannot be told"}


def test_erasure_and_its_release_are_told_apart() -> None:
    with_it = claims(erasure=0.9, noise=0.02, strength=3.0)
    assert with_it["late MLP erasure"] == with_it["erasure released"] == "holds"
    ds = plain(noise=0.02)
    ds["direct_effect"].values[:, np.flatnonzero(ds.writer_kind == "mlp")] = 1.0
    table = Findings(ds, DRAWS).mcgrath
    found = dict(zip(table["claim"], table["verdict"], strict=True))
    assert found["late MLP erasure"] == found["erasure released"] == "does not"


def test_each_number_of_a_claim_is_that_of_the_table_it_names() -> None:
    findings = Findings(synthetic_ledger(), DRAWS)
    for row in findings.mcgrath.to_dict("records"):
        if not row["where"]:
            continue
        name, column = row["measure"].split(".")
        table = getattr(findings, name)
        place = "writer" if name == "late_mlps" else "ablated"
        known = table[table[place] == row["where"]][column].to_numpy(dtype=float)
        assert np.isclose(known, row["value"]).any(), row


def test_answers_of_attention_are_asked_of_all_losses_together_and_against_a_random_direction() -> None:
    there = claims(plants=[Plant("attn.4", "attn.6", 0.7)], noise=0.02, donor_noise=0.0)
    assert there["attention answers attention"] == there["beyond a random direction"] == "holds"
    by_mlp = claims(plants=[Plant("attn.4", "mlp.6", 0.7)], noise=0.02, donor_noise=0.0)
    assert by_mlp["attention answers attention"] == "does not"
    assert by_mlp["beyond a random direction"] == "holds"
    anything = plain(plants=[Plant("attn.4", "attn.6", 0.7)], noise=0.02, donor_noise=0.0)
    anything["null_change"].loc[{"ablated": "attn.4", "writer": "attn.6"}] += 1.0
    table = Findings(anything, DRAWS).mcgrath.set_index("claim")
    asked = ["beyond a random direction", "attention answers attention"]
    assert set(table["verdict"][asked]) == {"cannot be told"}
    unasked = claims(plants=[Plant("attn.4", "attn.6", 0.7)], null=False)
    assert unasked["beyond a random direction"] == "cannot be told"


def test_help_from_the_norm_and_what_early_layers_do_through_others_are_found() -> None:
    assert claims(norm=0.6)["help from the norm"] == "holds"
    assert claims(noise=0.02)["help from the norm"] == "does not"
    early = ("attn.0", "mlp.0", "attn.1", "mlp.1")

    def early_layers(writing: float, further: float) -> str:
        ds = plain(n_layers=12, noise=0.02, donor_noise=0.0)
        for part in early:
            ds["direct_effect"].loc[{"writer": part}] = writing
            ds["total_effect"].loc[{"ablated": part}] = -writing - further
        table = Findings(ds, DRAWS).mcgrath.set_index("claim")
        return str(table["verdict"]["early layers act through others"])

    assert early_layers(0.1, 0.5) == "holds"
    assert early_layers(0.1, 0.0) == "does not"


def test_more_is_written_than_missed_where_much_is_repaired() -> None:
    layers = [f"attn.{layer}" for layer in range(3, 7)]
    repaired = claims(ablated=layers, plants=[Plant(part, "mlp.7", 0.8) for part in layers], noise=0.02)
    assert repaired["more written than missed"] == "holds"
    broken = claims(ablated=layers, plants=[Plant(part, "mlp.7", -0.8) for part in layers], noise=0.02)
    assert broken["more written than missed"] == "does not"
