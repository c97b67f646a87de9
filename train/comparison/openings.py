"""Prompt pairs of contrast `opening`: how two models begin to answer the same problems."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tracking.comparison.prompts.openings import LENGTH, opening_pair
from tracking.errors import BadInput
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.pairs.text import Dropped, Pair, choose, padding
from train.comparison.parties import Pairs, check_words, tokenizer_of
from train.comparison.places import Place
from train.evals.benchmarks import benchmarks
from train.evals.problems import Problem
from train.evals.sampling import Sampling, check_room, every_sample, respond
from train.run.console import say

FEWEST = 2
LONGER = 4  # times an opening's length is written, for the place where the answers part


@dataclass(frozen=True)
class Openings:
    """Which problems are opened, and how."""

    benchmarks: str  # names, with commas between
    limit: int  # problems of each
    length: int  # tokens of an opening, at least
    temperature: float  # 0 is greedy
    seed: int
    system_prompt: str | None

    @classmethod
    def of(cls, options: argparse.Namespace) -> Openings:
        """By the flags of `add_openings`."""
        return cls(
            options.benchmarks,
            options.limit,
            options.opening_tokens,
            options.temperature,
            options.seed,
            options.system_prompt,
        )

    @property
    def sampling(self) -> Sampling:
        """Of the answers' beginnings; `BadInput` for what cannot be."""
        if self.length < 1:
            raise BadInput(f"--opening_tokens is {self.length}; at least 1")
        return Sampling(
            temperature=self.temperature,
            max_new_tokens=LONGER * self.length,
            seed=self.seed,
            system_prompt=self.system_prompt,
        )

    def problems(self) -> list[Problem]:
        """Of all benchmarks; `BadInput` for a name that is none."""
        names = [name.strip() for name in self.benchmarks.split(",") if name.strip()]
        asked = benchmarks(names, None, self.limit)
        return [problem for benchmark in asked for problem in benchmark.problems]


def add_openings(parser: argparse.ArgumentParser) -> None:
    """Flags for problems and for how their openings are written."""
    add = parser.add_argument
    add("--contrast", choices=["opening"], help="how each of two models begins to answer")
    add("--benchmarks", metavar="NAMES", help="whose problems are opened, with commas between")
    add("--limit", type=int, default=64, metavar="N", help="problems of each benchmark (64)")
    add("--opening_tokens", type=int, default=LENGTH, metavar="N", help=f"at least ({LENGTH})")
    add("--temperature", type=float, default=0.0, metavar="T", help="of openings; 0 is greedy (0)")
    add("--seed", type=int, default=0, metavar="N", help="of the sampling (0)")
    add("--system_prompt", metavar="TEXT", help="before every problem")


def opening_pairs(places: Sequence[Place], asked: Openings) -> list[Pairs]:
    """The same pairs for both models: clean with the first one's opening, corrupted with the second
    one's, prompts by the second one's chat template.

    Raises `BadInput` unless two models that have their weights and the same tokens are named, and
    where fewer than 2 pairs are left, with what was dropped and why.
    """
    if len(places) != 2:
        raise BadInput(f"openings are of two models, base first, not of {len(places)}")
    _, tokenizer = (tokenizer_of(place) for place in places)
    check_words(places)
    problems, sampling = asked.problems(), asked.sampling
    answers = [_answers(place, tokenizer, problems, sampling) for place in places]
    drafts = list(_pairs(tokenizer, problems, answers, asked.length))
    usable = choose(drafts, "opening", len(drafts), FEWEST)
    say(f"openings   {len(usable)} pairs of {len(drafts)} problems{_reasons(drafts)}")
    pairs = {"opening": PromptPairs.padded(usable, padding(tokenizer))}
    return [pairs] * 2


Answers = dict[str, tuple[str, str]]
"""Prompt and answer by problem."""


def _answers(
    place: Place, tokenizer: Any, problems: Sequence[Problem], sampling: Sampling
) -> Answers:
    """How a model begins to answer."""
    assert place.model is not None
    requests = every_sample(problems, 1, sampling)
    check_room(place.model.config, tokenizer, requests, sampling)
    say(f"opening    {len(requests)} answers by {place.name}")
    batches = respond(place.model.load(), tokenizer, requests, sampling)
    return {one.request.problem.id: (one.prompt, one.text) for batch in batches for one in batch}


def _pairs(
    tokenizer: Any, problems: Sequence[Problem], answers: Sequence[Answers], length: int
) -> Iterator[Pair | Dropped]:
    for problem in problems:
        (prompt, first), (_, second) = (one[problem.id] for one in answers)
        yield opening_pair(tokenizer, prompt, first, second, length)


def _reasons(drafts: Sequence[Pair | Dropped]) -> str:
    reasons = [one.reason for one in drafts if isinstance(one, Dropped)]
    counts = {reason: reasons.count(reason) for reason in reasons}
    return "".join(f"; {count} dropped: {reason}" for reason, count in counts.items())
