"""Parts by what they write on the logit of the text's own next token, which one pass over the text tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hydrascope.anatomy import Writer, directions, first_tensor, hooked
from hydrascope.components import Component
from hydrascope.pruning._judge import Judge
from hydrascope.pruning.rankings._base import Choice, Ranking

_WRITERS = ("layer", "attn", "mixer", "mlp")

Means = Mapping[Component, Float[Tensor, " d"]]


class DirectEffect(Ranking):
    """The parts that write least on the next token's logit."""

    name = "direct"
    meaning = "smallest mean absolute direct effect on the next token"
    kinds = _WRITERS

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose by the mean over tokens."""
        return Choice.by_score(_mean_size(judge, parts, {}), sizes)


class OwnChange(Ranking):
    """The parts whose own change is smallest when their mean output takes their place."""

    name = "own change"
    meaning = "smallest mean absolute own change under its mean output"
    kinds = _WRITERS

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose by the mean over tokens."""
        return Choice.by_score(_mean_size(judge, parts, _means(judge)), sizes)


def _mean_size(judge: Judge, parts: Sequence[Component], means: Means) -> dict[Component, float]:
    """Mean absolute direct effect of each part's write, less its mean, on the token that follows."""
    model, anatomy = judge.model, judge.model.anatomy
    total = dict.fromkeys(parts, 0.0)
    for batch, trunk in zip(judge.batches, judge.trunks, strict=True):
        last = first_tensor(trunk.streams.returned[-1])
        assert last is not None
        ids = judge.ids(batch)
        vectors = directions(model.network, anatomy.tail, ids[:, 1:].flatten()).vectors
        scaled = vectors.reshape(*ids[:, 1:].shape, -1) / anatomy.tail.sigma(last.to(vectors.device))[:, :-1, None]
        effects = {
            component: ((write.to(scaled) - means.get(component, torch.zeros(())).to(scaled))[:, :-1] * scaled).sum(-1)
            for component, write in _writes(judge, ids).items()
        }
        for part in parts:
            both = torch.stack([effects[one] for one in anatomy.written_by(part)]).sum(0)
            total[part] += float(both.abs().double().sum())
    return {part: size / judge.texts.tokens for part, size in total.items()}


def _means(judge: Judge) -> Means:
    """Mean write of every writer over all positions that predict a token."""
    sums: dict[Component, Tensor] = {}
    for batch in judge.batches:
        for component, write in _writes(judge, judge.ids(batch)).items():
            here = write[:, :-1].double().sum((0, 1))
            sums[component] = sums[component] + here if component in sums else here
    return {component: total / judge.texts.tokens for component, total in sums.items()}


def _writes(judge: Judge, ids: Int[Tensor, "texts tokens"]) -> dict[Component, Float[Tensor, "texts tokens d"]]:
    """What every writer adds to the last residual state."""
    network, outputs = judge.model.network, {}
    with hooked() as hooks, torch.no_grad():
        for path in {path for writer in judge.model.anatomy.writers for path in writer.modules}:

            def keep(output: Tensor, path: str = path) -> None:
                outputs[path] = output.detach().reshape(*ids.shape, -1).clone()

            hooks.on_output(network.get_submodule(path), path, keep)
        network(input_ids=ids, use_cache=False)
    return {writer.component: _sum(writer, outputs) for writer in judge.model.anatomy.writers}


def _sum(writer: Writer, outputs: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([outputs[path] * gain for path, gain in zip(writer.modules, writer.gains, strict=True)]).sum(0)
