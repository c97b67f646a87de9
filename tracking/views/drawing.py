"""What the figures draw with: axes, panels over steps, rasters and maps of nodes, legends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, MaxNLocator

from tracking.timeline.columns import COUNTS, names
from tracking.timeline.coupling import rewards
from tracking.views.palette import LOOKS, NEGATIVE, POSITIVE, REWARD, UNDECIDED, called, untold

INK = "#222222"
GREY = UNDECIDED.color  # of nulls
PALE = 0.6  # opacity of the veil over what comes from a weak circuit
NONE = "no head emerged"
MANY = 60  # rows of a raster, above which nodes that were never active are left out
BENCHMARKS = (POSITIVE, NEGATIVE, LOOKS["surviving"].color, INK)  # in turn, as in the report
SIGNS = ("o", "s", "^", "D", "X")
MARGINS = (0.95, 1.1, 1.15, 0.4, 0.26)  # of panels: left, right, below, above, between; inches
SHARES = LinearSegmentedColormap.from_list("shares", [NEGATIVE, "white", POSITIVE])


@dataclass(frozen=True)
class Marker:
    """A state's sign, as matplotlib draws it."""

    sign: str
    filled: bool = True

    @property
    def style(self) -> dict[str, Any]:
        """For `scatter`: black with a white rim, or the other way round."""
        face, rim = (INK, "white") if self.filled else ("white", INK)
        return {"marker": self.sign, "facecolor": face, "edgecolor": rim, "zorder": 2}

    @property
    def handle(self) -> dict[str, Any]:
        """For a legend."""
        style = {"marker": self.sign, "markeredgecolor": INK}
        return {**style, "markerfacecolor": INK if self.filled else "white"}


def canvas(figure: Figure, dpi: int) -> FigureCanvasAgg:
    """What a figure is drawn on, at so many dots an inch: once by its `draw` or `print_png`, where
    `Figure.savefig` draws the same pixels twice."""
    figure.set_dpi(dpi)
    return FigureCanvasAgg(figure)


MARKS = {  # as the signs of `palette.LOOKS`; base and retained look alike
    "retained": Marker("o"),
    "base": Marker("o"),
    "new": Marker("o", filled=False),
    "surviving": Marker("^"),
    "revived": Marker("D"),
    "emergent": Marker("^", filled=False),
    "faded": Marker("X"),
    "pruned": Marker("v", filled=False),
}


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


def panels(heights: Sequence[float], wide: float, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure of axes [row, column] over one axis of steps, of these heights and this width in
    inches, with room for `colours` beside and a `legend` below.

    The margins are fixed: `layout="constrained"` measures every text twice, which takes as long as
    drawing does, in a picture that is drawn at every checkpoint."""
    left, right, bottom, top, gap = MARGINS
    across = left + wide + right
    size = (columns * across, bottom + sum(heights) + gap * (len(heights) - 1) + top)
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    grid = {
        "left": left / size[0],
        "right": 1 - right / size[0],
        "wspace": (left + right) / wide,
        "bottom": bottom / size[1],
        "top": 1 - top / size[1],
        "hspace": gap / (sum(heights) / len(heights)),
        "height_ratios": heights,
    }
    shape = (len(heights), columns)
    return figure, figure.subplots(*shape, sharex=True, squeeze=False, gridspec_kw=grid)


def colours(mesh: QuadMesh, axes: Axes, label: str) -> None:
    """What the colours mean, beside a panel."""
    bar = axes.inset_axes((1.02, 0, 0.03, 1))
    axes.figure.colorbar(mesh, cax=bar, label=label)


def say(axes: Axes, text: str) -> None:
    """In the plot's place, why there is nothing to plot."""
    axes.text(0.5, 0.55, text, transform=axes.transAxes, ha="center", va="bottom")


def over_steps(axes: Axes, steps: Sequence[int]) -> None:
    """An axis of steps from 0 to where the last checkpoint's cell ends; ticks are whole steps."""
    axes.set_xlim(0, bin_edges(np.array(steps))[-1])
    locator = MaxNLocator(integer=True) if len(steps) > 1 else FixedLocator(steps)
    axes.xaxis.set_major_locator(locator)


def bin_edges(steps: np.ndarray) -> np.ndarray:
    """Where the cells of neighbouring checkpoints meet, in steps, none below 0; one more than
    checkpoints."""
    if len(steps) == 1:
        return np.array([max(steps[0] - 0.5, 0), steps[0] + 0.5])
    middle = (steps[1:] + steps[:-1]) / 2
    first, last = max(2 * steps[0] - middle[0], 0), 2 * steps[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])


