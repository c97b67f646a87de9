"""What a run's completions files say."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking import BadInput, completions
from tracking.completions import samples, turned


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


def table(rows: list[tuple[int, str, float]]) -> pd.DataFrame:
    """Of step, prompt and reward; every completion is another."""
    told = pd.DataFrame(rows, columns=["step", "prompt", "reward"])
    return told.assign(completion=[f"text {row}" for row in range(len(told))])


def test_texts_and_chats_are_read_alike_in_the_order_of_steps(tmp_path: Path) -> None:
    write(tmp_path, 10, prompt=["1+1"], completion=["2"], right=[1.0])
    write(
        tmp_path,
        9,
        prompt=[chat("be brief", "system") + chat("1+2")],
        completion=[chat("3", "assistant")],
        right=[0.5],
    )
    said = completions.read(tmp_path)
    assert list(said) == list(completions.COLUMNS)
    assert said.to_numpy().tolist() == [[9, "1+2", "3", 0.5], [10, "1+1", "2", 1.0]]


def test_a_chat_of_several_messages_names_who_speaks() -> None:
    blocks = [{"type": "image"}, {"type": "text", "text": " what is it?"}]
    message = {"role": "user", "content": np.array(blocks, dtype=object)}
    answer = {"role": "assistant", "content": None}
    assert completions.text([message, answer]) == "user: [image] what is it?\n\nassistant: "


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
    np.testing.assert_array_equal(completions.read(tmp_path)["reward"], [1.5, -0.5, nan])
    config.write_text("reward_funcs: [right, format]\nreward_weights: null\n")
    np.testing.assert_array_equal(completions.read(tmp_path)["reward"], [1.5, 0.5, nan])
    config.write_text("reward_funcs: [right]\nreward_model_name_or_path: folder/format\n")
    np.testing.assert_array_equal(completions.read(tmp_path)["reward"], [1.5, 0.5, nan])
    config.unlink()  # then every number is taken for a reward
    np.testing.assert_array_equal(completions.read(tmp_path)["reward"], [8.5, 8.5, 9])


def test_a_batch_that_lasts_several_steps_is_kept_once(tmp_path: Path) -> None:
    for step, prompt in ((1, "a"), (2, "a"), (3, "b"), (4, "a")):
        write(tmp_path, step, prompt=[prompt], completion=["x"], right=[1.0])
    assert completions.read(tmp_path)["step"].tolist() == [1, 3, 4]


def test_no_files_make_an_empty_table(tmp_path: Path) -> None:
    said = completions.read(tmp_path)
    assert list(said) == list(completions.COLUMNS)
    assert len(said) == len(samples(said, 0, 10, 3)) == len(turned(said, [5, 10])) == 0


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
            assert completions.read(tmp_path)["step"].tolist() == [1]
        assert "completions_00002.parquet is left out" in caplog.text
    paths[0].write_bytes(whole[:-20])
    with pytest.raises(BadInput, match=r"completions_00001\.parquet: not a whole .* file \(.*\)$"):
        completions.read(tmp_path)


def test_a_foreign_file_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "completions" / "completions_00001.parquet"
    path.parent.mkdir()
    pd.DataFrame({"text": ["a"]}).to_parquet(path)
    with pytest.raises(BadInput, match=r"not a completions file of TRL's GRPO \(.*\)$"):
        completions.read(tmp_path)


ROWS = st.lists(
    st.tuples(st.integers(1, 30), st.sampled_from("abcd"), st.sampled_from([0.0, 0.4, 1.0])),
    max_size=25,
)


def test_samples_are_the_best_and_the_worst_in_turn_of_different_problems() -> None:
    told = table([(1, "a", 9), (5, "a", 1), (6, "a", 1), (7, "b", 0.5), (8, "c", 0), (9, "d", -9)])
    assert samples(told, 4, 8, 4)["completion"].tolist() == ["text 2", "text 4", "text 3", "text 1"]
    assert samples(told, 4, 8, 2)["reward"].tolist() == [1, 0]
    assert samples(told, 4, 8, 0).empty


@given(ROWS, st.integers(0, 8), st.randoms())
def test_samples_are_as_many_as_there_are_and_do_not_depend_on_the_rows_order(
    rows: list[tuple[int, str, float]], count: int, random: Any
) -> None:
    told = table(rows)
    chosen = samples(told, 10, 20, count)
    inside = told[(told["step"] > 10) & (told["step"] <= 20)]
    assert len(chosen) == len(set(chosen["completion"])) == min(count, len(inside))
    if count >= 2 and len(inside) >= 2:
        assert chosen["reward"].iloc[0] == inside["reward"].max()
        if inside["prompt"].nunique() > 1 and inside["reward"].nunique() == len(inside):
            assert chosen["reward"].iloc[1] <= inside["reward"].median()
    order = list(range(len(told)))
    random.shuffle(order)
    pd.testing.assert_frame_equal(samples(told.iloc[order], 10, 20, count), chosen)


def test_a_problem_turns_where_its_mean_crosses_half_of_the_largest_reward() -> None:
    told = table(
        [
            (1, "a", 0), (2, "a", 0.9), (11, "a", 1), (11, "a", 0), (35, "a", 0.4),
            (1, "b", 2), (31, "b", 0.5), (32, "b", 0.7), (1, "c", 0), (41, "c", 2),
        ]
    )  # fmt: skip
    said = turned(told, [10, 20, 30, 40])
    # a crosses nothing, as the bar is 1; b is seen again only in the last interval, c after it
    assert said.to_numpy().tolist() == [[40, "b", 2, 0.6, "failed"]]
    assert turned(told, [10, 20, 30, 50])["change"].tolist() == ["failed", "solved"]


def test_nothing_turns_where_no_reward_is_above_zero() -> None:
    assert turned(table([(1, "a", -2), (11, "a", 0), (21, "a", -1)]), [10, 20, 30]).empty


@given(ROWS, st.sets(st.integers(1, 30), max_size=5))
def test_turned_problems_are_those_that_a_walk_through_the_intervals_finds(
    rows: list[tuple[int, str, float]], steps: set[int]
) -> None:
    expected, solved = [], {}
    bar = max((reward for *_, reward in rows), default=0) / 2
    for start, end in zip([0, *sorted(steps)], sorted(steps), strict=False):
        for prompt in "abcd":
            inside = [r for step, p, r in rows if p == prompt and start < step <= end]
            if not inside:
                continue
            now = bar > 0 and float(pd.Series(inside).mean()) >= bar
            if prompt in solved and solved[prompt] != now:
                expected.append((end, prompt, "solved" if now else "failed"))
            solved[prompt] = now
    said = turned(table(rows), sorted(steps))
    assert [tuple(row) for row in said[["step", "prompt", "change"]].to_numpy()] == expected
