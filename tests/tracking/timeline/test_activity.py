"""Verdicts are each one word, and blind to what else is judged."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tracking.stability.bootstrap import Interval
from tracking.timeline.activity import Activity, Thresholds


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
    found = Activity.judged(membership, Interval(mean, low, high), thresholds)
    each = found.active.int() + found.inactive.int() + found.undecided.int()
    assert each.tolist() == [1] * len(rows)
    mirrored = Activity.judged(membership, Interval(-mean, -high, -low), thresholds)
    assert torch.equal(mirrored.active, found.active)
    assert torch.equal(mirrored.inactive, found.inactive)
    strict = Thresholds(member=thresholds.member, effect=2 * thresholds.effect)
    fewer = Activity.judged(membership, Interval(mean, low, high), strict)
    assert not bool((fewer.active & ~found.active).any())
    assert not bool((found.inactive & ~fewer.inactive).any())


def test_verdicts_are_blind_to_what_else_is_judged() -> None:
    membership = torch.tensor([[1.0, 0.0], [0.5, 1.0]])
    effect = Interval(*torch.tensor([[[0.5, 0.5]] * 2, [[0.4, 0.4]] * 2, [[0.6, 0.6]] * 2]))
    found = Activity.judged(membership, effect, Thresholds())
    assert isinstance(found, Activity)
    assert found.active.tolist() == [[True, False], [False, True]]
    assert found.inactive.tolist() == [[False, True], [False, False]]
    assert found.undecided.tolist() == [[False, False], [True, False]]
