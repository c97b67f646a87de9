"""Resamples are weights of pairs, and an interval covers the truth as often as it says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from tests.builders.edges import seeds
from tracking.stability.bootstrap import halves, interval, resamples, share


@given(st.integers(1, 50), st.integers(1, 40), seeds)
def test_a_resample_draws_as_many_pairs_as_there_are(count: int, pairs: int, seed: int) -> None:
    state = torch.get_rng_state()
    weights = resamples(count, pairs, seed)
    assert torch.equal(torch.get_rng_state(), state)
    assert weights.shape == (count, pairs)
    assert torch.allclose(weights.sum(1), torch.ones(count), atol=1e-5)
    times = weights * pairs
    assert torch.allclose(times, times.round(), atol=1e-4) and bool((times >= 0).all())
    assert torch.equal(weights, resamples(count, pairs, seed))


def test_resamples_differ_by_seed_and_among_themselves() -> None:
    assert not torch.equal(resamples(5, 20, 0), resamples(5, 20, 1))
    assert len(resamples(50, 20).unique(dim=0)) == 50
    assert resamples(4000, 10).mean(0).tolist() == pytest.approx([0.1] * 10, abs=0.01)


def test_a_larger_draw_begins_with_the_smaller_one() -> None:
    """So resample r is the same pairs whatever their number."""
    assert torch.equal(resamples(200, 30)[:50], resamples(50, 30))


@given(st.floats(-1, 1, width=32), st.integers(2, 30))
def test_the_interval_of_equal_values_is_that_value(value: float, pairs: int) -> None:
    result = interval(torch.full((pairs, 2), value), resamples(50, pairs))
    for bound in (result.mean, result.low, result.high):
        assert bound.tolist() == pytest.approx([value] * 2, abs=1e-6)


@settings(derandomize=True)
@given(st.integers(2, 40), seeds)
def test_a_wider_level_has_a_wider_interval_around_the_mean(pairs: int, seed: int) -> None:
    values = torch.randn(pairs, 3, generator=torch.Generator().manual_seed(seed))
    weights = resamples(400, pairs, seed)
    wide, narrow = interval(values, weights, 0.99), interval(values, weights, 0.5)
    assert torch.equal(wide.mean, values.mean(0))
    assert bool((wide.low <= narrow.low).all() and (narrow.high <= wide.high).all())
    assert bool((wide.low <= wide.mean).all() and (wide.mean <= wide.high).all())
    means = (weights[:, :, None] * values).sum(1).sort(0).values
    percentile = means[1] + 0.995 * (means[2] - means[1])
    times = float(stats.t.ppf(0.995, pairs - 1)) * (pairs / (pairs - 1)) ** 0.5
    student = means.mean(0) - times * means.std(0, correction=0)
    assert torch.allclose(wide.low, torch.minimum(percentile, student), atol=1e-5)


@pytest.mark.parametrize("pairs", [2, 3, 5, 8, 16])
def test_of_few_pairs_no_interval_is_surer_than_it_says(pairs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = interval(torch.randn(pairs, 4000, generator=generator), resamples(200, pairs))
    assert float((drawn.low > 0).float().mean()) < 0.035
    assert float((drawn.high < 0).float().mean()) < 0.035


def test_of_one_pair_nothing_is_sure() -> None:
    drawn = interval(torch.ones(1, 1), resamples(50, 1))
    assert (drawn.low.item(), drawn.mean.item(), drawn.high.item()) == (-torch.inf, 1, torch.inf)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    result = interval(torch.randn(60, 2000, generator=generator), resamples(500, 60))
    covered = ((result.low <= 0) & (result.high >= 0)).float().mean()
    assert 0.91 < float(covered) < 0.97


@given(st.integers(1, 30), st.integers(2, 60), st.data())
def test_halves_are_disjoint_and_weigh_their_pairs_alike(
    splits: int, pairs: int, data: st.DataObject
) -> None:
    size = data.draw(st.none() | st.integers(1, pairs // 2))
    state = torch.get_rng_state()
    result = halves(splits, pairs, size)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(result, halves(splits, pairs, size))
    assert result.shape == (splits, 2, pairs)
    assert not bool((result[:, 0] * result[:, 1]).any())
    assert torch.allclose(result.sum(-1), torch.ones(splits, 2), atol=1e-5)
    wanted = pairs // 2 if size is None else size
    assert ((result > 0).sum(-1) == wanted).all()
    assert torch.allclose(result[result > 0], torch.tensor(1 / wanted))


def test_every_pair_is_in_about_half_of_all_halves() -> None:
    times = (halves(1000, 9) > 0).float().mean(0)
    assert times.flatten().tolist() == pytest.approx([4 / 9] * 18, abs=0.06)


def random_effects(pairs: int, nodes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Effects [pair, node] and a behaviour [pair] that is positive by far."""
    generator = torch.Generator().manual_seed(seed)
    behaviour = 2 + torch.rand(pairs, generator=generator)
    return torch.randn(pairs, nodes, generator=generator), behaviour


