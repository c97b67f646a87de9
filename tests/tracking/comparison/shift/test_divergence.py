"""The divergence of two policies is that of their distributions, token by token."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.draws import arches, few, seeds
from tests.builders.two_models import changed
from tracking.comparison.shift.divergence import SHARE, Divergence, carrying
from tracking.comparison.shift.places import Places
from tracking.comparison.shift.texts import Text, Texts
from tracking.model.decoder import Decoder

DRAWN = Texts.of(
    [
        Text("a", "base", [1, 2], [3, 4, 5]),
        Text("b", "trained", [9], [8]),
        Text("a", "trained", [1, 2], []),
        Text("c", "base", [7, 7, 7, 7], [6, 5, 4, 3, 2]),
    ]
)


def test_texts_ask_for_each_token_of_a_completion() -> None:
    assert DRAWN.asks.sum(1).tolist() == [3, 1, 0, 5]
    assert DRAWN.asks[0].nonzero()[:, 0].tolist() == [1, 2, 3]
    assert DRAWN.prompt.tolist() == [0, 1, 0, 2] and DRAWN.prompts == 3


def test_what_texts_begin_with_alike_is_asked_once() -> None:
    both = [Text("a", "base", [1, 2], [3, 4, 5]), Text("a", "trained", [1, 2], [3, 6, 7])]
    asks = Texts.of([*both, both[0]]).asks
    assert [row.nonzero()[:, 0].tolist() for row in asks] == [[1, 2, 3], [3], []]


@arches
def test_divergence_is_that_of_the_whole_models_by_hand(tiny_decoder, arch: str) -> None:
    base = tiny_decoder(arch)
    trained = changed(base, 1)
    result = Divergence.of(Decoder.of(base), Decoder.of(trained), DRAWN, batch_size=2)
    for row in range(len(DRAWN)):
        length = int(DRAWN.mask[row].sum())
        with torch.no_grad():
            ours, theirs = (
                one(DRAWN.token_ids[row : row + 1, :length]).logits[0].double().softmax(-1)
                for one in (base, trained)
            )
        for at in range(DRAWN.token_ids.shape[1]):
            if not DRAWN.asks[row, at]:
                assert result.kl[row, at] == result.entropy[row, at] == 0
                continue
            kl = sum(q * math.log(q / p) for q, p in zip(theirs[at].tolist(), ours[at].tolist(),
                                                         strict=True))  # fmt: skip
            entropy = -sum(p * math.log(p) for p in ours[at].tolist())
            assert math.isclose(result.kl[row, at], kl, rel_tol=1e-3, abs_tol=1e-5)
            assert math.isclose(result.entropy[row, at], entropy, rel_tol=1e-3)
            assert result.preferred[row, at].tolist() == [theirs[at].argmax(), ours[at].argmax()]
    assert math.isclose(result.mean, result.kl.sum() / 9, rel_tol=1e-5)


@few(30)
@given(seed=seeds, power=st.floats(0, 8))
def test_as_few_positions_as_can_be_carry_the_share(seed: int, power: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    amount = torch.rand(4, 9, generator=generator) ** power
    asks = torch.rand(4, 9, generator=generator) < 0.7
    inside = carrying(amount, asks)
    assert not bool((inside & ~asks).any())
    total, mine = amount[asks].double().sum(), amount[inside].double()
    assert mine.sum() >= SHARE * total * (1 - 1e-9)
    assert mine.sum() - mine.min() < SHARE * total
    left = amount[asks & ~inside]
    assert len(left) == 0 or left.max() <= mine.min()


def test_nothing_is_carried_by_no_position() -> None:
    asks = torch.ones(2, 3, dtype=torch.bool)
    assert not bool(carrying(torch.zeros(2, 3), asks).any())


def test_places_are_where_the_preferred_tokens_differ() -> None:
    kl = torch.tensor([[0.0, 5, 5, 5, 0, 0, 0, 0, 0]] + [[0.0] * 9] * 3)
    kl[3, 4:7] = torch.tensor([4.0, 0.01, 3.0])
    preferred = torch.zeros(4, 9, 2, dtype=torch.long)
    preferred[0, 2], preferred[3, 6] = torch.tensor([8, 9]), torch.tensor([1, 2])
    divergence = Divergence(kl, kl, preferred, DRAWN.asks)
    places = Places.of(DRAWN, divergence)
    assert places is not None and (places.count, places.agreeing) == (2, 3)
    assert places.texts.tolist() == [0, 3] and places.prompt.tolist() == [0, 1]
    assert places.looks.positions.tolist() == [[2], [6]]
    assert places.looks.tokens.tolist() == [[[8, 9]], [[1, 2]]]


def test_figures_of_a_prompt_are_summed_over_its_texts() -> None:
    kl = DRAWN.asks.float()
    preferred = torch.zeros(4, 9, 2, dtype=torch.long)
    preferred[..., 0] = 1
    texts = Texts.of([Text("ab"[i // 2], "base", [i], [2, 3]) for i in range(3)])
    places = Places.of(texts, Divergence(texts.asks * 1.0, kl, preferred[:3, :3], texts.asks))
    assert places is not None and (places.count, places.prompts) == (6, 2)
    assert places.summed(torch.tensor([1.0, 2.0, 6.0])).tolist() == [1, 2]
