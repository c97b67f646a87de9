"""One benchmark against another: what a model solves of the easy and of the hard, by condition."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tracking.atomic import write_whole
from tracking.views.drawing import GREY, INK
from train.ablation.arms import Comparison
from train.evals.estimates import Estimate, estimates

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's


def write_trade_off(
    rows: pd.DataFrame,
    comparisons: Sequence[Comparison],
    path: Path,
    grafts: tuple[pd.DataFrame, Sequence[Comparison]] | None = None,
) -> bool:
    """Write the first two benchmarks of the responses against each other as a PNG; False, and no
    file, where there is only one. `grafts` are the base's responses and comparisons."""
    names = [str(name) for name in rows["benchmark"].unique()[:2]]
    if len(names) < 2:
        return False
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _draw(axes, rows, names, comparisons, "the model", "o")
    if grafts:
        _draw(axes, grafts[0], names, grafts[1], "the base", "s")
    axes.set(xlabel=f"{names[0]}, accuracy", ylabel=f"{names[1]}, accuracy",
             xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))  # fmt: skip
    axes.plot([0, 1], [0, 1], color="#dddddd", linewidth=1, zorder=0)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=120)
    write_whole(path, sink.getvalue())
    return True


def _draw(
    axes: Axes,
    rows: pd.DataFrame,
    names: Sequence[str],
    comparisons: Sequence[Comparison],
    model: str,
    marker: str,
) -> None:
    """The model as it is, its control arms, and every comparison."""
    by_condition: dict[str, dict[str, Estimate]] = {}
    for one in estimates(rows):
        by_condition.setdefault(one.condition, {})[one.benchmark] = one
    arms = {arm.condition for one in comparisons for name in one.controls
            for arm in one.control_arms(name)}  # fmt: skip
    places = [[by_condition[arm][name].average.value for name in names] for arm in sorted(arms)]
    if places:
        axes.scatter(*zip(*places, strict=True), s=9, color=GREY, marker=marker, linewidths=0,
                     label=f"{model}, control sets")  # fmt: skip
    _point(axes, by_condition[""], names, INK, marker, f"{model} as it is")
    for place, one in enumerate(comparisons):
        label = f"{model}, {one.target.name} {one.mode.name}"
        color = COLORS[place % len(COLORS)]
        _point(axes, by_condition[one.arm.condition], names, color, marker, label)


def _point(
    axes: Axes, each: dict[str, Estimate], names: Sequence[str], color: str, marker: str, label: str
) -> None:
    x, y = (each[name].average for name in names)
    spread = [[[one.value - one.low], [one.high - one.value]] for one in (x, y)]
    axes.errorbar(x.value, y.value, yerr=spread[1], xerr=spread[0], color=color, marker=marker,
                  markersize=6, linewidth=1, linestyle="", label=label)  # fmt: skip
