"""Pictures of a run: its heads over the steps, above the reward curve."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from tracking.atomic import write_whole
from tracking.lifecycle import Timeline
from tracking.palette import LOOKS, REWARD, UNCERTAIN
from tracking.states import ACTIVE

PALE = 0.6  # opacity of the veil over what comes from a weak circuit


def write_picture(timeline: Timeline, path: Path) -> Path:
    """Write the run's picture as a PNG, whole or not at all."""
    buffer = io.BytesIO()
    picture(timeline).savefig(buffer, format="png", dpi=120)
    write_whole(path, buffer.getvalue())
    return path


def picture(timeline: Timeline) -> Figure:
    """Counts, raster and reward on one axis of steps; a column per kind of probe."""
    kinds = timeline.kinds
    figure = Figure(figsize=(1.5 + 5.2 * len(kinds), 8.2), layout="constrained")
    FigureCanvasAgg(figure)
    ratios = {"height_ratios": [2.2, 3.4, 1.6]}
    axes = figure.subplots(3, len(kinds), sharex=True, squeeze=False, gridspec_kw=ratios)
    for column, kind in enumerate(kinds):
        counts = timeline.counts[timeline.counts["kind"] == kind]
        heads = timeline.heads[timeline.heads["kind"] == kind]
        _stack(axes[0, column], counts, heads)
        _raster(axes[1, column], heads)
        _reward(axes[2, column], counts)
        axes[0, column].set_title(f"{kind!r} probes", fontsize=11)
        axes[2, column].set_xlabel("training step")
    edges = _edges(np.array([record.step for record in timeline.records]))
    axes[0, 0].set_xlim(edges[0], edges[-1])
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    shown = [state for state in LOOKS if (timeline.heads["state"] == state).any()]
    patches = [Patch(color=LOOKS[state].color, label=state) for state in shown if state != "base"]
    patches.append(Patch(facecolor="white", edgecolor="#555", hatch="////", label="uncertain"))
    figure.legend(handles=patches, loc="outside lower center", ncols=8, frameon=False, fontsize=9)
    return figure


def head_map(timeline: Timeline, step: int, kind: str) -> Figure:
    """The layer x head map of one step: state by colour, membership written in, `?` uncertain."""
    rows = timeline.at(step, kind)
    layers = int(rows["layer"].max()) + 1
    heads = len(rows) // layers
    figure = Figure(figsize=(1.6 + 0.5 * heads, 1.3 + 0.36 * layers), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _cells(axes, _numbers(rows["state"]).reshape(layers, heads))
    verdict = str(rows["verdict"].iloc[0])
    if verdict == "weak":
        axes.axvspan(-0.5, heads - 0.5, color="white", alpha=PALE, linewidth=0)
    for position, (_, row) in enumerate(rows.iterrows()):
        text = "?" if row["uncertain"] else f"{row['membership']:.1f}"
        place = (position % heads, position // heads)
        axes.annotate(text, place, ha="center", va="center", fontsize=7)
    axes.set(xlabel="head", ylabel="layer", title=f"{kind!r} probes, step {step}: {verdict}")
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _stack(axes: Axes, counts: pd.DataFrame, heads: pd.DataFrame) -> None:
    """One bar per checkpoint: its active heads by state."""
    steps = counts["step"].to_numpy()
    edges = _edges(steps)
    by_state = pd.crosstab(heads["step"], heads["state"]).reindex(steps, fill_value=0)
    bottom = np.zeros(len(steps))
    for state in (state for state in ACTIVE if state in by_state):
        height = by_state[state].to_numpy()
        style = {"color": LOOKS[state].color, "edgecolor": "white", "linewidth": 0.4}
        axes.bar(edges[:-1], height, np.diff(edges), bottom, align="edge", **style)
        bottom += height
    _pale(axes, heads, edges)
    axes.set_ylabel("active heads")
    axes.set_ylim(0, max(bottom.max() * 1.1, 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _raster(axes: Axes, heads: pd.DataFrame) -> None:
    """Every head that was ever active or uncertain as a row, by the first step at which it was
    active; hatched where it is uncertain."""
    active = heads.pivot(index="head", columns="step", values="active")
    uncertain = heads.pivot(index="head", columns="step", values="uncertain")
    first = active.idxmax(axis=1).where(active.any(axis=1), np.inf)
    shown = first[active.any(axis=1) | uncertain.any(axis=1)]
    order = sorted(shown.index, key=lambda head: (shown[head], head))
    if not order:
        axes.text(0.5, 0.5, "no head was active", transform=axes.transAxes, ha="center")
        axes.set_yticks([])
        return
    axes.set_ylabel("head, by cohort")
    states = heads.pivot(index="head", columns="step", values="state").loc[order]
    uncertain = uncertain.loc[order]
    edges = _edges(states.columns.to_numpy())
    _cells(axes, np.stack([_numbers(states.loc[head]) for head in order]), edges)
    _pale(axes, heads, edges)
    style = {"fill": False, "hatch": "/////", "edgecolor": UNCERTAIN.color, "linewidth": 0}
    for row, column in np.argwhere(uncertain.to_numpy()).tolist():
        left, right = float(edges[column]), float(edges[column + 1])
        axes.add_patch(Rectangle((left, row - 0.5), right - left, 1, **style))
    axes.set_yticks(range(len(order)), order, fontsize=7)
    axes.invert_yaxis()


def _pale(axes: Axes, heads: pd.DataFrame, edges: np.ndarray) -> None:
    """A veil over the checkpoints whose circuits are weak."""
    verdicts = heads.groupby("step")["verdict"].first()
    for place in np.flatnonzero(verdicts == "weak").tolist():
        axes.axvspan(edges[place], edges[place + 1], color="white", alpha=PALE, linewidth=0)


def _edges(steps: np.ndarray) -> np.ndarray:
    """Where the cells of neighbouring checkpoints meet, in steps; one more than checkpoints."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = (steps[1:] + steps[:-1]) / 2
    return np.concatenate([[2 * steps[0] - middle[0]], middle, [2 * steps[-1] - middle[-1]]])


def _reward(axes: Axes, counts: pd.DataFrame) -> None:
    """The mean since the checkpoint before, at the checkpoint."""
    axes.plot(counts["step"], counts["reward"], color=REWARD, marker="o", markersize=3)
    axes.set_ylabel(str(counts["reward_name"].iloc[-1]))
    axes.grid(alpha=0.3)


def _numbers(states: pd.Series) -> np.ndarray:
    order = list(LOOKS)
    return np.array([order.index(state) for state in states])


def _cells(axes: Axes, numbers: np.ndarray, edges: np.ndarray | None = None) -> None:
    colors = ListedColormap([look.color for look in LOOKS.values()])
    norm = BoundaryNorm(np.arange(len(LOOKS) + 1) - 0.5, len(LOOKS))
    rows, columns = (np.arange(size + 1) - 0.5 for size in numbers.shape)
    mesh = (columns if edges is None else edges, rows, numbers)
    axes.pcolormesh(*mesh, cmap=colors, norm=norm, edgecolor="white", linewidth=0.4)
