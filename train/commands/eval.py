"""Let a model solve benchmarks, several times each problem, and say how well it does.

    sparks eval MODEL --benchmarks amc23,aime24,math500 [--samples 8] [--temperature 0.6]
    sparks eval tiny --benchmarks tiny-easy,tiny-hard
    sparks eval runs/mine --benchmarks gsm8k --benchmark_dir DIR --limit 100

MODEL is a folder with a model, a run (its finished model, else its last whole checkpoint), `tiny`,
`smollm2` or a Hub name, perhaps with @revision. Benchmarks: amc23, aime24, math500, gsm8k, svamp
(of the Hub, or NAME.jsonl in --benchmark_dir), any .jsonl file of word problems, tiny-easy,
tiny-hard, reasoning-gym/NAME.

Every response is written to --output_dir as soon as its batch is done; the same command goes on
where it was ended, and more samples or benchmarks are added to what is there. The randomness of a
response belongs to its problem, sample and --seed, so that models can be compared in pairs.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text
from tqdm.auto import tqdm

from tracking.errors import BadInput, Postponed
from train.checkpoints.subject import Subject, subject
from train.commands.parsing import make_parser
from train.evals.benchmarks import benchmarks
from train.evals.estimates import Estimate, estimates, write_summary
from train.evals.grading import Grader
from train.evals.problems import Benchmark
from train.evals.responses import Responses, evaluate, lacking, of_requests
from train.evals.sampling import Request, Sampling, check_room, every_sample
from train.run.console import quieten, say
from train.run.lock import Lock
from train.run.signals import PREEMPTED, Stop, ended_at_once


def main(arguments: Sequence[str]) -> None:
    """Run `sparks eval` with these arguments."""
    options = _parse(arguments)
    quieten()
    names = [name.strip() for name in options.benchmarks.split(",") if name.strip()]
    sampling = _sampling(options, Sampling.max_new_tokens)
    every_sample([], options.samples, sampling)
    directory = Path(options.benchmark_dir) if options.benchmark_dir else None
    if directory and not directory.is_dir():
        raise BadInput(f"--benchmark_dir {directory}: no such folder")
    named = benchmarks(names, directory, options.limit)
    model = subject(options.model)
    sampling = _sampling(options, model.max_new_tokens)
    problems = [problem for benchmark in named for problem in benchmark.problems]
    requests = every_sample(problems, options.samples, sampling)
    check_room(model.model.config, model.tokenizer, requests, sampling)
    folder = Path(options.output_dir) if options.output_dir else model.folder
    with Lock(folder):
        rows = _responses(folder, model, named, requests, sampling)
        summary = estimates(rows)
        write_summary(summary, folder)
    show(summary)
    say(f"\nresponses  {folder / 'responses'}")
    say(f"summary    {folder / 'summary.parquet'}")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("eval", __doc__)
    add = parser.add_argument
    add("model", metavar="MODEL", help="a folder, a run, tiny, smollm2 or a Hub name")
    add("--benchmarks", required=True, metavar="NAMES", help="names or files, with commas between")
    add(
        "--benchmark_dir", metavar="DIR", help="where NAME.jsonl lie; by default they are the Hub's"
    )
    add("--limit", type=int, metavar="N", help="only the first N problems of each benchmark")
    add("--samples", type=int, default=8, metavar="N", help="responses a problem (8)")
    add("--temperature", type=float, default=0.6, metavar="T", help="0 is greedy (0.6)")
    add("--top_p", type=float, default=1.0, metavar="P", help="nucleus sampling (1: none)")
    add(
        "--max_new_tokens",
        type=int,
        metavar="N",
        help="length of a response (as the model's generation config says, else 2048)",
    )
    add("--seed", type=int, default=0, metavar="N", help="of the sampling (0)")
    add("--batch_size", type=int, default=16, metavar="N", help="responses at a time (16)")
    add("--system_prompt", metavar="TEXT", help="before every problem")
    add("--output_dir", metavar="DIR", help="RUN/evals/CHECKPOINT, or evals/MODEL")
    return parser.parse_args(list(arguments))


def _sampling(options: argparse.Namespace, length: int) -> Sampling:
    values = {item.name: getattr(options, item.name) for item in dataclasses.fields(Sampling)}
    if values["max_new_tokens"] is None:
        values["max_new_tokens"] = length
    return Sampling(**values)


def _responses(
    folder: Path,
    model: Subject,
    named: Sequence[Benchmark],
    requests: Sequence[Request],
    sampling: Sampling,
) -> pd.DataFrame:
    """The rows of all requests; what is lacking is generated. Raises `Stop` on a signal."""
    responses = Responses(folder, {**model.facts, **sampling.facts})
    todo = len(lacking(requests, responses))
    say(f"model      {model.model.source}")
    for benchmark in named:
        say(f"benchmark  {benchmark.name}: {len(benchmark.problems)} problems, {benchmark.source}")
    say(f"sampling   {_words(sampling)}")
    say(f"responses  {todo} to generate, {len(requests) - todo} there")
    if not todo:
        return of_requests(responses.read(), requests)
    grader = Grader(named)
    try:
        with ended_at_once(), _bar(len(requests), len(requests) - todo) as done:
            loaded = model.model.load()
            return evaluate(
                loaded, model.tokenizer, requests, sampling, responses, grader, done=done
            )
    except Postponed:
        left = len(lacking(requests, responses))
        raise Stop(
            f"asked to end; {len(requests) - left} of {len(requests)} responses are kept; the same "
            "command goes on",
            PREEMPTED,
        ) from None
    finally:
        grader.close()


def _words(sampling: Sampling) -> str:
    if sampling.temperature == 0:
        return f"greedy, at most {sampling.max_new_tokens} tokens"
    return (
        f"temperature {sampling.temperature:g}, top_p {sampling.top_p:g}, at most "
        f"{sampling.max_new_tokens} tokens, seed {sampling.seed}"
    )


@contextmanager
def _bar(total: int, there: int) -> Iterator[Callable[[int], Any]]:
    quiet = not sys.stderr.isatty()
    with tqdm(
        total=total, initial=there, desc="responses", unit="", disable=quiet, leave=False
    ) as bar:
        yield bar.update


def show(summary: Sequence[Estimate], console: Console | None = None) -> None:
    """One line a benchmark: accuracy and pass@k with their 95 % intervals, length, what failed."""
    console = console or Console(highlight=False, soft_wrap=True)
    room = max(len(name) for name in ("benchmark", *(each.benchmark for each in summary)))
    samples = max(each.samples for each in summary)
    last = max(summary[0].passed, default=None)
    titles = [f"avg@{samples}", f"pass@{last}" if last else "", "tokens", "cut off", "ungraded"]
    console.print()
    console.print(Text(_line("benchmark", room, "problems", titles), "bold"))
    for each in summary:
        cells = [
            str(each.average),
            str(each.passed[last]) if last else "",
            f"{each.length:.0f}",
            f"{each.cut_off:.1%}",
            f"{each.ungraded:.1%}",
        ]
        console.print(Text(_line(each.benchmark, room, str(each.problems), cells)))
    console.print(Text("95 % intervals over problems, in brackets", "dim"))


def _line(name: str, room: int, problems: str, cells: Sequence[str]) -> str:
    wide, narrow = cells[:2], cells[2:]
    line = f"{name:<{room}} {problems:>9}" + "".join(f"{cell:>24}" for cell in wide if cell)
    return line + "".join(f"{cell:>10}" for cell in narrow)
