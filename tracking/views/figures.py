"""Pictures of a run: the behaviour and the reward over the steps, above who carries it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tracking.atomic import write_whole
from tracking.timeline.coupling import CAVEAT, LAGS, Coupling, rewards
from tracking.timeline.survival import cohort_table, survival
from tracking.timeline.timeline import Timeline
from tracking.views import drawing
from tracking.views.drawing import GREY, INK, NONE, PALE, shades
from tracking.views.palette import LOOKS, NEGATIVE, POSITIVE, REWARD, called, untold

WIRED = {  # what a ranking of edges is called, with the step of the first record; how it looks
    "own": ("today's own ranking", INK, "-"),
    "half": ("today's, by half of the pairs", GREY, "--"),
    "old": ("step {}'s ranking", NEGATIVE, "-"),
}
CHANGES = {  # how the series of a coupling look
    "behaviour": (INK, "o"),
    "active": (POSITIVE, "s"),
    "emergent": (LOOKS["surviving"].color, "^"),
}
TURNOVERS = {"": ("heads", INK), "edge_": ("edges", LOOKS["retained"].color)}
AT_RISK = 12  # numbers of heads at risk under a survival curve, at most


def write_picture(timeline: Timeline, path: Path, accuracy: pd.DataFrame | None = None) -> Path:
    """Write the run's picture as a PNG, whole or not at all; `accuracy` as for `picture`."""
    buffer = io.BytesIO()
    drawing.canvas(picture(timeline, accuracy=accuracy), 120).print_png(buffer)
    write_whole(path, buffer.getvalue())
    return path


def picture(
    timeline: Timeline, contrasts: Sequence[str] = (), accuracy: pd.DataFrame | None = None
) -> Figure:
    """Behaviour, reward, wiring kept and the raster of nodes on one axis of steps; a column for
    each of the contrasts, by default all. `accuracy` in benchmarks, as `solving.tables.accuracies`
    has it, stands between wiring and raster, where there is any."""
    contrasts = contrasts or timeline.contrasts
    solved = accuracy is not None and len(accuracy) > 0
    tables = [timeline.of_contrast(contrast) for contrast in contrasts]
    most = max(len(drawing.shown(nodes)[0]) for nodes, _ in tables)
    tall = max(1.6, 0.14 * most)  # inches, so that the names of many nodes can be read
    extra = [1.2] if solved else []
    heights = [1.7, 1.2, 1.2, *extra, tall]
    figure, panels = drawing.panels(heights, wide=4.9, columns=len(contrasts))
    steps = {record.step for record in timeline.records}
    for column, (contrast, (nodes, counts)) in enumerate(zip(contrasts, tables, strict=True)):
        top, second, third, *fourth, below = panels[:, column]
        drawing.behaviour(top, counts)
        drawing.reward(second, counts)
        drawing.wiring(third, counts)
        if accuracy is not None and fourth:
            drawing.accuracy(fourth[0], accuracy)
            steps |= {*accuracy["step"]}
        mesh = drawing.raster(below, nodes)
        if mesh is not None:
            drawing.colours(mesh, below, "share of the behaviour")
        drawing.stages(panels[:, column], timeline.stages)
        top.set_title(f"{contrast!r} pairs", fontsize=11)
        below.set_xlabel("training step")
    drawing.over_steps(panels[0, 0], sorted(steps))
    states = pd.concat([nodes["state"] for nodes, _ in tables])
    drawing.legend(figure, states)
    return figure


def node_map(timeline: Timeline, step: int, contrast: str) -> Figure:
    """The map of one step, layer 0 lowest, heads and beside them the layer's MLP: the share by
    colour, state as a sign and in its colour, hatched where undecided."""
    rows = timeline.at(step, contrast)
    layers = int(rows["layer"].max()) + 1
    wide = len(rows) // layers
    figure, ((axes,),) = drawing.panels([max(0.34 * layers, 1)], wide=max(0.42 * wide, 4.4))
    shares = rows["share"].to_numpy().reshape(layers, wide)
    edges = np.arange(wide + 1) - 0.5
    style = {"cmap": drawing.SHARES, "norm": drawing.scale(rows["share"]), "edgecolor": "#ddd"}
    mesh = axes.pcolormesh(edges, np.arange(layers + 1) - 0.5, shares, linewidth=0.4, **style)
    drawing.hatches(axes, untold(rows).to_numpy(bool).reshape(layers, wide), edges)
    states = rows["state"].to_numpy(str).reshape(layers, wide)
    drawing.marks(axes, states, edges)
    verdict = str(rows["verdict"].iloc[0])
    if verdict in ("weak", "absent"):
        axes.axvspan(-0.5, wide - 0.5, color="white", alpha=PALE, linewidth=0, zorder=3)
    axes.axvline(wide - 1.5, color=INK, linewidth=0.8)
    axes.set_xticks(range(wide), [*map(str, range(wide - 1)), "MLP"])
    axes.set(xlabel="head", ylabel="layer", title=f"{contrast!r} pairs, step {step}: {verdict}")
    axes.set_yticks(range(layers))
    drawing.colours(mesh, axes, "share")
    drawing.legend(figure, rows["state"])
    return figure


