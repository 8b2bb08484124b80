"""What was pruned and on which text: a smaller model is made of nothing else, and its card says it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydrascope.anatomy import Model
from hydrascope.errors import RunError
from hydrascope.ledger import read_record
from hydrascope.prompts import PromptSet
from hydrascope.run import record_of, stored_prompts, versions
from hydrascope.run_directory import JSON

if TYPE_CHECKING:
    from hydrascope.pruning._execution import Pruning


@dataclass(frozen=True)
class Subject:
    """The model and the text of a pruning.

    Attributes:
        record: what was asked, of which model and text, as in `run.json`.
        kept: the text, or the folder that keeps it.
    """

    record: Mapping[str, Any]
    kept: PromptSet | Path

    @classmethod
    def of(cls, pruning: Pruning) -> Subject:
        """Of a pruning that is ready to go."""
        record = record_of(pruning.request, pruning.model, pruning.prompts)
        return cls({**record, "versions": versions()}, pruning.prompts)

    @classmethod
    def read(cls, folder: Path) -> Subject:
        """Of a pruning on disk.

        Raises:
            OutputError: its record cannot be read.
        """
        return cls(read_record(folder / JSON), folder)

    @property
    def prompts(self) -> PromptSet:
        """The text.

        Raises:
            OutputError: it is not there, or not what was run.
        """
        return stored_prompts(self.kept) if isinstance(self.kept, Path) else self.kept

    @property
    def text(self) -> str:
        """Name of the text."""
        return str(self.record["prompts"]["name"])

    @property
    def command(self) -> str:
        """The command, or why there is none; of whole paths, which tell where files lie, only the last name."""
        said = str(self.record["command"])
        if not said.startswith("hydrascope "):
            return said
        return shlex.join(Path(word).name if word.startswith(("/", "~")) else word for word in shlex.split(said))

    def require(self, model: Model) -> None:
        """Refuse a model that is not the one that was pruned.

        Raises:
            RunError: it has other weights.
        """
        mine, other = self.record["model"], model.source
        if mine["weight_digest"] == other.weight_digest:
            return
        names = [f"'{mine['label']}'", f"'{other.label}'"]
        if mine["label"] == other.label and mine["dtype"] != other.dtype:
            names = [f"{names[0]} in {mine['dtype']}", other.dtype]
        elif mine["label"] == other.label:
            names[1] = "other weights of that name"
        raise RunError(f"this pruning is of {names[0]}, not of {names[1]}; give the model that was pruned")
