"""A tokenizer that writes every digit by itself and the space before a number too, as those of recent models do."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = ("The", "war", "ended", "in", "the", "year", "of", "and", "peace", "is", "Paris", "believ", "un", "unbeliev")


def tokenizer(size: int = 0) -> PreTrainedTokenizerFast:
    """Words with the space before them, single digits, and `<s>` in front of every text.

    Args:
        size: least number of tokens, reached by words that no test uses.
    """
    special = ["<s>", "<unk>", "▁", "-", '"', "$", "'t"]
    pieces = [*special, *"0123456789", *(space + word for word in WORDS for space in ("▁", ""))]
    pieces += [f"unused{i}" for i in range(len(pieces), size)]
    core = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("▁", "merged_with_next"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split("'t", "isolated"),
            *(pre_tokenizers.Split(sign, "isolated") for sign in '-"$'),
        ]
    )
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", unk_token="<unk>")
