"""Models in a row, as if they were the checkpoints of a run: records, timeline, words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn

from tracking.analysis import record
from tracking.attribution import metrics
from tracking.contrast import METRIC, Before, Subject
from tracking.ledger.record import Record
from tracking.ledger.reward import Reward
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds
from tracking.nodes.effects import node_effects
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.settings import Settings
from tracking.timeline.states import EMERGENT
from tracking.timeline.summary import Summary
from tracking.timeline.timeline import Timeline

SETTINGS = Settings(quadrature="midpoint", ig_steps=4)
PAIRS = 64


def records(
    models: Iterable[nn.Module],
    pairs: PromptPairs,
    contrast: str = "pairs",
    earlier: Sequence[Record] = (),
) -> list[Record]:
    """The records of `earlier` checkpoints and of `models` after them, made one by one as a run's
    worker makes them; a model may change once the next is asked for."""
    out = list(earlier)
    for model in models:
        before = Before.of([one.analyses[contrast] for one in out], SETTINGS.rank)
        out.append(record(model, {contrast: pairs}, SETTINGS, len(out), Reward(None, "reward"),
                          Subject(), before={contrast: before}))  # fmt: skip
    return out


def turned(timeline: Timeline, contrast: str = "pairs") -> dict[str, int]:
    """The nodes that ever change state, and the step at which each first does."""
    rows = timeline.of_contrast(contrast)[0]
    active = rows.pivot(index="step", columns="node", values="active")[rows["node"].unique()]
    changed = active != active.iloc[0]
    return {node: int(changed[node].idxmax()) for node in active if changed[node].any()}


def emergent(timeline: Timeline, contrast: str = "pairs") -> dict[str, list[int]]:
    """The heads that are ever emergent, and at which steps."""
    rows = timeline.of_contrast(contrast)[0]
    rows = rows[(rows["kind"] == "head") & rows["state"].isin(EMERGENT)]
    return {str(node): list(steps) for node, steps in rows.groupby("node")["step"]}


def lasting(timeline: Timeline, contrast: str = "pairs") -> Sequence[str]:
    """The nodes whose change is called more than the run's own fluctuation."""
    return Summary.of(timeline, contrast).lasting


def shares(
    models: Iterable[nn.Module], pairs: PromptPairs, nodes: Iterable[str]
) -> dict[str, np.ndarray]:
    """By brute force on all pairs, the shares of the behaviour that nodes alone lose and restore at
    every checkpoint: float [step, direction] by node."""
    wanted, out = sorted(nodes), []
    if not wanted:
        return {}
    for model in models:
        decoder = Decoder.of(model)
        asked = torch.tensor([node in wanted for node in decoder.graph.nodes])
        ends = AllEnds.of(decoder, pairs, PAIRS)
        measured = node_effects(ends, asked, metrics.resolve(METRIC))
        both = torch.stack([measured.corrupt.mean(0), measured.restore.mean(0)], dim=1)
        places = [decoder.graph.nodes.index(node) for node in wanted]
        out.append((both[places] / measured.behaviour.mean()).numpy())  # [node, direction]
    return dict(zip(wanted, np.stack(out, axis=1), strict=True))
