"""A fast share of the controls: of these checkpoints it is known what must be said of them."""

from pathlib import Path
from typing import Any

import pytest

from scripts.control.compared import gained, halves, recruited
from scripts.control.control import Outcome, World
from scripts.control.crossed import READERS, WRITERS
from scripts.control.models import Subject
from scripts.control.planted import gradual, plants, sudden
from scripts.control.rewired import rewired
from scripts.control.simulated import fluctuating, unrelated
from scripts.control.still import gain, noise
from scripts.control.story import PAIRS, lasting, records, turned
from tracking.timeline.timeline import Timeline


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, quick=True)


def holds(outcome: Outcome) -> None:
    assert outcome.as_asked, outcome.came


def test_nodes_wiring_and_shares_stay_where_only_logits_are_scaled(world: World) -> None:
    holds(gain(world))


def test_weight_noise_makes_no_false_emergent_head(world: World) -> None:
    holds(noise(0.03)(world))


def test_nothing_is_said_of_checkpoints_that_are_all_the_same() -> None:
    subject = Subject(None)
    (pairs,) = subject.samples(PAIRS)
    timeline = Timeline.of(records([subject.model] * 6, pairs))
    assert turned(timeline) == {}
    assert not list(lasting(timeline))
    assert set(timeline.nodes["drift"]) == {""}
    assert (timeline.counts["wiring_kept"].dropna() == 1).all()


def test_the_nodes_that_carry_the_answer_are_those_set_to_by_hand() -> None:
    assert {plant.node for plant in plants(Subject(None))} == {*WRITERS, *READERS}


@pytest.mark.parametrize("backwards", [False, True], ids=["recruited", "faded"])
def test_a_write_that_is_turned_is_found_at_its_step(world: World, backwards: bool) -> None:
    holds(gradual(backwards)(world))


def test_one_transition_at_one_checkpoint_is_found_and_lasts(world: World) -> None:
    holds(sudden(world))


def test_heads_that_swap_partners_stay_and_their_wiring_does_not(world: World) -> None:
    holds(rewired(world))


@pytest.mark.parametrize("control", [halves, gained, recruited])
def test_a_comparison_finds_what_differs_and_nothing_else(world: World, control: Any) -> None:
    holds(control(world))


@pytest.mark.parametrize("kind", ["jitter", "walk"])
def test_shares_that_fluctuate_make_no_lasting_word(world: World, kind: str) -> None:
    holds(fluctuating(kind, 0.1)(world))


def test_heads_beside_a_reward_that_saturates_do_not_follow_it(world: World) -> None:
    holds(unrelated(world))
