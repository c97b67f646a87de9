"""Tokenizers by hand."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


def tokenizer_of(pattern: str, vocabulary: list[str]) -> PreTrainedTokenizerFast:
    """Splits text at every match of `pattern`; what the vocabulary lacks is token 0."""
    words = {word: index for index, word in enumerate(["<unk>", *vocabulary])}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")  # type: ignore
    core.decoder = decoders.Fuse()  # type: ignore
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


CHARACTERS = tokenizer_of("[\\s\\S]", [chr(code) for code in (10, *range(32, 127))])


NUMBERS_WHOLE = tokenizer_of(r"\d+|\D", [*map(str, range(100)), *"abc +="])
