"""Two stress tests side by side, on set functions whose difference is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import hydrascope as hs
from hydrascope.errors import RunError
from tests.conftest import Cli
from tests.faults.test_stress import USUAL, tiny_model, tiny_prompts, zeroed


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The tiny model with zeros, and with means, in place of its sub-layers."""
    found = []
    for ablation in (hs.Zero(), hs.Mean()):
        out = tmp_path_factory.mktemp("tests") / ablation.name
        options = hs.Options(target="top")
        hs.stress(tiny_model(), tiny_prompts(), "writers", ablation, options=options, out=out, **USUAL)
        found.append(out)
    return found


def test_differences_are_those_of_the_same_prompts_and_masks(folders: list[Path]) -> None:
    first, second = map(hs.Stress.open, folders)
    found = second.beside(first)
    failed = first.findings.faults.failed
    for value in ("logit", "accuracy"):
        change = second.findings.values(value).of(failed) - first.findings.values(value).of(failed)
        curve = found.curve(value)
        np.testing.assert_allclose(curve["difference"].iloc[1:-1], change.mean((0, 2)), atol=1e-12)
        np.testing.assert_allclose(curve["difference"], curve["second"] - curve["first"], atol=1e-12)
    parts = found.importance
    for name, test in (("first", first), ("second", second)):
        np.testing.assert_allclose(parts[name], test.importance()["importance"])
    pairs = found.pairs
    np.testing.assert_allclose(pairs["second"], second.pairs()["interaction"], atol=1e-9)
    np.testing.assert_allclose(pairs["difference"], pairs["second"] - pairs["first"], atol=1e-9)
    joint = np.isin(np.arange(6), [0, 1])[None]
    alone = np.eye(6, dtype=bool)[:2]
    each = [
        test.values().of(joint)[:, 0] - test.values().of(alone).sum(1) + test.values().clean
        for test in (first.findings, second.findings)
    ]
    ends = np.array(stats.ttest_1samp(each[1] - each[0], 0).confidence_interval(0.95), float)
    np.testing.assert_allclose(pairs.loc[0, ["difference_lo", "difference_hi"]].to_numpy(float), ends, atol=1e-9)


def test_what_both_share_cancels(folders: list[Path]) -> None:
    """A test beside itself differs nowhere, with no interval left; beside another one's interval it is narrower."""
    first, second = map(hs.Stress.open, folders)
    same = first.beside(hs.Stress.open(folders[0]))
    told = same.importance.dropna()  # where hardly a mask tells of a part, no interval is given
    assert len(told) > len(same.importance) / 2
    assert (told[["difference", "difference_lo", "difference_hi"]] == 0).all(axis=None)
    assert not same.pairs["significant"].any()
    assert "at no rate do they clearly differ" in same.sentences[0]
    paired, alone = second.beside(first).curve(), [one.curve() for one in (first, second)]
    width = paired["difference_hi"] - paired["difference_lo"]
    apart = np.sqrt(sum((one["value_hi"] - one["value_lo"]) ** 2 for one in alone))
    assert (width < apart).all()


def test_tests_of_other_sets_are_refused(folders: list[Path]) -> None:
    other = hs.stress(
        tiny_model(), tiny_prompts(), "writers", hs.Zero(), options=hs.Options(target="top"), **{**USUAL, "masks": 12}
    )
    with pytest.raises(RunError, match="number of masks or seed, and cannot be subtracted"):
        other.beside(zeroed())


def test_the_commands_read_stress_tests(folders: list[Path], cli: Cli, tmp_path: Path) -> None:
    first, second = folders
    said = cli("compare", first, second)
    assert said.code == 0, said.err
    assert "The largest difference in prompts that stay right is" in said.out
    assert "pairs" in json.loads(cli("compare", first, second, "--json").out)["comparisons"][0]
    assert hs.Stress.open(first).summary().headline in cli("show", first).out
    assert "the worst sets" in cli("table", first).out.lower()
    assert cli("table", first, "worst").out.startswith("size,parts,value")
    assert "no table 'repair'; choose from curve" in cli("table", first, "repair").refusal()
    page = tmp_path / "page.html"
    assert cli("report", first, "--out", page).code == 0
    assert "What the model survives" in page.read_text()
