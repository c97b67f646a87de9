"""Tasks of reasoning-gym: a hundred generators of problems, each with its scorer.

`dataset_name: reasoning-gym/chain_sum`, with `dataset_parameters` and `dataset_question`:

question "State the final answer to the following arithmetic problem: 3 + 5 =", answer `8`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar

from datasets import Dataset

from tracking.errors import BadInput
from tracking.pairs.problems import chat_prompt
from tracking.pairs.text import Dropped, Pair
from train.config import Job
from train.data.rows import question
from train.gym.answers import extracted
from train.gym.generator import HELD_OUT, SOURCE, Generator, Item, solves
from train.gym.pairs import first_token_pairs, item_pairs, operand_pairs
from train.run.console import say
from train.tasks.task import SPARE, Task

ROWS = 1024


def reasoning_gym_reward(
    completions: Sequence[Any], place: Sequence[str], **kwargs: Any
) -> list[float]:
    """TRL reward: 1.0 where the generator's scorer takes the answer for wholly right, else 0.0.

    Completions may be strings or conversations, of which the last message counts; `place` says
    which item each answers.
    """
    texts = [text if isinstance(text, str) else text[-1]["content"] for text in completions]
    return [float(solves(text, where)) for text, where in zip(texts, place, strict=True)]


class ReasoningGym(Task):
    """Problems of a generator, drawn from the job's seed."""

    contrasts = ("operand", "first_token", "items")
    rewards: ClassVar = {"reasoning_gym_reward": reasoning_gym_reward}

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        script, ours = job.script, job.ours
        self._trained = self._paired = _generator(
            script.dataset_name, ours.dataset_parameters, ours.dataset_question
        )
        if ours.track_pairs_dataset not in (None, script.dataset_name):
            self._paired = _generator(ours.track_pairs_dataset)

    def for_grpo(self, split: str) -> Dataset:
        """Rows with `prompt`, `answer` and `place`, of which the reward draws the item again."""
        return Dataset.from_list(
            [
                {
                    "prompt": question(item.question, self.job.ours.system_prompt),
                    "answer": item.answer,
                    "place": item.place,
                }
                for item in self._items(split)
            ]
        )

    def for_sft(self, split: str) -> Dataset:
        """Rows with `messages`: the same items with their answers, as an equation where there is
        one; `BadInput` where the generator names none."""
        rows = [_worked(item, self.job.ours.system_prompt) for item in self._items(split)]
        return Dataset.from_list(rows)

    def pairs(
        self, contrast: str, tokenizer: Any, model: Callable[[], Any]
    ) -> Iterator[Pair | Dropped]:
        """Of items that were drawn for them: `operand`, `first_token`, `items`."""
        assert self._paired is not None
        seed, system = self.job.training.seed, self.job.ours.system_prompt
        items = self._paired.draw("pairs", seed, SPARE * self.job.ours.track_pairs_count)

        def prompt(asked: str) -> str:
            return chat_prompt(tokenizer, asked, system)

        if contrast == "operand":
            return operand_pairs(items, prompt, tokenizer)
        if contrast == "first_token":
            return first_token_pairs(items, prompt, tokenizer, model)
        return item_pairs(items, prompt, tokenizer)

    def right(self, completion: str, answer: str) -> bool:
        """Whether the answer in it is that answer, digit for digit; what else a scorer takes, the
        reward knows."""
        return extracted(completion, answer) == answer

    def _items(self, split: str) -> list[Item]:
        """The rows of a split: `dataset_size` different questions, of the test split an eighth,
        or as many as twice that number of draws give."""
        if split not in ("train", "test"):
            raise BadInput(
                f"{self.job.script.dataset_name} has the splits train and test, not {split!r}"
            )
        assert self._trained is not None
        size = self.job.ours.dataset_size or ROWS
        wanted = size if split == "train" else max(size // HELD_OUT, 1)
        draws = 2 * size
        items = [*islice(self._trained.draw(split, self.job.training.seed, draws), wanted)]
        if not items:
            raise BadInput(
                f"{self.job.script.dataset_name}: no question of split {split} in {draws} draws "
                "that its scorer can grade"
            )
        if len(items) < wanted:
            say(f"{split:10} {len(items)} different questions in {draws} draws, {wanted} wanted")
        return items


def _generator(
    name: str | None, parameters: dict[str, Any] | str | None = None, wording: str | None = None
) -> Generator | None:
    """The generator of a data set's name; None of any other data set."""
    if name is None or not name.startswith(SOURCE):
        return None
    assert not isinstance(parameters, str)
    return Generator(name.removeprefix(SOURCE), parameters, wording)


def _worked(item: Item, system_prompt: str | None) -> dict[str, Any]:
    """An item with its answer as a conversation; `BadInput` where it has none."""
    if not item.answer:
        raise BadInput("SFT needs answers; this generator names none, as many are right")
    turn = {"role": "assistant", "content": item.worked}
    return {"messages": [*question(item.question, system_prompt), turn]}
