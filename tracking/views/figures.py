"""Pictures of a run: its heads over the steps, above the reward curve."""

from __future__ import annotations

import io
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tracking.atomic import write_whole
from tracking.timeline.coupling import AGAINST, HEADS, LAGS, Coupling, rewards
from tracking.timeline.survival import cohort_table, survival
from tracking.timeline.timeline import Timeline
from tracking.views import drawing
from tracking.views.drawing import INK, NONE, PALE, shades
from tracking.views.palette import LOOKS, REWARD, UNDECIDED, called

AT_RISK = 12  # numbers of heads at risk under a survival curve, at most


def write_picture(timeline: Timeline, path: Path) -> Path:
    """Write the run's picture as a PNG, whole or not at all."""
    buffer = io.BytesIO()
    picture(timeline).savefig(buffer, format="png", dpi=120)
    write_whole(path, buffer.getvalue())
    return path


def picture(timeline: Timeline) -> Figure:
    """Counts, raster and reward on one axis of steps; a column per contrast."""
    contrasts = timeline.contrasts
    rows = max(len(drawing.shown(timeline.of_contrast(contrast)[0])) for contrast in contrasts)
    raster = max(3.4, 0.13 * rows)  # inches, so that the names of many heads can be read
    figure = Figure(figsize=(1.5 + 5.2 * len(contrasts), 4.8 + raster), layout="constrained")
    FigureCanvasAgg(figure)
    ratios = {"height_ratios": [2.2, raster, 1.6]}
    axes = figure.subplots(3, len(contrasts), sharex=True, squeeze=False, gridspec_kw=ratios)
    for column, contrast in enumerate(contrasts):
        heads, counts = timeline.of_contrast(contrast)
        drawing.stack(axes[0, column], counts, heads)
        drawing.raster(axes[1, column], heads)
        drawing.reward(axes[2, column], counts)
        axes[0, column].set_title(f"{contrast!r} pairs", fontsize=11)
        axes[2, column].set_xlabel("training step")
    edges = drawing.bin_edges(np.array([record.step for record in timeline.records]))
    axes[0, 0].set_xlim(edges[0], edges[-1])
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    drawing.legend(figure, timeline.heads["state"], columns=min(9, 5 * len(contrasts)))
    return figure


