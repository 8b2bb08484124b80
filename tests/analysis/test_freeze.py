"""Who is needed: planted backups held at their clean output, and the tables against plain loops over the ledger."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

import hydrascope as hs
from hydrascope.ablations import Ablation
from hydrascope.analysis import Findings, choose_freezes, freeze, interactions, names
from hydrascope.anatomy import examine
from hydrascope.errors import ComponentError
from hydrascope.results import Ledger
from hydrascope.run._companions import freezing
from hydrascope.run._options import Options
from hydrascope.run._task import prepare
from tests.engine.test_held import ledger
from tests.support.planted import planted

torch.set_num_threads(1)

DRAWS = 200
ABLATIONS: dict[str, Ablation] = {"zero": hs.Zero(), "resample": hs.Resample(donors=2)}


@functools.cache
def opened(name: str) -> hs.Model:
    return examine(planted(name).model, None, name=name)


def prompts_of(name: str) -> hs.PromptSet:
    pairs = zip(planted(name).prompts, planted(name).targets, strict=True)
    return hs.PromptSet(name, tuple(hs.Prompt(input_ids=tuple(ids), target_id=target) for ids, target in pairs))


@functools.cache
def confirmed(name: str, kind: str, folder: Path) -> Ledger:
    return hs.knock_out(opened(name), prompts_of(name), "attn,mlp", ABLATIONS[kind], freeze=True, out=folder)


def share(ledger: Ledger, held: str, measure: str) -> float:
    table = ledger.freeze()
    table = table[table["role"] != "controls"]
    [row] = table[(table["frozen"] == held) & (table["measure"] == measure)].to_dict("records")
    assert row["ablated"] == "attn.1"
    return float(row["removed"])


@pytest.mark.parametrize("kind", ABLATIONS)
def test_holding_the_backup_removes_all_of_the_repair_and_holding_others_none(kind: str, tmp_path: Path) -> None:
    found = confirmed("backup", kind, tmp_path / "run")
    for measure in ("attention", "compensation", "with_norm"):
        assert share(found, "attn.3", measure) == pytest.approx(1, abs=1e-4)
        assert share(found, "attn.2", measure) == pytest.approx(0, abs=1e-4)
        assert share(found, "attn.2/attn.3", measure) == pytest.approx(1, abs=1e-4)
    table = found.freeze().set_index(["role", "measure"])
    assert table.loc[("responder", "attention"), "frozen"] == "attn.3"
    assert table["frozen"].loc[("control", "attention")] == table["frozen"].loc[("controls", "attention")] == "attn.2"
    assert table["removed_minus_control_lo"].loc[("responder", "with_norm")] > 0.99
    sentences = " ".join(found.summary().sentences)
    assert "Confirmed by freezing: with attn.3 held at its clean output 100 % [100 %, 100 %] of what later" in sentences
    assert "with attn.2 instead 0 % [0 %, 0 %]" in sentences
    page = found.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert ">Freezing</h2>" in page
    assert {f"freeze-{i}-spec" in page for i in (1, 2)} == {True}  # one knock-out: nothing to compare it with
    assert "freeze-3-spec" not in page
    [joint] = found.findings.interactions.to_dict("records")
    assert (joint["ablated"], joint["responder"]) == ("attn.1", "attn.3")
    assert joint["answer"] == pytest.approx(planted("backup").unit.mean(), abs=1e-4)
    assert joint["interaction"] == pytest.approx(-joint["answer"], abs=1e-4)


def test_an_eraser_steps_in_for_a_backup_that_is_held(tmp_path: Path) -> None:
    """The backup is worth 0.7 and spares the eraser 0.28 of its 0.4: without it the eraser lets go of all of these."""
    found = confirmed("hydra", "zero", tmp_path / "run")
    assert share(found, "attn.2", "attention") == pytest.approx(1, abs=1e-4)
    assert share(found, "attn.2", "compensation") == pytest.approx((0.82 - 0.4) / 0.82, abs=1e-4)


def test_where_nothing_is_repaired_nothing_is_held(tmp_path: Path) -> None:
    found = confirmed("neither", "zero", tmp_path / "run")
    assert not found.also
    assert found.freeze().empty
    assert not any("freezing" in sentence for sentence in found.summary().sentences)


def test_an_mlp_that_gives_back_is_held_like_attention(tmp_path: Path) -> None:
    found = confirmed("erasure", "zero", tmp_path / "run")
    table = found.freeze().query("role == 'responder' and measure == 'compensation'")
    assert set(table["kind"]) == {"mlp"}
    assert table["removed"].to_numpy() == pytest.approx(1, abs=1e-4)
    assert "Confirmed by freezing: with mlp." in " ".join(found.summary().sentences)
    assert ": by all later layers" in found.report(tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_tables_are_those_of_plain_loops() -> None:
    ds = ledger(
        "gpt2", "attn.0,attn.1,mlp.2,attn.0/attn.1,attn.0/attn.2,attn.0/mlp.2,attn.0/attn.1/attn.2,attn.0+attn.1"
    )
    table = freeze(ds, resamples=DRAWS)
    assert set(table["role"]) == {"responder", "control", "controls", "all"}
    assert set(table["kind"]) == {"attn", "mlp"}
    for row in table[table["role"] != "controls"].to_dict("records"):
        sums = []
        for name in (row["ablated"], f"{row['ablated']}/{row['frozen']}"):
            one = ds.sel(ablated=name)
            later = [w for w in ds["writer"].values if not bool(one["is_own"].sel(writer=w))]
            later = [w for w in later if row["measure"] != "attention" or w.startswith("attn")]
            repair = float(one["change"].sel(writer=later).sum())
            if row["measure"] == "with_norm":
                repair = float((one["total_effect"] - one["own_change"]).sum())
            sums.append(repair / ds.sizes["prompt"])
        assert row["repair"] == pytest.approx(sums[0], abs=1e-5)
        assert row["repair_frozen"] == pytest.approx(sums[1], abs=1e-5)
        assert row["removed"] == pytest.approx((sums[0] - sums[1]) / sums[0], rel=1e-3, abs=1e-4)
        answer = sum(float(ds["change"].sel(ablated=row["ablated"], writer=w).mean()) for w in row["frozen"].split("/"))
        assert row["answer"] == pytest.approx(answer, abs=1e-5)
    first = table[(table["measure"] == "attention") & (table["kind"] == "attn")].set_index("role")
    beyond = first["removed"].loc["responder"] - first["removed"].loc["controls"]
    assert first.loc["responder", "removed_minus_control"] == pytest.approx(beyond, rel=1e-6)
    [joint] = interactions(ds, resamples=DRAWS).to_dict("records")
    left = {name: ds.sel(ablated=name) for name in ("attn.0+attn.1", "attn.0", "attn.1")}
    both, alone, other = (float((x["total_effect"] - x["norm_effect"]).mean()) for x in left.values())
    assert joint["interaction"] == pytest.approx(both - alone - other, abs=1e-5)
    assert joint["excess"] == pytest.approx(joint["interaction"] + joint["answer"], abs=1e-6)


def test_a_responder_that_acts_on_the_answer_alone_interacts_by_its_own_answer() -> None:
    """The last MLP is read by nobody: norm left out, both together cost what each costs, and its answer."""
    ds = ledger("gpt2", "attn.0,mlp.2,attn.0+mlp.2", hs.Mean())
    [joint] = interactions(ds, resamples=DRAWS).to_dict("records")
    assert joint["excess"] == pytest.approx(0, abs=1e-4)
    assert abs(joint["answer"]) > 1e-3


def test_ledgers_of_different_prompts_are_refused() -> None:
    whole, part = (ledger("gpt2", text) for text in ("attn.0", "attn.0/attn.1"))
    with pytest.raises(ComponentError, match="these two ledgers are of different prompts"):
        freeze(whole, part.isel(prompt=slice(1, None)))


def test_what_is_held_is_drawn_by_the_seed_and_comes_later(tmp_path: Path) -> None:
    found = confirmed("backup", "zero", tmp_path / "run")
    task = prepare(opened("backup"), prompts_of("backup"), hs.Zero(), Options(components="attn,mlp"))
    [held] = freezing(task, found.dataset).values()
    again = Findings(found.dataset)
    chosen = choose_freezes(found.dataset, again.repair, 0)
    assert list(map(str, held.knockouts)) == list(chosen)
    assert chosen == ("attn.1/attn.3", "attn.1/attn.2/attn.3", "attn.1/attn.2", "attn.1+attn.3")
    assert names(found.also["freeze"].dataset, "ablated") == list(chosen)
    assert held.null_draws == 0
