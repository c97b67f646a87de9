"""The figures of one run that mean the same in another one, whatever base it began with."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import pandas as pd

from tracking.timeline.timeline import Timeline


@dataclass(frozen=True)
class Run:
    """A run of a group: its timeline, the base that it began with, and its seed."""

    name: str
    base: str | None
    timeline: Timeline
    seed: int | None = None


def figures(run: Run) -> pd.DataFrame:
    """One row a contrast and figure of the last checkpoint: `contrast`, `figure`, `value`; reward
    (or loss) and weights are the run's, of no contrast ("").

    Heads have no name that means the same in another base, so they are counted, and their shares
    summed by layer; MLPs have one. `growth` and `weights moved` are since the first checkpoint,
    `wiring kept` is at the run's size and at half of it.
    """
    nodes, counts = run.timeline.of_contrast(run.timeline.contrasts[0])
    last = counts.iloc[-1]
    moved = nodes.loc[nodes["step"] == last["step"], "weight_change"].mean()
    rows = [
        ("", str(last["reward_name"]), float(last["reward"])),  # the loss, where there is no reward
        ("", "weights moved", float(moved)),
    ]
    for contrast in run.timeline.contrasts:
        nodes, counts = run.timeline.of_contrast(contrast)
        first, last = counts.iloc[0], counts.iloc[-1]
        now = nodes[nodes["step"] == last["step"]]
        values = {
            "behaviour": last["behaviour"],
            "growth": last["behaviour"] - first["behaviour"],
            "probability": last["probability"],
            "wiring kept": last["wiring_kept"],
            "wiring kept at half size": last["wiring_kept_half"],
            **_carriers(now, there=last["verdict"] != "absent"),
        }
        rows += [(contrast, name, float(value)) for name, value in values.items()]
    return pd.DataFrame(rows, columns=["contrast", "figure", "value"])


def _carriers(now: pd.DataFrame, there: bool) -> dict[str, float]:
    """How many carry the behaviour, and how much; NaN where it is not `there`."""
    values = {**_counts(now), **_by_layer(now)}
    return values if there else dict.fromkeys(values, nan)


def _counts(now: pd.DataFrame) -> dict[str, int]:
    """Heads and MLPs that are active, that emerged and are, and that faded."""
    words = {
        "active": now["active"],
        "emerged": now["active"] & now["cohort"].notna(),
        "faded": now["state"] == "faded",
    }
    kinds = {"heads": now["kind"] == "head", "MLPs": now["kind"] == "mlp"}
    return {
        f"{kind} {word}": int((of_kind & where).sum())
        for word, where in words.items()
        for kind, of_kind in kinds.items()
    }


def _by_layer(now: pd.DataFrame) -> dict[str, float]:
    """The share that heads of a layer lose, each corrupted alone, summed; and the MLP's."""
    heads = now[now["kind"] == "head"].groupby("layer")["corrupt"].sum()
    mlps = now[now["kind"] == "mlp"].set_index("layer")["corrupt"]
    return {
        **{f"share of heads in layer {layer}": value for layer, value in heads.items()},
        **{f"share of M{layer}": value for layer, value in mlps.items()},
    }
