"""Word problems from a file or the Hub, whatever their columns are called.

GSM8K, MATH, OpenR1-Math, AMC, AIME and SVAMP are read by the columns that they have, into

question "Natalia sold clips to 48 friends ...", solution "48/2 = 24 ...", answer `72`

Rows that already have the trainer's columns stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from datasets import Dataset

from tracking.errors import BadInput
from tracking.pairs.problems import WordProblem, chat_prompt, read_problem
from tracking.pairs.solutions import greedy_solutions
from tracking.pairs.text import Dropped, Pair
from tracking.pairs.word_pairs import WORD_CONTRASTS, word_pairs
from train.data.rows import as_conversations, as_prompts, rows
from train.tasks.plain import PlainData
from train.tasks.task import SPARE


class WordProblems(PlainData):
    """Questions in words with worked solutions, or with answers alone."""

    contrasts = WORD_CONTRASTS
    _written: list[str] | None = None  # by the model, where the data has no solutions

    def reshaped_for_grpo(self, data: Dataset) -> Dataset:
        """Rows with `prompt`, `solution` (the boxed answer) and `answer`."""
        return as_prompts(data, self.job.ours.system_prompt)

    def reshaped_for_sft(self, data: Dataset) -> Dataset:
        """Rows with `messages`; `BadInput` where a problem has no worked solution."""
        return as_conversations(data, self.job.ours.system_prompt)

    def pairs(
        self, contrast: str, tokenizer: Any, model: Callable[[], Any]
    ) -> Iterator[Pair | Dropped]:
        """One number of the question changed: `word_pairs` has the contrasts. Where the data has
        no worked solutions, the model's own greedy ones take their place."""
        system, length = self.job.ours.system_prompt, self.job.ours.track_pairs_solution_tokens
        if self._written is None and not any(problem.solution for problem in self._problems):
            prompts = [chat_prompt(tokenizer, each.question, system) for each in self._problems]
            self._written = greedy_solutions(model(), tokenizer, prompts, length, batch_size=8)
        seed = self.job.training.seed
        yield from word_pairs(contrast, self._problems, tokenizer, seed, system, self._written)

    @cached_property
    def _problems(self) -> list[WordProblem]:
        """The problems that pairs are made of."""
        ours, script = self.job.ours, self.job.script
        if ours.track_pairs_dataset:
            data = rows(ours.track_pairs_dataset, ours.track_pairs_split, ours.track_pairs_config)
        else:
            name = script.dataset_name or self.job.mixture.datasets[0].path
            data = rows(name, script.dataset_train_split, script.dataset_config)
        few = data.take(min(len(data), SPARE * ours.track_pairs_count)).to_list()
        try:
            return [read_problem(row) for row in few]
        except BadInput as error:
            raise BadInput(
                f"no prompt pairs: {error}; or name your own, track_pairs_file"
            ) from None
