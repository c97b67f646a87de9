"""A study: the same problems, sampled with the same noise, under every arm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

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
                changed = around(self.model, self.tokenizer, self.sampling, mode, as_it_is)
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
    model: Any, tokenizer: Any, sampling: Sampling, mode: Mode, as_it_is: pd.DataFrame
) -> Around:
    """What stands around a batch of requests under a mode that is no graft. `as_it_is` are the
    responses without an intervention, which means and draws are taken from. A draw belongs to
    problem and sample, so that every arm has the same."""
    reference = _reference(model, tokenizer, mode, as_it_is)

    def changed(batch: Sequence[Request]) -> AbstractContextManager[None]:
        mine = reference
        if mine is not None and mode.kind == "resample":
            seeds = [noise_seed(sampling.seed, request) for request in batch]
            mine = mine.rows(torch.tensor(seeds))
        return intervene(model, [one.factors for one in batch], mode.kind, mine)

    return changed


def _reference(model: Any, tokenizer: Any, mode: Mode, as_it_is: pd.DataFrame) -> Reference | None:
    """Of the prompts with the model's own responses, up to `TEXTS` of them, evenly taken."""
    if mode.kind not in ("mean", "resample"):
        return None
    rows = as_it_is.iloc[:: max(1, len(as_it_is) // TEXTS)].head(TEXTS)
    texts = [prompt + text for prompt, text in zip(rows["prompt"], rows["response"], strict=True)]
    ids = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
    make = Reference.mean if mode.kind == "mean" else Reference.resample
    return make(model, ids["input_ids"], ids["attention_mask"])


def arms_of(comparisons: Sequence[Comparison], mode: Mode) -> list[Arm]:
    """All arms of a mode, each once."""
    return list(dict.fromkeys(arm for one in comparisons if one.mode == mode for arm in one.arms))


def every_request(requests: Sequence[Request], comparisons: Sequence[Comparison]) -> list[Request]:
    """The requests as the model is and under every arm."""
    arms = dict.fromkeys(arm for one in comparisons for arm in one.arms)
    return [*requests, *(request for arm in arms for request in arm.of(requests))]
