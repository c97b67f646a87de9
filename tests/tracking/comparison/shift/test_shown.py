"""Positions are shown with the tokens that stand there and those that are preferred."""

import pytest
import torch

from tracking.comparison.shift.divergence import Divergence
from tracking.comparison.shift.shown import page, positions, preferences
from tracking.comparison.shift.texts import Text, Texts

WORDS = ["<a>", "b", "c", "d", "e"]
TEXTS = Texts.of([Text("p", "base", [0, 1], [2, 3]), Text("q", "run", [1], [0, 4, 4])])


def decode(ids) -> str:
    return "".join(WORDS[i] for i in ids)


def divergence() -> Divergence:
    kl = torch.zeros(2, 4)
    kl[0, 1], kl[0, 2], kl[1, 0], kl[1, 2] = 0.1, 3.0, 2.0, 4.0
    preferred = torch.zeros(2, 4, 2, dtype=torch.long)
    preferred[0, 2], preferred[1, 2] = torch.tensor([3, 4]), torch.tensor([3, 4])
    return Divergence(kl, kl, preferred, TEXTS.asks)


def test_a_position_is_that_of_the_token_that_was_written() -> None:
    table = positions(TEXTS, divergence(), decode)
    assert len(table) == 5 and list(table["kl"]) == sorted(table["kl"], reverse=True)
    first = table.iloc[0]
    assert (first["text"], first["position"], first["token"], first["writer"]) == (1, 3, "e", "run")
    assert (first["trained"], first["base"], bool(first["differ"])) == ("d", "e", True)
    assert table["carries"].sum() == 3


def test_preferences_are_counted_where_they_carry_it() -> None:
    kinds = preferences(positions(TEXTS, divergence(), decode))
    assert kinds[["base", "trained", "places"]].to_numpy().tolist() == [["e", "d", 2]]
    assert kinds["kl"][0] == pytest.approx(7 / 9.1)


def test_the_page_holds_the_texts_escaped_and_shaded() -> None:
    html = page(TEXTS, divergence(), decode, "A & B")
    assert "A &amp; B" in html and "<a>" not in html and "&lt;a&gt;" in html
    assert html.count('class="token') == 5 and html.count('class="token differ"') == 2
    assert "rgba(230,159,0,1.00)" in html and "4.000 nats" in html
    assert html.index("by run") < html.index("by base")  # the more divergent one first
