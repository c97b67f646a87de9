"""Problems whose response turns from right to wrong, or back, when nodes are switched off.

Responses are compared at the same sample number: they were sampled with the same random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tracking.views.solving.tables import responses

SHOWN = 5  # problems of each kind
LONGEST = 1500  # characters kept of a prompt or a response
GRAFT = "graft"  # the mode whose responses are those of another model, with the nodes put in
TURNED = ("change", "problem", "sample", "prompt", "before", "after")


@dataclass(frozen=True)
class Turned:
    """What turned in one row of an ablation.

    row: its place in the table
    problems, responses: that were graded both with the nodes as they are and off
    failed, solved: of these, problems that turned at one sample number or more
    failed_responses, solved_responses: and all of their responses that did
    texts: `TURNED`, up to `SHOWN` problems of each kind in the order of their names, each at the
        first sample number at which it turned; `before` and `after` are the responses
    """

    row: int
    problems: int
    responses: int
    failed: int
    solved: int
    failed_responses: int
    solved_responses: int
    texts: pd.DataFrame


def turned(folder: Path, ablation: pd.DataFrame) -> list[Turned]:
    """Of the significant rows of a folder's ablation (`ablations`). `BadInput` as `responses`."""
    rows = ablation[ablation["significant"]].assign(
        condition=lambda one: one["mode"] + " " + one["nodes"]
    )
    out = []
    for grafted, mine in rows.groupby(rows["mode"] == GRAFT):
        lies = folder / "grafts" if grafted else folder
        every = responses(lies, {"", *mine["condition"]})
        by = dict(list(every.groupby(["benchmark", "condition"])))
        none = every[:0]
        for row, benchmark, condition in zip(
            mine.index, mine["benchmark"], mine["condition"], strict=True
        ):
            on, off = by.get((benchmark, ""), none), by.get((benchmark, condition), none)
            out.append(_turned(row, on, off))
    return sorted(out, key=lambda one: one.row)


def _turned(row: int, on: pd.DataFrame, off: pd.DataFrame) -> Turned:
    """Of one benchmark's responses with the nodes as they are, and with them off."""
    both = on.merge(off, on=["problem", "sample"], suffixes=("", "_off"))
    both = both.sort_values(["problem", "sample"])
    before, after = both["right"].astype(bool), both["right_off"].astype(bool)
    failed, solved = both[before & ~after], both[~before & after]
    return Turned(
        row,
        problems=both["problem"].nunique(),
        responses=len(both),
        failed=failed["problem"].nunique(),
        solved=solved["problem"].nunique(),
        failed_responses=len(failed),
        solved_responses=len(solved),
        texts=pd.concat([_texts(failed, "failed"), _texts(solved, "solved")], ignore_index=True),
    )


def _texts(rows: pd.DataFrame, change: str) -> pd.DataFrame:
    first = rows.drop_duplicates("problem").head(SHOWN)
    texts = {"prompt": "prompt", "before": "response", "after": "response_off"}
    short = {name: first[column].map(_short) for name, column in texts.items()}
    return first.assign(change=change, **short)[list(TURNED)]


def _short(text: str) -> str:
    """Beginning and end, where the answer stands."""
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} ... {text[-half:]}"
