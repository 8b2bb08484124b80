"""Writes conversations out as the model's chat template does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydrascope.errors import PromptError


def written_out(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> str:
    """The text of a conversation, up to where the assistant's answer begins or its last message goes on.

    Args:
        tokenizer: the model's tokenizer.
        messages: at least one message with `role` and `content`.

    Raises:
        PromptError: the tokenizer has no chat template, or the template refuses the messages.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise PromptError(
            "'messages' need a chat template, which this model's tokenizer lacks; write the text under 'prompt'"
        )
    goes_on = messages[-1]["role"] == "assistant"
    try:
        text: str = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tokenize=False,
            add_generation_prompt=not goes_on,
            continue_final_message=goes_on,
        )
    except Exception as error:  # whatever a template raises
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise PromptError(f"the model's chat template refuses the messages ({said}); change them") from error
    return text
