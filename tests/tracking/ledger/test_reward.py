"""The reward of a record is the mean of what was logged since the record before."""

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.ledger.reward import NAMES, Reward, reward_between

values = st.floats(-10, 10)
rows = st.lists(
    st.fixed_dictionaries(
        {"step": st.integers(1, 12)},
        optional={name: values for name in (*NAMES, "eval_reward", "reward_std", "entropy")},
    ),
    max_size=12,
)


@given(rows, st.integers(0, 12), st.integers(0, 12))
def test_the_first_name_logged_between_two_checkpoints_is_averaged(
    history: list[dict], after: int, upto: int
) -> None:
    result = reward_between(history, after, upto)
    for name in ("reward", "eval_mean_token_accuracy", "loss"):
        logged = [
            row[name]
            for row in history
            if row["step"] in range(after + 1, upto + 1) and name in row
        ]
        if logged:
            assert result.name == name
            assert result.value == pytest.approx(fmean(logged))
            return
    assert result == Reward(None, "reward")


def test_a_checkpoint_s_own_step_counts_to_it_and_not_to_the_next() -> None:
    history = [
        {"step": 10, "reward": 1.0},
        {"step": 20, "reward": 3.0},
        {"step": 15, "reward": 2.0},
    ]
    assert reward_between(history, 0, 10) == Reward(1.0, "reward")
    assert reward_between(history, 10, 20) == Reward(2.5, "reward")
    assert reward_between(history, 20, 30) == Reward(None, "reward")


def test_an_evaluation_s_reward_is_not_taken_for_training_s() -> None:
    history = [{"step": 5, "reward": 0.25}, {"step": 5, "eval_reward": 0.75, "eval_loss": 1.0}]
    assert reward_between(history, 0, 5) == Reward(0.25, "reward")
    assert reward_between(history[1:], 0, 5) == Reward(None, "reward")


def test_reward_functions_are_kept_by_name() -> None:
    history = [
        {"step": 1, "reward": 1.0, "rewards/right/mean": 0.5, "rewards/right/std": 9.0},
        {"step": 2, "reward": 2.0, "rewards/right/mean": 1.0, "rewards/a/b/mean": 0.25},
        {"step": 2, "eval_rewards/right/mean": 9.0, "rewards/silent/mean": float("nan")},
        {"step": 3, "rewards/right/mean": 9.0},
    ]
    result = reward_between(history, 0, 2)
    assert result == Reward(1.5, "reward", {"right": 0.75, "a/b": 0.25})
    assert reward_between(history, 2, 3) == Reward(None, "reward", {"right": 9.0})
    assert reward_between(history, 3, 9).parts == {}