def stages(panels: Iterable[Axes], steps: Sequence[int]) -> None:
    """A line through all panels where a later stage of the training begins."""
    for place, axes in enumerate(panels):
        for step in steps:
            axes.axvline(step, color=INK, linewidth=1, linestyle="--", zorder=4)
            if not place:
                axes.annotate("next stage", (step, 1), (3, -3), xycoords=axes.get_xaxis_transform(),
                              textcoords="offset points", va="top", fontsize=8)  # fmt: skip


def behaviour(axes: Axes, counts: pd.DataFrame) -> None:
    """The behaviour with its 95 % interval."""
    interval(axes, counts, "behaviour", INK)
    axes.axhline(0, color="#999", linewidth=0.8)
    axes.set_ylabel("behaviour\n(logits)")


def reward(axes: Axes, counts: pd.DataFrame) -> None:
    """The mean since the checkpoint before, at the checkpoint; one series under one name."""
    reward = rewards(counts, str(counts["contrast"].iloc[0]))
    axes.plot(reward.index, reward, color=REWARD, marker="o", markersize=3, clip_on=False)
    axes.set_ylabel(called(reward.name))
    axes.grid(alpha=0.3)


def wiring(axes: Axes, counts: pd.DataFrame) -> None:
    """What step 0's wiring carries of today's behaviour where there is any, with its 95 % interval,
    and the null's band; where no record has it, that."""
    counts = carried(counts)
    axes.set_ylabel("wiring kept")
    highest = counts[["wiring_kept_high", "wiring_null_high"]].max().max()
    axes.set_ylim(0, min(max(1.1, 1.05 * np.nan_to_num(highest)), 2.5))  # few pairs, wide intervals
    if counts["wiring_kept"].isna().all():
        axes.set_yticks([])
        say(axes, f"step {counts['step'].iloc[0]}'s wiring was compared at no checkpoint")
        return
    bounds = (counts["wiring_null_low"], counts["wiring_null_high"])
    axes.fill_between(counts["step"], *bounds, color=GREY, alpha=0.3, linewidth=0,
                      label="null: today's own ranking by half of the pairs")  # fmt: skip
    interval(axes, counts, "wiring_kept", LOOKS["surviving"].color)
    axes.legend(loc="lower left", frameon=False, fontsize=8)


def accuracy(axes: Axes, table: pd.DataFrame) -> None:
    """Accuracy in every benchmark of `solving.tables.accuracies` with its 95 % interval."""
    for place, (benchmark, rows) in enumerate(table.groupby("benchmark", sort=False)):
        color = BENCHMARKS[place % len(BENCHMARKS)]
        axes.fill_between(rows["step"], rows["avg_low"], rows["avg_high"], color=color,
                          alpha=0.15, linewidth=0)  # fmt: skip
        axes.plot(rows["step"], rows["avg"], color=color, marker=SIGNS[place % len(SIGNS)],
                  markersize=4, clip_on=False, label=str(benchmark))  # fmt: skip
    axes.set(ylabel="accuracy", ylim=(0, 1.05))
    axes.grid(alpha=0.3)
    axes.legend(loc="best", frameon=False, fontsize=8)


def carried(counts: pd.DataFrame) -> pd.DataFrame:
    """The counts with what speaks of a behaviour missing where it is absent."""
    absent, columns = counts["verdict"] == "absent", list(names(COUNTS, "carried"))
    return counts.assign(**{name: counts[name].mask(absent) for name in columns})


def interval(axes: Axes, counts: pd.DataFrame, name: str, color: str, **more: str) -> None:
    """A column of counts over the steps, and the band of its interval."""
    bounds = (counts[f"{name}_low"], counts[f"{name}_high"])
    axes.fill_between(counts["step"], *bounds, color=color, alpha=0.15, linewidth=0)
    style = {"color": color, "marker": "o", "markersize": 3, "clip_on": False, **more}
    axes.plot(counts["step"], counts[name], **style)
    axes.grid(alpha=0.3)


