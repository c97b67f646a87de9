"""A run's heads in Weights & Biases, beside the trainer's own curves.

Everything is logged against `train/global_step`, never with `step=`: the trainer counts its own
rows. The first kind of probe is logged as `heads/...`, the others as `heads/<kind>/...`.
"""

from __future__ import annotations

import io

import pandas as pd
import wandb
from matplotlib.figure import Figure
from PIL import Image

from tracking import figures
from tracking.counts import BOUNDED
from tracking.lifecycle import Timeline

STEP = "train/global_step"
SCALARS = (
    "active", "emergent", "new", "pruned", "surviving", "revived", "retained", "faded",
    "uncertain", *(f"{name}_{end}" for name in BOUNDED for end in ("low", "high")),
    "turnover", "null", "null_high", "turnover_converged", "edge_turnover", "mlp_turnover",
    "clean", "corrupted", "gap", "faithfulness", "faithfulness_low", "faithfulness_high",
    "complement", "accuracy", "jaccard", "rank_correlation",
)  # fmt: skip
TABLE = (
    "step", "kind", "head", "state", "verdict", "uncertain", "membership", "importance", "role",
    "moved", "effect", "effect_low", "effect_high", "cohort", "growth",
)  # fmt: skip


def log_step(timeline: Timeline, step: int) -> None:
    """Log one step's counts, map and table to the W&B run that is open, if one is."""
    if wandb.run is None:
        return
    wandb.define_metric("heads/*", step_metric=STEP)
    row: dict[str, object] = {STEP: step}
    for kind in timeline.kinds:
        prefix = "heads" if kind == timeline.kinds[0] else f"heads/{kind}"
        counts = timeline.counts.query("kind == @kind and step == @step").iloc[0]
        row |= {f"{prefix}/{name}": counts[name] for name in SCALARS if pd.notna(counts[name])}
        row[f"{prefix}/weak"] = float(counts["verdict"] == "weak")
        row[f"{prefix}/map"] = wandb.Image(_image(figures.head_map(timeline, step, kind)))
    row["heads/seconds"] = timeline.records[-1].seconds
    row["heads/table"] = wandb.Table(dataframe=ever_active(timeline))
    wandb.log(row)


def ever_active(timeline: Timeline) -> pd.DataFrame:
    """The rows of all heads from the first step at which each is active, by kind."""
    heads = timeline.heads
    since = heads.groupby(["kind", "head"])["active"].cummax()
    return heads.loc[since, list(TABLE)].reset_index(drop=True)


def _image(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Image.open(buffer)
