"""Weights, opening and their interaction come out of four cells, each where it was put in."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.planted import COPY, plant, planted
from tests.builders.planted import pairs as planted_pairs
from tracking import PromptPairs
from tracking.attribution.metrics import neg_logit_diff
from tracking.comparison.prompts.openings import swapped
from tracking.comparison.prompts.two_by_two import CELLS, Cell, emergence, two_by_two
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds
from tracking.nodes.effects import node_effects
from tracking.stability.bootstrap import resamples

PAIRS, NODES = 64, 8


def positive(model, pairs: PromptPairs) -> PromptPairs:
    """The pairs with the labels that the model itself prefers on either side, so that each has the
    behaviour."""
    with torch.no_grad():
        tokens = [model(ids).logits[:, -1].argmax(-1) for ids in (pairs.clean, pairs.corrupted)]
    there = tokens[0] != tokens[1]
    return PromptPairs(pairs.clean, pairs.corrupted, labels=torch.stack(tokens, 1))[
        there.nonzero()[:, 0]
    ]


def cells_of(shares: np.ndarray, seed: int = 0, noise: float = 0.02) -> list[Cell]:
    """Four cells with these mean shares [cell, node]; problems differ in their behaviour, which the
    cells have in common, and each node's share is a little other on each."""
    rng = np.random.default_rng(seed)
    behaviour = rng.uniform(1, 3, PAIRS)
    drawn = shares[:, None, :] + noise * rng.normal(size=(4, PAIRS, shares.shape[1]))
    effect = torch.from_numpy(drawn * behaviour[:, None]).float()
    return [Cell(one, torch.from_numpy(behaviour).float()) for one in effect]


def names(count: int) -> list[str]:
    return [f"L0H{place}" for place in range(count)]


def measured(models, pairs: PromptPairs) -> list[Cell]:
    """The four cells of two models, by what is lost where a node is corrupted."""
    cells = []
    for model in models:
        nodes = torch.ones(len(Decoder.of(model).graph.nodes), dtype=torch.bool)
        for some in (pairs, swapped(pairs)):
            result = node_effects(AllEnds.of(Decoder.of(model), some, 8), nodes, neg_logit_diff)
            cells.append(Cell(result.corrupt, result.behaviour))
    return cells


