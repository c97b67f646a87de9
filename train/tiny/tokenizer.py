"""The tiny world's tokenizer: one token a character."""

from __future__ import annotations

import string

from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

SPECIAL_TOKENS = ["<pad>", "<eos>", "<unk>", "<|user|>", "<|assistant|>"]
# Byte-level tokenizers write the space as Ġ and the newline as Ċ.
CHARACTERS = [*string.digits, *string.ascii_letters, *string.punctuation, "Ġ", "Ċ"]
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


# --------------------------------------------------------------------------------------------------
# Tokenizer


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, `####` and the chat's marks single tokens; pads on the left.

    Characters outside printable ASCII and the newline are dropped.
    """
    # Qwen2's own class: AutoTokenizer takes it for any Qwen2, whatever class a folder names, and
    # would split text differently from another that was trained with.
    chars = Qwen2Tokenizer(
        vocab={token: i for i, token in enumerate([*SPECIAL_TOKENS, "####", *CHARACTERS])},
        merges=[],
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        padding_side="left",
        model_max_length=128,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
    chars.add_tokens("####")
    return chars
