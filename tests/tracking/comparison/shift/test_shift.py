"""What a training changed is found where it was planted, and nothing is where nothing was."""

import copy
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.builders.planted import COPY, planted
from tests.builders.two_models import changed, miscopying, misreading, planted_texts
from tracking import BadInput
from tracking.comparison.shift.shift import TOGETHER, WEIGHED, Judged, Shift
from tracking.comparison.shift.texts import Text, Texts


@pytest.fixture(scope="module")
def shift() -> Shift:
    base = planted(noise=0.01)
    return Shift.of(base, miscopying(base), planted_texts())


def test_only_the_head_whose_write_was_changed_comes_out(shift: Shift) -> None:
    carried = shift.carried
    assert carried is not None and carried.carriers == [COPY] and carried.uncorrected == []
    nodes: Any = carried.nodes.set_index("node")
    for way in ("lost_share", "gained_share"):
        assert nodes.loc[COPY, way] == pytest.approx(1, abs=1e-3)
        assert nodes.drop(index=COPY)[way].abs().max() < 1e-2


def test_its_weights_carry_the_same(shift: Shift) -> None:
    assert shift.carried is not None
    row: Any = shift.carried.by_weights.set_index("part").loc[COPY]
    assert row["lost_share"] == pytest.approx(1, abs=1e-3)
    assert row["gained_share"] == pytest.approx(1, abs=1e-3)


def test_parts_hold_it_where_it_is_and_everything_is_all(shift: Shift) -> None:
    assert shift.carried is not None
    parts: Any = shift.carried.parts.set_index("part")["gained_share"]
    for name in ("attention", "everything", "attention + MLPs"):
        assert parts[name] == pytest.approx(1, abs=1e-3)
    for name in ("MLPs", "embeddings", "unembedding"):
        assert parts[name] == pytest.approx(0, abs=1e-2)


def test_every_position_of_the_completions_is_found(shift: Shift) -> None:
    assert shift.carried is not None
    places = shift.carried.places
    assert places.count + places.agreeing == int(shift.divergence.carrying.sum())
    assert places.count == pytest.approx(0.9 * 12 * 5, abs=1) and places.agreeing == 0
    assert shift.divergence.concentration == pytest.approx(0.9, abs=0.05)


def test_halves_of_the_prompts_agree_on_a_planted_change(shift: Shift) -> None:
    assert shift.carried is not None
    assert shift.carried.halves.correlation == pytest.approx(1, abs=1e-3)
    assert shift.carried.halves.level < 0.01


def test_a_node_that_only_passes_on_comes_out_by_writes_alone() -> None:
    base = planted(noise=0.01)
    carried = Shift.of(base, misreading(base), planted_texts()).carried
    assert carried is not None and carried.carriers == [COPY]
    weights: Any = carried.by_weights.set_index("part")
    assert abs(weights.loc[COPY, "gained_share"]) < 1e-5
    parts = carried.parts.set_index("part")["gained_share"]
    assert parts["embeddings"] == pytest.approx(1, abs=0.05)


def test_a_base_against_itself_has_no_places_and_says_so() -> None:
    base = planted()
    shift = Shift.of(base, copy.deepcopy(base), planted_texts())
    assert shift.carried is None
    assert shift.why_not == "the two policies do not differ on any token"
    assert shift.divergence.mean == 0 and math.isnan(shift.divergence.concentration)


def test_a_gain_on_the_last_norm_has_no_places_and_says_so() -> None:
    base = planted()
    trained = copy.deepcopy(base)
    trained.model.norm.weight.data *= 0.5
    shift = Shift.of(base, trained, planted_texts())
    assert shift.divergence.mean > 0
    assert shift.carried is None and "how sure they are has changed" in shift.why_not


def test_few_prompts_are_not_enough_and_it_says_so() -> None:
    base = planted(noise=0.01)
    shift = Shift.of(base, miscopying(base), planted_texts(3))
    assert shift.carried is None and "in texts of 3 prompts only" in shift.why_not
    assert shift.figures["prompts"] == 3 and shift.figures["places"] >= 3
    assert math.isnan(shift.figures["behaviour"])


def test_a_node_that_would_come_out_by_itself_is_named_as_that(tiny_decoder) -> None:
    by_itself = Shift.of(*random_texts(tiny_decoder), Judged(share=0.0)).carried
    strict = Shift.of(*random_texts(tiny_decoder), Judged(share=0.0, error=1e-12)).carried
    assert by_itself is not None and strict is not None
    assert strict.carriers == [] and set(by_itself.carriers) <= set(strict.uncorrected)
    assert not set(by_itself.carriers) & set(by_itself.uncorrected)


def random_texts(tiny_decoder, count: int = 24) -> tuple[Any, Any, Texts]:
    base = tiny_decoder()
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 50, (count, 10), generator=generator).tolist()
    drawn = [Text(f"{i // 2}", "base", row[: 3 + i % 3], row[3 + i % 3 :]) for i, row in
             enumerate(rows)]  # fmt: skip
    return base, changed(base, 1), Texts.of(drawn)


def test_everything_is_all_of_the_shift_between_any_two_models(tiny_decoder) -> None:
    carried = Shift.of(*random_texts(tiny_decoder)).carried
    assert carried is not None and carried.places.prompts == 12
    parts: Any = carried.parts.set_index("part")
    shares = parts.loc["everything", ["lost_share", "gained_share"]]
    assert shares.tolist() == pytest.approx([1, 1], abs=1e-4)
    assert float(carried.behaviour.low) > 0


def test_together_stands_beside_the_nodes_that_come_out(tiny_decoder) -> None:
    carried = Shift.of(*random_texts(tiny_decoder), Judged(share=0.0)).carried
    assert carried is not None and len(carried.carriers) > 1
    assert TOGETHER in set(carried.parts["part"])
    assert list(carried.by_weights["part"]) == [*carried.carriers[:WEIGHED], TOGETHER]


def test_shares_are_those_of_sums_over_places(tiny_decoder) -> None:
    carried = Shift.of(*random_texts(tiny_decoder)).carried
    assert carried is not None
    for way in ("lost", "gained"):
        wanted = carried.nodes[way] / float(carried.behaviour.mean)
        assert np.allclose(carried.nodes[f"{way}_share"], wanted, atol=1e-5)


def test_a_screen_leaves_nodes_out_and_tries_a_sample(tiny_decoder) -> None:
    base, trained, drawn = random_texts(tiny_decoder)
    full = Shift.of(base, trained, drawn).carried
    some = Shift.of(base, trained, drawn, Judged(screen=0.2)).carried
    assert full is not None and some is not None
    assert 0 < some.screened.left_out < 10 and some.screened.sampled == some.screened.left_out
    pd.testing.assert_frame_equal(
        full.nodes.drop(columns="comes_out"), some.nodes.drop(columns="comes_out"), rtol=1e-4,
        atol=1e-4,
    )  # fmt: skip


def test_vocabularies_must_be_the_same(tiny_decoder) -> None:
    base, _, drawn = random_texts(tiny_decoder)
    with pytest.raises(BadInput, match="differ in vocabulary: 50 and 60"):
        Shift.of(base, tiny_decoder(vocabulary=60), drawn)


def test_texts_that_are_none_are_refused() -> None:
    with pytest.raises(BadInput, match="not one text"):
        Texts.of([])
    with pytest.raises(BadInput, match="empty prompt"):
        Texts.of([Text("a", "base", [], [1, 2])])
