"""What is read of all logits, against float64 on a vocabulary of real size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import hydrascope as hs
from hydrascope.anatomy import Tail, examine
from hydrascope.engine._distribution import read_logits
from tests.support.families import VOCABULARY as SMALL
from tests.support.families import build

VOCABULARY, WIDTH, PROMPTS = 50_257, 48, 3
SIZES = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 1.0, 10.0)
TARGETS = torch.tensor([7, 50_256, 20_000])


def states() -> Tensor:
    """A clean state of each prompt, and the same moved by more and more."""
    drawn = torch.Generator().manual_seed(0)
    clean = 3 * torch.randn(1, PROMPTS, WIDTH, generator=drawn)
    sizes = torch.tensor([0.0, *SIZES])[:, None, None]
    return clean + sizes * torch.randn(len(sizes), PROMPTS, WIDTH, generator=drawn)


def head(shift: float) -> nn.Linear:
    """An unembedding whose logits all lie about `shift`, which no probability shows."""
    made = nn.Linear(WIDTH, VOCABULARY)
    drawn = torch.Generator().manual_seed(1)
    with torch.no_grad():
        made.weight.copy_(torch.randn(VOCABULARY, WIDTH, generator=drawn) / WIDTH**0.5)
        made.bias.fill_(shift)
    return made


def tail(made: nn.Linear, cap: float | None = None) -> Tail:
    """No norm, and perhaps a soft-cap."""
    weight, bias = made.weight.detach(), made.bias.detach()
    return Tail(
        norm=None, head="head", norm_calls=0, centred=False, eps=0.0, gain=torch.ones(WIDTH), bias=torch.zeros(WIDTH),
        pre_gain=1.0, scale=1.0, softcap=cap, mean_row=weight.mean(0), mean_head_bias=float(bias.mean()),
    )  # fmt: skip


def exact(made: nn.Linear, cap: float | None) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the targets, and KL divergences, from all logits at once in float64."""
    with torch.no_grad():
        logits = tail(made, cap).cap(states().double() @ made.weight.double().T + made.bias.double())
    found = logits.log_softmax(-1)
    divergence = (found[0].exp() * (found[0] - found)).sum(-1)
    return found[:, torch.arange(PROMPTS), TARGETS], divergence


@pytest.mark.parametrize("cap", [None, 30.0])
@pytest.mark.parametrize("shift", [0.0, 20.0])
def test_small_divergences_do_not_drown_in_a_large_vocabulary(shift: float, cap: float | None) -> None:
    made = head(shift)
    found = read_logits(made, tail(made, cap), states(), TARGETS, with_distribution=True)
    log_prob, divergence = exact(made, cap)
    assert float(divergence[1].max()) < 1e-8, "some are small"
    assert float(divergence.max()) > 1, "and some are large"
    torch.testing.assert_close(found.kl.double(), divergence, rtol=1e-4, atol=2e-7)
    torch.testing.assert_close(found.log_prob.double(), log_prob, rtol=1e-6, atol=1e-5)


def test_rows_that_only_pad_the_vocabulary_do_not_enter_its_mean() -> None:
    made = head(0.0)
    with torch.no_grad():
        made.bias[-257:] = -1e9
    averaged = torch.arange(VOCABULARY) < VOCABULARY - 257
    weight, bias = made.weight.detach()[averaged], made.bias.detach()[averaged]
    padded = replace(tail(made), averaged=averaged, mean_row=weight.mean(0), mean_head_bias=float(bias.mean()))
    targets = torch.tensor([7, 40_000, 20_000])
    with torch.no_grad():
        logits = states().double() @ made.weight.double().T + made.bias.double()
    right = logits[:, torch.arange(PROMPTS), targets] - logits[..., averaged].mean(-1)
    for with_distribution in (True, False):
        found = read_logits(made, padded, states(), targets, with_distribution)
        torch.testing.assert_close(found.logit.double(), right, rtol=1e-6, atol=1e-5)
    assert found.probe is not None and found.probe.shape[-1] == VOCABULARY


@pytest.mark.parametrize("foils", [None, torch.tensor([11, 40_000, 3])])
@pytest.mark.parametrize("with_distribution", [True, False])
def test_half_precision_does_not_round_the_logit_that_is_accounted_for(
    with_distribution: bool, foils: Tensor | None
) -> None:
    made = head(20.0).bfloat16()
    rows = states().bfloat16()
    weight, bias = made.weight.detach().double(), made.bias.detach().double()
    unembedding = replace(tail(made), mean_row=weight.mean(0).float(), mean_head_bias=float(bias.mean()))
    found = read_logits(made, unembedding, rows, TARGETS, with_distribution, foils=foils)
    logits = rows.double() @ weight.T + bias
    each = torch.arange(PROMPTS)
    other = logits.mean(-1) if foils is None else logits[:, each, foils]
    right = logits[:, each, TARGETS] - other
    assert float((logits[:, each, TARGETS] - logits.bfloat16()[:, each, TARGETS]).abs().max()) > 0.05
    torch.testing.assert_close(found.logit.double(), right, rtol=0, atol=5e-3 if with_distribution else 1e-4)


class Words:
    """A tokenizer that knows all tokens but the last few rows of the unembedding."""

    def get_vocab(self) -> dict[str, int]:
        return {f"w{i}": i for i in range(SMALL - 5)}


@pytest.mark.parametrize("with_distribution", [True, False])
def test_a_ledger_closes_beside_rows_at_minus_a_billion(with_distribution: bool) -> None:
    network = build("phi")
    with torch.no_grad():
        network.lm_head.bias[-5:] = -1e9
    model = replace(examine(network, Words(), name="phi"), tokenizer=None)
    ids = ((5, 9, 7, 11), (6, 8, 4, 3))
    prompts = hs.PromptSet("padded", tuple(hs.Prompt(input_ids=one, target_id=12) for one in ids))
    options = hs.Options(components="attn,mlp", keep_wrong=True, distribution=with_distribution)
    found = hs.knock_out(model, prompts, ablation=hs.Zero(), options=options).dataset
    assert (found.attrs["tokens_averaged"], found.attrs["n_vocab"]) == (SMALL - 5, SMALL)
    with torch.no_grad():
        logits = network(input_ids=torch.tensor(ids)).logits[:, -1].double()
    right = logits[:, 12] - logits[:, :-5].mean(-1)
    torch.testing.assert_close(torch.tensor(found["clean_logit"].values).double(), right, rtol=0, atol=1e-4)
    assert found.attrs["closing_error"] < 1e-4
    assert float(abs(found["total_effect"]).max()) > 1e-3