@given(st.integers(0, 2**31))
def test_factors_are_the_sums_and_differences_of_cells(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = [
        Cell(
            torch.from_numpy(rng.normal(size=(6, 3))).float(),
            torch.from_numpy(rng.uniform(1, 2, 6)).float(),
        )
        for _ in CELLS
    ]
    table = two_by_two(cells, names(3), resamples(20, 6), 0.01, 0.05)
    aa, ab, ba, bb = (
        [sum(cell.effect[:, node].tolist()) / sum(cell.behaviour.tolist()) for node in range(3)]
        for cell in cells
    )
    for node in range(3):
        before, after = bb[node] - ab[node], ba[node] - aa[node]
        assert table["weights"][node] == pytest.approx((before + after) / 2, abs=1e-4)
        before, after = bb[node] - ba[node], ab[node] - aa[node]
        assert table["opening"][node] == pytest.approx((before + after) / 2, abs=1e-4)
        assert table["interaction"][node] == pytest.approx(before - after, abs=1e-4)
        parts = table["weights"][node] + table["opening"][node]
        assert table["swapped"][node] == pytest.approx(parts, abs=1e-4)


def test_each_factor_is_seen_on_the_node_that_has_it_and_on_no_other() -> None:
    shares = np.full((4, NODES), 0.2)
    shares[:, 0] += [0, 0, 0.1, 0.1]
    shares[:, 1] += [0, 0.1, 0, 0.1]
    shares[:, 2] += [0, 0, 0, 0.1]
    table = two_by_two(cells_of(shares), names(NODES), resamples(400, PAIRS), 0.03, 0.05)
    assert table["weights_surely"].tolist() == [True, False, True] + [False] * 5
    assert table["opening_surely"].tolist() == [False, True, True] + [False] * 5
    assert table["interaction_surely"].tolist() == [False, False, True] + [False] * 5
    inside = (table["weights_low"] < 0.1) & (table["weights_high"] > 0.1)
    assert inside[0] and not inside[3:].any()


def test_where_nothing_differs_about_no_node_is_called_different() -> None:
    wrong = [
        two_by_two(
            cells_of(np.full((4, NODES), 0.2), seed), names(NODES), resamples(200, PAIRS), 0, 0.05
        ).filter(like="_surely").to_numpy().any()
        for seed in range(60)
    ]  # fmt: skip
    assert np.mean(wrong) < 0.3  # four factors at 0.05 each


def test_all_that_the_prompt_makes_emerge_is_gone_on_fixed_pairs() -> None:
    shares = np.full((4, NODES), 0.0)
    shares[1::2, :3] = 0.2  # active with opening b, whoever reads it
    emerged = emergence(cells_of(shares), resamples(200, PAIRS), 0.05)
    assert emerged.swapped.tolist() == [True] * 3 + [False] * 5
    assert not emerged.fixed_a.any() and not emerged.fixed_b.any()
    assert (emerged.kept_a.value, emerged.kept_a.high, emerged.kept_b.value) == (0, 0, 0)
    assert emerged.null.value == 1


def test_what_the_weights_make_emerge_stays_on_fixed_pairs() -> None:
    shares = np.full((4, NODES), 0.0)
    shares[2:, :3], shares[1::2, 3] = 0.2, 0.2
    emerged = emergence(cells_of(shares), resamples(200, PAIRS), 0.05)
    assert emerged.swapped.tolist() == [True] * 4 + [False] * 4
    assert emerged.kept_a.value == emerged.kept_b.value == emerged.kept_both.value == 0.75
    assert emerged.kept_b.low == emerged.kept_b.high == 0.75  # all far from the threshold


def test_what_emerges_by_one_opening_alone_is_not_kept_by_both() -> None:
    shares = np.full((4, NODES), 0.0)
    shares[3, :4], shares[2, :2], shares[1, 2:4] = 0.2, 0.2, 0.2  # 2 by a as well, 2 by a alone
    emerged = emergence(cells_of(shares), resamples(200, PAIRS), 0.05)
    assert (emerged.kept_a.value, emerged.kept_b.value, emerged.kept_both.value) == (0.5, 0.5, 0.5)
    shares[1, :2] = 0.2  # active in A with b: not emergent there
    emerged = emergence(cells_of(shares), resamples(200, PAIRS), 0.05)
    assert (emerged.kept_a.value, emerged.kept_b.value, emerged.kept_both.value) == (0.5, 0, 0)


def test_nodes_near_the_threshold_do_not_all_come_again_in_the_null() -> None:
    shares = np.full((4, 40), 0.0)
    shares[3] = 0.05
    emerged = emergence(cells_of(shares, noise=0.1), resamples(200, PAIRS), 0.05)
    assert 0.2 < emerged.null.value < 0.9


def test_without_an_emergent_node_nothing_is_kept() -> None:
    emerged = emergence(cells_of(np.full((4, NODES), 0.2)), resamples(50, PAIRS), 0.05)
    assert np.isnan([emerged.kept_a.value, emerged.kept_b.value, emerged.null.value]).all()


def test_a_cell_without_behaviour_is_sure_of_nothing() -> None:
    cells = cells_of(np.full((4, NODES), 0.2))
    cells[3] = Cell(cells[3].effect, -cells[3].behaviour)
    table = two_by_two(cells, names(NODES), resamples(50, PAIRS), 0.03, 0.05)
    assert table["share_Bb"].isna().all()
    assert not table.filter(like="_surely").to_numpy().any()


def test_a_head_that_weights_add_is_theirs_and_not_the_opening_s() -> None:
    base, trained = planted(), planted()
    with torch.no_grad():
        plant(trained.model.layers[2].self_attn, 1)  # a second copier beside L1H2
    cells, nodes = measured((base, trained), planted_pairs(32)), Decoder.of(base).graph.nodes
    table = two_by_two(cells, nodes, resamples(400, 32), 0.03, 0.05).set_index("node")
    assert [*table.index[table["weights_surely"]]] == [COPY, "L2H1"]
    assert table["weights"][COPY] < 0 < table["weights"]["L2H1"]
    assert not table[["opening_surely", "interaction_surely"]].to_numpy().any()


def test_of_one_model_all_that_emerges_by_the_swapped_design_is_the_opening_s(
    tiny_decoder, random_pairs
) -> None:
    model, pairs = tiny_decoder(seed=1), positive(tiny_decoder(seed=1), random_pairs(pairs=24))
    weights = resamples(200, len(pairs))
    cells, nodes = measured((model, model), pairs), Decoder.of(model).graph.nodes
    table = two_by_two(cells, nodes, weights, 0, 0.05)
    for factor in ("weights", "interaction"):
        assert (table[factor] == 0).all() and not table[f"{factor}_surely"].any()
    sizes = table[["share_Aa", "share_Ab"]].abs().to_numpy()
    more = int((sizes[:, 1] - sizes[:, 0]).argmax())  # active by b alone at this threshold
    emerged = emergence(cells, weights, float(sizes[more].mean()))
    assert emerged.swapped[more] and not (emerged.fixed_a | emerged.fixed_b).any()
    assert emerged.kept_a.value == emerged.kept_b.value == 0
