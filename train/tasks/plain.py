"""Data in the trainers' own shape, whatever it is about: used as it is.

GRPO's rows have `prompt` (and `solution` or `answer` for the rewards); SFT's have `messages`, or
`prompt` and `completion`, or `text`. Its prompt pairs are the user's own (`track_pairs_file`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from datasets import Dataset
from trl.rewards import accuracy_reward

from tracking.errors import BadInput
from tracking.pairs.text import Dropped, Pair
from train.data.rows import training_rows
from train.tasks.task import Task


class PlainData(Task):
    """Rows of a file or the Hub as they lie."""

    def for_grpo(self, split: str) -> Dataset:
        """The rows; `BadInput` where they have no `prompt`."""
        data = training_rows(self.job, split)
        return data if "prompt" in data.column_names else self.reshaped_for_grpo(data)

    def for_sft(self, split: str) -> Dataset:
        """The rows; `BadInput` where they have no columns that SFT reads."""
        data = training_rows(self.job, split)
        columns = set(data.column_names)
        plain = columns & {"messages", "text"} or {"prompt", "completion"} <= columns
        return data if plain else self.reshaped_for_sft(data)

    def reshaped_for_grpo(self, data: Dataset) -> Dataset:
        """Rows for GRPO of data in another shape; `BadInput` where that cannot be."""
        raise BadInput(
            f"sparks {self.job.name} needs a column 'prompt'; the data has {data.column_names}"
        )

    def reshaped_for_sft(self, data: Dataset) -> Dataset:
        """Rows for SFT of data in another shape; `BadInput` where that cannot be."""
        raise BadInput(
            "SFT needs 'messages', 'text', or 'prompt' and 'completion'; the data has "
            f"{data.column_names}"
        )

    def pairs(
        self, contrast: str, tokenizer: Any, model: Callable[[], Any]
    ) -> Iterable[Pair | Dropped]:
        """Refused with `BadInput`: what the data contrasts is known to its user alone."""
        raise BadInput("this data has no prompt pairs of its own; name a file: track_pairs_file")

    def right(self, completion: str, answer: str) -> bool:
        """Whether the completion's last mathematical expression is worth what the answer is."""
        chats = [[{"role": "assistant", "content": completion}]]
        return accuracy_reward(chats, [rf"\boxed{{{answer}}}"]) == [1.0]
