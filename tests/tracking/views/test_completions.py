"""What a run's completions files say."""

import json
import logging
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking import BadInput
from tracking.views.completions import Digest, Said, batches, digest, evaluated, text


def chat(content: str, role: str = "user") -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def write(run: Path, step: int, **columns: list[Any]) -> Path:
    """A file as TRL's trainer writes it."""
    path = run / "completions" / f"completions_{step:05d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    size = len(columns["prompt"])
    rows = {"step": [step] * size, **columns, "advantage": [0.0] * size}
    pd.DataFrame(rows).to_parquet(path)
    return path


def rewards(run: Path) -> list[float]:
    return [one.reward for batch in batches(run) for one in batch]


def steps(run: Path) -> list[int]:
    return [one.step for batch in batches(run) for one in batch]


def evaluate(run: Path, *steps: int, last: int = 100) -> None:
    """The state of a trainer that evaluated at these steps."""
    path = run / f"checkpoint-{last}" / "trainer_state.json"
    path.parent.mkdir(parents=True)
    logged = [{"step": step, "loss": 1.0} for step in range(last)]
    evals = [{"step": step, "eval_reward": 1.0} for step in steps]
    path.write_text(json.dumps({"log_history": logged + evals}))


def test_texts_and_chats_are_read_alike_in_the_order_of_steps(tmp_path: Path) -> None:
    write(tmp_path, 10, prompt=["1+1"], completion=["2"], right=[1.0])
    write(
        tmp_path,
        9,
        prompt=[chat("be brief", "system") + chat("1+2")],
        completion=[chat("3", "assistant")],
        right=[0.5],
    )
    result = list(batches(tmp_path))
    assert result == [[Said(9, "1+2", "3", 0.5)], [Said(10, "1+1", "2", 1.0)]]


def test_a_chat_of_several_messages_names_who_speaks() -> None:
    blocks = [{"type": "image"}, {"type": "text", "text": " what is it?"}]
    message = {"role": "user", "content": np.array(blocks, dtype=object)}
    answer = {"role": "assistant", "content": None}
    assert text([message, answer]) == "user: [image] what is it?\n\nassistant: "


def test_the_reward_is_the_weighted_sum_of_the_functions_that_judged(tmp_path: Path) -> None:
    nan = float("nan")
    columns: dict[str, list[Any]] = {
        "right": [1.0, nan, nan],
        "format": [0.5, 0.5, nan],
        "tries": [7, 8, 9],
        "note": ["", "", ""],
    }
    write(tmp_path, 1, prompt=["a", "b", "c"], completion=["x", "y", "z"], **columns)
    config = tmp_path / "config.yaml"
    config.write_text("reward_funcs: [right, format]\nreward_weights: [2.0, -1.0]\n")
    np.testing.assert_array_equal(rewards(tmp_path), [1.5, -0.5, nan])
    config.write_text("reward_funcs: [right, format]\nreward_weights: null\n")
    np.testing.assert_array_equal(rewards(tmp_path), [1.5, 0.5, nan])
    config.write_text("reward_funcs: [right]\nreward_model_name_or_path: folder/format\n")
    np.testing.assert_array_equal(rewards(tmp_path), [1.5, 0.5, nan])
    config.unlink()  # then every number is taken for a reward
    np.testing.assert_array_equal(rewards(tmp_path), [8.5, 8.5, 9])


def test_a_batch_that_lasts_several_steps_is_kept_once(tmp_path: Path) -> None:
    for step, prompt in ((1, "a"), (2, "a"), (3, "b"), (4, "a")):
        write(tmp_path, step, prompt=[prompt], completion=["x"], right=[1.0])
    assert steps(tmp_path) == [1, 3, 4]


def test_where_there_are_no_files_there_is_no_digest(tmp_path: Path) -> None:
    assert list(batches(tmp_path)) == []
    assert digest(tmp_path, [5, 10], 3, 12) is None


