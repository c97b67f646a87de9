"""Steps are placed where the metric moves, as many as are allowed."""

from typing import Any

import pytest
from torch import Tensor

from tests.builders.closeness import assert_close, correlation
from tests.builders.decoders import jumping
from tracking.attribution.attribute import attribute
from tracking.attribution.integrals import EdgeIntegral
from tracking.errors import BadInput
from tracking.pairs.prompt_pairs import PromptPairs


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_adaptive_steps_close_the_gap_with_fewer_than_even_ones_need(
    tiny_decoder, random_pairs, seed: int
) -> None:
    model, pairs = jumping(tiny_decoder, random_pairs, seed)
    adaptive = attribute(model, pairs, metric="prob", quadrature="adaptive", steps=12)
    assert float((adaptive.corrupted - adaptive.clean).abs().max()) > 0.9
    assert adaptive.gap < 0.05
    steps = round(adaptive.steps)
    for count in (12, 24, steps):
        even = attribute(model, pairs, metric="prob", quadrature="midpoint", steps=count)
        assert even.steps == count
        assert even.gap > 2 * adaptive.gap and even.gap > 0.05


@pytest.mark.parametrize("seed", [2, 3, 7])
def test_adaptive_scores_are_those_of_very_many_steps(
    tiny_decoder, random_pairs, seed: int
) -> None:
    model, pairs = jumping(tiny_decoder, random_pairs, seed)
    adaptive = attribute(model, pairs, metric="prob", quadrature="adaptive", steps=12)
    many = attribute(model, pairs, metric="prob", quadrature="midpoint", steps=400)
    assert many.gap < 0.05
    assert correlation(adaptive.edges, many.edges) > 0.99


def test_adaptive_steps_stop_at_the_most_that_are_allowed(tiny_decoder, random_pairs) -> None:
    model, pairs = jumping(tiny_decoder, random_pairs, 5)
    few_steps = attribute(
        model, pairs, metric="prob", quadrature="adaptive", steps=2, max_steps=4, batch_size=1
    )
    assert few_steps.steps <= 2 + 4


def test_a_pair_alone_in_its_batch_stays_alone_where_it_is_done_again(
    tiny_decoder, random_pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pairs = jumping(tiny_decoder, random_pairs, 5)
    rows, over = set(), EdgeIntegral.over

    def counted(integral: EdgeIntegral, *steps: Tensor) -> Tensor:
        rows.add(len(integral.batch.pairs))
        return over(integral, *steps)

    monkeypatch.setattr(EdgeIntegral, "over", counted)
    attribute(
        model, pairs, metric="prob", quadrature="adaptive", steps=2, max_steps=8, batch_size=1
    )
    assert rows == {1}


def test_adaptive_scores_do_not_depend_on_the_batch_size(tiny_decoder, random_pairs) -> None:
    model, pairs = jumping(tiny_decoder, random_pairs, 0, count=8)
    one, *others = (
        attribute(model, pairs, metric="prob", quadrature="adaptive", steps=12, batch_size=size)
        for size in (1, 2, 3, 8)
    )
    for other in others:
        assert_close(one.edges, other.edges, 1e-4)
        assert one.steps == other.steps


def test_a_pair_that_takes_more_steps_is_not_run_alone(
    tiny_decoder, random_pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pairs = jumping(tiny_decoder, random_pairs, 0, count=8)
    counts, over = [], EdgeIntegral.over

    def counted(self: EdgeIntegral, places: Tensor, weights: Tensor) -> Tensor:
        counts.append((len(self.batch.pairs), len({*map(tuple, self.batch.pairs.clean.tolist())})))
        return over(self, places, weights)

    monkeypatch.setattr(EdgeIntegral, "over", counted)
    attribute(model, pairs, metric="prob", quadrature="adaptive", steps=12, batch_size=8)
    assert (2, 1) in counts and min(counts)[0] == 2  # the last one twice


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"method": "exactly"}, "'exactly'; one of eap, eap-ig,"),
        ({"metric": "loss"}, "'loss'.*kl, neg_logit_diff, prob, nll"),
        ({"quadrature": "simpson"}, "'simpson'.*left, right, midpoint, gauss-legendre, adaptive"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": -1, "quadrature": "midpoint"}, "steps is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(
    tiny_decoder, random_pairs, wrong: dict[str, Any], named: str
) -> None:
    with pytest.raises(BadInput, match=named) as raised:
        attribute(tiny_decoder(), random_pairs(), **wrong)
    assert "\n" not in str(raised.value)


def test_no_adaptive_steps_are_refused(tiny_decoder, random_pairs) -> None:
    clean = random_pairs().clean  # equal prompts, so that it ends where it is not refused
    with pytest.raises(BadInput, match="steps is 0"):
        attribute(tiny_decoder(), PromptPairs(clean, clean), steps=0, quadrature="adaptive")
