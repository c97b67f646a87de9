"""How many gradients each quadrature needs, on checkpoints of a run.

    python scripts/study_quadrature.py runs/demo [checkpoint-60 ...] [--pairs 64]

For every checkpoint and contrast: the fewest gradients with which a rule's completeness gap is
below 5 % and its top tenth of edges shares 98 % with that of 200 midpoint steps. The adaptive rule
makes forward passes besides; one has half the arithmetic of a forward and a backward pass, so
`passes` counts it as half a gradient.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from tracking import PromptPairs, Scores, attribute
from tracking.attribution.plan import KNOTS
from tracking.pairs.frozen import load_pairs

EVEN = (8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 56, 64, 80, 100)
ADAPTIVE = (4, 5, 6, 7, 8, 10, 12)


def overlap(ours: Scores, theirs: Scores, share: float = 0.1) -> float:
    """Share of the top edges by |score| that two sets of scores have in common."""
    count = int(ours.graph.edge_mask.sum() * share)
    tops = [set(s.edges.abs().flatten().topk(count).indices.tolist()) for s in (ours, theirs)]
    return len(tops[0] & tops[1]) / count


def tries(model: torch.nn.Module, pairs: PromptPairs, rule: str) -> Iterator[Scores]:
    """Scores with ever more steps."""
    for steps in ADAPTIVE if rule == "adaptive" else EVEN:
        yield attribute(
            model, pairs, metric="prob", steps=steps, max_steps=4 * steps, quadrature=rule,
            batch_size=64,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("checkpoints", nargs="*")
    parser.add_argument("--pairs", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoints = sorted(options.run.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    names = options.checkpoints or [path.name for path in checkpoints]
    rules = ("left", "right", "midpoint", "gauss-legendre", "adaptive")
    print("| checkpoint | pairs |", " | ".join(rules), "| gradients, adaptive / even | passes |")
    print("|" + "---|" * (len(rules) + 4))
    for name in names:
        model = AutoModelForCausalLM.from_pretrained(options.run / name)
        for contrast, pairs in load_pairs(options.run / "heads" / "pairs.safetensors").items():
            some = pairs[: options.pairs]
            truth = attribute(
                model, some, metric="prob", steps=200, quadrature="midpoint", batch_size=64
            )
            needed = {}
            for rule in rules:
                good = [
                    scores.steps
                    for scores in tries(model, some, rule)
                    if scores.gap < 0.05 and overlap(scores, truth) >= 0.98
                ]
                needed[rule] = min(good, default=float("inf"))
            cells = " | ".join(f"{needed[rule]:.0f}" for rule in rules)
            ratio = needed["adaptive"] / min(needed[rule] for rule in rules[:-1])
            forward = KNOTS * needed["adaptive"] // 2 - 1
            passes = ratio * (1 + forward / 2 / needed["adaptive"])
            print(f"| {name} | {contrast} | {cells} | {ratio:.2f} | {passes:.2f} |", flush=True)


if __name__ == "__main__":
    main()
