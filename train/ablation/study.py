"""A study: the same problems, sampled with the same noise, under every arm."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tracking.atomic import write_whole
from tracking.errors import BadInput
from tracking.interventions.grafted import grafted
from tracking.interventions.intervene import intervene
from tracking.interventions.reference import Reference
from train.ablation.arms import Arm, Comparison
from train.ablation.modes import Mode
from train.evals.grading import Grader
from train.evals.responses import Responses, evaluate, of_requests
from train.evals.sampling import Around, Request, Sampling, noise_seed

TEXTS = 64  # of the model's own, that a mean or a draw is taken from


@dataclass(frozen=True)
class Study:
    """A model and what it is asked: `requests` without an intervention. `donor` is the model whose
    nodes the mode `graft` puts into it."""

    model: Any
    tokenizer: Any
    requests: Sequence[Request]
    sampling: Sampling
    responses: Responses
    grader: Grader
    done: Callable[[int], object] = lambda count: None
    donor: Any = None

    def solve(self, comparisons: Sequence[Comparison]) -> pd.DataFrame:
        """The responses as the model is and under all arms, as `Responses.read` has them."""
        as_it_is = self._evaluate(self.requests)
        asked = [*self.requests]
        for mode in dict.fromkeys(one.mode for one in comparisons):
            arms = arms_of(comparisons, mode)
            requests = [request for arm in arms for request in arm.of(self.requests)]
            if mode.kind == "graft":
                for arm in arms:  # one set of nodes a pass
                    self._evaluate(arm.of(self.requests), self._with_donor(arm))
            else:
                changed = around(
                    self.model, self.tokenizer, self.sampling, mode, as_it_is, self.responses.folder
                )
                self._evaluate(requests, changed)
            asked += requests
        return of_requests(self.responses.read(), asked)

    def _with_donor(self, arm: Arm) -> Around:
        return lambda _batch: grafted(self.model, self.donor, arm.nodes)

    def _evaluate(self, requests: Sequence[Request], around: Around | None = None) -> pd.DataFrame:
        return evaluate(
            self.model, self.tokenizer, requests, self.sampling, self.responses, self.grader,
            around, self.done,
        )  # fmt: skip


def around(
    model: Any,
    tokenizer: Any,
    sampling: Sampling,
    mode: Mode,
    as_it_is: pd.DataFrame,
    folder: Path,
) -> Around:
    """What stands around a batch of requests under a mode that is no graft. `as_it_is` are the
    responses without an intervention, of a `folder`, which means and draws are taken from
    (`reference_texts`). A draw belongs to problem and sample, so that every arm has the same."""
    reference = None
    if mode.kind in ("mean", "resample"):
        texts = reference_texts(folder, as_it_is)
        ids = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
        make = Reference.mean if mode.kind == "mean" else Reference.resample
        reference = make(model, ids["input_ids"], ids["attention_mask"])

    def changed(batch: Sequence[Request]) -> AbstractContextManager[None]:
        mine = reference
        if mine is not None and mode.kind == "resample":
            seeds = [noise_seed(sampling.seed, request) for request in batch]
            mine = mine.rows(torch.tensor(seeds))
        return intervene(model, [one.factors for one in batch], mode.kind, mine)

    return changed


def reference_texts(folder: Path, as_it_is: pd.DataFrame) -> list[str]:
    """Prompts with the model's own responses, up to `TEXTS` of them, evenly taken. They are kept in
    the folder from the first time on: what is asked later, of more problems or samples, would have
    others, and stand under the same condition's name beside what was made with these. `BadInput`
    where the file cannot be read."""
    path = folder / "reference.json"
    if not path.exists():
        rows = as_it_is.iloc[:: max(1, len(as_it_is) // TEXTS)].head(TEXTS)
        texts = [
            asked + response
            for asked, response in zip(rows["prompt"], rows["response"], strict=True)
        ]
        write_whole(path, json.dumps(texts).encode())
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        raise BadInput(f"{path} cannot be read; choose another --output_dir") from None


def arms_of(comparisons: Sequence[Comparison], mode: Mode) -> list[Arm]:
    """All arms of a mode, each once."""
    return list(dict.fromkeys(arm for one in comparisons if one.mode == mode for arm in one.arms))


def every_request(requests: Sequence[Request], comparisons: Sequence[Comparison]) -> list[Request]:
    """The requests as the model is and under every arm."""
    arms = dict.fromkeys(arm for one in comparisons for arm in one.arms)
    return [*requests, *(request for arm in arms for request in arm.of(requests))]
