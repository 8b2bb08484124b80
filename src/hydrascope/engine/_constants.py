"""Learned constants on disk, so that a killed run goes on with the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import zarr

from hydrascope._digests import digest_rows
from hydrascope.engine._measure import Constants
from hydrascope.engine._memory import ran_out
from hydrascope.engine._optimal import Learning
from hydrascope.engine._plan import Plan
from hydrascope.engine._scratch import open_or_renew
from hydrascope.errors import OutOfBudget, OutputError


@dataclass(frozen=True)
class ConstantStore:
    """Constants of all knock-outs in a Zarr group, one row each.

    Attributes:
        scratch: the run's scratch folder.
        group: `values`, a knock-out's values place after place; `digest`, of each row of them; `done`, whether they
            are there.
        widths: for each knock-out, the widths of its places.
    """

    scratch: Path
    group: zarr.Group
    widths: tuple[tuple[int, ...], ...]

    @classmethod
    def open(cls, scratch: Path, plan: Plan) -> ConstantStore:
        """Open the store of a run, made if there is none or it is damaged.

        Raises:
            OutputError: it cannot be written.
        """
        widths = tuple(tuple(place.width for place in places) for places in plan.edited)
        widest = max(map(sum, widths))

        def lay_out() -> ConstantStore:
            group = zarr.open_group(scratch, mode="a").require_group("constants")
            group.require_array("values", shape=(len(widths), widest), chunks=(1, widest), dtype="float32")
            group.require_array("digest", shape=(len(widths),), chunks=(1,), dtype="uint32")
            group.require_array("done", shape=(len(widths),), chunks=(1,), dtype="bool")
            return cls(scratch, group, widths)

        try:
            return open_or_renew(scratch, lay_out, cls.is_intact)
        except OSError as error:
            raise _no_room(scratch, error) from error

    def is_intact(self) -> bool:
        """Whether every constant that is done is what was written."""
        done, digests = (np.asarray(self.group[name][:]) for name in ("done", "digest"))
        return np.array_equal(digest_rows(np.asarray(self.group["values"][:]))[done], digests[done])

    @property
    def complete(self) -> bool:
        """Whether everything has been learned."""
        return bool(np.asarray(self.group["done"][:]).all())

    def fill(self, learning: Learning, progress: Callable[[int, int], None]) -> None:
        """Learn what has not been learned yet, and write group by group.

        Where the device has less room than was thought, groups are learned half by half.

        Args:
            learning: what the constants are learned from.
            progress: takes how many knock-outs are done, and how many there are.

        Raises:
            AblationError: no gradient comes through the model.
            OutOfBudget: there is no room for a single knock-out.
            OutputError: the constants cannot be written.
        """
        done = np.asarray(self.group["done"][:])
        waiting, counted = learning.groups, 0
        while waiting:
            group = waiting.pop(0)
            if not done[group].all():
                found = self._learned(learning, group)
                if found is None:
                    waiting[:0] = [group[: len(group) // 2], group[len(group) // 2 :]]
                    continue
                try:
                    self._write(group, found)
                except OSError as error:
                    raise _no_room(self.scratch, error) from error
            counted += len(group)
            progress(counted, len(done))

    def _learned(self, learning: Learning, group: Sequence[int]) -> list[Constants] | None:
        """Constants of a group; None where there is no room for all of it at once."""
        try:
            return learning.learn(group)
        except (torch.cuda.OutOfMemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            if len(group) == 1:
                raise OutOfBudget(
                    "the device has no room to learn the constant of a single knock-out; take shorter texts, a smaller "
                    "budget (--memory) or another device (--device)"
                ) from error
            return None

    def _write(self, group: Sequence[int], found: Sequence[Constants]) -> None:
        for number, constants in zip(group, found, strict=True):
            row, values = np.zeros((1, self.group["values"].shape[1]), "float32"), torch.cat(list(constants)).numpy()
            row[0, : len(values)] = values
            self.group["values"][number : number + 1] = row
            self.group["digest"][number : number + 1] = digest_rows(row)
        for number in group:
            self.group["done"][number] = True

    def constants(self) -> dict[int, Constants]:
        """Values of every knock-out, place by place."""
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
