"""What removed sets cost on tasks: the share of right answers and the logit difference, beside the loss on text.

Where every prompt of a task has a foil, an answer is right if the target is above it, and the difference is between
both; elsewhere it is right if it is the first choice, and the difference is to the mean over the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.analysis import mean_interval, resample
from hydrascope.anatomy import Model
from hydrascope.components import Component
from hydrascope.engine import Constants, Trunk
from hydrascope.errors import PromptError
from hydrascope.prompts import EncodedPrompt, encode, load
from hydrascope.pruning._store import name_of
from hydrascope.pruning._texts import Texts

Answers = Float[np.ndarray, "measures prompts"]
"""Whether the answer is right, and the logit difference, of every prompt."""


@dataclass(frozen=True)
class Task:
    """A task in the tokens of one model.

    Attributes:
        name: its name.
        digest: of its prompts.
        prompts: the prompts, shortest first.
    """

    name: str
    digest: str
    prompts: tuple[EncodedPrompt, ...]

    @classmethod
    def open(cls, name: str, model: Model, most: int) -> Task:
        """Read or generate a task's prompts.

        Args:
            name: a built-in set, a task, or a file.
            model: the model.
            most: most prompts, evenly spread over all.

        Raises:
            PromptError: a prompt has no target.
        """
        given = load(name, tokenizer=model.tokenizer)
        given = given.spread(min(most, len(given)))
        encoded = encode(
            given, model.tokenizer, vocabulary=model.anatomy.n_vocab, context=model.context, needed=("target",)
        )
        if any(prompt.target_id is None for prompt in encoded.prompts):
            raise PromptError(f"the task '{name}' has prompts without a target; give one, or leave it out of --tasks")
        return cls(given.name, given.digest, tuple(sorted(encoded.prompts, key=lambda one: (len(one.ids), one.index))))

    @property
    def foiled(self) -> bool:
        """Whether every prompt has a foil."""
        return all(prompt.foil_id is not None for prompt in self.prompts)

    def answers(
        self,
        model: Model,
        sets: Sequence[Sequence[Component]],
        constants: Mapping[Component, Constants],
        batch: int,
        told: Callable[[], None],
    ) -> dict[str, Answers]:
        """What the model answers without each of some sets, by name of the set.

        Args:
            model: the model.
            sets: the sets.
            constants: what removed parts leave in their places.
            batch: largest number of tokens that go through the model together.
            told: called after each set.
        """
        texts = Texts(tuple(one.ids for one in self.prompts), tuple(one.group for one in self.prompts))
        some = texts.batches(batch)
        ids = [torch.tensor([texts.ids[i] for i in rows], device=model.device) for rows in some]
        trunks = [Trunk.grow(model, each, constants=constants) for each in ids]
        found = {}
        for removed in sets:
            parts = [
                self._read(model, trunk.logits(model, *removed)[:, -1], [self.prompts[i] for i in rows])
                for rows, trunk in zip(some, trunks, strict=True)
            ]
            found[name_of(removed)] = np.concatenate(parts, 1)
            told()
        return found

    def _read(self, model: Model, logits: Float[Tensor, "prompts vocab"], prompts: Sequence[EncodedPrompt]) -> Answers:
        logits, top = logits.double(), logits.argmax(-1).tolist()
        target = torch.tensor([prompt.target_id for prompt in prompts], device=logits.device)
        at_target = logits.gather(1, target[:, None])[:, 0]
        if self.foiled:
            foil = torch.tensor([prompt.foil_id for prompt in prompts], device=logits.device)
            margin = at_target - logits.gather(1, foil[:, None])[:, 0]
            right = (margin > 0).tolist()
        else:
            margin = at_target - model.anatomy.tail.of_tokens(logits).mean(-1)
            right = [said in (one.target_id, *one.accepted) for said, one in zip(top, prompts, strict=True)]
        return np.stack([np.array(right, float), margin.cpu().numpy()])


@dataclass(frozen=True)
class TaskAnswers:
    """What was answered on one task.

    Attributes:
        groups: group of each prompt.
        foiled: whether targets are held to foils.
        answers: by name of the removed set; of the whole model under the empty name.
    """

    groups: tuple[str, ...]
    foiled: bool
    answers: Mapping[str, Answers]

    def row(self, removed: str) -> dict[str, float]:
        """Right answers and logit difference without a set, and their changes, prompt by prompt, with intervals.

        A group of prompts counts once, as everywhere where prompts are no plain text.
        """
        whole, own = self.answers[""], self.answers[removed]
        columns = np.stack([own[0], own[1], own[0] - whole[0], own[1] - whole[1]], 1)
        found = mean_interval(columns, resample(self.groups))
        row = {"whole_right": float(mean_interval(whole[:1].T, resample(self.groups))[0][0])}
        for number, name in enumerate(("right", "logit_difference", "right_change", "logit_difference_change")):
            row |= {f"{name}{end}": float(one[number]) for end, one in zip(("", "_lo", "_hi"), found, strict=True)}
        return row


def table_of(
    tasks: Mapping[str, TaskAnswers], chosen: Mapping[str, Mapping[int, Sequence[Sequence[str]]]]
) -> pd.DataFrame:
    """Every ranking of one set at every size on every task.

    Args:
        tasks: by name.
        chosen: sets by ranking and size.
    """
    rows = [
        {"task": task, "ranking": name, "size": size, "prompts": len(found.groups), **found.row("+".join(sets[0]))}
        for task, found in tasks.items()
        for name, by_size in chosen.items()
        for size, sets in by_size.items()
        if len(sets) == 1
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = [
    *("task", "ranking", "size", "prompts", "whole_right"),
    *(
        f"{name}{end}"
        for name in ("right", "logit_difference", "right_change", "logit_difference_change")
        for end in ("", "_lo", "_hi")
    ),
]