def raster(axes: Axes, nodes: pd.DataFrame) -> QuadMesh | None:
    """A row for each of the `shown` nodes: its share by colour, its state by a mark, hatched where
    the checkpoint alone cannot tell. The colours' mesh, or None where there is no row."""
    order, left_out = shown(nodes)
    if not order:
        say(axes, "no node was active")
        axes.set_yticks([])
        return None
    settled = nodes.assign(undecided=untold(nodes))
    table = {
        name: settled.pivot(index="node", columns="step", values=name).loc[order]
        for name in ("share", "state", "undecided")
    }
    edges = bin_edges(table["share"].columns.to_numpy())
    rows = np.arange(len(order) + 1) - 0.5
    mesh = axes.pcolormesh(edges, rows, table["share"], cmap=SHARES, norm=scale(nodes["share"]),
                           edgecolor="#eee", linewidth=0.3)  # fmt: skip
    hatches(axes, table["undecided"].to_numpy(bool), edges)
    marks(axes, table["state"].to_numpy(str), edges)
    pale(axes, nodes, edges)
    mlps = sum(node.startswith("M") for node in order)
    axes.axhline(len(order) - mlps - 0.5, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(order)), order, fontsize=7)
    axes.set_ylabel("heads, MLPs")
    if left_out:
        axes.set_title(f"{left_out} that cannot be told left out", fontsize=8, loc="right")
    axes.invert_yaxis()
    return mesh


def scale(shares: pd.Series) -> Normalize:
    """White at 0, full colour at the largest share, at least 0.2 and at most 1."""
    most = float(np.clip(np.nan_to_num(shares.abs().max()), 0.2, 1))
    return Normalize(-most, most)


def marks(axes: Axes, states: np.ndarray, edges: np.ndarray) -> None:
    """The signs of states [row, column] in the cells' middles; they read on any colour."""
    middle = (edges[1:] + edges[:-1]) / 2
    for state, marker in MARKS.items():
        places = [(middle[column], row) for row, column in np.argwhere(states == state).tolist()]
        if places:
            axes.scatter(*zip(*places, strict=True), s=22, linewidth=0.9, **marker.style)


def hatches(axes: Axes, undecided: np.ndarray, edges: np.ndarray) -> None:
    """Over the cells [row, column] that are undecided."""
    for row, column in np.argwhere(undecided).tolist():
        hatch(axes, float(edges[column]), row - 0.5, float(edges[column + 1] - edges[column]))


def hatch(axes: Axes, left: float, low: float, width: float = 1.0) -> None:
    """Over a cell that is undecided."""
    style = {"fill": False, "hatch": "/////", "edgecolor": UNDECIDED.color, "linewidth": 0}
    axes.add_patch(Rectangle((left, low), width, 1, **style))


def pale(axes: Axes, nodes: pd.DataFrame, edges: np.ndarray) -> None:
    """A veil over the checkpoints that are weak, or have no behaviour."""
    verdicts = nodes.groupby("step")["verdict"].first()
    for place in np.flatnonzero(verdicts.isin(["weak", "absent"])).tolist():
        span = {"color": "white", "alpha": PALE, "linewidth": 0, "zorder": 3}
        axes.axvspan(edges[place], edges[place + 1], **span)


def legend(figure: Figure, states: pd.Series) -> None:
    """The marks of the states that occur, under `panels`."""
    there = {MARKS[state]: state for state in MARKS if (states == state).any()}
    handles: list[Line2D | Patch] = [
        Line2D([], [], linestyle="none", label=word.replace("base", "base, retained"),
               **marker.handle)
        for marker, word in there.items()
    ]  # fmt: skip
    handles.append(
        Patch(
            facecolor="white",
            edgecolor="#555",
            hatch="////",
            label="cannot tell here, or says otherwise",
        )
    )
    style = {"ncols": int(figure.get_figwidth() // 1.6), "frameon": False, "fontsize": 8}
    figure.legend(handles=handles, loc="lower center", **style)


def shown(nodes: pd.DataFrame) -> tuple[list[str], int]:
    """The nodes that a raster shows, heads before MLPs, each by the first step at which it was
    active, then in the graph's order: all that were ever active, are undecided at the end, or were
    at step 0. Where these are more than `MANY`, those that were ever active; and how many are left
    out for that. `nodes` are the rows of one contrast of a timeline."""
    last = nodes[nodes["step"] == nodes["step"].max()].set_index("node")
    first = nodes[nodes["active"]].groupby("node")["step"].min()
    unsure = set(last.index[untold(last) | (last["state"] == "undecided")])
    mlp = last["kind"] == "mlp"
    there = [node for node in last.index if node in first or node in unsure]
    active = [node for node in there if node in first]
    kept = active if len(there) > MANY else there
    ordered = sorted(kept, key=lambda node: (mlp[node], first.get(node, np.inf)))
    return ordered, len(there) - len(kept)