@given(st.integers(1, 30), seeds)
def test_a_share_is_a_ratio_of_means_over_the_same_resample(pairs: int, seed: int) -> None:
    effect, behaviour = random_effects(pairs, 3, seed)
    weights = resamples(100, pairs, seed)
    result = share(effect, behaviour, weights)
    assert torch.allclose(result.mean, effect.mean(0) / behaviour.mean(), atol=1e-5)
    ratios = [(w[:, None] * effect).sum(0) / (w * behaviour).sum() for w in weights]
    ends = torch.stack(ratios).quantile(torch.tensor([0.025, 0.975]), dim=0)
    assert bool((result.low <= ends[0] + 1e-5).all() and (result.high >= ends[1] - 1e-5).all())


@given(st.integers(2, 30), seeds)
def test_the_share_of_an_effect_that_is_all_of_it_is_surely_1(pairs: int, seed: int) -> None:
    behaviour = random_effects(pairs, 1, seed)[1]
    result = share(behaviour[:, None], behaviour, resamples(100, pairs, seed))
    for bound in (result.mean, result.low, result.high):
        assert bound.tolist() == pytest.approx([1], abs=1e-5)


def test_resamples_without_behaviour_open_the_interval_of_a_share() -> None:
    effect, behaviour = torch.tensor([[1.0], [1.0], [1.0]]), torch.tensor([5.0, -1.0, -1.0])
    result = share(effect, behaviour, resamples(500, 3))
    assert result.mean.tolist() == pytest.approx([1.0])
    assert (result.low.item(), result.high.item()) == (-torch.inf, torch.inf)


def test_few_resamples_without_behaviour_leave_the_interval_finite() -> None:
    effect, behaviour = torch.ones(8, 1), torch.tensor([1.0] * 7 + [-3.0])
    weights = resamples(4000, 8)
    none = (weights @ behaviour <= 0).float().mean().item()
    assert 0.025 < none < 0.5  # so both ends of 95 % are open, and those of the middle are not
    open_ended, inner = (share(effect, behaviour, weights, level) for level in (0.95, 0.1))
    assert (open_ended.low.item(), open_ended.high.item()) == (-torch.inf, torch.inf)
    assert -torch.inf < inner.low.item() <= inner.high.item() < torch.inf


@pytest.mark.parametrize("behaviour", [0.0, -1.0])
def test_without_behaviour_a_share_is_nan_and_surely_unknown(behaviour: float) -> None:
    result = share(torch.ones(9, 2), torch.full((9,), behaviour), resamples(50, 9))
    assert bool(result.mean.isnan().all())
    assert result.low.tolist() == [-torch.inf] * 2 and result.high.tolist() == [torch.inf] * 2


@given(st.integers(4, 30), seeds)
def test_pairs_that_were_not_measured_are_out_of_both_means(pairs: int, seed: int) -> None:
    effect, behaviour = random_effects(pairs, 2, seed)
    effect[: pairs // 2, 0] = torch.nan
    effect[:, 1] = torch.nan
    weights = resamples(60, pairs, seed)
    result = share(effect, behaviour, weights)
    rest = slice(pairs // 2, None)
    wanted = share(effect[rest, :1], behaviour[rest], weights[:, rest])
    for end, right in ((result.mean, wanted.mean), (result.low, wanted.low)):
        assert torch.allclose(end[0], right[0], atol=1e-5)
        assert bool(end[1].isnan())
    assert bool(result.high[1].isnan())


def test_the_interval_of_a_share_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    hits = []
    for seed in range(300):
        behaviour = 1 + torch.randn(60, generator=generator)
        effect = 0.3 * behaviour + 0.5 * torch.randn(60, generator=generator)
        result = share(effect[:, None], behaviour, resamples(300, 60, seed))
        hits.append(result.low.item() <= 0.3 <= result.high.item())
    assert 0.9 < sum(hits) / len(hits) < 0.985
