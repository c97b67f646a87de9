"""Whether hard problems suffer more than easy ones, where it is known."""

import numpy as np
import pandas as pd
import pytest

from tests.builders.ablations import OTHERS, comparison, responses
from train.ablation.difficulty.harder import Harder, harder
from train.ablation.paired import Difference, apart, difference
from train.ablation.results import results
from train.ablation.view import suffered


def one(
    easy: tuple[float, float], hard: tuple[float, float], random: tuple[float, float] = (0.0, 0.0)
) -> Harder:
    """Of accuracies as it is and with the head off; a control set takes `random` of both."""
    rows = [
        responses({"": on, "zero L1H0": off, **{f"zero {n[0]}": on - lost for n in OTHERS}}, name)
        for name, (on, off), lost in (("easy", easy, random[0]), ("hard", hard, random[1]))
    ]
    (result,) = harder(results(pd.concat(rows), [comparison()]), [("easy", "hard")])
    return result


def test_hard_problems_that_suffer_more_are_told_and_held_against_random_heads() -> None:
    result = one(easy=(0.9, 0.8), hard=(0.7, 0.1))
    assert result.more.mean == pytest.approx(-0.5)
    assert result.p < 0.001 and result.beyond == ("layer",) and result.room
    (sentence,) = suffered([result])
    assert "-0.60 in hard, -0.10 in easy: hard suffers more (-0.500" in sentence
    assert "beyond random sets of the same layers" in sentence
    assert result.row["hard_change"] == pytest.approx(-0.6)


def test_easy_problems_that_suffer_more_are_told_with_the_room_that_hard_ones_had() -> None:
    (sentence,) = suffered([one(easy=(0.9, 0.2), hard=(0.1, 0.05))])
    assert "hard suffers less" in sentence and "hard, at 0.10, has little room" in sentence


def test_where_random_heads_do_the_same_it_is_not_these_heads() -> None:
    result = one(easy=(0.9, 0.8), hard=(0.7, 0.1), random=(0.1, 0.6))
    assert result.p < 0.001 and result.beyond == ()
    assert "hard suffers more" in suffered([result])[0]
    assert "not shown to be beyond random sets" in suffered([result])[0]


def test_of_problems_that_gain_none_is_said_to_suffer() -> None:
    (sentence,) = suffered([one(easy=(0.1, 0.8), hard=(0.1, 0.2))])
    assert "hard gains less" in sentence and "suffers" not in sentence
    (sentence,) = suffered([one(easy=(0.1, 0.2), hard=(0.1, 0.8))])
    assert "hard gains more" in sentence and "suffers" not in sentence


def test_where_both_suffer_alike_nothing_is_told() -> None:
    result = one(easy=(0.9, 0.6), hard=(0.7, 0.4))
    assert result.p == pytest.approx(1) and result.beyond == ()
    (sentence,) = suffered([result])
    assert "that these differ is not shown" in sentence and "would have been" in sentence


def test_of_like_changes_one_is_rarely_called_larger() -> None:
    generator = np.random.default_rng(0)

    def change(on: float, off: float, problems: int) -> Difference:
        drawn = [generator.binomial(4, share, problems) / 4 for share in (off, on)]
        return difference(*drawn)

    p = [apart(change(0.5, 0.3, 60), change(0.8, 0.6, 90)).p for _ in range(600)]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 2 * 0.009


def test_its_interval_is_that_of_both_changes() -> None:
    first, second = (Difference(m, m, m, 1.0, 0.03, 50, 0.01) for m in (-0.4, -0.1))
    both = apart(first, second)
    assert both.mean == pytest.approx(-0.3) and both.freedom == pytest.approx(100)
    assert both.high - both.low == pytest.approx(2 * 1.984 * 0.03 * 2**0.5, rel=1e-3)
