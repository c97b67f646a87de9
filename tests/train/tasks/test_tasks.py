"""Every task is whole: rows, pairs of each contrast, rewards and grading that agree."""

import functools
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests.builders.decoders import make_decoder
from tracking import BadInput
from tracking.pairs.problems import chat_prompt
from tracking.pairs.text import Dropped, Pair, pair_at_first_difference
from train import config
from train.data import contrasts
from train.data.rows import question
from train.rewards.registry import resolve
from train.tasks.registry import TASKS, pairs_task, rows_of, training_task
from train.tasks.task import Task
from train.tasks.word_problems import WordProblems
from train.tiny.task import chat
from train.tiny.tokenizer import tokenizer

REPO = Path(__file__).parents[3]
LETTERS = "abcdefgh"


def job(name: str, dataset: object, *more: str) -> config.Job:
    recipe = str(REPO / "recipes" / "tiny" / f"{name}.yaml")
    return config.load(name, ["--config", recipe, "--dataset_name", str(dataset), *more])


def no_model() -> Any:
    raise AssertionError("no model is needed")


@pytest.mark.parametrize("name", TASKS)
def test_a_task_of_the_registry_is_whole(name: str) -> None:
    if name.endswith("/"):
        pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
        name += "chain_sum"
    model = functools.cache(lambda: make_decoder(vocabulary=len(tokenizer())))
    task = training_task(job("grpo", name, "--dataset_size", "20"))
    rows = task.for_grpo("train")
    assert len(rows) == 20 and {"prompt", "answer"} <= {*rows.column_names}
    (first, *_) = task.for_sft("train")["messages"]
    assert first[0] == rows[0]["prompt"][0]
    assert task.right(first[-1]["content"], rows[0]["answer"])
    assert not task.right("", rows[0]["answer"])
    for contrast in task.contrasts:
        pairs = [*itertools.islice(task.pairs(contrast, tokenizer(), model), 10)]
        assert any(isinstance(pair, Pair) for pair in pairs)
    for reward in resolve([*task.rewards], 36):
        right = [[{"role": "assistant", "content": first[-1]["content"]}]]
        assert reward(completions=right, **rows[:1]) == [1.0]


def test_word_problems_are_graded_by_value() -> None:
    task = WordProblems(job("grpo", "any"))
    assert task.right(r"so it is \boxed{0.50}", "0.5")
    assert not task.right(r"so it is \boxed{5}", "0.5")


class Echo(Task):
    """Say the letter again."""

    contrasts = ("letter",)

    def for_grpo(self, split: str) -> Dataset:
        return Dataset.from_list([{"prompt": question(x), "answer": x} for x in LETTERS])

    def for_sft(self, split: str) -> Dataset:
        return Dataset.from_list([{"messages": chat(x, x)} for x in LETTERS])

    def pairs(
        self, contrast: str, tokenizer: Any, model: Callable[[], Any]
    ) -> Iterator[Pair | Dropped]:
        for sides in itertools.permutations(LETTERS, 2):
            yield pair_at_first_difference(
                tokenizer, *((chat_prompt(tokenizer, x), x) for x in sides)
            )

    def right(self, completion: str, answer: str) -> bool:
        return completion == answer


def test_a_task_is_added_by_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "echo", Echo)
    ours = job("grpo", "echo", "--track_contrasts", "letter", "--track_pairs_count", "20")
    assert rows_of(ours, "train")["answer"] == [*LETTERS]
    assert len(training_task(ours).for_sft("train")) == len(LETTERS)
    pairs = contrasts.build(ours, tokenizer(), no_model)
    assert contrasts.describe(pairs) == "20 letter"
    assert pairs["letter"].texts[0] == ("<|user|>a<|assistant|>⟦a⟧", "<|user|>b<|assistant|>⟦b⟧")
    with pytest.raises(BadInput, match="contrast 'cue' here; track_contrasts: letter"):
        contrasts.contrasts(job("grpo", "echo", "--track_contrasts", "cue"))


def test_pairs_may_come_from_another_task() -> None:
    other = job("grpo", "rows.jsonl", "--track_pairs_dataset", "tiny")
    assert isinstance(pairs_task(other), TASKS["tiny"])
    assert isinstance(training_task(other), WordProblems)


def test_plain_data_is_used_as_it_is_and_has_no_pairs_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"prompt": [{"role": "user", "content": "?"}], "answer": "1"}
    path.write_text(json.dumps(row) + "\n")
    ours = job("grpo", path, "--track_contrasts", "operand")
    assert rows_of(ours, "train")[0] == row
    with pytest.raises(BadInput, match="or name your own, track_pairs_file"):
        contrasts.build(ours, tokenizer(), no_model)


def test_no_task_is_singled_out_by_name_but_in_the_registry() -> None:
    single = re.compile(r"""(==|!=|\bin \(?) ?["']tiny["']|["']tiny["'] ?(==|!=|in\b)""")
    places = {
        str(path.relative_to(REPO))
        for path in (REPO / "train").rglob("*.py")
        if single.search(path.read_text())
    }
    assert not places
