"""What the rules of word-problem pairs change, and on how many pairs a model shows the behaviour.

    python scripts/study_word_pairs.py rules DATA.jsonl ... --tokenizer FOLDER [--problems 2000]
    python scripts/study_word_pairs.py signs DATA.jsonl ... --model FOLDER [--pairs 64] [--show 5]
    python scripts/study_word_pairs.py sample DATA.jsonl ... --tokenizer FOLDER --pairs 17 --seed 1

`rules`: for every rule and contrast, the problems of which another pair or none is made without
it. `signs`: the pairs with a logit difference that is larger on the clean prompt than on the
corrupted one. `sample`: pairs to be read and judged, of problems in random order.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from tracking.pairs import rules
from tracking.pairs.equations import read_solution
from tracking.pairs.problems import WordProblem, read_problem
from tracking.pairs.prompt_pairs import PromptPairs, last_position
from tracking.pairs.text import Dropped, Pair, padding
from tracking.pairs.word_pairs import WORD_CONTRASTS, word_pairs

STAGES: list[Any] = [
    rules.SOLUTION_RULES,
    rules.NUMBER_RULES,
    rules.CHANGE_RULES,
    rules.PAIR_RULES["operand"],
    rules.NOT_COPIED,
]


def problems_of(path: Path, count: int, seed: int) -> list[WordProblem]:
    """The file's problems in a random order, `count` at most."""
    lines = path.read_text().splitlines()
    random.Random(seed).shuffle(lines)
    return [read_problem(json.loads(line)) for line in lines[:count]]


def is_one_step(problem: WordProblem) -> bool:
    """Whether its solution is one equation of two numbers."""
    equations = read_solution(problem.solution or "").equations
    return [len(equation.operands) for equation in equations] == [2]


# What each rule changes


def print_rules(problems: Sequence[WordProblem], tokenizer: Any) -> None:
    """For each rule and contrast, of how many problems another pair, or one at all, is made
    without the rule."""
    print_row("rule", WORD_CONTRASTS)
    changes = {each: changes_by_rule(each, problems, tokenizer) for each in WORD_CONTRASTS}
    for reason in ["pairs", *(reason for stage in STAGES for reason in stage)]:
        print_row(reason, [changes[contrast][reason] for contrast in WORD_CONTRASTS])


def changes_by_rule(
    contrast: str, problems: Sequence[WordProblem], tokenizer: Any
) -> dict[str, int]:
    objected: dict[str, set[int]] = {reason: set() for stage in STAGES for reason in stage}

    def pair_of(index: int) -> Pair | Dropped:
        return next(word_pairs(contrast, [problems[index]], tokenizer))

    def watch(reason: str, rule: Any) -> Any:
        def watched(*subject: object) -> bool:
            objects = rule(*subject)
            if objects:
                objected[reason].add(index)
            return objects

        return watched

    kept = [dict(stage) for stage in STAGES]
    for stage in STAGES:
        stage.update({reason: watch(reason, rule) for reason, rule in stage.items()})
    pairs = []
    for index in range(len(problems)):
        pairs.append(pair_of(index))
    for stage, rules_of_stage in zip(STAGES, kept, strict=True):
        stage.update(rules_of_stage)
    counts = {"pairs": sum(isinstance(pair, Pair) for pair in pairs)}
    for stage in STAGES:
        for reason, rule in list(stage.items()):
            stage[reason] = lambda *subject: False
            without = {index: pair_of(index) for index in objected[reason]}
            stage[reason] = rule
            counts[reason] = sum(
                isinstance(pair, Pair) and pair != pairs[index] for index, pair in without.items()
            )
    return counts


def print_row(name: str, columns: Sequence[object]) -> None:
    print(f"{name:64}" + "".join(f"{column!s:>9}" for column in columns), flush=True)


# What a model does on the pairs


@torch.no_grad()
def logit_differences(model: Any, pairs: PromptPairs) -> Tensor:
    """The logit of the clean side's token less that of the corrupted side's, after the clean and
    after the corrupted prompt, [pair, 2]."""
    where, rows = last_position(pairs), torch.arange(len(pairs))
    assert pairs.labels is not None
    sides = []
    for ids in (pairs.clean, pairs.corrupted):
        hidden = model.model(input_ids=ids, attention_mask=pairs.attention_mask).last_hidden_state
        logits = model.lm_head(hidden[rows, where])  # [pair, vocabulary]
        sides.append(logits.gather(1, pairs.labels).diff(dim=1)[:, 0].neg())
    return torch.stack(sides, dim=1)


