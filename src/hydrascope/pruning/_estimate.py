"""What a pruning will cost, before it is made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hydrascope.ablations import Optimal
from hydrascope.engine import CANDIDATES, READ_A_STEP, Budget
from hydrascope.errors import OutOfBudget
from hydrascope.pruning._execution import Pruning
from hydrascope.pruning._judge import LOGIT_BYTES
from hydrascope.run import matmul_rate


@dataclass(frozen=True)
class PruneEstimate:
    """What a pruning will cost.

    Attributes:
        parts: parts that can go.
        sizes: how many go.
        rankings: names of the rankings.
        calibration_tokens: predicted tokens that rankings see.
        test_tokens: predicted tokens that they are judged on.
        calibration_documents: documents of the first.
        test_documents: documents of the second.
        sets_ranked: about how many sets are run on the text that rankings see.
        sets_tested: most sets that are run on the other text.
        needed_bytes: streams and logits that are kept beside the weights.
        budget_bytes: memory budget.
        flops: floating-point operations, counted from the weights.
        seconds: flops over the speed of a matrix product measured now; rough.
    """

    parts: int
    sizes: tuple[int, ...]
    rankings: tuple[str, ...]
    calibration_tokens: int
    test_tokens: int
    calibration_documents: int
    test_documents: int
    sets_ranked: int
    sets_tested: int
    needed_bytes: int
    budget_bytes: int
    flops: float
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The estimate in words."""
        return [
            f"{', '.join(f'{one:,}' for one in self.sizes)} of {self.parts:,} parts go, by {', '.join(self.rankings)}",
            f"{self.calibration_tokens:,} tokens of {self.calibration_documents:,} documents to rank on, "
            f"{self.test_tokens:,} of {self.test_documents:,} others to judge on",
            f"about {self.sets_ranked:,} sets to rank by and {self.sets_tested:,} to judge",
            f"about {self.needed_bytes / 2**20:,.0f} MB beside the weights, of {self.budget_bytes / 2**20:,.0f} MB "
            "allowed",
            f"about {self.flops / 1e9:,.0f} GFLOP: at least {self.seconds:,.0f} s at the speed of a matrix product "
            "here",
        ]


def estimate_prune(pruning: Pruning) -> PruneEstimate:
    """Count what a pruning would do.

    Args:
        pruning: what would be done.

    Raises:
        OutOfBudget: the streams of the text do not fit the memory budget.
    """
    model, texts = pruning.model, (pruning.calibration, pruning.test)
    anatomy, embedding = model.anatomy, model.network.get_input_embeddings().weight.numel()
    head = anatomy.n_vocab * anatomy.d_model
    tied = model.network.get_output_embeddings().weight is model.network.get_input_embeddings().weight
    body = model.source.n_parameters - embedding - (0 if tied else head)
    # a set is run from its first removed part on, on average half of the blocks; distributions need the head twice
    whole, half = body + head, body / 2 + 2 * head
    tokens = [texts_.tokens for texts_ in texts]
    ranked, tested = round(pruning.sets_run), pruning.judged
    flops = 2.0 * (whole * sum(tokens) + half * (ranked * tokens[0] + tested * tokens[1]))
    if pruning.request.replace == "optimal":  # a backward pass is two forwards
        learned = Optimal().steps * 3 * min(READ_A_STEP, tokens[0]) + CANDIDATES * tokens[0]
        flops += 2.0 * (body / 2 + head) * len(pruning.parts) * learned
    streams = 2 * max(sum(map(len, one.ids)) for one in texts) * anatomy.n_layers * anatomy.d_model
    longest = max(len(one) for part in texts for one in part.ids)
    logits = 3 * max(LOGIT_BYTES, 4 * longest * anatomy.n_vocab)
    budget = Budget.read(pruning.request.memory, *model.devices)
    needed = streams * model.dtype.itemsize + logits
    if needed > budget.bytes:
        raise OutOfBudget(
            f"this text needs {needed / 2**20:,.0f} MB beside the weights and {budget.bytes / 2**20:,.0f} MB are "
            "allowed; give smaller --calibrate and --test, or more --memory"
        )
    return PruneEstimate(
        parts=len(pruning.parts),
        sizes=pruning.sizes,
        rankings=tuple(pruning.rankings),
        calibration_tokens=tokens[0],
        test_tokens=tokens[1],
        calibration_documents=len(set(texts[0].documents)),
        test_documents=len(set(texts[1].documents)),
        sets_ranked=ranked,
        sets_tested=tested,
        needed_bytes=needed,
        budget_bytes=budget.bytes,
        flops=flops,
        seconds=flops / matmul_rate(model.device, model.dtype),
    )
