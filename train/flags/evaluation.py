"""What is to be solved, by which model and how: the flags of `sparks eval` and `sparks ablate`."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path

from tracking.errors import BadInput
from train.checkpoints.subject import Subject, subject
from train.comparison.thinking import NAMES, Modes
from train.evals.benchmarks import benchmarks
from train.evals.problems import Benchmark
from train.evals.responses import Responses
from train.evals.sampling import Request, Sampling, check_room, every_sample
from train.run.console import say


def add_evaluation(parser: argparse.ArgumentParser) -> None:
    """Flags for MODEL, benchmarks and sampling."""
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
    add("--thinking", choices=NAMES, help="how the model's turn begins (as it does)")
    add("--output_dir", metavar="DIR", help="RUN/evals/CHECKPOINT, or evals/MODEL")


@dataclass(frozen=True)
class Asked:
    """An evaluation that was asked for: nothing is loaded yet."""

    subject: Subject
    benchmarks: list[Benchmark]
    requests: list[Request]
    sampling: Sampling
    folder: Path

    @classmethod
    def of(cls, options: argparse.Namespace) -> Asked:
        """By the flags; `BadInput` for whatever is wrong with them, before weights are read."""
        names = [name.strip() for name in options.benchmarks.split(",") if name.strip()]
        every_sample([], options.samples, _sampling(options, Sampling.max_new_tokens))
        directory = Path(options.benchmark_dir) if options.benchmark_dir else None
        if directory and not directory.is_dir():
            raise BadInput(f"--benchmark_dir {directory}: no such folder")
        named = benchmarks(names, directory, options.limit)
        model = subject(options.model)
        if options.thinking:
            mode = Modes.of(model.tokenizer).tokenizer(model.tokenizer, options.thinking)
            model = replace(model, tokenizer=mode, folder=model.folder / options.thinking)
        sampling = _sampling(options, model.max_new_tokens)
        problems = [problem for benchmark in named for problem in benchmark.problems]
        requests = every_sample(problems, options.samples, sampling)
        check_room(model.model.config, model.tokenizer, requests, sampling)
        folder = Path(options.output_dir) if options.output_dir else model.folder
        return cls(model, named, requests, sampling, folder)

    @property
    def boxed(self) -> bool:
        """Whether answers were asked for in `\\boxed{}`."""
        return "boxed" in (self.sampling.system_prompt or "")

    def responses(self, use_vllm: bool = False) -> Responses:
        """Those that are in the folder; `BadInput` where they are another model's, or sampled
        otherwise."""
        engine = {"use_vllm": True} if use_vllm else {}
        return Responses(self.folder, {**self.subject.facts, **self.sampling.facts, **engine})

    def announce(self, wanted: int, lacking: int) -> None:
        """Say what will be done: how many responses are wanted, and how many of them lack."""
        say(f"model      {self.subject.model.source}")
        for one in self.benchmarks:
            say(f"benchmark  {one.name}: {len(one.problems)} problems, {one.source}")
        say(f"sampling   {_words(self.sampling)}")
        say(f"responses  {lacking} to generate, {wanted - lacking} there")


def _sampling(options: argparse.Namespace, length: int) -> Sampling:
    values = {item.name: getattr(options, item.name) for item in dataclasses.fields(Sampling)}
    if values["max_new_tokens"] is None:
        values["max_new_tokens"] = length
    return Sampling(**values)


def _words(sampling: Sampling) -> str:
    if sampling.temperature == 0:
        return f"greedy, at most {sampling.max_new_tokens} tokens"
    return (
        f"temperature {sampling.temperature:g}, top_p {sampling.top_p:g}, at most "
        f"{sampling.max_new_tokens} tokens, seed {sampling.seed}"
    )