def head_map(timeline: Timeline, step: int, contrast: str) -> Figure:
    """The layer x head map of one step, layer 0 lowest: state by colour, membership written in,
    hatched where undecided."""
    rows = timeline.at(step, contrast)
    layers = int(rows["layer"].max()) + 1
    heads = len(rows) // layers
    figure = Figure(figsize=(max(1.6 + 0.5 * heads, 3.6), 1.9 + 0.36 * layers),
                    layout="constrained")  # fmt: skip
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawing.cells(axes, drawing.numbers(rows["state"]).reshape(layers, heads))
    verdict = str(rows["verdict"].iloc[0])
    veil = PALE if verdict == "weak" else 0.0
    if veil:
        axes.axvspan(-0.5, heads - 0.5, color="white", alpha=veil, linewidth=0)
    for position, (_, row) in enumerate(rows.iterrows()):
        place = (position % heads, position // heads)
        if row["undecided"]:
            drawing.hatch(axes, place[0] - 0.5, place[1] - 0.5)
        ink = drawing.ink(LOOKS[row["state"]].color, veil)
        axes.annotate(
            f"{row['membership']:.1f}", place, ha="center", va="center", fontsize=7, color=ink
        )
    axes.set(xlabel="head", ylabel="layer", title=f"{contrast!r} pairs, step {step}: {verdict}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    drawing.legend(figure, rows["state"], columns=max(2, int(figure.get_figwidth() // 1.2)))
    return figure


def cohorts(timeline: Timeline, contrast: str) -> Figure:
    """How many heads of each cohort are active at every checkpoint, the oldest cohort lowest."""
    heads, counts = timeline.of_contrast(contrast)
    table = cohort_table(heads, contrast)
    figure, axes = drawing.axes(f"{contrast!r} pairs: emergent heads by cohort", "active heads")
    steps = counts["step"].to_numpy()
    edges = drawing.bin_edges(steps)
    axes.set_xlim(edges[0], edges[-1])
    left = table.pivot(index="step", columns="cohort", values="left").reindex(steps).fillna(0)
    bottom = np.zeros(len(steps))
    for cohort, color in zip(left, shades(left.shape[1]), strict=True):
        style = {"color": color, "edgecolor": "white", "linewidth": 0.4}
        height = left[cohort].to_numpy(float)
        axes.bar(edges[:-1], height, np.diff(edges), bottom, align="edge", label=cohort, **style)
        bottom += height
    drawing.pale(axes, heads, edges)
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
    heads, _ = timeline.of_contrast(contrast)
    curve = survival(heads, contrast)
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


def turnover(timeline: Timeline, contrast: str) -> Figure:
    """The share of heads that came or went since the checkpoint before, beside its null: what two
    halves of the pairs disagree in at one checkpoint."""
    counts = timeline.of_contrast(contrast)[1]
    figure, axes = drawing.axes(f"{contrast!r} pairs: turnover beside its null", "share of heads")
    color, null = INK, UNDECIDED.color
    axes.fill_between(counts["step"], 0, counts["null_high"], color=null, alpha=0.2, linewidth=0,
                      label="null, up to 97.5 %")  # fmt: skip
    axes.plot(counts["step"], counts["null"], color=null, linestyle="--", label="null, mean")
    axes.plot(counts["step"], counts["turnover"], color=color, marker="o", label="turnover")
    axes.set_ylim(0, 1.05)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    return figure


def coupling(timeline: Timeline, contrast: str) -> Figure:
    """Cross-correlation of the heads with the reward and with its change, by lag; a full dot where
    5 % of the shifts in time or fewer do as well at any lag."""
    heads, counts = timeline.of_contrast(contrast)
    link = Coupling.of(heads, counts, contrast)
    figure = Figure(figsize=(8.4, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    name = called(link.reward_name)
    panels = zip(figure.subplots(1, 2, sharey=True), AGAINST, strict=True)
    for axes, against in panels:
        rows = link.table[link.table["against"] == against]
        axes.set(title=name if against == "reward" else f"change of {name}", ylim=(-1.05, 1.05))
        axes.set(xlabel="lag: heads after it, in checkpoints", xlim=(LAGS[0] - 0.3, LAGS[-1] + 0.3))
        axes.axhline(0, color="#555", linewidth=0.8)
        axes.grid(alpha=0.3)
        for state in HEADS:
            line, color = rows[rows["heads"] == state], LOOKS[state].color
            axes.plot(line["lag"], line["correlation"], color=color, label=state)
            sure = line["p_corrected"] <= 0.05
            axes.scatter(line["lag"], line["correlation"], color=color, s=28, zorder=3,
                         facecolor=np.where(sure, color, "white"))  # fmt: skip
        if rows["correlation"].isna().all():
            drawing.say(
                axes, "the number of heads does not change" if len(rows) else str(link.note)
            )
    figure.axes[0].set_ylabel("correlation")
    note = f"\n{link.note}" if link.note and len(link.table) else ""
    figure.suptitle(f"{contrast!r} pairs: heads and {name}{note}", fontsize=10)
    handles = [Line2D([], [], color=LOOKS[state].color, label=state) for state in HEADS]
    for label, face in (("p ≤ 0.05 over lags", "#555"), ("not", "white")):
        dot = Line2D([], [], color="none", marker="o", label=label)
        dot.set(markerfacecolor=face, markeredgecolor="#555")
        handles.append(dot)
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return figure


def together(timelines: Mapping[str, Timeline]) -> Figure:
    """The reward of several runs, and under it their emergent heads with the 95 % interval, on
    shared axes: a row per name that a reward has and per contrast."""
    table = together_table(timelines)
    rows = [("reward", name) for name in table["reward_name"].unique()]
    rows += [("emergent", contrast) for contrast in table["contrast"].unique()]
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
        axes.set_ylabel(name if what == "reward" else f"emergent heads,\n{name!r} pairs")
        axes.grid(alpha=0.3)
        for run, line in table[table[column] == name].groupby("run", sort=False):
            if what == "reward":  # the same for every contrast
                line = line.drop_duplicates("step")
            axes.plot(line["step"], line[what], **looks[run])
            if what == "emergent":
                bounds = (line["emergent_low"], line["emergent_high"])
                band = {"color": looks[run]["color"], "alpha": 0.12, "linewidth": 0}
                axes.fill_between(line["step"], *bounds, **band)
        if what == "emergent":
            axes.set_ylim(0, max(axes.get_ylim()[1], 1))
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.axes[-1].set_xlabel("training step")
    figure.axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
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
    """Reward and emergent heads of several runs: one row per run, contrast and step."""
    columns = [
        "contrast",
        "step",
        "reward_name",
        "reward",
        "emergent",
        "emergent_low",
        "emergent_high",
    ]
    tables = []
    for run, timeline in timelines.items():
        for contrast in timeline.contrasts:
            reward = rewards(timeline.counts, contrast)
            counts = timeline.of_contrast(contrast)[1]
            name = called(reward.name)
            same = counts.assign(reward=reward.to_numpy(), reward_name=name)
            tables.append(same[columns].assign(run=run))
    return pd.concat(tables, ignore_index=True)[["run", *columns]]
