"""Graded responses in a folder: appended as they come, never generated or graded twice.

    DIR/settings.json            the model and how it was sampled, written first
    DIR/responses/*.parquet      one row a response, a file a batch; read as one data set
    DIR/summary.parquet          derived from them

A file is there whole or not at all, so whatever ends a job, the next goes on behind the last batch:
`evaluate` generates, grades and appends what is not there yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import dataset, parquet

from tracking.atomic import write_whole
from tracking.errors import BadInput
from train.evals.grading import Grader, Verdict
from train.evals.sampling import Around, Request, Response, Sampling, respond

SCHEMA = pa.schema(
    [
        ("benchmark", pa.string()),
        ("problem", pa.string()),  # its id
        ("sample", pa.int32()),
        ("condition", pa.string()),  # "" is the model as it is
        ("seed", pa.int64()),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("answer", pa.string()),  # the right one
        ("extracted", pa.string()),  # what was read as the response's answer
        ("right", pa.bool_()),  # missing where it could not be graded
        ("length", pa.int32()),  # in tokens
        ("cut_off", pa.bool_()),
    ]
)
KEY = ["benchmark", "problem", "sample", "condition"]
Key = tuple[str, str, int, str]


class Responses:
    """The responses in a folder, all of one model under one sampling.

    Raises `BadInput` where the folder holds responses that were made with other `facts`.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        self.seed = facts["seed"]
        path = folder / "settings.json"
        now = json.loads(json.dumps(facts))
        if path.exists():
            _check_same(path, now)
        elif any(self._parts()):
            raise BadInput(f"{folder} has responses but no settings.json; choose another folder")
        else:
            write_whole(path, json.dumps(now, indent=1).encode())

    def append(self, responses: Sequence[Response], verdicts: Sequence[Verdict]) -> None:
        """Write a batch, whole or not at all."""
        rows = [
            self._row(response, verdict)
            for response, verdict in zip(responses, verdicts, strict=True)
        ]
        sink = pa.BufferOutputStream()
        parquet.write_table(pa.Table.from_pylist(rows, SCHEMA), sink)
        last = max((int(path.stem.rpartition("-")[2]) for path in self._parts()), default=-1)
        path = self.folder / "responses" / f"part-{last + 1:06}.parquet"
        write_whole(path, sink.getvalue().to_pybytes())

    def read(self) -> pd.DataFrame:
        """All rows, in the order of their key; `right` is missing (NA) where not graded."""
        return read(self.folder)

    def keys(self) -> set[Key]:
        """Of the responses that are there."""
        table = _table(self.folder, KEY)
        return set(zip(*(table[name].to_pylist() for name in KEY), strict=True))

    def _parts(self) -> list[Path]:
        return sorted((self.folder / "responses").glob("part-*.parquet"))

    def _row(self, response: Response, verdict: Verdict) -> dict[str, Any]:
        request = response.request
        return {
            **dict(zip(KEY, request.key, strict=True)),
            "seed": self.seed,
            "prompt": response.prompt,
            "response": response.text,
            "answer": request.problem.answer,
            "extracted": verdict.extracted,
            "right": verdict.right,
            "length": response.length,
            "cut_off": response.cut_off,
        }


def read(folder: Path) -> pd.DataFrame:
    """The rows of all responses in a folder, as `Responses.read`."""
    frame = _table(folder).to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get)
    return frame.sort_values(KEY, ignore_index=True)


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
    return keep(
        respond(model, tokenizer, missing, sampling, around), requests, responses, grader, done
    )


def keep(
    batches: Iterable[Sequence[Response]],
    requests: Sequence[Request],
    responses: Responses,
    grader: Grader,
    done: Callable[[int], object],
) -> pd.DataFrame:
    """Grade and append `batches` as they come; the rows of all requests, as `evaluate`."""
    for batch in batches:
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


def _table(folder: Path, columns: list[str] | None = None) -> pa.Table:
    parts = folder / "responses"
    if not parts.is_dir():
        empty = SCHEMA.empty_table()
        return empty.select(columns) if columns else empty
    try:
        files = sorted(map(str, parts.glob("part-*.parquet")))
        return dataset.dataset(files, schema=SCHEMA, format="parquet").to_table(columns)
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"{parts} cannot be read: {str(error).splitlines()[0]}") from None


def _check_same(path: Path, now: Mapping[str, Any]) -> None:
    try:
        before = json.loads(path.read_bytes())
        names = {**before, **now}
    except (OSError, ValueError, TypeError):
        raise BadInput(f"{path} cannot be read; choose another --output_dir") from None
    for name in names:
        if name != "model" and before.get(name) != now.get(name):
            name = "model" if name == "weights" else name
            was, is_now = before.get(name), now.get(name)
            raise BadInput(
                f"{path.parent} holds other responses: {name} was {was!r}, is {is_now!r}; choose "
                "another --output_dir"
            )
