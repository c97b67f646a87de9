"""Text survives the tiny world's tokenizer."""

from typing import Any

from hypothesis import given

from tests.builders.chains import CHARS, cues, expressions, printable
from train.tiny import task
from train.tiny.task import Problem


@given(printable)
def test_text_survives_the_tokenizer(text: str):
    assert CHARS.decode(CHARS(text).input_ids) == text


def test_characters_and_marks_are_single_tokens():
    assert CHARS.tokenize("3+5=8;####8") == ["3", "+", "5", "=", "8", ";", "####", "8"]
    assert CHARS.tokenize("<|user|>+<|assistant|>") == ["<|user|>", "+", "<|assistant|>"]
    assert len(CHARS("<pad><eos>").input_ids) == 2
    assert CHARS.tokenize("1é2") == ["1", "2"]


def test_batches_are_padded_on_the_left():
    assert CHARS(["1", "123"], padding=True).attention_mask == [[0, 0, 1], [1, 1, 1]]


@given(expressions, cues)
def test_the_chat_template_marks_exactly_the_assistants_turn(expression: str, cue: str):
    problem = Problem(expression, cue)
    messages = task.chat(problem.prompt, problem.solution)
    encoded: Any = CHARS.apply_chat_template(
        messages, return_dict=True, return_assistant_tokens_mask=True
    )
    asked: Any = CHARS.apply_chat_template(
        messages[:1], add_generation_prompt=True, return_dict=True
    )
    start = len(asked.input_ids)
    assert CHARS.decode(asked.input_ids) == f"<|user|>{problem.prompt}<|assistant|>"
    assert encoded.input_ids[:start] == asked.input_ids
    assert CHARS.decode(encoded.input_ids[start:]) == problem.solution + "<eos>"
    assert encoded.assistant_masks == [0] * start + [1] * (len(encoded.input_ids) - start)
