"""A setting that makes no sense is refused by the name that it has in a recipe."""

from dataclasses import fields
from typing import Any

import pytest

from tracking.circuits.top_edges import Selection
from tracking.errors import BadInput
from tracking.settings import Settings
from tracking.timeline.activity import Thresholds


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"select": "share=2"}, "'share=2'"),
        ({"select": "0.9"}, "'0.9'.*share=0.9 or faithfulness=0.8"),
        ({"rank": "loud"}, "track_rank is 'loud'"),
        ({"on_error": "ignore"}, "track_on_error is 'ignore'"),
        ({"share": 0}, "track_share is 0"),
        ({"share": 1.5}, "track_share is 1.5"),
        ({"weak_faithfulness": -0.7}, "track_weak_faithfulness is -0.7"),
        ({"weak_jaccard": float("nan")}, "track_weak_jaccard is nan"),
        ({"ig_steps": 0}, "track_ig_steps is 0"),
        ({"max_ig_steps": -1}, "track_max_ig_steps is -1"),
        ({"batch_size": 0}, "track_batch_size is 0"),
        ({"batch_size": "16"}, "track_batch_size is '16'; it must be int"),
        ({"resamples": 0}, "track_resamples is 0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(wrong: dict[str, Any], named: str) -> None:
    kind = Settings if set(wrong) <= {item.name for item in fields(Settings)} else Thresholds
    with pytest.raises(BadInput, match=named) as raised:
        kind(**wrong)
    assert "\n" not in str(raised.value)


def test_the_defaults_are_those_of_the_design() -> None:
    plain = Settings()
    assert Selection.parse(plain.select) == Selection("faithfulness", 0.8)
    apart = Thresholds()
    assert (apart.share, apart.error, apart.gap) == (0.05, 0.05, 0.05)
    assert (apart.weak_faithfulness, apart.weak_jaccard) == (0.7, 0.5)
