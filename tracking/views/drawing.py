"""What the figures draw with: axes, bars, legends, rasters of heads."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from tracking.timeline.coupling import rewards
from tracking.timeline.states import ACTIVE
from tracking.views.palette import LOOKS, REWARD, UNDECIDED, called

INK = "#222222"  # of turnover, which is no state
PALE = 0.6  # opacity of the veil over what comes from a weak circuit
NONE = "no head emerged"


def shades(count: int) -> list[str]:
    """So many colours in an order, dark first, told apart with any contrast of colour vision."""
    return [to_hex(colormaps["cividis"](place)) for place in np.linspace(0, 0.88, max(count, 1))][
        :count
    ]


def axes(title: str, ylabel: str, xlabel: str = "training step") -> tuple[Figure, Axes]:
    """A figure of one plot."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axes


def say(axes: Axes, text: str) -> None:
    """In the plot's place, why there is nothing to plot."""
    axes.text(0.5, 0.55, text, transform=axes.transAxes, ha="center", va="bottom")


def stack(axes: Axes, counts: pd.DataFrame, heads: pd.DataFrame) -> None:
    """One bar per checkpoint: its active heads by state."""
    steps = counts["step"].to_numpy()
    edges = bin_edges(steps)
    by_state = pd.crosstab(heads["step"], heads["state"]).reindex(steps, fill_value=0)
    bottom = np.zeros(len(steps))
    for state in (state for state in ACTIVE if state in by_state):
        height = by_state[state].to_numpy()
        style = {"color": LOOKS[state].color, "edgecolor": "white", "linewidth": 0.4}
        axes.bar(edges[:-1], height, np.diff(edges), bottom, align="edge", **style)
        bottom += height
    pale(axes, heads, edges)
    axes.set_ylabel("active heads")
    axes.set_ylim(0, max(bottom.max() * 1.1, 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def raster(axes: Axes, heads: pd.DataFrame) -> None:
    """A row for each of the `shown` heads, hatched where it is undecided."""
    order = shown(heads)
    if not order:
        say(axes, "no head was active")
        axes.set_yticks([])
        return
    axes.set_ylabel("head, by cohort")
    states = heads.pivot(index="head", columns="step", values="state").loc[order]
    undecided = heads.pivot(index="head", columns="step", values="undecided").loc[order]
    edges = bin_edges(states.columns.to_numpy())
    cells(axes, np.stack([numbers(row) for row in states.to_numpy(str)]), edges)
    pale(axes, heads, edges)
    for row, column in np.argwhere(undecided.to_numpy()).tolist():
        left, right = float(edges[column]), float(edges[column + 1])
        hatch(axes, left, row - 0.5, right - left)
    axes.set_yticks(range(len(order)), order, fontsize=7)
    axes.invert_yaxis()


def pale(axes: Axes, heads: pd.DataFrame, edges: np.ndarray) -> None:
    """A veil over the checkpoints whose circuits are weak."""
    verdicts = heads.groupby("step")["verdict"].first()
    for place in np.flatnonzero(verdicts == "weak").tolist():
        axes.axvspan(edges[place], edges[place + 1], color="white", alpha=PALE, linewidth=0)


def bin_edges(steps: np.ndarray) -> np.ndarray:
    """Where the cells of neighbouring checkpoints meet, in steps; one more than checkpoints."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = (steps[1:] + steps[:-1]) / 2
    return np.concatenate([[2 * steps[0] - middle[0]], middle, [2 * steps[-1] - middle[-1]]])


def reward(axes: Axes, counts: pd.DataFrame) -> None:
    """The mean since the checkpoint before, at the checkpoint; one series under one name."""
    reward = rewards(counts, str(counts["contrast"].iloc[0]))
    axes.plot(reward.index, reward, color=REWARD, marker="o", markersize=3)
    axes.set_ylabel(called(reward.name))
    axes.grid(alpha=0.3)


def hatch(axes: Axes, left: float, low: float, width: float = 1.0) -> None:
    """Over a cell that is undecided."""
    style = {"fill": False, "hatch": "/////", "edgecolor": UNDECIDED.color, "linewidth": 0}
    axes.add_patch(Rectangle((left, low), width, 1, **style))


def ink(color: str, veil: float) -> str:
    """Black or white, whichever can be read on a colour under a white veil (WCAG's contrast)."""
    parts = (1 - veil) * np.array(to_rgb(color)) + veil
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    light = float(linear @ [0.2126, 0.7152, 0.0722])
    return "white" if 1.05 / (light + 0.05) > (light + 0.05) / 0.05 else "black"


def legend(figure: Figure, states: pd.Series, columns: int) -> None:
    """The colours of the states that occur, under a figure."""
    there = [state for state in LOOKS if (states == state).any()]
    looks = {LOOKS[state].color: state for state in there}  # base and retained look alike
    patches = [Patch(color=color, label=state) for color, state in looks.items()]
    patches.append(Patch(facecolor="white", edgecolor="#555", hatch="////", label="undecided"))
    style = {"ncols": columns, "frameon": False, "fontsize": 9}
    figure.legend(handles=patches, loc="outside lower center", **style)


def numbers(states: Iterable[str]) -> np.ndarray:
    order = list(LOOKS)
    return np.array([order.index(state) for state in states])


def cells(axes: Axes, numbers: np.ndarray, edges: np.ndarray | None = None) -> None:
    colors = ListedColormap([look.color for look in LOOKS.values()])
    norm = BoundaryNorm(np.arange(len(LOOKS) + 1) - 0.5, len(LOOKS))
    rows, columns = (np.arange(size + 1) - 0.5 for size in numbers.shape)
    mesh = (columns if edges is None else edges, rows, numbers)
    axes.pcolormesh(*mesh, cmap=colors, norm=norm, edgecolor="white", linewidth=0.4)


def shown(heads: pd.DataFrame) -> list[str]:
    """The heads that a raster shows: all that were ever active or undecided, by the first step at
    which each was active, then in the graph's order. `heads` are the rows of one contrast of a
    timeline."""
    first = heads[heads["active"]].groupby("head")["step"].min()
    there = set(heads.loc[heads["active"] | heads["undecided"], "head"])
    ordered = [head for head in heads["head"].unique() if head in there]
    return sorted(ordered, key=lambda head: first.get(head, np.inf))
