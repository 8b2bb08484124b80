"""The operations that an estimate counts are those that the run does, as torch counts them."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, MixtralConfig

import hydrascope as hs
from hydrascope import zoo
from hydrascope.run import Operations, estimate, execute, prepare


@pytest.mark.parametrize(
    ("prompts", "options", "ablation"),
    [
        ("indirect", hs.Options(components="attn,mlp", null_draws=1), hs.Resample(donors=2)),
        ("indirect", hs.Options(components="head.2.*", null_draws=0, distribution=False), hs.Zero()),
        ("retrieval", hs.Options(protocol="text", components="head.3.*,head.6.*"), hs.Resample(donors=1)),
    ],
)
def test_operations_of_a_run_are_those_that_were_counted(
    prompts: str, options: hs.Options, ablation: hs.Ablation
) -> None:
    model = hs.load("lerna")
    asked = hs.load_prompts(zoo.default().path / f"{prompts}.jsonl").spread(20)
    task = prepare(model, asked, ablation, options.but(keep_wrong=True, memory="1GB"))
    with FlopCounterMode(display=False) as counted:
        execute(task)
    # torch counts no attention on a processor's fast path, the estimate no norms' and read-outs' vectors
    assert estimate(task).flops == pytest.approx(counted.get_total_flops(), rel=0.01)


def test_a_token_passes_only_the_experts_it_is_routed_to() -> None:
    def config(experts: int) -> MixtralConfig:
        return MixtralConfig(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_local_experts=experts,
            num_experts_per_tok=2,
        )

    def operations(experts: int) -> Operations:
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(config(experts))
        chosen = {f"model.layers.{layer}.mlp.experts": 2 / experts for layer in range(2)}
        return Operations.of_network(network, head="lm_head", layers=2, chosen=chosen, attending=32)

    two, eight = operations(2), operations(8)
    assert eight.block - two.block == 2.0 * 16 * 6 + 2.0 * 0  # the router's six more rows
    assert eight.vocabulary == 2.0 * 50 * 16 and eight.pair == 4.0 * 16
