"""Pairs of the user's own are read as they stand, and every mistake is told with its line."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracking import BadInput, PromptPairs
from tracking.pairs.pairs_file import read_pairs
from train.tiny.tokenizer import tokenizer

CHARACTERS: Any = tokenizer()
ROW = {"clean": "2+2=", "corrupted": "2+3=", "correct": "4", "incorrect": "5"}


def lines(folder: Path, *rows: object) -> Path:
    path = folder / "sums.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def chat(content: str, *more: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [
        {"role": role, "content": text} for role, text in zip(roles, (content, *more), strict=False)
    ]


def test_a_line_is_a_pair(tmp_path: Path) -> None:
    pairs = PromptPairs.read(lines(tmp_path, ROW, ROW | {"clean": "1+3="}), CHARACTERS)
    assert [CHARACTERS.decode(row) for row in pairs.clean] == ["2+2=", "1+3="]
    assert [CHARACTERS.decode(row) for row in pairs.corrupted] == ["2+3=", "2+3="]
    assert pairs.labels is not None
    assert [CHARACTERS.decode(row) for row in pairs.labels] == ["45", "45"]
    assert pairs.texts[0] == ("2+2=⟦4⟧", "2+3=⟦5⟧")


def test_a_file_and_texts_in_python_are_the_same_pairs(tmp_path: Path) -> None:
    rows = [tuple(ROW.values()), ("(1)", "(2)", "a", "b")]
    keyed = [dict(zip(ROW, row, strict=True)) for row in rows]
    read = PromptPairs.read(lines(tmp_path, *keyed), CHARACTERS)
    assert read.hash == PromptPairs.from_text(CHARACTERS, rows).hash  # type: ignore[arg-type]


def test_chat_messages_get_the_template_up_to_the_model_s_turn(tmp_path: Path) -> None:
    row = ROW | {"clean": chat("2+2"), "corrupted": chat("2+3")}
    pairs = PromptPairs.read(lines(tmp_path, row), CHARACTERS)
    assert CHARACTERS.decode(pairs.clean[0]) == "<|user|>2+2<|assistant|>"
    row = ROW | {"clean": chat("2+2", "it is "), "corrupted": chat("2+3", "it is ")}
    pairs = PromptPairs.read(lines(tmp_path, row), CHARACTERS)
    assert CHARACTERS.decode(pairs.clean[0]) == "<|user|>2+2<|assistant|>it is "


def test_contrasts_are_named_by_line_or_by_the_file(tmp_path: Path) -> None:
    path = lines(tmp_path, ROW, ROW | {"contrast": "tense"}, ROW | {"clean": "3+2="})
    by_contrast = read_pairs(path, CHARACTERS)
    assert {name: len(pairs) for name, pairs in by_contrast.items()} == {"sums": 2, "tense": 1}
    assert len(PromptPairs.read(path, CHARACTERS, contrast="tense")) == 1
    with pytest.raises(BadInput, match="has the contrasts sums, tense, not one alone; name one"):
        PromptPairs.read(path, CHARACTERS)
    with pytest.raises(BadInput, match="none called 'mood'"):
        PromptPairs.read(path, CHARACTERS, contrast="mood")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ([1], "is no object"),
        ({"clean": "1"}, "'corrupted' is missing"),
        (ROW | {"wrong": "5"}, "unknown key 'wrong'"),
        (ROW | {"clean": 3}, "clean must be text or chat messages"),
        (ROW | {"clean": []}, "clean must be text or chat messages"),
        (ROW | {"clean": [{"role": "user"}]}, "clean must be text or chat messages"),
        (ROW | {"correct": 4}, "correct is 4; it must be the text"),
        (ROW | {"correct": ""}, "correct is ''; it must be the text"),
        (ROW | {"incorrect": "4"}, "correct and incorrect are both '4'"),
        (ROW | {"corrupted": "2+13="}, "clean has 4 tokens and corrupted 5"),
        (ROW | {"corrupted": "2+2="}, "clean and corrupted do not differ"),
        (ROW | {"clean": ""}, "clean has no token of its own"),
        (ROW | {"correct": "12", "incorrect": "13"}, "'1' \\+ '2' and incorrect '1' \\+ '3'"),
        (ROW | {"correct": "\u00e9"}, "correct is not one token"),
        (ROW | {"correct": "3"}, "the prompts of line 1 again"),
        (ROW | {"contrast": "a/b"}, "contrast is 'a/b'"),
        (ROW | {"contrast": 3}, "contrast is 3"),
    ],
)
def test_what_is_no_pair_is_told_with_its_line(tmp_path: Path, row: Any, complaint: str) -> None:
    with pytest.raises(BadInput, match=rf"sums\.jsonl, line 2.*{complaint}") as refused:
        read_pairs(lines(tmp_path, ROW, row), CHARACTERS)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "has no pairs; each line is"),
        (b"\n\n{", "line 3 is not JSON"),
        (b"\xff", "line 1 is not"),
        (b"[" * 100_000, "line 1 is not JSON"),
    ],
)
def test_what_is_no_file_of_pairs_is_told(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=complaint) as refused:
        read_pairs(path, CHARACTERS)
    assert "\n" not in str(refused.value)
    with pytest.raises(BadInput, match="No such file"):
        read_pairs(tmp_path / "missing.jsonl", CHARACTERS)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from([*ROW, "contrast"]),
        st.text(max_size=9) | st.integers() | st.lists(st.dictionaries(st.text(), st.text())),
    )
)
def test_any_line_is_a_pair_or_one_line(tmp_path: Path, row: dict[str, object]) -> None:
    try:
        read_pairs(lines(tmp_path, ROW | row), CHARACTERS)
    except BadInput as error:
        assert "\n" not in str(error)


def test_of_several_tokens_the_first_is_used_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = ROW | {"correct": "14", "incorrect": "25"}
    with caplog.at_level(logging.WARNING):
        pairs = PromptPairs.read(lines(tmp_path, row, row | {"clean": "3+2="}), CHARACTERS)
    assert pairs.labels is not None
    assert CHARACTERS.decode(pairs.labels[0]) == "12"
    (message,) = caplog.messages
    assert "line 1: correct is '1' + '4' and incorrect '2' + '5': only the first" in message
    assert message.endswith("(and so in 1 more)")


def test_chat_messages_need_a_template(tmp_path: Path) -> None:
    plain: Any = tokenizer()
    plain.chat_template = None
    row = ROW | {"clean": chat("2+2"), "corrupted": chat("2+3")}
    with pytest.raises(BadInput, match="line 1: clean is chat messages, but the tokenizer has no"):
        read_pairs(lines(tmp_path, row), plain)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([], "not one pair"),
        (["abcd"], "pair 0 must be"),
        ([tuple(ROW.values()), ("a", "b", "c")], "pair 1 must be"),
        ([tuple(ROW.values()), ("a", "b", "c", "c")], "pair 1: correct and incorrect are both 'c'"),
    ],
)
def test_texts_that_are_no_pairs_are_told_by_index(rows: Any, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        PromptPairs.from_text(CHARACTERS, rows)


def test_arguments_in_the_wrong_place_are_told_in_one_line() -> None:
    rows = [tuple(ROW.values())]
    with pytest.raises(BadInput, match="pairs are a list of"):
        PromptPairs.from_text(rows, CHARACTERS)
    with pytest.raises(BadInput, match="path of a file of pairs is needed"):
        PromptPairs.read(CHARACTERS, "pairs.jsonl")
    with pytest.raises(BadInput, match="NoneType has no character offsets"):
        PromptPairs.from_text(None, rows)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments",
    [
        {"clean": [[1, 2]]},
        {"clean": None},
        {"clean": "text"},
        {"corrupted": [[1, 2]]},
        {"attention_mask": [[1, 1]]},
        {"labels": [[1, 2]]},
        {"texts": ("ab",)},
        {"texts": (("a", "b", "c"),)},
    ],
)
def test_what_is_no_tensor_is_told_in_one_line(arguments: dict[str, Any]) -> None:
    ids = torch.tensor([[1, 2]])
    with pytest.raises(BadInput, match=next(iter(arguments))) as refused:
        PromptPairs(**{"clean": ids, "corrupted": ids + 1, **arguments})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("pick", [[9], 0, [], {}])
def test_a_pick_that_is_none_is_told_in_one_line(pick: Any) -> None:
    pairs = PromptPairs(torch.tensor([[1, 2]]), torch.tensor([[1, 3]]))
    with pytest.raises(BadInput, match="pairs") as refused:
        pairs[pick]
    assert "\n" not in str(refused.value)
