"""Answering a job's requests: its graders, its progress, and what a signal ends it with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tqdm.auto import tqdm

from tracking.errors import Postponed
from train.evals.grading import Grader
from train.evals.problems import Benchmark
from train.evals.responses import Responses, lacking
from train.evals.sampling import Request
from train.run.signals import PREEMPTED, Stop, ended_at_once


@contextmanager
def sitting(
    named: Sequence[Benchmark], requests: Sequence[Request], responses: Responses
) -> Iterator[tuple[Grader, Callable[[int], object]]]:
    """Within it `requests` are answered: a grader, and a progress bar to be told how many more are
    done. A signal ends it at the next batch with `Stop`, which says what is kept."""
    left, grader = len(lacking(requests, responses)), Grader(named)
    try:
        with (
            ended_at_once(),
            tqdm(
                total=len(requests), initial=len(requests) - left, desc="responses", unit="",
                disable=not sys.stderr.isatty(), leave=False,
            ) as bar,
        ):  # fmt: skip
            yield grader, bar.update
    except Postponed:
        kept = len(requests) - len(lacking(requests, responses))
        raise Stop(
            f"asked to end; {kept} of {len(requests)} responses are kept; the same command goes on",
            PREEMPTED,
        ) from None
    finally:
        grader.close()
