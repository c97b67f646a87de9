"""On a real language model: scores are the slow twin's, and the heads that papers describe do what
these say."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts.known.heads import Heads
from scripts.known.study import accuracy, nodes_of
from scripts.known.task import Task, greater_than, indirect_objects, repeated_tokens
from scripts.known.twins import differences
from tracking.attribution.metrics import neg_logit_diff
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds
from tracking.nodes.effects import together

pytestmark = pytest.mark.real
PAIRS = 4


@pytest.fixture(scope="module")
def model(real_folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(real_folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tasks(real_folder: Path) -> dict[str, Task]:
    tokenizer = AutoTokenizer.from_pretrained(real_folder)
    return {
        "swapped": indirect_objects(tokenizer, PAIRS, swapped=True),
        "others": indirect_objects(tokenizer, PAIRS, swapped=False),
        "repeated": repeated_tokens(tokenizer, PAIRS),
        "years": greater_than(tokenizer, PAIRS),
    }


@pytest.mark.slow
def test_scores_of_every_edge_of_a_real_model_are_those_of_the_slow_twin(model, tasks) -> None:
    ((_, edges, worst),) = differences(model, [tasks["repeated"]])
    assert edges == 123_211 and worst < 1e-4


@pytest.mark.parametrize("name", ["swapped", "repeated", "years"])
def test_clean_and_corrupted_differ_in_few_tokens_and_ask_for_others(tasks, name: str) -> None:
    pairs = tasks[name].pairs
    differ = (pairs.clean != pairs.corrupted).sum(1).tolist()
    assert set(differ) == {2 if name == "repeated" else 1}
    assert pairs.labels is not None
    assert bool((pairs.labels[:, 0] != pairs.labels[:, 1]).all())


def test_random_words_ask_for_what_followed_the_last_one(tasks) -> None:
    task, rows = tasks["repeated"], torch.arange(PAIRS)
    assert task.pairs.labels is not None
    for prompts, right in zip(
        (task.pairs.clean, task.pairs.corrupted), task.pairs.labels.unbind(1), strict=True
    ):
        before = prompts[:, :-1] == prompts[:, -1:]
        place = before.int().argmax(1)
        assert bool((before.sum(1) == 1).all())
        assert torch.equal(prompts[rows, place + 1], right)


def test_named_positions_hold_what_their_names_say(tasks) -> None:
    task, rows = tasks["swapped"], torch.arange(PAIRS)
    clean, corrupted, places = task.pairs.clean, task.pairs.corrupted, task.places
    assert task.pairs.labels is not None
    indirect, subject = task.pairs.labels.unbind(1)
    for place, token in (("IO", indirect), ("S1", subject), ("S2", subject)):
        assert torch.equal(clean[rows, places[place]], token)
    assert torch.equal(corrupted[rows, places["S2"]], indirect)
    assert bool((places["S1"] < places["S2"]).all())


def test_the_model_can_do_the_tasks(model, tasks) -> None:
    for name in ("swapped", "repeated", "years"):
        assert accuracy(model, tasks[name]) > 0.5


@pytest.mark.parametrize(
    ("name", "of_class"),
    [
        ("swapped", "name mover"),
        ("swapped", "negative name mover"),
        ("swapped", "S-inhibition"),
        ("swapped", "duplicate token"),
        ("repeated", "induction"),
        ("repeated", "previous token"),
        ("years", "year reader"),
    ],
)
def test_heads_told_by_attention_have_the_effect_that_papers_give_them(
    model, tasks, name: str, of_class: str
) -> None:
    task, decoder = tasks[name], Decoder.of(model)
    (one,) = (known for known in task.classes if known.name == of_class)
    members = Heads.of(decoder, task).members(task.classes)[of_class]
    assert bool(members.any())
    ends = AllEnds.of(decoder, task.pairs, PAIRS)
    lost, gained = together(ends, nodes_of(decoder.graph, members)[None], neg_logit_diff)
    assert float(lost.mean()) * one.sign > 0 and float(gained.mean()) * one.sign > 0
