"""What a set of runs says of heads over time: the tables of docs/study.md.

    bash scripts/study_tiny.sh
    python scripts/study_heads.py runs/study/*

Turnover beside its null, the regime index over seeds, how the heads follow the reward, which heads
recur over seeds against chance, and the same runs analysed the paper's way.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import hypergeom
from torch import Tensor
from transformers import AutoModelForCausalLM

from tracking import Ledger, PromptPairs, Timeline, attribute
from tracking.circuits.circuit import heads_in
from tracking.circuits.top_edges import by_count
from tracking.model.graph import Graph
from tracking.pairs.frozen import load_pairs
from tracking.stability.bootstrap import halves
from tracking.stability.sets import jaccard
from tracking.timeline.coupling import Coupling
from tracking.timeline.regime import Regime, over_seeds

PAPER_SHARE = 5000 / 183_555  # of all edges: the paper's top 5,000 of Qwen2.5-Math-1.5B
PAPER_THRESHOLD = 0.1  # in the metric's unit
PAPER_STEPS = 6  # it prints 5 to 8


@dataclass(frozen=True)
class Run:
    """A run of the study."""

    folder: Path
    timeline: Timeline

    @property
    def job(self) -> str:
        return self.folder.name.partition("-")[0]

    @property
    def seed(self) -> str:
        return self.folder.name.partition("-")[2]

    def survivors(self, contrast: str) -> set[str]:
        """The heads that emerged and are active at the end."""
        heads = self.heads(contrast)
        return set(heads.loc[heads["fate"] == "survivor", "head"])

    def counts(self, contrast: str) -> pd.DataFrame:
        return self.timeline.counts.query("contrast == @contrast")

    def heads(self, contrast: str) -> pd.DataFrame:
        return self.timeline.heads.query("contrast == @contrast")


def emergence(runs: Sequence[Run], contrasts: Sequence[str]) -> Iterator[list[object]]:
    """Emergent heads at the end with interval, turnover and its null, verdicts."""
    for run in runs:
        for contrast in contrasts:
            counts = run.counts(contrast)
            last, sound = counts.iloc[-1], (counts["verdict"] == "sound").sum()
            interval = (
                f"{last['emergent']} ({last['emergent_low']:.0f}-{last['emergent_high']:.0f})"
            )
            yield [
                run.folder.name, contrast, int(counts["active"].iloc[0]), interval,
                int(counts["new"].sum()), int(counts["pruned"].diff().clip(lower=0).sum()),
                f"{counts['turnover'].mean():.3f}", f"{counts['null'].mean():.3f}",
                f"{counts['turnover_converged'].mean():.3f}",
                f"{counts['edge_turnover'].mean():.2f}", f"{sound} of {len(counts)}",
            ]  # fmt: skip


def regimes(runs: Sequence[Run], contrasts: Sequence[str]) -> Iterator[list[object]]:
    """The regime index over the seeds of a job."""
    for job, seeds in groupby(runs, key=lambda run: run.job):
        seeds = list(seeds)
        for contrast in contrasts:
            each = [Regime.of(run.heads(contrast), run.counts(contrast), contrast) for run in seeds]
            for row in over_seeds(each).to_dict("records"):
                yield [job, contrast, *row.values(), ", ".join(regime.word for regime in each)]


def couplings(runs: Sequence[Run], contrasts: Sequence[str]) -> Iterator[list[object]]:
    """The lag at which heads and reward go together best, by run."""
    for run in runs:
        for contrast in contrasts:
            coupling = Coupling.of(run.heads(contrast), run.counts(contrast), contrast)
            if coupling.table.empty:
                yield [run.folder.name, contrast, coupling.note, "", "", "", ""]
                continue
            table = coupling.table.dropna(subset=["correlation"])
            for (heads, against), rows in table.groupby(["heads", "against"]):
                best = rows.iloc[int(rows["correlation"].abs().argmax())]
                yield [
                    run.folder.name, contrast, heads, against, int(best["lag"]),
                    f"{best['correlation']:.2f}", f"{best['p_corrected']:.2f}",
                ]  # fmt: skip


def recurrence(runs: Sequence[Run], contrasts: Sequence[str]) -> Iterator[list[object]]:
    """Heads that survive in two runs, against chance: the hypergeometric tail.

    Runs of the same seed begin from the same base, those of different seeds from different ones.
    """
    for contrast in contrasts:
        for first, second in combinations(runs, 2):
            if first.job != second.job and first.seed != second.seed:
                continue
            sets = [run.survivors(contrast) for run in (first, second)]
            if not all(sets):
                continue
            total = len(first.timeline.records[0].graph.head_names)
            both, sizes = sets[0] & sets[1], [len(found) for found in sets]
            yield [
                contrast, first.folder.name, second.folder.name,
                f"{sizes[0]}, {sizes[1]}", len(both),
                f"{sizes[0] * sizes[1] / total:.1f}",
                f"{hypergeom.sf(len(both) - 1, total, *sizes):.3f}", " ".join(sorted(both)),
            ]  # fmt: skip


def paper_way(run: Run, contrasts: Sequence[str]) -> Iterator[list[object]]:
    """Mean turnover of heads the paper's way, and with one thing at a time done our way."""
    sets: dict[tuple[str, str], list[Tensor]] = {}
    nulls: dict[str, list[float]] = {contrast: [] for contrast in contrasts}
    frozen = load_pairs(run.folder / "heads" / "pairs.safetensors")
    for record in run.timeline.records:
        if record.step == 0:
            continue  # the paper compares checkpoints of the training
        model = AutoModelForCausalLM.from_pretrained(run.folder / f"checkpoint-{record.step}")
        for contrast in contrasts:
            for rule in ("right", "adaptive"):
                edges, per_pair, graph = _by_kl(model, frozen[contrast], rule)
                for cut in ("threshold", "top"):
                    heads = _paper_heads(graph, edges, cut)
                    sets.setdefault((contrast, f"{rule}, {cut}"), []).append(heads)
                if rule == "right":
                    means = torch.einsum("shp,pij->shij", halves(20, len(per_pair)), per_pair)
                    first, second = _paper_heads(graph, means, "threshold").unbind(1)
                    nulls[contrast].append(float((1 - jaccard(first, second)).mean()))
    for contrast in contrasts:
        means = {
            way: np.mean([float(1 - jaccard(*pair)) for pair in pairwise(found)])
            for (of_contrast, way), found in sets.items()
            if of_contrast == contrast
        }
        ours = run.counts(contrast).query("step > 0")
        yield [
            run.folder.name, contrast, *(f"{mean:.3f}" for mean in means.values()),
            f"{np.mean(nulls[contrast]):.3f}", f"{ours['turnover'].iloc[1:].mean():.3f}",
            f"{ours['null'].mean():.3f}",
        ]  # fmt: skip


