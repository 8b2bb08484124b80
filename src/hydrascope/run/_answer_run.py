"""A run over whole answers: every token of an answer is read with those before it given, and a prompt's are summed.

Parts are knocked out wherever a token of the answer is predicted (or where `--positions` says). Donors are prompts of
the same length whose other answers are as long. Where the first token is enough, `_prompt_run` costs far less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np

from hydrascope.ablations import Donation, ExtraRun
from hydrascope.engine import record_runs, texts_at_once
from hydrascope.errors import EmptyPrompts, TooFewDonors
from hydrascope.prompts import EncodedPrompt, LeftOut, require_donors
from hydrascope.run._runner import Selection
from hydrascope.run._text_run import TextRun, donor_blocks, repeats_apart, shape

FEW = "too few others of its length have answers as long"
"""Why a prompt without donors is left out."""


class AnswerRun(TextRun):
    """One run over the whole answers of prompts."""

    def select(self) -> Selection:
        """The prompts whose answers the model gives token by token, and that have donors."""
        task, left_out, kept = self.task, list(self.task.encoded.left_out), []
        for prompt, tops in self._said():
            wrong = next((top for top, right in zip(tops, prompt.answer, strict=True) if top != right), None)
            if wrong is None or task.options.keep_wrong:
                kept.append(prompt)
            else:
                left_out.append(_left_out(prompt, "the model puts another token first", wrong))
        if not kept:
            raise EmptyPrompts(
                f"the model gives the whole answer to none of {len(left_out)} prompts; give prompts that it completes "
                "correctly, or keep them all (--keep-wrong)"
            )
        wrong_ones, needed = len(left_out) - len(task.encoded.left_out), task.ablation.draws * task.ablation.deals
        as_long = Counter(map(shape, kept))
        left_out += [_left_out(prompt, FEW) for prompt in kept if as_long[shape(prompt)] <= needed]
        kept = [prompt for prompt in kept if as_long[shape(prompt)] > needed]
        if not kept:
            raise TooFewDonors(
                f"no prompt has {needed} others of its length whose answers are as long, which donors of whole answers "
                "must be; take fewer (--donors), another ablation, or --answer first"
            )
        texts = tuple(kept[i] for i in repeats_apart(kept))
        read = tuple(task.positions_of(text).read_in(len(text.ids)) for text in texts)
        found = self._selection(
            texts,
            read,
            tuple(text.answer for text in texts),
            left_out=tuple(sorted(left_out, key=lambda one: one.index)),
            summed=True,
            wrong=wrong_ones,
            alone=sum(as_long.values()) - len(kept),
        )
        if task.ablation.deals:
            for _, blocks in donor_blocks(found.prompts, task.ablation.draws + 1):
                for block in blocks:
                    self._require_donors(texts[block.start : block.stop])
        return found

    def _said(self) -> Iterator[tuple[EncodedPrompt, list[int]]]:
        """Every prompt with the tokens that the model puts first where its answer is read."""
        for (tokens, span), same in groupby(sorted(self.task.encoded.prompts, key=shape), key=shape):
            prompts, at_once = list(same), texts_at_once(self.model.device, tokens, 1)
            for first in range(0, len(prompts), at_once):
                some = prompts[first : first + at_once]
                where = self.task.positions_of(some[0])
                clean = record_runs(self.model, [ExtraRun(prompt.ids) for prompt in some], where, ())
                yield from zip(some, clean.logits.argmax(-1).view(-1, span).tolist(), strict=True)

    def labels(self, selection: Selection) -> Mapping[str, np.ndarray]:
        """One row a prompt."""
        texts = selection.prompts
        return {
            "prompt": np.array([text.index for text in texts]),
            "text": np.array([text.text for text in texts]),
            "target": np.array([self._written(text) for text in texts]),
            "target_token": np.array([text.answer[0] for text in texts]),
            "answer_tokens": np.array([text.span for text in texts]),
            "group": np.array([text.group for text in texts]),
            "length": np.array([len(text.ids) for text in texts]),
        }

    def _require_donors(self, texts: Sequence[EncodedPrompt]) -> None:
        answers, draws = _numbered(texts), self.task.ablation.draws
        shown = {number: repr(self._written(text)) for number, text in zip(answers, texts, strict=True)}
        inputs, numbers = [text.ids for text in texts], [text.index for text in texts]
        require_donors(answers, draws, inputs=inputs, numbers=numbers, shown=shown.__getitem__)

    def _written(self, text: EncodedPrompt) -> str:
        tokenizer = self.model.tokenizer
        return " ".join(map(str, text.answer)) if tokenizer is None else str(tokenizer.decode(list(text.answer)))

    def _donate(self, selection: Selection, block: range) -> Donation:
        texts = selection.prompts[block.start : block.stop]
        return self.task.ablation.donate(texts, _numbered(texts), self.task.options.seed, block=block.start)


def _numbered(texts: Sequence[EncodedPrompt]) -> list[int]:
    """A number for each whole answer, which donors may not share."""
    known: dict[tuple[int, ...], int] = {}
    return [known.setdefault(text.answer, len(known)) for text in texts]


def _left_out(prompt: EncodedPrompt, why: str, said: int | None = None) -> LeftOut:
    return LeftOut(prompt.index, prompt.text, prompt.target_text, why, said)
