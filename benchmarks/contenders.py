"""The contenders. Each answers with centred target logits, and says how long every piece of work took."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from measure import Seconds, Stopwatch
from question import Question, Replacement
from torch import Tensor

from hydrascope.anatomy import Model, directions
from hydrascope.engine import Edit, Intervention, SharedPrefix, record, run_interventions

HEAD_DIM = 64


@dataclass
class Answer:
    """What a contender returns.

    Attributes:
        clean: centred target logits of the untouched prompts, or nothing if they were not asked for.
        ablated: the same for each asked-for edit, by its index.
        seconds: time by piece of work: `prefill` and `run_interventions`, or one entry per forward pass.
    """

    ablated: dict[int, Float[Tensor, " prompts"]]
    clean: Float[Tensor, " prompts"] | None = None
    seconds: dict[str, Seconds] = field(default_factory=dict)


class Contender(Protocol):
    """Something that can answer.

    Attributes:
        name: as printed.
        per_forward: needs one forward pass per edit, so that a sample can be scaled up.
    """

    name: str
    per_forward: bool

    def answer(self, question: Question, edits: Sequence[int]) -> Answer:
        """Answer for some of the edits."""


class Engine:
    """This package: one prefill, then all variants as extra rows of one token; all writers are read as well."""

    per_forward = False

    def __init__(self, model: Model, full: bool) -> None:
        self.model, self.full = model, full
        self.name = "hydrascope, with distributions" if full else "hydrascope"

    def answer(self, question: Question, edits: Sequence[int]) -> Answer:
        """From token ids and donor values to read-outs of every writer and total effects."""
        watch = Stopwatch()
        clean = record(self.model, question.ids, keep="prefix")
        prefill = watch.lap()
        read = directions(self.model.network, self.model.anatomy.tail, question.targets)
        variants = [self._variant(question.edits[i]) for i in edits]
        swept = run_interventions(
            self.model, clean, variants, read, strategy=SharedPrefix(), with_distribution=self.full
        )
        logit = swept.distribution.logit
        seconds = {"prefill": prefill, "sweep": watch.lap()}
        return Answer({i: logit[row] for row, i in enumerate(edits, start=1)}, logit[0], seconds)

    def _variant(self, replacement: Replacement) -> Intervention:
        (place,) = self.model.anatomy.places(replacement.part)
        return Intervention(str(replacement.part), replacement.part.layer, (Edit(place, replacement.value[:, None]),))


class Forwards:
    """One full forward pass per edit, by whatever means `last_logits` has to replace a value."""

    per_forward = True

    def __init__(self, name: str, last_logits: Callable[[Tensor, Replacement | None], Tensor]) -> None:
        self.name, self._last_logits = name, last_logits

    def answer(self, question: Question, edits: Sequence[int]) -> Answer:
        """One pass per edit."""
        answer = Answer({})
        for i in edits:
            watch = Stopwatch()
            logits = self._last_logits(question.ids, question.edits[i])
            answer.ablated[i] = centred(logits, question.targets)
            answer.seconds[str(i)] = watch.lap()
        return answer

    def clean(self, question: Question) -> Float[Tensor, " prompts"]:
        """The untouched prompts."""
        return centred(self._last_logits(question.ids, None), question.targets)


def centred(logits: Float[Tensor, "prompts vocab"], targets: Tensor) -> Float[Tensor, " prompts"]:
    """Target logits minus the mean over the vocabulary."""
    return logits.gather(1, targets[:, None])[:, 0] - logits.mean(-1)


def plain_loop(network: Any) -> Forwards:
    """The Hugging Face model with a hook; only the last position is unembedded."""

    @contextmanager
    def replaced(edit: Replacement | None) -> Iterator[None]:
        if edit is None:
            yield
            return
        block = network.transformer.h[edit.part.layer]

        def write(module: Any, args: Any, output: Any) -> None:
            (output[0] if isinstance(output, tuple) else output)[:, -1] = edit.value

        def head(module: Any, args: Any) -> Any:
            state = args[0].clone()
            state[:, -1, span(edit)] = edit.value
            return (state,)

        if edit.part.kind == "head":
            handle = block.attn.c_proj.register_forward_pre_hook(head)
        else:
            handle = getattr(block, edit.part.kind).register_forward_hook(write)
        try:
            yield
        finally:
            handle.remove()

    def last_logits(ids: Tensor, edit: Replacement | None) -> Tensor:
        with torch.no_grad(), replaced(edit):
            logits: Tensor = network(ids, use_cache=False, logits_to_keep=1).logits[:, -1]
        return logits

    return Forwards("plain loop of forwards", last_logits)


def transformer_lens(folder: Path) -> Forwards:
    """TransformerLens with `run_with_hooks`, as its documentation shows."""
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(str(folder), device="cpu")
    bridge.eval()
    points = {"attn": "hook_attn_out", "mlp": "hook_mlp_out", "head": "attn.hook_z"}

    def last_logits(ids: Tensor, edit: Replacement | None) -> Tensor:
        def put(state: Tensor, hook: Any) -> Tensor:
            assert edit is not None
            if edit.part.kind == "head":
                state[:, -1, edit.part.unit] = edit.value
            else:
                state[:, -1] = edit.value
            return state

        hooks = [] if edit is None else [(f"blocks.{edit.part.layer}.{points[edit.part.kind]}", put)]
        with torch.no_grad():
            logits: Tensor = bridge.run_with_hooks(ids, return_type="logits", fwd_hooks=hooks)[:, -1]
        return logits

    return Forwards(f"TransformerLens {version('transformer-lens')}", last_logits)


def nnsight(folder: Path) -> Forwards:
    """One nnsight trace per edit, as its documentation shows."""
    from nnsight import TransformersModel

    model = TransformersModel(str(folder), task="text-generation", device_map="cpu", dispatch=True)

    def untouched(ids: Tensor) -> Tensor:
        with torch.no_grad(), model.trace(ids):
            logits: Tensor = model.lm_head.output[:, -1].save()
        return logits

    def attention(ids: Tensor, edit: Replacement) -> Tensor:
        layer, value = edit.part.layer, edit.value
        with torch.no_grad(), model.trace(ids):
            model.transformer.h[layer].attn.output[0][:, -1] = value
            logits: Tensor = model.lm_head.output[:, -1].save()
        return logits

    def mlp(ids: Tensor, edit: Replacement) -> Tensor:
        layer, value = edit.part.layer, edit.value
        with torch.no_grad(), model.trace(ids):
            model.transformer.h[layer].mlp.output[:, -1] = value
            logits: Tensor = model.lm_head.output[:, -1].save()
        return logits

    def head(ids: Tensor, edit: Replacement) -> Tensor:
        layer, value, where = edit.part.layer, edit.value, span(edit)
        with torch.no_grad(), model.trace(ids):
            model.transformer.h[layer].attn.c_proj.input[:, -1, where] = value
            logits: Tensor = model.lm_head.output[:, -1].save()
        return logits

    ways = {"attn": attention, "mlp": mlp, "head": head}

    def last_logits(ids: Tensor, edit: Replacement | None) -> Tensor:
        return untouched(ids) if edit is None else ways[edit.part.kind](ids, edit)

    return Forwards(f"nnsight {version('nnsight')}", last_logits)


def span(edit: Replacement) -> slice:
    """A head's slice of the projection's input."""
    assert edit.part.unit is not None
    return slice(edit.part.unit * HEAD_DIM, (edit.part.unit + 1) * HEAD_DIM)


PEERS: dict[str, Callable[[Path], Forwards]] = {"transformer-lens": transformer_lens, "nnsight": nnsight}


def installed_peers() -> tuple[list[str], list[str]]:
    """Peers that are here, and peers that are not."""
    here, missing = [], []
    for package in PEERS:
        try:
            version(package)
            here.append(package)
        except PackageNotFoundError:
            missing.append(package)
    return here, missing
