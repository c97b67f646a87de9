"""Whether paired comparisons say what they claim: simulated models, heads and control sets.

    python scripts/study_paired.py [--draws 200] [--seed 0]

Each draw is a benchmark of problems of all difficulties. Heads off change a problem's log-odds of
being solved, and two conditions share a part of their chance, as equal sampling seeds make them.
Three tables: how often the interval holds the true difference; how often a control set among
control sets, and a planted set among them, is significant; and whether `smallest` is the difference
that is shown in 80 % of draws.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.special import expit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called by its path, too

from tests.builders.solving import Heads, solved
from train.ablation.paired import against_controls, beyond_controls, difference

SIZES = ((50, 1), (100, 4), (200, 8))  # problems, samples


def print_coverage(draws: int, rng: np.random.Generator) -> None:
    print("| problems x samples | effect | shared | holds | Student's | width | Student's |")
    for problems, samples in ((30, 1), *SIZES):
        for effect, shared in ((0.0, 0.98), (-0.1, 0.95), (-0.5, 0.5), (-4.0, 0.0)):
            truth = true_difference(effect, rng)
            held, plain = [], []
            for _ in range(draws):
                on, off = solved(rng, problems, samples, [Heads(effect)], shared)
                one = difference(off, on)
                each = off - on
                half = stats.t.ppf(0.975, problems - 1) * each.std(ddof=1) / problems**0.5
                held.append((one.low <= truth <= one.high, one.high - one.low))
                plain.append((abs(each.mean() - truth) <= half, 2 * half))
            holds, width = np.mean(held, axis=0)
            others, narrow = np.mean(plain, axis=0)
            figures = f"{holds:.3f} | {others:.3f} | {width:.3f} | {narrow:.3f}"
            print(f"| {problems} x {samples} | {effect} | {shared} | {figures} |", flush=True)


def true_difference(effect: float, rng: np.random.Generator) -> float:
    """What an infinite benchmark would show of an effect on the log-odds."""
    easy = rng.normal(0.3, 1.7, 1_000_000)
    return float((expit(easy + effect) - expit(easy)).mean()) if effect else 0.0


def print_rule(draws: int, rng: np.random.Generator) -> None:
    print(
        "| problems x samples | shared | spread | controls | null: paired | rule | planted: rule |"
    )
    for problems, samples in SIZES:
        for shared in (0.9, 0.3):
            for spread in (0.0, 0.1, 0.3):
                for controls in (5, 20):
                    world = (problems, samples, shared, spread, controls)
                    null = np.mean([comparison(rng, *world, None) for _ in range(draws)], axis=0)
                    planted = np.mean([comparison(rng, *world, -1.0) for _ in range(draws)], axis=0)
                    row = f"| {problems} x {samples} | {shared} | {spread} | {controls}"
                    print(f"{row} | {null[0]:.3f} | {null[1]:.3f} | {planted[1]:.3f} |", flush=True)


def comparison(
    rng: np.random.Generator,
    problems: int,
    samples: int,
    shared: float,
    spread: float,
    controls: int,
    planted: float | None,
) -> tuple[bool, bool]:
    """Whether heads, by default one more control, are significant: by the paired test over
    problems alone, and by the rule."""
    sets = [Heads(-0.05 + spread * rng.normal(), spread) for _ in range(controls)]
    asked = Heads(-0.05 + spread * rng.normal() if planted is None else planted, spread)
    _, *off, target = solved(rng, problems, samples, [*sets, asked], shared)
    paired = difference(target, np.mean(off, axis=0)).p <= 0.05
    return paired, beyond_controls([against_controls(target, np.array(off))])[0]


def print_power(draws: int, rng: np.random.Generator) -> None:
    print("| problems x samples | level | smallest | shown |")
    for problems, samples in SIZES:
        for level in (0.05, 0.01):
            on, *off = solved(rng, problems, samples, [Heads(-1.0, 0.5)] * draws, shared=0.5)
            smallest = np.median([difference(one, on).smallest(level) for one in off])
            effects = np.linspace(-3, -0.05, 60)
            truths = [true_difference(effect, np.random.default_rng(0)) for effect in effects]
            effect = effects[np.abs(np.abs(truths) - smallest).argmin()]
            shown = 0.0
            for _ in range(draws):
                on, off_once = solved(rng, problems, samples, [Heads(effect, 0.5)], shared=0.5)
                shown += difference(off_once, on).p <= level
            print(f"| {problems} x {samples} | {level} | {smallest:.3f} | {shown / draws:.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print_coverage(options.draws * 5, rng)
    print_rule(options.draws, rng)
    print_power(options.draws, rng)
