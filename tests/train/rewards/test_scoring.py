"""A reward function that hangs, raises or dies costs its completions' scores, and nothing else."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts.campaign.running import processes
from tracking import BadInput
from train.rewards import registry as rewards
from train.rewards.registry import registered
from train.rewards.scoring import Scorer


def length(completions: Sequence[str], log_extra: Any, log_metric: Any, **kwargs: Any) -> list:
    """The length of a text; does as it says."""
    for text in completions:
        if text == "raise":
            raise ValueError("raised\nas told")
        while text == "hang":
            pass
        if text == "die":
            os.kill(os.getpid(), signal.SIGKILL)
    log_extra("text", list(completions))
    log_metric("seen", float(len(completions)))
    return [None if text == "none" else len(text) for text in completions]


@pytest.fixture
def scorer() -> Iterator[Callable[..., Scorer]]:
    scorers: list[Scorer] = []

    def make(function: Callable = length, seconds: float = 1.0) -> Scorer:
        scorers.append(Scorer("length", lambda: function, seconds))
        return scorers[-1]

    yield make
    for one in scorers:
        one.close()


class Logs:
    def __init__(self) -> None:
        self.extras: dict[str, list] = {}
        self.metrics: list[tuple[str, float]] = []

    def __call__(self, scorer: Scorer, *texts: str) -> list[float | None]:
        return scorer(
            prompts=["p"] * len(texts),
            completions=list(texts),
            completion_ids=[[1]] * len(texts),
            answer=["a"] * len(texts),
            log_extra=lambda column, values: self.extras.setdefault(column, []).extend(values),
            log_metric=lambda name, value: self.metrics.append((name, value)),
        )


def test_a_reward_scores_and_logs_as_in_the_trainer_s_own_process(scorer: Any) -> None:
    logs = Logs()
    assert logs(scorer(), "a", "none", "abc") == [1.0, None, 3.0]
    assert logs.extras == {"text": ["a", "none", "abc"]}
    assert logs.metrics == [("seen", 3.0)]


def test_registered_rewards_score_the_same(scorer: Any) -> None:
    texts = [[{"role": "assistant", "content": text}] for text in (r"\boxed{72}", "####7", "no")]
    columns = {"prompts": ["p"] * 3, "completions": texts, "completion_ids": [[1], [1, 2], [3]]}
    columns |= {"solution": [r"\boxed{72}"] * 3, "answer": ["7"] * 3}
    names = list(registered(64))
    names.remove("tag_count_reward")  # also by its path
    names.remove("reasoning_gym_reward")  # reads a column that its own task brings
    for name in [*names, "train.rewards.registry.tag_count_reward"]:
        (plain,), (guarded,) = rewards.resolve([name], 64), rewards.guarded([name], 64, 30)
        extra = {"log_extra": lambda *_: None, "log_metric": lambda *_: None}
        assert guarded(**columns) == plain(**columns, **extra), name
        assert guarded.__name__ == plain.__name__
        guarded.close()


@pytest.mark.parametrize("fault", ["raise", "hang", "die"])
def test_only_the_completion_at_fault_is_not_scored_and_it_is_counted(
    scorer: Any, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    logs, one = Logs(), scorer()
    for count in (1, 2):
        assert logs(one, "a", fault, "abc") == [1.0, None, 3.0]
        assert logs.metrics[-1] == ("reward_faults/length", count)
    assert logs.extras == {"text": ["a", None, "abc"] * 2}
    assert logs(one, "ab") == [2.0]
    assert "1 of 3 completions could not be scored" in caplog.text


@pytest.mark.parametrize("bad", [["a"] * 3, [lambda: 1]])
def test_what_a_reward_logs_amiss_costs_its_score_and_no_more(scorer: Any, bad: list) -> None:
    def odd(completions: Sequence[str], log_extra: Any, **kwargs: Any) -> list[float]:
        if "odd" in completions:
            log_extra("text", bad)
        return [1.0] * len(completions)

    one, logs = scorer(odd), Logs()
    assert logs(one, "a", "odd") == [1.0, None]
    assert one.faults == 1 and logs.extras == {}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_reward_that_would_end_its_process_is_at_fault(
    scorer: Any, error: type[BaseException]
) -> None:
    def ends(completions: Sequence[str], **kwargs: Any) -> list[float]:
        if "end" in completions:
            raise error("told to")
        return [1.0] * len(completions)

    assert Logs()(scorer(ends), "a", "end") == [1.0, None]


def test_a_reward_that_always_hangs_is_given_up_after_a_few(scorer: Any) -> None:
    one = scorer(seconds=0.2)
    assert Logs()(one, "abc") == [3.0]
    begin = time.monotonic()
    assert Logs()(one, *["hang"] * 40) == [None] * 40
    assert time.monotonic() - begin < 10
    assert one.faults == 40


def test_a_process_that_does_not_read_is_ended_and_its_batch_scored(scorer: Any) -> None:
    one, logs = scorer(), Logs()
    assert logs(one, "a") == [1.0]
    os.kill(one.process.pid, signal.SIGSTOP)
    long = "a" * 1_000_000  # more than a pipe holds
    assert logs(one, long, long) == [1e6, 1e6]
    assert one.faults == 0


def test_imports_do_not_count_also_of_a_process_begun_again() -> None:
    def imports() -> Callable:
        time.sleep(1.2)
        return length

    one = Scorer("length", imports, 1.0)
    assert Logs()(one, "a", "die", "abc") == [1.0, None, 3.0]
    one.close()


def test_a_reward_that_fails_on_all_of_its_first_batch_is_a_mistake(scorer: Any) -> None:
    with pytest.raises(BadInput, match="'length' fails on every completion: ValueError: raised as"):
        Logs()(scorer(), "raise", "raise")


def test_a_wrong_number_of_rewards_is_a_fault(scorer: Any) -> None:
    with pytest.raises(BadInput, match="fails on every completion: 3 rewards for 1 completions"):
        Logs()(scorer(lambda **kwargs: [1.0] * 3), "a", "b")


def _parent(child: Path) -> None:
    """Dies while its scorer hangs; leaves the scorer's process id."""
    scorer = Scorer("length", lambda: length, 60)
    child.write_text(str(scorer.process.pid))
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGKILL)).start()
    scorer(prompts=["p"], completions=["hang"])


def test_the_process_ends_with_its_parent_also_where_it_hangs(tmp_path: Path) -> None:
    parent = processes.Process(target=_parent, args=(tmp_path / "child",))
    parent.start()
    parent.join()
    child = int((tmp_path / "child").read_text())
    for _ in range(50):
        if not Path(f"/proc/{child}").exists():
            break
        if "zombie" in Path(f"/proc/{child}/status").read_text():
            break
        time.sleep(0.1)
    else:
        pytest.fail("the scorer's process lives on")
