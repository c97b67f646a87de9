"""Whether `sparks ablate` finds a head that matters, and nothing where there is nothing.

    python -m scripts.study_ablation [--planted 20] [--null 200]

A model in which one head copies the answer and all others write noise: sets of three heads with the
copier among them must be beyond random sets matched in layer and in norm, in all draws; one of the
random sets against the others in at most 5 % of comparisons. Prints both counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import torch

from scripts.control.by_hand import LAYERS
from scripts.control.copier import HEADS, copier, letters, words
from tracking.interventions.matched import MatchedSets, matched_by_layer, matched_by_norm
from tracking.interventions.matched import write_norms as norms_of
from tracking.model.decoder import Decoder
from train.ablation.arms import Comparison
from train.ablation.modes import Mode
from train.ablation.paired import beyond_controls
from train.ablation.results import LEVEL, Result, results
from train.ablation.study import Study
from train.ablation.targets import Target
from train.evals.problems import Benchmark
from train.evals.responses import Responses
from train.evals.sampling import Sampling, every_sample
from train.evals.sitting import sitting

PROBLEMS, SAMPLES, CONTROLS, SIZE = 60, 2, 20, 3
MODE = Mode.parse("zero")


@dataclass(frozen=True)
class Draw:
    """A model whose head `planted` copies, and what is asked of it."""

    seed: int

    @property
    def planted(self) -> str:
        draw = Random(self.seed)
        return f"L{draw.randrange(1, 3)}H{draw.randrange(8)}"

    @property
    def others(self) -> list[str]:
        """The heads that write noise."""
        heads = [f"L{layer}H{head}" for layer in range(LAYERS) for head in range(HEADS)]
        return [head for head in heads if head != self.planted]

    def controls(self, model: Any, heads: tuple[str, ...]) -> dict[str, MatchedSets]:
        """Of a set of heads: random sets of heads that write noise, by layer and by norm."""
        graph = Decoder.of(model).graph
        ids = letters()([one.question for one in words(PROBLEMS, self.seed)])["input_ids"]
        norms, count = norms_of(model, torch.tensor(ids)), CONTROLS + 1
        return {
            "layer": matched_by_layer(graph, heads, self.others, count, self.seed),
            "norm": matched_by_norm(norms, heads, self.others, count, self.seed),
        }

    def solve(self, folder: Path, model: Any, comparisons: Sequence[Comparison]) -> list[Result]:
        """The results of comparisons."""
        problems = words(PROBLEMS, self.seed)
        sampling = Sampling(temperature=1.0, max_new_tokens=1, batch_size=1024)
        requests = every_sample(problems, SAMPLES, sampling)
        benchmark = Benchmark("words", problems, first_letter, "drawn")
        responses = Responses(folder, sampling.facts)
        with sitting([benchmark], requests, responses) as (grader, _):
            study = Study(model, letters(), requests, sampling, responses, grader)
            return results(study.solve(comparisons), comparisons)


def first_letter(
    completions: Sequence[str], answer: Sequence[str], **_: object
) -> list[float | None]:
    """1 where the completion is the answer."""
    return [float(text == right) for text, right in zip(completions, answer, strict=True)]


def planted(seed: int, folder: Path) -> bool:
    """Whether the copier, with two others, is shown to matter, beyond both kinds of controls."""
    draw = Draw(seed)
    model = copier(draw.planted, seed)
    heads = (draw.planted, *Random(seed).sample(draw.others, SIZE - 1))
    comparison = Comparison(Target("copier", heads), MODE, draw.controls(model, heads))
    (result,) = draw.solve(folder, model, [comparison])
    return result.p <= LEVEL and {*result.beyond} == {*result.controls}


def null(seed: int, folder: Path) -> list[bool]:
    """Of random sets that are matched to one, by layer and by norm, whether the first is beyond the
    others, each as if it alone had been asked."""
    draw = Draw(seed)
    model = copier(draw.planted, seed)
    matched = draw.controls(model, tuple(Random(seed).sample(draw.others, SIZE)))
    comparisons = [
        Comparison(Target(name, one.sets[0]), MODE, {name: replace(one, sets=one.sets[1:])})
        for name, one in matched.items()
    ]
    return [
        beyond_controls([against])[0]
        for result in draw.solve(folder, model, comparisons)
        for _, against in result.controls.values()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planted", type=int, default=20)
    parser.add_argument("--null", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="ablation-") as name:
        folder = Path(name)
        shown = [planted(draw, folder / f"planted-{draw}") for draw in range(options.planted)]
        print(
            f"planted head: beyond both controls in {sum(shown)} of {len(shown)} draws", flush=True
        )
        verdicts: list[bool] = []
        while len(verdicts) < options.null:
            draw = 1000 + len(verdicts)
            verdicts += null(draw, folder / f"null-{draw}")
        verdicts = verdicts[: options.null]
        print(f"random sets: beyond other random sets in {sum(verdicts)} of {len(verdicts)}")
    sys.exit(not all(shown) or sum(verdicts) > 0.05 * len(verdicts))


if __name__ == "__main__":
    main()