def cohorts(timeline: Timeline, contrast: str) -> Figure:
    """How many heads of each cohort are active at every checkpoint, the oldest cohort lowest."""
    nodes, counts = timeline.of_contrast(contrast)
    table = cohort_table(nodes, contrast)
    figure, axes = drawing.axes(f"{contrast!r} pairs: emergent heads by cohort", "active heads")
    steps = counts["step"].to_numpy()
    edges = drawing.bin_edges(steps)
    drawing.over_steps(axes, steps)
    left = table.pivot(index="step", columns="cohort", values="left").reindex(steps).fillna(0)
    bottom = np.zeros(len(steps))
    for cohort, color in zip(left, shades(left.shape[1]), strict=True):
        style = {"color": color, "edgecolor": "white", "linewidth": 0.4}
        height = left[cohort].to_numpy(float)
        axes.bar(edges[:-1], height, np.diff(edges), bottom, align="edge", label=cohort, **style)
        bottom += height
    drawing.pale(axes, nodes, edges)
    axes.set_ylim(0, max(bottom.max() * 1.1, 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if not len(table):
        drawing.say(axes, NONE)
        return figure
    columns = -(-left.shape[1] // 14)
    figure.set_figwidth(6.4 + 0.8 * (columns - 1))
    style = {"loc": "outside right upper", "ncols": columns, "reverse": True}
    figure.legend(title="cohort (step)", frameon=False, fontsize=8, **style)
    return figure


def survival_curve(timeline: Timeline, contrast: str) -> Figure:
    """The share of emergent heads not yet pruned, by steps since their cohort, with its 95 % band
    and under it how many heads are at risk."""
    nodes, _ = timeline.of_contrast(contrast)
    curve = survival(nodes, contrast)
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes, below = figure.subplots(2, sharex=True, gridspec_kw={"height_ratios": [7, 1]})
    axes.set(title=f"{contrast!r} pairs: how long emergent heads last", ylim=(0, 1.05))
    axes.set_ylabel("share not pruned")
    below.set(xlabel="training steps since the cohort", yticks=[], ylim=(0, 1))
    below.set_ylabel("at risk", rotation=0, ha="right", va="center")
    below.spines[["top", "left", "right"]].set_visible(False)
    axes.tick_params(bottom=False)
    if not len(curve):
        drawing.say(axes, NONE)
        below.set_xticks([])
        return figure
    color = LOOKS["surviving"].color
    time = curve["time"].to_numpy()
    axes.step(time, curve["survival"], where="post", color=color, linewidth=2)
    bounds = (curve["low"].to_numpy(), curve["high"].to_numpy())
    axes.fill_between(time, *bounds, step="post", color=color, alpha=0.2, linewidth=0, label="95 %")
    if curve["low"].notna().any():
        axes.legend(loc="lower left", frameon=False, fontsize=9)
    axes.grid(alpha=0.3)
    for _, row in curve.iloc[:: -(-len(curve) // AT_RISK)].iterrows():
        below.text(row["time"], 0.5, f"{row['at_risk']:.0f}", ha="center", va="center", fontsize=9)
    return figure


def faithfulness_curve(timeline: Timeline, contrast: str) -> Figure:
    """How much of the behaviour circuits of every size carry at the last checkpoint, with the 95 %
    interval over pairs, by the edges taken of them before dead ends are pruned; the chosen circuit
    as a dot, by the edges that it has after."""
    counts = timeline.of_contrast(contrast)[1]
    last = counts.iloc[-1]
    result = timeline.records[-1].analyses[contrast].circuit
    title = f"{contrast!r} pairs, step {last['step']}: {last['verdict']}"
    figure, axes = drawing.axes(title, "faithfulness", "share of all edges taken")
    curve, color = faithfulness_table(timeline, contrast), LOOKS["retained"].color
    axes.plot(curve["share"], curve["faithfulness"], color=color, marker="o", markersize=3)
    axes.fill_between(curve["share"], curve["low"], curve["high"], color=color, alpha=0.2)
    size = float(result.circuit.sum() / timeline.records[-1].graph.edge_mask.sum())
    error = [[last["faithfulness"] - last["faithfulness_low"]],
             [last["faithfulness_high"] - last["faithfulness"]]]  # fmt: skip
    if size > 0 and last["verdict"] != "absent":
        style = {"color": REWARD, "fmt": "o", "capsize": 3, "label": "the circuit, pruned"}
        axes.errorbar([size], [last["faithfulness"]], np.abs(error), **style)
        axes.legend(loc="lower right", frameon=False, fontsize=9)
    axes.axhline(1, color="#555", linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.grid(alpha=0.3)
    return figure


def wiring_curve(timeline: Timeline, contrast: str) -> Figure:
    """What circuits of every size carry of the last checkpoint's behaviour, ranked by its own
    scores, by its own from half of the pairs, and by the first record's."""
    first, record = timeline.records[0].step, timeline.records[-1]
    figure, axes = drawing.axes(
        f"{contrast!r} pairs, step {record.step}: old wires and new", "faithfulness",
        "share of all edges taken",
    )  # fmt: skip
    table = wiring_table(timeline, contrast)
    if not len(table):
        drawing.say(axes, f"step {first}'s wiring was not compared here")
        return figure
    for name, (label, color, dash) in WIRED.items():
        style = {"color": color, "linestyle": dash, "marker": "o", "markersize": 3}
        axes.plot(table["share"], table[name], label=label.format(first), **style)
    axes.axhline(1, color="#555", linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return figure


def wiring_table(timeline: Timeline, contrast: str) -> pd.DataFrame:
    """The curves at the last checkpoint, a row per size: `share` of all edges taken, faithfulness
    by today's `own` ranking, by that of `half` of the pairs, by step 0's (`old`). Empty where it
    was not measured."""
    wiring = timeline.records[-1].analyses[contrast].wiring
    names = {"share": "sizes", "own": "own", "half": "half", "old": "old"}
    if wiring is None:
        return pd.DataFrame(columns=list(names), dtype=float)
    return pd.DataFrame({name: getattr(wiring, field).numpy() for name, field in names.items()})


def turnover(timeline: Timeline, contrast: str) -> Figure:
    """The share of the circuit's heads, and of its edges, that came or went since the checkpoint
    before with its 95 % interval, beside its null, what resamples of the pairs disagree in at one
    checkpoint; and less it, with the paired interval."""
    counts = timeline.of_contrast(contrast)[1]
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    rows = zip(figure.subplots(3, sharex=True), TURNOVERS.items(), strict=False)
    for axes, (prefix, (what, color)) in rows:
        null = (counts["step"], 0, counts[f"{prefix}null_high"])
        axes.fill_between(*null, color=GREY, alpha=0.2, linewidth=0, label="null, up to 97.5 %")
        axes.plot(counts["step"], counts[f"{prefix}null"], color=GREY, linestyle="--",
                  label="null, mean")  # fmt: skip
        drawing.interval(axes, counts, f"{prefix}turnover", color, label="turnover")
        axes.set(ylim=(0, 1.05), ylabel=f"share of {what}")
        axes.legend(frameon=False, fontsize=9)
    less = figure.axes[-1]
    for prefix, (what, color) in TURNOVERS.items():
        drawing.interval(less, counts, f"{prefix}turnover_less_null", color, label=what)
    less.axhline(0, color="#999", linewidth=0.8)
    less.set(ylabel="turnover\nless its null", xlabel="training step")
    less.legend(frameon=False, fontsize=9)
    drawing.over_steps(less, counts["step"].tolist())
    figure.suptitle(f"{contrast!r} pairs: turnover beside its null", fontsize=11)
    return figure


def coupling(timeline: Timeline, contrast: str) -> Figure:
    """Cross-correlation of changes of the behaviour and of counts of heads with the reward's, by
    lag; a full dot where 5 % of the shifts in time or fewer do as well at any lag."""
    nodes, counts = timeline.of_contrast(contrast)
    link = Coupling.of(nodes, counts, contrast)
    name = called(link.reward_name)
    figure, axes = drawing.axes("", "correlation", "lag: after the reward, in checkpoints")
    figure.set_size_inches(6.8, 4.4)
    axes.set(ylim=(-1.05, 1.05), xlim=(LAGS[0] - 0.3, LAGS[-1] + 0.3))
    axes.axhline(0, color="#555", linewidth=0.8)
    axes.grid(alpha=0.3)
    for series, (color, marker) in CHANGES.items():
        line = link.table[link.table["series"] == series]
        axes.plot(line["lag"], line["correlation"], color=color, label=series)
        sure = line["p_corrected"] <= 0.05
        axes.scatter(line["lag"], line["correlation"], s=28, zorder=3, color=color, marker=marker,
                     facecolor=np.where(sure, color, "white"))  # fmt: skip
    if link.table["correlation"].isna().all():
        drawing.say(axes, "nothing changes" if len(link.table) else str(link.note))
    note = f"\n{link.note}" if link.note and len(link.table) else ""
    figure.suptitle(f"{contrast!r} pairs: changes beside the {name}'s{note}", fontsize=9)
    figure.supxlabel(CAVEAT, fontsize=7)
    handles = [
        Line2D([], [], color=color, marker=marker, label=series)
        for series, (color, marker) in CHANGES.items()
    ]
    for label, face in (("p ≤ 0.05 over lags", "#555"), ("not", "white")):
        dot = Line2D([], [], color="none", marker="o", label=label)
        dot.set(markerfacecolor=face, markeredgecolor="#555")
        handles.append(dot)
    axes.legend(handles=handles, loc="lower left", ncols=2, frameon=False, fontsize=8)
    return figure


def together(timelines: Mapping[str, Timeline]) -> Figure:
    """The reward of several runs, and under it their behaviour with the 95 % interval, on shared
    axes: a row per name that a reward has and per contrast."""
    table = together_table(timelines)
    rows = [("reward", name) for name in table["reward_name"].unique()]
    rows += [("behaviour", contrast) for contrast in table["contrast"].unique()]
    figure = Figure(figsize=(7.4, 0.8 + 2.1 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    style = zip(shades(len(timelines)), cycle("osD^v"), cycle(["-", "--", ":", "-."]), strict=False)
    names = ("color", "marker", "linestyle")
    looks = {
        run: {"markersize": 4, **dict(zip(names, look, strict=True))}
        for run, look in zip(timelines, style, strict=True)
    }
    for axes, (what, name) in zip(
        figure.subplots(len(rows), sharex=True, squeeze=False)[:, 0], rows, strict=True
    ):
        column = "reward_name" if what == "reward" else "contrast"
        axes.set_ylabel(name if what == "reward" else f"behaviour (logits),\n{name!r} pairs")
        axes.grid(alpha=0.3)
        for run, line in table[table[column] == name].groupby("run", sort=False):
            if what == "reward":  # the same for every contrast
                line = line.drop_duplicates("step")
            axes.plot(line["step"], line[what], **looks[run])
            if what == "behaviour":
                bounds = (line["behaviour_low"], line["behaviour_high"])
                band = {"color": looks[run]["color"], "alpha": 0.12, "linewidth": 0}
                axes.fill_between(line["step"], *bounds, **band)
                axes.axhline(0, color="#999", linewidth=0.8)
    figure.axes[-1].set_xlabel("training step")
    drawing.over_steps(figure.axes[-1], sorted(table["step"].unique()))
    handles = [Line2D([], [], label=run, **look) for run, look in looks.items()]
    style = {"ncols": min(len(handles), 4), "frameon": False, "fontsize": 9}
    figure.legend(handles=handles, loc="outside lower center", **style)
    return figure


def faithfulness_table(timeline: Timeline, contrast: str) -> pd.DataFrame:
    """The curve at the last checkpoint, a row per size: `share` of all edges taken, `faithfulness`
    and its 95 % interval `low` and `high`."""
    curve = timeline.records[-1].analyses[contrast].circuit.curve.numpy()
    return pd.DataFrame(curve, columns=["share", "faithfulness", "low", "high"])


def together_table(timelines: Mapping[str, Timeline]) -> pd.DataFrame:
    """Reward and behaviour of several runs: one row per run, contrast and step."""
    columns = [
        "contrast",
        "step",
        "reward_name",
        "reward",
        "behaviour",
        "behaviour_low",
        "behaviour_high",
        "wiring_kept",
    ]
    tables = []
    for run, timeline in timelines.items():
        for contrast in timeline.contrasts:
            reward = rewards(timeline.counts, contrast)
            counts = drawing.carried(timeline.of_contrast(contrast)[1])
            name = called(reward.name)
            same = counts.assign(reward=reward.to_numpy(), reward_name=name)
            tables.append(same[columns].assign(run=run))
    return pd.concat(tables, ignore_index=True)[["run", *columns]]
