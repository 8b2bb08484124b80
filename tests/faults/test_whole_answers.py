"""Stress tests read over whole answers: sums over their tokens, as the joint knock-outs that plain forwards hold to."""

from __future__ import annotations

import numpy as np

import hydrascope as hs
from hydrascope.resilience import members
from tests.run.test_whole_answers import ASKED, COMPONENTS, measured, model


def test_sets_over_whole_answers_are_those_joint_knockouts() -> None:
    """tests/run/test_whole_answers.py holds these knock-outs to plain float64 forwards."""
    rows = [{"prompt": text, "target": answer} for text, answer in ASKED.items()]
    found = hs.stress(
        model("gpt2"),
        hs.load_prompts(rows),
        "attn.0,mlp.1,mlp.2",
        hs.Zero(),
        rates=(0.5,),
        masks=10,
        worst=0,
        options=hs.Options(answer="whole", keep_wrong=True),
    ).findings
    right = measured("gpt2", hs.Zero())
    for name in COMPONENTS.split(","):
        one = members(name, found.parts)[None]
        for value, change in (("logit", "total_effect"), ("log_prob", "log_prob_change")):
            values = found.values(value)
            lost = right[change].sel(ablated=name).values.reshape(len(ASKED), -1)[:, 0]
            np.testing.assert_allclose(values.of(one)[:, 0] - values.clean, lost, atol=2e-4, err_msg=name)
    several = [i for i, answer in enumerate(ASKED.values()) if len(answer) > 2]
    assert (found.values("log_prob").clean[several] < -3).all()
