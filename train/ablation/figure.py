"""One benchmark against another: what a model solves of the easy and of the hard, by condition."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tracking.atomic import write_whole
from tracking.views.drawing import GREY, INK, canvas
from train.ablation.arms import Comparison
from train.evals.estimates import Estimate, estimates

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's
MARKS = {"the model": "o", "the base": "s"}
AS_IT_IS, CONTROL = "as it is", "control set"


def trade_off(
    rows: pd.DataFrame,
    comparisons: Sequence[Comparison],
    pairs: Sequence[tuple[str, str]],
    model: str,
) -> pd.DataFrame:
    """A row a condition and pair of benchmarks (`easy`, `hard`): whose `model`, `what` is done to
    it (`AS_IT_IS`, `CONTROL`, or a set with its mode), and accuracy in both with its interval over
    problems: `x`, `x_low`, `x_high` and `y`, `y_low`, `y_high`.

    `rows` are responses as `Study.solve` has them; `model` is one of `MARKS`.
    """
    by: dict[str, dict[str, Estimate]] = {}
    for one in estimates(rows):
        by.setdefault(one.condition, {})[one.benchmark] = one
    arms = {
        arm.condition for one in comparisons for name in one.controls
        for arm in one.control_arms(name)
    }  # fmt: skip
    points = [("", AS_IT_IS), *((condition, CONTROL) for condition in sorted(arms))]
    points += [(one.arm.condition, f"{one.target.name} {one.mode.name}") for one in comparisons]
    return pd.DataFrame(
        {"easy": easy, "hard": hard, "model": model, "what": what,
         **_spread("x", by[condition][easy]), **_spread("y", by[condition][hard])}
        for easy, hard in pairs
        for condition, what in points
    )  # fmt: skip


def write_trade_off(table: pd.DataFrame, path: Path) -> None:
    """Draw a trade-off as a PNG, a plot a pair of benchmarks."""
    plots = table.groupby(["easy", "hard"], sort=False)
    figure = Figure(figsize=(2.6 + 4.6 * len(plots), 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    handles: dict[str, Any] = {}
    panels = figure.subplots(1, len(plots), squeeze=False)[0]
    for axes, ((easy, hard), rows) in zip(panels, plots, strict=True):
        handles |= dict(_draw(axes, rows))
        axes.plot([0, 1], [0, 1], color="#dddddd", linewidth=1, zorder=0)
        axes.set(xlabel=f"{easy}, accuracy", ylabel=f"{hard}, accuracy",
                 xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))  # fmt: skip
    style = {"loc": "outside right upper", "frameon": False, "fontsize": 8}
    figure.legend(handles.values(), handles.keys(), **style)
    sink = io.BytesIO()
    canvas(figure, 120).print_png(sink)
    write_whole(path, sink.getvalue())


def _spread(name: str, estimate: Estimate) -> dict[str, float]:
    share = estimate.average
    return {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}


def _draw(axes: Axes, table: pd.DataFrame) -> Iterator[tuple[str, Any]]:
    """Every model's points, control sets small; a handle by label for the legend."""
    for model, rows in table.groupby("model", sort=False):
        mark = MARKS[str(model)]
        controls = rows[rows["what"] == CONTROL]
        if len(controls):
            style = {"s": 9, "color": GREY, "marker": mark, "linewidths": 0}
            yield f"{model}, control sets", axes.scatter(controls["x"], controls["y"], **style)
        for place, (_, row) in enumerate(rows[rows["what"] != CONTROL].iterrows()):
            color = COLORS[(place - 1) % len(COLORS)] if row["what"] != AS_IT_IS else INK
            spread = [[[row[n] - row[f"{n}_low"]], [row[f"{n}_high"] - row[n]]] for n in "xy"]
            yield f"{model}, {row['what']}", axes.errorbar(
                row["x"], row["y"], xerr=spread[0], yerr=spread[1], color=color, marker=mark,
                markersize=6, linewidth=1, linestyle="",
            )  # fmt: skip
