"""Resamples are weights of pairs, and what is drawn from them is what each would give alone."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor

from tracking.attribution.importance import head_effects
from tracking.circuits.circuit import Circuit
from tracking.circuits.selection import by_count, by_share
from tracking.model.graph import Graph
from tracking.stability.agreement import (
    AGREED,
    SPLITS,
    Choose,
    agreement,
    jaccard,
    members,
    pairs_needed,
)
from tracking.stability.bootstrap import Interval, halves, interval, resamples
from tracking.stability.nulls import null_turnover
from tracking.timeline.activity import Thresholds, Verdicts, verdicts

graphs = st.builds(Graph, n_layers=st.integers(1, 3), n_heads=st.integers(1, 3))
seeds = st.integers(0, 2**31)


def random_scores(graph: Graph, pairs: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(pairs, *graph.edge_mask.shape, generator=generator) * graph.edge_mask


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


@settings(deadline=None, derandomize=True)
@given(graphs, st.integers(1, 8), st.integers(1, 40), st.floats(0.1, 1), seeds)
def test_heads_of_all_resamples_at_once_are_those_of_each_alone(
    graph: Graph, pairs: int, count: int, share: float, seed: int
) -> None:
    scores, weights = random_scores(graph, pairs, seed), resamples(count, pairs, seed)
    found = members(graph, scores, weights, partial(by_share, graph, share=share)).heads
    assert found.shape == (count, len(graph.head_names)) and found.dtype == torch.bool
    for weight, heads in zip(weights, found, strict=True):
        mean = (weight[:, None, None] * scores).sum(0)
        alone = Circuit(graph, by_share(graph, mean, share)).heads
        there = zip(graph.head_names, heads.tolist(), strict=True)
        assert [name for name, inside in there if inside] == alone


@settings(deadline=None, derandomize=True)
@given(graphs, st.integers(1, 8), st.integers(1, 40), st.integers(1, 60), seeds)
def test_an_edge_s_membership_is_the_share_of_resamples_in_whose_circuit_it_stands(
    graph: Graph, pairs: int, resampled: int, count: int, seed: int
) -> None:
    scores, weights = random_scores(graph, pairs, seed), resamples(resampled, pairs, seed)
    found = members(graph, scores, weights, partial(by_count, graph, count=count)).edges
    means = [(weight[:, None, None] * scores).sum(0) for weight in weights]
    circuits = torch.stack([by_count(graph, mean, count) for mean in means])
    assert torch.allclose(found, circuits.float().mean(0), atol=1e-6)
    assert not bool(found[~graph.edge_mask].any())


def test_a_head_that_one_pair_alone_needs_is_there_where_the_pair_is_drawn() -> None:
    graph, scores = Graph(1, 2), torch.zeros(4, 4, 8)
    scores[:, 0, graph.index("embed->L0H0.v")[1]] = 1
    scores[:, graph.index("L0H0->logits")[0], -1] = 1
    scores[2][graph.index("embed->L0H1.v")] = 1
    scores[2][graph.index("L0H1->logits")] = 1
    weights = resamples(60, 4)
    found = members(graph, scores, weights, partial(by_share, graph, share=1)).heads
    assert bool(found[:, 0].all())
    assert torch.equal(found[:, 1], weights[:, 2] > 0)
    assert 0 < int(found[:, 1].sum()) < 60


@given(graphs, st.integers(1, 4), seeds)
def test_a_head_s_effect_is_the_sum_of_its_outgoing_edges(
    graph: Graph, pairs: int, seed: int
) -> None:
    scores = random_scores(graph, pairs, seed)
    effects = head_effects(graph, scores)
    assert effects.shape == (pairs, len(graph.head_names))
    for pair in range(pairs):
        for head, name in enumerate(graph.head_names):
            row = graph.sources.index(name)
            out = sum(
                float(s)
                for s, there in zip(scores[pair, row], graph.edge_mask[row], strict=True)
                if there
            )
            assert float(effects[pair, head]) == pytest.approx(out, abs=1e-4)


@given(st.floats(-1, 1, width=32), st.integers(1, 30))
def test_the_interval_of_equal_values_is_that_value(value: float, pairs: int) -> None:
    found = interval(torch.full((pairs, 2), value), resamples(50, pairs))
    for bound in (found.mean, found.low, found.high):
        assert bound.tolist() == pytest.approx([value] * 2, abs=1e-6)


@settings(deadline=None, derandomize=True)
@given(st.integers(2, 40), seeds)
def test_a_wider_level_has_a_wider_interval_around_the_mean(pairs: int, seed: int) -> None:
    values = torch.randn(pairs, 3, generator=torch.Generator().manual_seed(seed))
    weights = resamples(400, pairs, seed)
    wide, narrow = interval(values, weights, 0.99), interval(values, weights, 0.5)
    assert torch.equal(wide.mean, values.mean(0))
    assert bool((wide.low <= narrow.low).all() and (narrow.high <= wide.high).all())
    assert bool((wide.low <= wide.mean).all() and (wide.mean <= wide.high).all())
    means = (weights[:, :, None] * values).sum(1).sort(0).values
    assert torch.allclose(wide.low, means[1] + 0.995 * (means[2] - means[1]), atol=1e-5)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    found = interval(torch.randn(60, 2000, generator=generator), resamples(500, 60))
    covered = ((found.low <= 0) & (found.high >= 0)).float().mean()
    assert 0.91 < float(covered) < 0.97


# Halves


@given(st.integers(1, 30), st.integers(2, 60), st.data())
def test_halves_are_disjoint_and_weigh_their_pairs_alike(
    splits: int, pairs: int, data: st.DataObject
) -> None:
    size = data.draw(st.none() | st.integers(1, pairs // 2))
    state = torch.get_rng_state()
    found = halves(splits, pairs, size)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found, halves(splits, pairs, size))
    assert found.shape == (splits, 2, pairs)
    assert not bool((found[:, 0] * found[:, 1]).any())
    assert torch.allclose(found.sum(-1), torch.ones(splits, 2), atol=1e-5)
    wanted = pairs // 2 if size is None else size
    assert ((found > 0).sum(-1) == wanted).all()
    assert torch.allclose(found[found > 0], torch.tensor(1 / wanted))


def test_every_pair_is_in_about_half_of_all_halves() -> None:
    times = (halves(1000, 9) > 0).float().mean(0)
    assert times.flatten().tolist() == pytest.approx([4 / 9] * 18, abs=0.06)


@given(st.sets(st.integers(0, 6)), st.sets(st.integers(0, 6)))
def test_jaccard_is_that_of_sets(first: set[int], second: set[int]) -> None:
    masks = [torch.tensor([head in heads for head in range(7)]) for heads in (first, second)]
    either = first | second
    wanted = len(first & second) / len(either) if either else 1
    assert float(jaccard(*masks)) == pytest.approx(wanted)
    together = jaccard(torch.stack(masks), torch.stack(masks[::-1]))
    assert together.tolist() == pytest.approx([wanted] * 2)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(graphs, st.integers(2, 20), st.integers(1, 60), seeds)
def test_identical_pairs_agree_exactly(graph: Graph, pairs: int, count: int, seed: int) -> None:
    scores = random_scores(graph, 1, seed).expand(pairs, -1, -1)
    choose = partial(by_count, graph, count=count)
    found = agreement(graph, scores, choose)
    assert found.jaccard.tolist() == [1] * SPLITS
    assert found.rank_correlation.tolist() == pytest.approx([1] * SPLITS, abs=1e-5)
    now = verdicts(torch.ones(len(graph.head_names)), at_zero(graph), Thresholds())
    assert (
        null_turnover(
            graph, scores, head_effects(graph, scores), choose, Thresholds(), now
        ).tolist()
        == [0] * SPLITS
    )


def at_zero(graph: Graph) -> Interval:
    zeros = torch.zeros(len(graph.head_names))
    return Interval(zeros, zeros, zeros)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(graphs, st.integers(4, 20), st.integers(1, 40), seeds)
def test_agreement_is_what_every_split_gives_by_itself(
    graph: Graph, pairs: int, count: int, seed: int
) -> None:
    scores = random_scores(graph, pairs, seed)
    found = agreement(graph, scores, partial(by_count, graph, count=count))
    for place, split in enumerate(halves(SPLITS, pairs)):
        means = [(weight[:, None, None] * scores).sum(0) for weight in split]
        heads = [set(Circuit(graph, by_count(graph, mean, count)).heads) for mean in means]
        either = heads[0] | heads[1]
        wanted = len(heads[0] & heads[1]) / len(either) if either else 1
        assert float(found.jaccard[place]) == pytest.approx(wanted)
        wanted = spearmanr(means[0][graph.edge_mask], means[1][graph.edge_mask])[0]
        assert float(found.rank_correlation[place]) == pytest.approx(wanted, abs=1e-3)


def paths(
    effects: Tensor, noise: float, pairs: int, count: int, seed: int = 0
) -> tuple[Graph, Tensor, Choose]:
    """Heads side by side, each with an effect that every pair shows with noise of its own; a
    circuit takes `count` edges, first those from `embed`, which are sure."""
    graph = Graph(1, len(effects))
    generator = torch.Generator().manual_seed(seed)
    scores = torch.zeros(pairs, *graph.edge_mask.shape)
    for name, effect in zip(graph.head_names, effects.tolist(), strict=True):
        scores[:, 0, graph.targets.index(f"{name}.v")] = 1
        seen = effect + noise * torch.randn(pairs, generator=generator)
        scores[:, graph.sources.index(name), -1] = seen
    return graph, scores, partial(by_count, graph, count=count)


UNLIKE = torch.linspace(0.05, 0.6, 12)


def middle_estimate(noise: float) -> float:
    """Of nine sets of pairs: single estimates scatter widely."""
    needed = []
    for seed in range(9):
        graph, scores, choose = paths(UNLIKE, noise, pairs=128, count=18, seed=seed)
        whole = agreement(graph, scores, choose).jaccard
        needed.append(pairs_needed(graph, scores, choose, whole) or 1e6)
    return sorted(needed)[4]


def test_more_noise_takes_more_pairs_and_more_pairs_agree_better() -> None:
    estimates = [middle_estimate(noise) for noise in (0.2, 0.5, 0.8, 1.5)]
    assert all(quiet < loud for quiet, loud in pairwise(estimates))
    for noise in (0.5, 0.8, 1.5):
        graph, scores, choose = paths(UNLIKE, noise, pairs=128, count=18)
        many, few = agreement(graph, scores, choose), agreement(graph, scores, choose, size=8)
        assert float(few.jaccard.mean()) < float(many.jaccard.mean())
        assert float(few.rank_correlation.mean()) < float(many.rank_correlation.mean())


@pytest.mark.parametrize("noise", [0.4, 0.6])
def test_halves_of_as_many_pairs_as_are_estimated_agree_about_as_asked(noise: float) -> None:
    agreed, pairs = [], 2 * round(middle_estimate(noise))
    for seed in range(9):
        graph, scores, choose = paths(UNLIKE, noise, pairs, count=18, seed=100 + seed)
        agreed.append(float(agreement(graph, scores, choose).jaccard.mean()))
    assert sorted(agreed)[4] == pytest.approx(AGREED, abs=0.1)


def test_too_few_pairs_give_no_estimate() -> None:
    graph, scores, choose = paths(UNLIKE, 0.5, pairs=15, count=18)
    assert pairs_needed(graph, scores, choose, agreement(graph, scores, choose).jaccard) is None


def turnover_of(graph: Graph, scores: Tensor, choose: Choose) -> Tensor:
    weights = resamples(200, len(scores))
    membership = members(graph, scores, weights, choose).heads.float().mean(0)
    effect = interval(head_effects(graph, scores), weights)
    now = verdicts(membership, effect, Thresholds())
    return null_turnover(graph, scores, head_effects(graph, scores), choose, Thresholds(), now)


def test_heads_that_only_noise_tells_apart_turn_over_and_sure_ones_do_not() -> None:
    """Six heads of one effect, near the threshold, of which a circuit has room for two."""
    alike = torch.full((6,), 0.05)
    noise = torch.stack(
        [turnover_of(*paths(alike, 0.1, pairs=64, count=8, seed=seed)) for seed in range(5)]
    )
    assert bool(((noise >= 0) & (noise <= 1)).all())
    assert float(noise.mean()) > 0.15
    apart = torch.tensor([0.5, 0.5, 0.05, 0.05, 0.05, 0.05])
    assert turnover_of(*paths(apart, 0.1, pairs=64, count=8)).tolist() == [0] * SPLITS


# Verdicts


@given(st.lists(st.tuples(st.floats(0, 1), *[st.floats(-0.1, 0.1)] * 3), min_size=1), st.data())
def test_a_head_is_just_one_of_active_inactive_and_undecided(
    rows: list[tuple[float, ...]], data: st.DataObject
) -> None:
    ordered = torch.tensor([sorted(row[1:]) for row in rows])
    low, mean, high = ordered.unbind(1)
    membership = torch.tensor([row[0] for row in rows])
    thresholds = Thresholds(
        member=data.draw(st.floats(0.5, 1)), effect=data.draw(st.floats(0.001, 0.09))
    )
    found = verdicts(membership, Interval(mean, low, high), thresholds)
    each = found.active.int() + found.inactive.int() + found.undecided.int()
    assert each.tolist() == [1] * len(rows)
    mirrored = verdicts(membership, Interval(-mean, -high, -low), thresholds)
    assert torch.equal(mirrored.active, found.active)
    assert torch.equal(mirrored.inactive, found.inactive)
    strict = Thresholds(member=thresholds.member, effect=2 * thresholds.effect)
    fewer = verdicts(membership, Interval(mean, low, high), strict)
    assert not bool((fewer.active & ~found.active).any())
    assert not bool((found.inactive & ~fewer.inactive).any())


def test_verdicts_are_blind_to_what_else_is_judged() -> None:
    membership = torch.tensor([[1.0, 0.0], [0.5, 1.0]])
    effect = Interval(*torch.tensor([[[0.5, 0.5]] * 2, [[0.4, 0.4]] * 2, [[0.6, 0.6]] * 2]))
    found = verdicts(membership, effect, Thresholds())
    assert isinstance(found, Verdicts)
    assert found.active.tolist() == [[True, False], [False, True]]
    assert found.inactive.tolist() == [[False, True], [False, False]]
    assert found.undecided.tolist() == [[False, False], [True, False]]