def test_files_that_evaluation_wrote_are_left_out_and_what_repeats_them(tmp_path: Path) -> None:
    for step, prompt in ((1, "a"), (2, "asked"), (3, "asked"), (4, "b")):
        write(tmp_path, step, prompt=[prompt], completion=["x"], right=[1.0])
    assert evaluated(tmp_path) is None
    assert steps(tmp_path) == [1, 2, 4]
    evaluate(tmp_path, 2)
    (tmp_path / "checkpoint-200").mkdir()
    (tmp_path / "checkpoint-200" / "trainer_state.json").write_text("{")
    assert evaluated(tmp_path) == [2]
    assert steps(tmp_path) == [1, 4]


def test_only_the_newest_file_may_be_half_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [
        write(tmp_path, step, prompt=["a"], completion=[str(step)], right=[1.0]) for step in (1, 2)
    ]
    whole = paths[1].read_bytes()
    for data in (b"", whole[:4], whole[:-20]):
        paths[1].write_bytes(data)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert steps(tmp_path) == [1]
        assert "completions_00002.parquet is left out" in caplog.text
    paths[0].write_bytes(whole[:-20])
    with pytest.raises(BadInput, match=r"completions_00001\.parquet: not a whole .* file \(.*\)$"):
        list(batches(tmp_path))


def test_a_foreign_file_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "completions" / "completions_00001.parquet"
    path.parent.mkdir()
    pd.DataFrame({"text": ["a"]}).to_parquet(path)
    with pytest.raises(BadInput, match=r"not a completions file of TRL's GRPO \(.*\)$"):
        list(batches(tmp_path))


ROWS = st.lists(
    st.tuples(st.integers(1, 30), st.sampled_from("abcd"), st.sampled_from([0.0, 0.4, 1.0])),
    max_size=25,
)


