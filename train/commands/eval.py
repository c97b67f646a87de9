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
With --use_vllm it is vLLM that generates, with noise of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.text import Text

from tracking.errors import BadInput
from train.evals.estimates import Estimate, estimates, write_summary
from train.evals.responses import evaluate, keep, lacking, of_requests
from train.evals.sitting import sitting
from train.evals.vllm_engine import check_vllm, respond_by_vllm
from train.failures.shares import failure_shares, in_words
from train.flags.evaluation import Asked, add_evaluation
from train.flags.parsing import make_parser
from train.run.console import quieten, say
from train.run.lock import Lock


def main(arguments: Sequence[str]) -> None:
    """Run `sparks eval` with these arguments."""
    parser = make_parser("eval", __doc__)
    add_evaluation(parser)
    add = parser.add_argument
    add("--use_vllm", action="store_true", help="generate with vLLM (the extra vllm)")
    add(
        "--vllm_tensor_parallel_size", type=int, default=1, metavar="N",
        help="GPUs that vLLM shares the weights among (1)",
    )  # fmt: skip
    options = parser.parse_args(list(arguments))
    quieten()
    asked = Asked.of(options)
    gpus = options.vllm_tensor_parallel_size
    if gpus < 1 or (gpus > 1 and not options.use_vllm):
        raise BadInput(f"--vllm_tensor_parallel_size is {gpus}; 1 or more, with --use_vllm")
    if options.use_vllm:
        check_vllm(asked.subject.model)
    with Lock(asked.folder):
        rows = _solved(asked, gpus if options.use_vllm else 0)
        summary = estimates(rows)
        write_summary(summary, asked.folder)
    show(summary)
    failed = failure_shares(rows, asked.benchmarks, asked.boxed)
    for benchmark in failed.index.unique(0):
        say(f"failures   {benchmark}: {in_words(failed.loc[benchmark].iloc[0])}")
    say(f"\nresponses  {asked.folder / 'responses'}")
    say(f"summary    {asked.folder / 'summary.parquet'}")


def _solved(asked: Asked, vllm_gpus: int) -> pd.DataFrame:
    """The rows of all requests; what is lacking is generated, by vLLM on so many GPUs or, where
    that is 0, by Transformers. Raises `Stop` on a signal."""
    requests, model = asked.requests, asked.subject.model
    responses = asked.responses(use_vllm=vllm_gpus > 0)
    missing = lacking(requests, responses)
    asked.announce(len(requests), len(missing))
    if not missing:
        return of_requests(responses.read(), requests)
    with sitting(asked.benchmarks, requests, responses) as (grader, done):
        sampling, tokenizer = asked.sampling, asked.subject.tokenizer
        if not vllm_gpus:
            loaded = model.load()
            return evaluate(loaded, tokenizer, requests, sampling, responses, grader, done=done)
        batches = respond_by_vllm(model, tokenizer, missing, sampling, vllm_gpus)
        return keep(batches, requests, responses, grader, done)


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
