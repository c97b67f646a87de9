"""What the model answers to a run's prompt pairs before it is trained, so that pairs which say
nothing (a forgotten chat template, prompts that make no difference) are noticed now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tracking.errors import BadInput
from tracking.model.decoder import Decoder, embed
from tracking.model.passes import logits
from tracking.model.rest import by_length, trimmed
from tracking.model.taps import quiet
from tracking.pairs.prompt_pairs import PromptPairs

MOST = 32  # pairs looked at: enough to see that something is wrong
HARDLY = 0.15  # a smaller difference in the right token's probability is pointed out


@dataclass(frozen=True)
class Preview:
    """A model's answers to prompt pairs.

    clean: mean probability of the clean prompts' right tokens, after those
    corrupted: that of the same tokens after the corrupted prompts
    accuracy: share of clean prompts after which the right token is the most probable
    top: the token that is most probable after the most clean prompts
    times, count: how many prompts that is, and of how many
    """

    clean: float
    corrupted: float
    accuracy: float
    top: int
    times: int
    count: int

    def lines(self, tokenizer: Any) -> Iterator[str]:
        """The numbers in one line, and a line for each thing that looks wrong."""
        top = f"{tokenizer.decode([self.top])!r} ({self.times} of {self.count})"
        yield (
            f"P(right) {self.clean:.2f} clean, {self.corrupted:.2f} corrupted; "
            f"accuracy {self.accuracy:.2f}; most often on top {top}"
        )
        if self.accuracy == 0:
            yield "the right token is never on top: is it a chat model, and the template forgotten?"
        if self.clean - self.corrupted < HARDLY:
            yield (
                "clean and corrupted hardly differ: before training the model hardly does this; "
                "if it should, look at the pairs"
            )


@torch.no_grad()
def preview(model: nn.Module, pairs: PromptPairs, batch_size: int = MOST) -> Preview:
    """What the model answers to the first `MOST` pairs, in two passes of at most `batch_size`.

    Leaves the model and every random state as they are. Raises `BadInput` where a pair's right
    and wrong token are the same, or missing.
    """
    if pairs.labels is None or bool((pairs.labels[:, 0] == pairs.labels[:, 1]).any()):
        raise BadInput("pairs: each needs a correct and an incorrect token that differ")
    decoder, few = Decoder.of(model), pairs[: min(MOST, len(pairs))]
    tops: list[int] = []
    right: list[int] = []
    clean = corrupted = 0.0
    with quiet(decoder):
        for rows in by_length(few, batch_size):
            batch = trimmed(few[rows]).to(decoder.device)
            assert batch.labels is not None
            answers = [
                # a job's pairs look at one place each
                logits(decoder, embed(decoder, side), batch)[:, 0].softmax(-1)  # [pair, vocabulary]
                for side in (batch.clean, batch.corrupted)
            ]
            tops += answers[0].argmax(-1).tolist()
            right += batch.labels[:, 0].tolist()
            clean, corrupted = (
                total + float(answer.gather(-1, batch.labels[:, :1]).sum())
                for total, answer in zip((clean, corrupted), answers, strict=True)
            )
    ((top, times),) = Counter(tops).most_common(1)
    hits = sum(a == b for a, b in zip(tops, right, strict=True))
    count = len(few)
    return Preview(clean / count, corrupted / count, hits / count, top, times, count)
