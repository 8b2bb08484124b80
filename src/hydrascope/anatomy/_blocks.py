"""Finds by experiment what the modules of a block write, mix and read.

Writers are the modules whose outputs sum to what a block adds. Which of them are attention, and whether they run in
sequence or in parallel, is read off reruns with disturbed inputs. Costs one pass for each writer of the fullest block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from hydrascope.anatomy._hooks import hooked
from hydrascope.anatomy._precision import precision
from hydrascope.anatomy._solve import Sum, solve
from hydrascope.anatomy._trace import Trace, forward
from hydrascope.errors import AnatomyRefused


@dataclass(frozen=True)
class BlockWriter:
    """A module that writes, before it has an address.

    Attributes:
        module: path of the module that writes.
        gain: multiplier of its write inside the block.
        write: its output in the trace, `[batch, tokens, d_model]`.
    """

    module: str
    gain: float
    write: Tensor


@dataclass(frozen=True)
class Block:
    """A block and its writers.

    Attributes:
        path: path of the block.
        resid: the block's input in the trace, `[batch, tokens, d_model]`.
        writers: its writers in the order in which they return.
        carry: multiplier of the block's input in its output.
        error: relative misfit of the sum of writes.
    """

    path: str
    resid: Tensor
    writers: tuple[BlockWriter, ...]
    carry: float
    error: float


def take_apart(trace: Trace, path: str, tolerance: float) -> Block:
    """Find the modules whose outputs sum to what a block adds.

    Args:
        trace: a recorded forward pass.
        path: path of the block.
        tolerance: relative error that counts as a fit.

    Returns:
        The block's writers and multipliers.

    Raises:
        AnatomyRefused: no sum of up to four module outputs fits; the model is not additive.
    """
    block = trace.of(path)[0]
    assert block.input is not None and block.output is not None
    x, y = block.input, block.output
    names: list[str] = []
    outputs: list[Tensor] = []
    for call in trace.calls:
        if not call.path.startswith(path + ".") or call.output is None:
            continue
        if call.output.numel() != y.numel() or call.output.shape[-1] != y.shape[-1]:
            continue
        output = call.output.reshape(y.shape)
        if any(torch.equal(output, other) for other in (x, y, *outputs)) or not output.any():
            continue
        names.append(call.path)
        outputs.append(output)
    # many models keep a huge stream at their first token, whose rounding would drown every write elsewhere
    size = torch.maximum(x.double().norm(dim=-1, keepdim=True), y.double().norm(dim=-1, keepdim=True))
    size = size.clamp_min(1e-30)
    flat = [(t.double() / size).flatten().cpu().numpy() for t in (x, y, *outputs)]
    before, added = (float(np.linalg.norm(values)) for values in (flat[0], flat[1] - flat[0]))
    slack = tolerance * max(1.0, before / max(added, 1e-30))
    solution: Sum | None = solve(flat[0], flat[1], flat[2:], min(slack, 0.05))
    if solution is None:
        raise AnatomyRefused(
            "additive residual",
            f"no sum of module outputs explains what block '{path}' adds to the residual stream; "
            "models that normalise the stream itself or keep several streams are not supported",
        )
    writers = [BlockWriter(names[m], g, outputs[m]) for m, g in zip(solution.members, solution.gains, strict=True)]
    order = {call.path: i for i, call in enumerate(trace.calls)}
    writers.sort(key=lambda found: order[found.module])
    return Block(path, x, tuple(writers), solution.carry, solution.error)


def find_mixers(model: nn.Module, trace: Trace, blocks: tuple[Block, ...]) -> list[list[bool]]:
    """Find the writers that mix positions, as attention does and MLPs do not.

    Every block gets its recorded input, disturbed at the first position only, and all its earlier writers are frozen at
    their recorded values: a writer whose output then changes at a later position mixes positions. All blocks are
    tested in one pass, since each one's input is set.

    Returns:
        For every block, for every writer, whether it mixes.
    """
    mixes = [[False] * len(block.writers) for block in blocks]
    for turn in range(max(len(block.writers) for block in blocks)):
        outputs = _rerun(model, trace, blocks, disturb_input=True, freeze=turn)
        for b, block in enumerate(blocks):
            if turn < len(block.writers):
                found = block.writers[turn]
                mixes[b][turn] = bool(_changed(outputs[found.module], found.write, model)[:, 1:].any())
    return mixes


def find_reads(model: nn.Module, trace: Trace, blocks: tuple[Block, ...]) -> list[set[tuple[int, int]]]:
    """Find the writers that read an earlier one of their block.

    In sequential blocks the MLP reads what attention wrote, in parallel blocks it does not.

    Returns:
        For every block the pairs (earlier, later) of writer indices.
    """
    reads: list[set[tuple[int, int]]] = [set() for _ in blocks]
    for turn in range(max(len(block.writers) for block in blocks) - 1):
        outputs = _rerun(model, trace, blocks, disturb_writer=turn)
        for b, block in enumerate(blocks):
            for later in range(turn + 1, len(block.writers)):
                found = block.writers[later]
                if _changed(outputs[found.module], found.write, model).any():
                    reads[b].add((turn, later))
    return reads


def _changed(output: Tensor, write: Tensor, model: nn.Module) -> Bool[Tensor, "batch tokens"]:
    """Where a writer's output changed by more than rounding alone can cause.

    Each position is held to its own size: many models write hugely at their first token, beside which nothing changes.
    """
    coarser = max(torch.finfo(write.dtype).eps, torch.finfo(precision(model)).eps)
    rounding = 64 * torch.finfo(torch.float32).eps + 4 * coarser
    change = (output.reshape(write.shape).float() - write.float()).abs().amax(-1)
    changed: Bool[Tensor, "batch tokens"] = change > write.float().abs().amax(-1) * rounding
    return changed


def _rerun(
    model: nn.Module,
    trace: Trace,
    blocks: tuple[Block, ...],
    *,
    disturb_input: bool = False,
    freeze: int = 0,
    disturb_writer: int | None = None,
) -> dict[str, Tensor]:
    """Run with every block's input set and some writers changed.

    Args:
        model: the model.
        trace: a recorded forward pass of it.
        blocks: its blocks, in order.
        disturb_input: add noise to every block's input at the first position.
        freeze: number of first writers of each block whose output is replaced by its recorded value.
        disturb_writer: index of the writer in each block whose output gets noise added.

    Returns:
        Each writer's own output, before any replacement, by the path of its module.
    """
    seen: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(0)

    def disturbed(tensor: Tensor) -> Tensor:
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
        spread = tensor.float().std() if tensor.numel() > 1 else torch.tensor(1.0)
        return tensor + noise.to(tensor) * spread.to(tensor)

    with hooked() as hooks:
        for block in blocks:
            resid = block.resid
            if disturb_input:
                resid = resid.clone()
                resid[:, :1] = disturbed(resid[:, :1])
            hooks.on_input(model.get_submodule(block.path), block.path, lambda _, resid=resid: resid)  # type: ignore[misc]
            for i, found in enumerate(block.writers):

                def edit(output: Tensor, i: int = i, found: BlockWriter = found) -> Tensor | None:
                    seen[found.module] = output.detach().to(found.write, copy=True)
                    if i < freeze:
                        return found.write.reshape(output.shape).to(output)
                    return disturbed(output) if i == disturb_writer else None

                hooks.on_output(model.get_submodule(found.module), found.module, edit)
        forward(model, trace.ids)
    return seen
