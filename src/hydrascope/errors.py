"""The errors that a user can mend.

    HydrascopeError
      ModelError
        UnknownModel            no such folder, hub id or bundled name
        RemoteCodeRefused       the model wants to run code that came with its weights
        PickleRefused           only pickled weights, no safetensors
        NotCausalLM             the model does not predict the next token
        AnatomyRefused          a check of the anatomy or of the engine failed
        ExportRefused           the model cannot be saved without some of its parts
      PromptError
        EmptyPrompts            nothing to run on
        MalformedPrompt         a line of a prompt file cannot be read
        TargetError             a target that is no token of this model
        PromptTooLong           more tokens than the model's context
      ComponentError            an address that names no part of this model
      AblationError
        TooFewDonors            not enough prompts with another target
        MissingCounterfactual   a counterfactual ablation without counterfactual prompts
      RunError
        SettingsChanged         the run directory was made with other settings
        OutputError             the run directory cannot be written or read
        NonFinite               an activation or logit is NaN or infinite
        HookDidNotFire          a planned edit or read-out did not happen
        LedgerDoesNotClose      total effect and the sum of its parts differ
        OutOfBudget             the memory budget, or the device, is too small for a single prompt
        DetailDropped           the ledger lacks numbers that an analysis needs

Each message is one sentence that says what is wrong, where, and what to do about it. The command line prints it,
nothing else, and exits with `exit_code`.
"""

from __future__ import annotations

import difflib
from collections import abc

LONGEST = 600
"""Most characters of a message; what a user wrote can be long, and its middle says least."""


class HydrascopeError(Exception):
    """What the user can mend; printed without a traceback."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(sentence(message))


def closest(word: str, known: abc.Iterable[str]) -> str | None:
    """The known word that is most like a word, whatever its case; None where none is like it."""
    return next(iter(difflib.get_close_matches(word.lower(), known, 1)), None)


def did_you_mean(word: str, known: abc.Iterable[str]) -> str:
    """A hint to put behind a word in a message; empty where no known word is like it."""
    found = closest(word, known)
    return "" if found is None else f" (did you mean '{found}'?)"


def shown(value: object) -> str:
    """A value as Python writes it, if that is short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def printable(text: str, keep: str = "") -> str:
    """Text with everything that a terminal could obey as an escape sequence.

    Args:
        text: the text, whoever wrote it.
        keep: characters that stay, such as line ends.
    """
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def sentence(message: str) -> str:
    """A message in one printable line of limited length; its end stays, since that says what to do."""
    line = printable(message)
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"


class ModelError(HydrascopeError):
    """The model cannot be used."""


class UnknownModel(ModelError):
    """No folder, hub id or bundled model has this name."""


class RemoteCodeRefused(ModelError):
    """The model needs code shipped with its weights, which is not allowed."""


class PickleRefused(ModelError):
    """The model has no safetensors weights."""


class NotCausalLM(ModelError):
    """The model does not predict the next token from the left."""


class AnatomyRefused(ModelError):
    """A check of the anatomy or of the engine failed on this model.

    Attributes:
        check: name of the check, as `hydrascope inspect` prints it.
    """

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(f"check '{check}' failed: {detail}")
        self.check = check


class ExportRefused(ModelError):
    """The model cannot be saved without some of its parts, or would compute something else."""


class PromptError(HydrascopeError):
    """The prompts cannot be used."""


class EmptyPrompts(PromptError):
    """No prompt is left to run on."""


class MalformedPrompt(PromptError):
    """A line of a prompt file cannot be read."""


class TargetError(PromptError):
    """A target is not a token of this model."""


class PromptTooLong(PromptError):
    """A prompt has more tokens than the model's context."""


class ComponentError(HydrascopeError):
    """An address names no part of this model."""


class AblationError(HydrascopeError):
    """The ablation cannot be carried out on these prompts."""


class TooFewDonors(AblationError):
    """A prompt has fewer allowed donors than asked for."""


class MissingCounterfactual(AblationError):
    """A prompt has no usable counterfactual, which the ablation needs."""


class RunError(HydrascopeError):
    """A run cannot start, continue or be trusted."""


class SettingsChanged(RunError):
    """The run directory holds a run with other settings."""


class OutputError(RunError):
    """The run directory cannot be written or read."""


class NonFinite(RunError):
    """An activation or a logit is NaN or infinite."""


class HookDidNotFire(RunError):
    """A planned edit or read-out did not happen."""


class LedgerDoesNotClose(RunError):
    """Total effect and the sum of its parts differ beyond tolerance."""


class OutOfBudget(RunError):
    """Not even a single prompt fits the memory budget or the device."""


class DetailDropped(RunError):
    """An analysis needs each writer's change, of which the ledger keeps only sums."""
