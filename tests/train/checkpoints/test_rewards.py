"""A reward comes from a table or the trainer's log; what is no number is told with its line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking import BadInput
from train.checkpoints.rewards import logged, read_csv

rows = st.lists(st.tuples(st.integers(0, 10**6), st.floats(-1e6, 1e6)), max_size=5)


@given(rows=rows, mark=st.sampled_from(["", "\ufeff"]))
def test_a_table_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, float]], mark: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "r.csv"
    lines = [f"{step},x,{reward!r}" for step, reward in rows]
    path.write_text("\n".join([f"{mark}step,other, reward", *lines, ""]), encoding="utf-8")
    assert read_csv(path) == [{"step": step, "reward": reward} for step, reward in rows]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", r"no column 'step' \(it has nothing\)"),
        (b"step;reward\n1;2\n", "no column 'step'"),
        (b"step,reward\n1,0.5\n2\n3,x\n", "line 4: step '3', reward 'x'"),
        (b"step,reward\n1.5,2\n", "line 2: step '1.5'"),
        (b"step,reward\n1,nan\n", "line 2: .*finite"),
        (b"step,reward\n,1\n", "line 2: step ''"),
        (b"\xff\xfe\x00", "is not UTF-8"),
    ],
)
def test_what_is_no_number_is_told_with_its_line(
    tmp_path: Path, text: bytes, complaint: str
) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(text)
    with pytest.raises(BadInput, match=complaint):
        read_csv(path)


def test_a_table_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"r\.csv: No such file"):
        read_csv(tmp_path / "r.csv")


def test_the_log_is_the_last_checkpoint_s_and_of_none_outside(tmp_path: Path) -> None:
    inside = tmp_path / "theirs"
    models = [inside / "checkpoint-1", inside / "checkpoint-2" / "actor" / "hf", inside / "step_3"]
    for model in models:
        model.mkdir(parents=True)
    for folder, reward in ((tmp_path, 9.0), (inside, 8.0)):
        write(folder, reward)
    assert logged(models, inside) == []
    write(models[0], 0.1)
    write(inside / "checkpoint-2", 0.2)
    assert logged(models, inside) == [{"step": 1, "reward": 0.2}]


def write(folder: Path, reward: float) -> None:
    state = {"log_history": [{"step": 1, "reward": reward}]}
    (folder / "trainer_state.json").write_text(json.dumps(state))
