"""Modes by their words."""

import pytest

from tracking import BadInput
from train.ablation.modes import Mode


@pytest.mark.parametrize(
    ("word", "kind", "factor"),
    [("zero", "zero", 0), ("resample", "resample", 0), ("scale:1.3", "scale", 1.3)],
)
def test_a_word_says_what_nodes_keep_of_their_own(word: str, kind: str, factor: float) -> None:
    assert Mode.parse(word) == Mode(word, kind, factor)


@pytest.mark.parametrize(
    "word", ["off", "scale", "scale:", "scale:nan", "scale:inf", "scale:1", ""]
)
def test_other_words_are_refused_by_name(word: str) -> None:
    with pytest.raises(BadInput, match=f"mode {word!r}"):
        Mode.parse(word)


def test_equal_factors_are_one_mode() -> None:
    assert Mode.parse("scale:.5") == Mode.parse("scale:0.50")
