"""One evaluation: what is not there yet is generated, graded and kept, batch by batch."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from tracking.atomic import write_whole
from tracking.errors import Postponed
from train.evals.estimates import Estimate, estimates
from train.evals.grading import Grader
from train.evals.problems import Benchmark
from train.evals.responses import KEY, Responses
from train.evals.sampling import Around, Request, Sampling, respond
from train.run.signals import PREEMPTED, Stop, ended_at_once


def evaluate(
    model: Any,
    tokenizer: Any,
    requests: Sequence[Request],
    sampling: Sampling,
    responses: Responses,
    grader: Grader,
    around: Around | None = None,
    done: Callable[[int], object] = lambda count: None,
) -> pd.DataFrame:
    """The rows of all requests, old and new, as `Responses.read`; `done` is told how many
    responses have come with each batch. `around` is `respond`'s."""
    missing = lacking(requests, responses)
    for batch in respond(model, tokenizer, missing, sampling, around):
        responses.append(batch, grader.grade(batch))
        done(len(batch))
    return of_requests(responses.read(), requests)


def lacking(requests: Sequence[Request], responses: Responses) -> list[Request]:
    """The requests that have no response yet."""
    there = responses.keys()
    return [request for request in requests if request.key not in there]


def of_requests(rows: pd.DataFrame, requests: Sequence[Request]) -> pd.DataFrame:
    """The rows of these requests, in their order; a folder may hold more."""
    keys = pd.MultiIndex.from_tuples([request.key for request in requests], names=KEY)
    return rows.set_index(KEY).loc[keys].reset_index()


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


def summarize(rows: pd.DataFrame, folder: Path) -> list[Estimate]:
    """The estimates of these rows, written into the folder as `summary.parquet` too."""
    summary = estimates(rows)
    sink = io.BytesIO()
    pd.DataFrame([estimate.row for estimate in summary]).to_parquet(sink)
    write_whole(folder / "summary.parquet", sink.getvalue())
    return summary
