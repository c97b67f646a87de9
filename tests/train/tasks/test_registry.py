import json
from pathlib import Path

import pytest
from transformers import AutoConfig

from tests.builders.paths import TINY
from tracking import BadInput
from train import config
from train.tasks.registry import MODELS, rows_of

GRPO = str(TINY / "grpo.yaml")
SFT = str(TINY / "sft.yaml")
GSM8K = {"question": "2 and 3?", "answer": "2+3 = <<2+3=5>>5\n#### 5"}


def lines(folder: Path, *rows: object) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def job(name: str, dataset: str, *more: str) -> config.Job:
    recipe = GRPO if name == "grpo" else SFT
    return config.load(name, ["--config", recipe, "--dataset_name", dataset, *more])


def test_word_problems_become_conversations(tmp_path: Path) -> None:
    rows = lines(tmp_path, GSM8K)
    (row,) = rows_of(job("grpo", rows, "--system_prompt", "Think."), "train").to_list()
    assert row["prompt"] == [
        {"role": "system", "content": "Think."},
        {"role": "user", "content": "2 and 3?"},
    ]
    assert (row["solution"], row["answer"]) == (r"\boxed{5}", "5")
    (row,) = rows_of(job("sft", rows), "train").to_list()
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
    assert "2+3 = 5" in row["messages"][1]["content"]
    assert "<<" not in row["messages"][1]["content"]


def test_rows_with_the_trainers_columns_stay_as_they_are(tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": "?"}], "answer": "1"}
    assert rows_of(job("grpo", lines(tmp_path, row)), "train")[0] == row
    row = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]}
    assert rows_of(job("sft", lines(tmp_path, row)), "train")[0] == row


def test_dataset_size_limits_the_rows(tmp_path: Path) -> None:
    rows = lines(tmp_path, *[GSM8K] * 5)
    assert len(rows_of(job("grpo", rows, "--dataset_size", "3"), "train")) == 3
    assert len(rows_of(job("grpo", "tiny", "--dataset_size", "7"), "train")) == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "is empty"),
        ("\n\n", "rows.jsonl"),
        ('{"a": 1', "cannot be read"),
        ('{"text_of_problem": "x"}\n', "the row has 'text_of_problem'"),
    ],
)
def test_data_that_cannot_be_used_is_one_line(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadInput, match=message) as refused:
        rows_of(job("grpo", str(path)), "train")
    assert "\n" not in str(refused.value)


def test_a_folder_and_a_split_that_a_file_has_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder; name a file in it"):
        rows_of(job("grpo", str(tmp_path)), "train")
    with pytest.raises(BadInput, match="its split is train, not 'nosuch'"):
        rows_of(job("grpo", lines(tmp_path, GSM8K)), "nosuch")


def test_sft_on_bare_answers_is_refused(tmp_path: Path) -> None:
    rows = lines(tmp_path, {"problem": "2 and 3?", "answer": "5"})
    with pytest.raises(BadInput, match="SFT needs worked solutions"):
        rows_of(job("sft", rows), "train")


def test_a_named_model_is_configured_as_its_folder_says() -> None:
    named = MODELS["tiny"]
    there = AutoConfig.from_pretrained(named.folder(0)).to_dict()
    ours = named.config().to_dict()
    assert {key for key in ours if ours[key] != there[key]} <= {"architectures", "_name_or_path"}
