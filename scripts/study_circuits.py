"""How faithful circuits of the tiny world are over their size, and how stable over pairs.

    bash scripts/study_tiny.sh
    python -m scripts.study_circuits runs/study/sft-seed0 runs/study/grpo-seed0

Writes docs/circuits.png and prints the tables of docs/circuits.md. The models are the runs' common
base and their last checkpoints; the pairs are new ones of the tiny task, 1,024 of each contrast, of
which the curves use the first 128.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from transformers import AutoModelForCausalLM

from tracking import PromptPairs, attribute
from tracking.attribution.scores import Scores
from tracking.circuits.curve import Curve, curve_of, smallest
from tracking.circuits.faithfulness import Experiment
from tracking.circuits.top_edges import by_share
from tracking.model.decoder import Decoder
from tracking.stability.agreement import agreement
from tracking.stability.bootstrap import resamples
from train import config
from train.data import contrasts
from train.tiny import tokenizer as tiny
from train.tiny.base import base_model

CURVED = 128  # pairs of the curves
COUNTS = (16, 32, 64, 128, 256, 512)  # pairs in each of two disjoint samples
COLORS = {"eap-ig": "#0072B2", "eap": "#E69F00", "random": "#777777"}
METRIC = "neg_logit_diff"


def models(runs: list[Path]) -> Iterator[tuple[str, Any]]:
    """The base, then the last checkpoint of every run, by name."""
    yield "base", AutoModelForCausalLM.from_pretrained(base_model(0))
    for run in runs:
        yield run.name.upper(), AutoModelForCausalLM.from_pretrained(run)


def new_pairs(count: int) -> dict[str, PromptPairs]:
    """Pairs of the tiny task by contrast."""
    flags = ["--config", "recipes/tiny/grpo.yaml", "--track_pairs_count", str(count)]
    job = config.load("grpo", [*flags, "--dataset_size", "16384"])
    return contrasts.build(job, tiny.tokenizer(), lambda: None)


def ranked(model: Any, some: PromptPairs, method: str) -> Tensor:
    """Scores [source, target] by which edges are taken; `random` ones are drawn."""
    if method == "random":
        generator = torch.Generator().manual_seed(0)
        graph = Decoder.of(model).graph
        return torch.rand(graph.edge_mask.shape, generator=generator) * graph.edge_mask
    return scores(model, some, method).edges


def scores(model: Any, some: PromptPairs, method: str = "eap-ig") -> Scores:
    adaptive = {"quadrature": "adaptive", "steps": 8, "max_steps": 64} if method == "eap-ig" else {}
    return attribute(
        model, some, metric=METRIC, method=method, batch_size=64, per_pair=True, **adaptive
    )


def draw(curves: dict[tuple[str, str, str], Curve], path: Path) -> None:
    """One panel per model and contrast, a line per method."""
    names = list(dict.fromkeys(name for name, _, _ in curves))
    contrasts = list(dict.fromkeys(contrast for _, contrast, _ in curves))
    figure = Figure(figsize=(3.6 * len(names), 3.0 * len(contrasts)), layout="constrained")
    axes = figure.subplots(len(contrasts), len(names), sharex=True, sharey=True, squeeze=False)
    for (name, contrast, method), curve in curves.items():
        panel = axes[contrasts.index(contrast), names.index(name)]
        low, high = ([getattr(v, end) for v in curve.values] for end in ("low", "high"))
        values = [value.value for value in curve.values]
        panel.fill_between(curve.sizes, low, high, color=COLORS[method], alpha=0.2, linewidth=0)
        panel.plot(curve.sizes, values, color=COLORS[method], marker="o", ms=3, label=method)
        panel.set(xscale="log", title=f"{name}, {contrast!r} pairs", ylim=(-0.3, 1.3))
        panel.axhline(0.8, color="#BBBBBB", linewidth=0.8, linestyle=":")
    for panel in axes[-1]:
        panel.set_xlabel("share of all edges")
    for panel in axes[:, 0]:
        panel.set_ylabel("faithfulness")
    axes[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def stable(scored: Scores, edges: int) -> str:
    """The cells of one row: mean Jaccard, and its 95 % of splits, by number of pairs."""
    assert scored.per_pair is not None
    cells = []
    for count in COUNTS:
        both = agreement(scored.graph, scored.per_pair[: 2 * count], edges)
        low, high = both.jaccard.quantile(torch.tensor([0.025, 0.975])).tolist()
        cells.append(f"{float(both.jaccard.mean()):.2f} ({low:.2f}-{high:.2f})")
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--picture", type=Path, default=Path("docs/circuits.png"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets, curves, agreements = new_pairs(2 * max(COUNTS)), {}, []
    print("| model | pairs | edges | CPR | CMD | edges for 0.8 | faithfulness at 90 % of score |")
    print("|---|---|---|---|---|---|---|")
    for name, model in models(options.runs):
        for contrast, of_contrast in sets.items():
            experiment = Experiment.of(model, of_contrast[:CURVED], METRIC, batch_size=64)
            for method in COLORS:
                order = ranked(model, of_contrast[:CURVED], method)
                weights = resamples(200, CURVED)
                curve = curves[name, contrast, method] = curve_of(experiment, order, weights)
                count = smallest(experiment, order, 0.8, curve)
                share = by_share(experiment.graph, order, 0.9)
                runs = experiment.run([share]).faithfulness(0, weights)
                areas = f"{curve.cpr:.3f} | {curve.cmd:.3f} | {count}"
                by_90 = (
                    f"{runs.value:.2f} ({runs.low:.2f}-{runs.high:.2f}), {int(share.sum())} edges"
                )
                print(f"| {name} | {contrast} | {method} | {areas} | {by_90} |", flush=True)
                if method == "eap-ig":
                    whole = scores(model, of_contrast)
                    agreements.append(
                        f"| {name} | {contrast} | {count} edges | {stable(whole, count)} |"
                    )
    draw(curves, options.picture)
    print("\n| model | pairs | circuit |", " | ".join(str(count) for count in COUNTS), "|")
    print("|" + "---|" * (3 + len(COUNTS)))
    print("\n".join(agreements))


if __name__ == "__main__":
    main()
