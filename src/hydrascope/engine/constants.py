"""Learned constants on disk, so that a killed run goes on with the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import zarr

from hydrascope.ablation import Optimal
from hydrascope.engine.batch import Constants, Work
from hydrascope.engine.optimal import Passes, learn
from hydrascope.engine.plan import Plan
from hydrascope.errors import OutputError
from hydrascope.prompts import EncodedPrompt


@dataclass(frozen=True)
class ConstantStore:
    """The constants of all knock-outs, one row each, in a Zarr group.

    Attributes:
        scratch: the run's scratch folder.
        group: `values`, the values at a knock-out's places one behind the other; `done`, whether they are there.
        widths: of each knock-out's places.
    """

    scratch: Path
    group: zarr.Group
    widths: tuple[tuple[int, ...], ...]

    @classmethod
    def open(cls, scratch: Path, plan: Plan) -> ConstantStore:
        """The store of a run, made if there is none.

        Raises:
            OutputError: it cannot be written.
        """
        widths = tuple(tuple(place.width for place in places) for places in plan.edited)
        widest = max(map(sum, widths))
        try:
            group = zarr.open_group(scratch, mode="a").require_group("constants")
            group.require_array("values", shape=(len(widths), widest), chunks=(1, widest), dtype="float32")
            group.require_array("done", shape=(len(widths),), chunks=(1,), dtype="bool")
        except OSError as error:
            raise _no_room(scratch, error) from error
        return cls(scratch, group, widths)

    def fill(
        self,
        work: Work,
        prompts: Sequence[EncodedPrompt],
        ablation: Optimal,
        progress: Callable[[int, int], None],
    ) -> None:
        """Learn what has not been learned yet, group by group, and write each group when it is whole.

        Args:
            work: model, plan and values.
            prompts: the run's prompts.
            ablation: steps and rate.
            progress: told how many knock-outs are done, of how many.

        Raises:
            AblationError: no gradient comes through the model.
            OutputError: the constants cannot be written.
        """
        done = np.asarray(self.group["done"][:])
        if done.all():
            return
        passes = Passes.of(work, prompts)
        deep = sorted(range(len(self.widths)), key=lambda k: work.plan.knockouts[k].first_layer)
        counted = 0
        for group in passes.groups(work.budget, deep):
            if not done[group].all():
                found = learn(work, passes, group, ablation)
                try:
                    self._write(group, found)
                except OSError as error:
                    raise _no_room(self.scratch, error) from error
            counted += len(group)
            progress(counted, len(deep))

    def _write(self, group: Sequence[int], found: Sequence[Constants]) -> None:
        for number, constants in zip(group, found, strict=True):
            values = torch.cat(list(constants)).numpy()
            self.group["values"][number, : len(values)] = values
        for number in group:
            self.group["done"][number] = True

    def constants(self) -> dict[int, Constants]:
        """The values of every knock-out, place by place."""
        values = torch.from_numpy(np.asarray(self.group["values"][:]))
        return {
            number: tuple(values[number, : sum(widths)].split(list(widths)))
            for number, widths in enumerate(self.widths)
        }


def _no_room(where: Path, error: OSError) -> OutputError:
    return OutputError(
        f"'{where}' cannot be written: {error.strerror or error}; what is done is kept, make room and run the same "
        "command again"
    )