def differences(model: Any, pairs: Sequence[Pair], pad: int, batch: int = 8) -> Tensor:
    chunks = [PromptPairs.padded(pairs[i : i + batch], pad) for i in range(0, len(pairs), batch)]
    return torch.cat([logit_differences(model, chunk) for chunk in chunks])


def usable(
    contrast: str, problems: Sequence[WordProblem], tokenizer: Any, count: int, seed: int
) -> list[Pair]:
    every = word_pairs(contrast, problems, tokenizer, seed)
    pairs = (pair for pair in every if isinstance(pair, Pair))
    return [pair for pair, _ in zip(pairs, range(count), strict=False)]


def print_signs(
    name: str, problems: Sequence[WordProblem], model: Any, tokenizer: Any, args: argparse.Namespace
) -> None:
    for contrast in WORD_CONTRASTS:
        pairs = usable(contrast, problems, tokenizer, args.pairs, args.seed)
        if not pairs:
            continue
        sides = differences(model, pairs, padding(tokenizer))
        behaviour = sides[:, 0] - sides[:, 1]
        both = (sides[:, 0] > 0) & (sides[:, 1] < 0)
        print(
            f"{name:24}{contrast:9}{len(pairs):6}{int((behaviour > 0).sum()):6}"
            f"{int(both.sum()):6}{behaviour.mean():8.2f}",
            flush=True,
        )
        wrong = (behaviour <= 0).nonzero()[:, 0].tolist()
        for index in wrong[: args.show]:
            print(f"  {behaviour[index]:.2f}", *map(brief, pairs[index].text), sep="\n    ")


# Pairs to read


def brief(text: str) -> str:
    """A prompt without its system message, in one line."""
    return text.rpartition("user\n")[2].replace("\n", " | ")


def print_sample(
    name: str, problems: Sequence[WordProblem], tokenizer: Any, args: argparse.Namespace
) -> None:
    """Each pair with the solution in the data; no problem is used for two contrasts."""
    for turn, contrast in enumerate(WORD_CONTRASTS):
        some = problems[turn :: len(WORD_CONTRASTS)]
        pairs = zip(some, word_pairs(contrast, some, tokenizer, args.seed), strict=True)
        shown = 0
        for problem, pair in pairs:
            if isinstance(pair, Pair) and shown < args.pairs:
                shown += 1
                print(f"[{name} {contrast} {shown}]", *map(brief, pair.text), sep="\n  ")
                print("  solution:", (problem.solution or "").replace("\n", " | "))


def main() -> None:
    parser = argparse.ArgumentParser(description="Rules, signs and samples of word-problem pairs.")
    parser.add_argument("what", choices=["rules", "signs", "sample"])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--model")
    parser.add_argument("--tokenizer", help="default: the model's")
    parser.add_argument("--problems", type=int, default=2000, help="of each file")
    parser.add_argument("--pairs", type=int, default=64, help="of each contrast and file")
    parser.add_argument("--show", type=int, default=0, help="pairs with the wrong sign to print")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer or args.model)
    sets = {path.stem: problems_of(path, args.problems, args.seed) for path in args.data}
    if args.what == "rules":
        for name, problems in sets.items():
            print(f"{name}, {len(problems)} problems")
            print_rules(problems, tokenizer)
    elif args.what == "signs":
        model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
        print(f"{'data':24}{'contrast':9}{'pairs':>6}{'right':>6}{'both':>6}{'mean':>8}")
        for name, problems in sets.items():
            simple = [problem for problem in problems if is_one_step(problem)]
            print_signs(f"{name}, one step", simple, model, tokenizer, args)
            several = [problem for problem in problems if not is_one_step(problem)]
            print_signs(f"{name}, more steps", several, model, tokenizer, args)
    else:
        for name, problems in sets.items():
            print_sample(name, problems, tokenizer, args)


if __name__ == "__main__":
    main()
