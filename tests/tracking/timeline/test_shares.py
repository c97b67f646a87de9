"""Shares are ratios of means over pairs, and say how sure they are."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.analyses import PAIRS, make_analysis
from tracking.model.graph import Graph
from tracking.stability.bootstrap import resamples
from tracking.timeline.shares import Shares, behaviour_is_there

GRAPH = Graph(1, 2)


def effects(seed: int) -> torch.Tensor:
    return torch.randn(PAIRS, 3, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_shares_do_not_change_when_all_logits_are_scaled(seed: int, by: float) -> None:
    clean = 2 + effects(seed)[:, 0]
    plain = Shares.of(make_analysis(GRAPH, clean=clean, corrupt=effects(seed)))
    corrupted = torch.full((PAIRS,), -2.0)
    scaled = Shares.of(
        make_analysis(GRAPH, clean=clean * by, corrupted=corrupted * by, corrupt=effects(seed) * by)
    )
    assert np.allclose(plain.value, scaled.value, rtol=1e-4, atol=1e-5)
    assert np.allclose(plain.draws, scaled.draws, rtol=1e-3, atol=1e-4)
    for least in (0.05, 0.3):
        assert np.array_equal(plain.activity(least)[0], scaled.activity(least)[0])


def test_a_share_and_its_draws_are_ratios_over_the_run_s_resamples() -> None:
    clean, corrupt, restore = 2 + effects(3)[:, 0], effects(1), effects(2)
    shares = Shares.of(make_analysis(GRAPH, clean=clean, corrupt=corrupt, restore=restore))
    behaviour, weights = clean + 2, resamples(50, PAIRS)
    for place, effect in enumerate((corrupt, restore)):
        wanted = effect.mean(0) / behaviour.mean()
        assert shares.value[place] == pytest.approx(wanted.numpy(), rel=1e-5)
        draws = [(w @ effect / (w @ behaviour)).tolist() for w in weights]
        assert np.allclose(shares.draws[:, place], draws, atol=1e-4)
    assert shares.measured.all() and shares.known.all() and shares.pairs == PAIRS


def test_without_behaviour_nothing_is_a_share_of_it() -> None:
    analysis = make_analysis(GRAPH, torch.ones(3), clean=torch.full((PAIRS,), -2.0))
    shares = Shares.of(analysis)
    assert not shares.there and not shares.value.any() and not shares.draws.any()


@pytest.mark.parametrize("pairs", [2, 3, 5, 8, 16, 64])
def test_a_behaviour_that_is_not_there_is_so_in_19_of_20_draws(pairs: int) -> None:
    weights = resamples(200, pairs)
    noise = torch.randn(600, pairs, generator=torch.Generator().manual_seed(0))
    assert np.mean([behaviour_is_there(one, weights) for one in noise]) < 0.05


@pytest.mark.parametrize("pairs", [2, 3, 5, 16])
def test_nodes_that_do_nothing_are_rarely_active_by_few_pairs(pairs: int) -> None:
    graph = Graph(8, 8)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(pairs, 72, generator=generator)
    analysis = make_analysis(
        graph, clean=torch.full((pairs,), 2.0), corrupted=torch.full((pairs,), -2.0),
        corrupt=noise, restore=noise, attributed=noise,
    )  # fmt: skip
    beyond, _ = Shares.of(analysis).activity(0.05)
    assert beyond[0].mean() < 0.06


def test_a_node_that_was_not_measured_has_its_attributed_share() -> None:
    unmeasured = torch.full((PAIRS, 3), torch.nan)
    unmeasured[:, 1] = 2.0
    attributed = torch.full((PAIRS, 3), 0.04)
    shares = Shares.of(
        make_analysis(GRAPH, corrupt=unmeasured, restore=unmeasured, attributed=attributed)
    )
    assert shares.measured.tolist() == [False, True, False] and shares.known.all()
    assert shares.value.tolist() == pytest.approx(np.array([[0.01, 0.5, 0.01]] * 2))
    beyond, below = shares.activity(0.05)
    assert beyond.tolist() == [[False, True, False]] * 2
    assert below.tolist() == [[True, False, True]] * 2


def test_pairs_on_which_a_node_was_not_measured_are_out_of_its_share() -> None:
    corrupt = torch.ones(PAIRS, 3)
    corrupt[4:, 0] = torch.nan
    corrupt[5:, 1] = torch.nan
    corrupt[:5, 1] = 2.0
    shares = Shares.of(make_analysis(GRAPH, corrupt=corrupt, restore=corrupt))
    assert shares.value[0].tolist() == pytest.approx([0.25, 0.5, 0.25])
    assert shares.seen.tolist() == [4, 5, PAIRS] and shares.measured.all()


def test_a_record_of_before_knows_no_share() -> None:
    nothing = torch.full((PAIRS, 3), torch.nan)
    unknown = torch.full((PAIRS,), torch.nan)
    shares = Shares.of(
        make_analysis(
            GRAPH, corrupt=nothing, restore=nothing, attributed=nothing, clean=unknown,
        )
    )  # fmt: skip
    assert not shares.known.any() and not shares.measured.any() and not shares.there
    beyond, below = shares.activity(0.05)
    assert not beyond.any() and not below.any()


def test_the_larger_share_is_the_larger_in_size() -> None:
    corrupt, restore = torch.tensor([[1.0, -2.0, 0.0]]), torch.tensor([[-1.5, 1.0, 0.0]])
    shares = Shares.of(
        make_analysis(
            GRAPH, corrupt=corrupt.expand(PAIRS, -1), restore=restore.expand(PAIRS, -1)
        )
    )  # fmt: skip
    assert shares.larger.tolist() == [1, 0, 0]
