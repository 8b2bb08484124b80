"""What stands between a prompt and its answer.

`auto` writes a space where English prose has one: not behind white space, an opening quote or bracket, a hyphen or a
currency sign, not before punctuation or a contraction such as 't, and not in scripts that put no spaces between words.
"""

from __future__ import annotations

import re

_GLUED_BEHIND = re.compile(
    r"""
    [\s(\[{<“‘«„‚#@$€£¥/\\_]$   # openers, currency and joining signs
    | \S[-—–=]$                 # a hyphen, dash or sign of equality right behind something
    | (^|[\s(\[{])["'`]$        # a quote that opens
    """,
    re.VERBOSE,
)
_GLUED_BEFORE = re.compile(
    r"""
    ^\s
    | ^[,;:!?)\]}”»%]
    | ^\.(?!\d)                          # not .5
    | ^n?['’](t|s|d|m|re|ve|ll)\b        # a contraction, as in don't
    | ^-[^\W\d]                          # not a negative number
    """,
    re.VERBOSE | re.IGNORECASE,
)
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]"
)
"""Thai, Lao, Burmese, Khmer, Chinese and Japanese, with their punctuation."""


def between(prompt: str, answer: str, delimiter: str) -> str:
    """The text between a prompt and its answer.

    Args:
        prompt: text of the prompt.
        answer: text of the answer.
        delimiter: `auto`, `none`, or the text itself.
    """
    if delimiter != "auto":
        return "" if delimiter == "none" else delimiter
    if not prompt or _GLUED_BEHIND.search(prompt) or _GLUED_BEFORE.match(answer):
        return ""
    unspaced = _UNSPACED.match(prompt[-1]) or (_UNSPACED.match(answer) and _UNSPACED.search(prompt))
    return "" if unspaced else " "