def digest_of(rows: list[tuple[int, str, float]], ends: list[int], count: int = 3) -> Digest:
    """The digest of completions by step, prompt and reward; every text is another."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        for step in sorted({row[0] for row in rows}):
            mine = [(place, row) for place, row in enumerate(rows) if row[0] == step]
            write(
                run,
                step,
                prompt=[row[1] for _, row in mine],
                completion=[f"text {place}" for place, _ in mine],
                right=[float(row[2]) for _, row in mine],
            )
        result = digest(run, ends, count, 100)
    assert result
    return result


def changes(result: Digest) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in result.turned[["step", "prompt", "change"]].to_numpy()]


def test_samples_are_the_best_and_the_worst_in_turn_of_different_problems() -> None:
    rows: list[tuple[int, str, float]] = [
        (1, "a", 9), (5, "a", 1), (6, "a", 1), (7, "b", 0.5), (8, "c", 0), (9, "d", -9)
    ]  # fmt: skip
    for count, wanted in ((4, [2, 4, 3, 1]), (2, [2, 4]), (0, [])):
        chosen = digest_of(rows, [4, 8], count).samples[1]
        assert chosen["completion"].tolist() == [f"text {place}" for place in wanted]


@settings(max_examples=50)
@given(ROWS.filter(bool), st.integers(0, 8), st.randoms())
def test_samples_are_those_that_a_look_at_all_rows_finds(
    rows: list[tuple[int, str, float]], count: int, random: Any
) -> None:
    random.shuffle(rows)
    chosen = digest_of(rows, [10, 20], count).samples[1]
    there = [(p, r, s, f"text {i}") for i, (s, p, r) in enumerate(rows) if 10 < s <= 20]
    best = sorted(there, key=lambda one: (-one[1], -one[2], one[0], one[3]))
    worst = sorted(there, key=lambda one: (one[1], -one[2], one[0], one[3]))
    wanted: list[tuple[Any, ...]] = []
    while len(wanted) < min(count, len(there)):
        side = (best, worst)[len(wanted) % 2]
        new = [one for one in side if one[0] not in {done[0] for done in wanted}]
        wanted.append((new or [one for one in side if one not in wanted])[0])
    assert chosen["completion"].tolist() == [one[3] for one in wanted]


def test_a_problem_turns_where_its_mean_crosses_half_the_largest_reward() -> None:
    rows: list[tuple[int, str, float]] = [
        (1, "a", 0), (2, "a", 0.9), (11, "a", 1), (11, "a", 0), (35, "a", 0.4),
        (1, "b", 2), (31, "b", 0.5), (32, "b", 0.7), (1, "c", 0), (41, "c", 2),
    ]  # fmt: skip
    # a crosses nothing, as the bar is 1; b is seen again only in the last interval, c after it
    result = digest_of(rows, [10, 20, 30, 40])
    assert result.turned.to_numpy().tolist() == [[40, "b", 2, 0.6, "failed"]]
    assert (result.solved, result.failed) == ([0, 0, 0, 0], [0, 0, 0, 1])
    assert digest_of(rows, [10, 20, 30, 50]).turned["change"].tolist() == ["solved", "failed"]


def test_what_comes_later_does_not_change_what_was_solved() -> None:
    rows: list[tuple[int, str, float]] = [(1, "a", 0), (11, "a", 1), (21, "b", 9), (31, "a", 1)]
    assert changes(digest_of(rows[:2], [10, 20, 30])) == [(20, "a", "solved")]
    assert changes(digest_of(rows, [10, 20, 30, 40])) == [(20, "a", "solved")]


def test_nothing_turns_where_no_reward_is_above_zero() -> None:
    assert digest_of([(1, "a", -2), (11, "a", 0), (21, "a", -1)], [10, 20, 30]).turned.empty


def test_of_many_turned_problems_all_are_counted_and_some_shown(tmp_path: Path) -> None:
    names = [f"problem {place:02}" for place in range(30)]
    for step in (1, 2):
        reward = [float(step == 2)] * 30
        write(tmp_path, step, prompt=names, completion=[f"{step}"] * 30, right=reward)
    result = digest(tmp_path, [1, 2], 3, 12)
    assert result and result.solved == [0, 30]
    assert result.turned["prompt"].tolist() == names[:12]


@settings(max_examples=50)
@given(ROWS.filter(bool), st.sets(st.integers(1, 30), max_size=5))
def test_turned_problems_are_those_that_a_walk_over_the_intervals_finds(
    rows: list[tuple[int, str, float]], steps: set[int]
) -> None:
    expected, last = [], {}
    for start, end in zip([0, *sorted(steps)], sorted(steps), strict=False):
        bar = max((reward for step, _, reward in rows if step <= end), default=0) / 2
        for prompt in "abcd":
            ordered = sorted(rows, key=lambda row: row[0])
            inside = [r for step, p, r in ordered if p == prompt and start < step <= end]
            if not inside:
                continue
            mean = sum(inside) / len(inside)
            crossed = prompt in last and (last[prompt] >= bar) != (mean >= bar)
            if bar > 0 and crossed:
                expected.append((end, prompt, "solved" if mean >= bar else "failed"))
            last[prompt] = mean
    assert sorted(changes(digest_of(rows, sorted(steps)))) == sorted(expected)


def test_a_long_run_is_read_in_little_memory(tmp_path: Path) -> None:
    def peak(run: Path, files: int) -> int:
        for step in range(1, files + 1):
            texts = [f"{step} {place} " + "x" * 20_000 for place in range(10)]
            write(run, step, prompt=texts, completion=texts, right=[0.5] * 10)
        tracemalloc.start()
        assert digest(run, list(range(10, files + 1, 10)), 3, 12)
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(tmp_path / "first", 2)  # what is loaded only once
    few, many = peak(tmp_path / "few", 10), peak(tmp_path / "many", 200)
    assert many < few + 2_000_000  # of 80 MB of text
