"""The share of tracking grows with the pairs and falls with the steps between analyses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tracking.pairs.prompt_pairs import PromptPairs
from train import config, model
from train.costs.share import OPERATIONS, operations_a_step, share, share_of_time
from train.costs.sizes import sizes
from train.tasks.registry import rows_of


@pytest.fixture
def of(small_words: Callable[..., list[str]], tmp_path: Path) -> Callable[..., Any]:
    def of(name: str, **keys: object) -> Any:
        job = config.load(name, [*small_words(name, tmp_path, **keys), "--dry_run", "true"])
        rows = rows_of(job, "train")
        return job, sizes(job, model.start(job), rows, {})

    return of


def pairs(count: int) -> dict[str, PromptPairs]:
    ids = torch.zeros(count, 10, dtype=torch.long)
    return {"cue": PromptPairs(ids, ids + 1, labels=torch.zeros(count, 2, dtype=torch.long))}


def test_share_grows_with_pairs_and_falls_with_steps(of: Callable[..., Any]) -> None:
    job, counted = of("sft")
    few, many = (share(job, counted, pairs(count), 10) for count in (4, 40))
    assert 0 < few[0] < few[1] < 1 and few < many
    assert share(job, counted, pairs(4), 100) < few


def test_all_of_a_run_without_steps_between_is_no_more_than_all(of: Callable[..., Any]) -> None:
    job, counted = of("sft")
    assert share(job, counted, pairs(4), 10**9)[1] == pytest.approx(0, abs=1e-3)
    assert share(job, counted, pairs(10**5), 1)[0] == pytest.approx(1, abs=1e-2)


CHECKPOINTED = {"activation_checkpointing": True}


@pytest.mark.parametrize(
    ("keys", "passes"),
    [({}, 8), ({"beta": 0.1}, 10), ({"num_iterations": 2}, 8), (CHECKPOINTED, 10)],
)
def test_operations_of_a_step_are_counted_pass_by_pass(
    of: Callable[..., Any], keys: dict[str, object], passes: int
) -> None:
    job, counted = of("grpo", **keys)
    tokens = counted.sequences * counted.tokens * job.training.gradient_accumulation_steps
    assert operations_a_step(job, counted) == passes * counted.parameters * tokens


def ratio(shares: tuple[float, float]) -> float:
    """Of tracking to the rest, at the least."""
    return shares[0] / (1 - shares[0])


def test_time_is_operations_where_all_run_at_one_rate(of: Callable[..., Any]) -> None:
    job, counted = of("sft")
    of_time = share_of_time(job, counted, pairs(4), 10, tf32=False)
    assert of_time == pytest.approx(share(job, counted, pairs(4), 10))


def test_an_analysis_in_float32_is_slow_beside_training_in_bfloat16(of: Callable[..., Any]) -> None:
    job, counted = of("sft")
    job.training.bf16 = True
    whole, coarse = (share_of_time(job, counted, pairs(4), 10, tf32) for tf32 in (False, True))
    slower = OPERATIONS["bfloat16"] / OPERATIONS["float32"]
    assert ratio(whole) == pytest.approx(slower * ratio(share(job, counted, pairs(4), 10)))
    assert ratio(coarse) == pytest.approx(ratio(whole) * 67 / 494)


def test_generation_that_reads_weights_lessens_the_share_of_time(of: Callable[..., Any]) -> None:
    job, counted = of("grpo")
    of_time = share_of_time(job, counted, pairs(4), 10, tf32=False)
    assert of_time < share(job, counted, pairs(4), 10)
    again, recounted = of("grpo", num_iterations=2)  # each batch of responses serves two steps
    assert share_of_time(again, recounted, pairs(4), 10, tf32=False) > of_time