def _by_kl(model: object, pairs: PromptPairs, rule: str) -> tuple[Tensor, Tensor, Graph]:
    scores = attribute(
        model, pairs, metric="kl", quadrature=rule, steps=PAPER_STEPS,  # type: ignore[arg-type]
        max_steps=64, batch_size=64, per_pair=True,
    )  # fmt: skip
    assert scores.per_pair is not None
    return scores.edges, scores.per_pair, scores.graph


def _paper_heads(graph: Graph, scores: Tensor, cut: str) -> Tensor:
    """BoolTensor [..., head]: those in the circuit of the top edges, above the threshold or not."""
    count = round(PAPER_SHARE * int(graph.edge_mask.sum()))
    edges = by_count(graph, scores, count)
    if cut == "threshold":
        edges &= scores.abs() >= PAPER_THRESHOLD
    return heads_in(graph, edges)


def show(title: str, columns: Sequence[str], rows: Iterator[list[object]]) -> None:
    """Print a Markdown table as its rows come."""
    print(f"\n### {title}\n\n| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for row in rows:
        cells = (f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row)
        print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--paper", action="store_true", help="only the paper's way (takes minutes)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = [
        Run(folder, Timeline.of(Ledger(folder / "heads").records()))
        for folder in sorted(options.runs)
    ]
    contrasts = runs[0].timeline.contrasts
    if options.paper:
        titles = ["run", "pairs", "paper", "paper, no threshold", "paper, adaptive steps",
                  "both", "paper's null", "ours", "our null"]  # fmt: skip
        rows = (row for run in runs for row in paper_way(run, contrasts))
        show("Mean turnover, the paper's way and ours", titles, rows)
        return
    titles = ["run", "pairs", "base", "emergent at the end", "ever new", "pruned", "turnover",
              "null", "converged only", "edges", "sound"]  # fmt: skip
    show("Emergence and turnover", titles, emergence(runs, contrasts))
    show("Regime", ["job", "pairs", "index", "mean", "low", "high", "n", "by seed"],
         regimes(runs, contrasts))  # fmt: skip
    titles = ["run", "pairs", "heads", "against", "best lag", "correlation", "p over lags"]
    show("Reward", titles, couplings(runs, contrasts))
    titles = ["pairs", "run", "and", "survivors", "in both", "by chance", "p", "heads"]
    show("Which heads recur", titles, recurrence(runs, contrasts))


if __name__ == "__main__":
    main()
