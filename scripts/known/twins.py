"""Edge scores against those of the slow twin, which is written by hand in float64."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from scripts.known.task import Task
from tests.builders.twin import path, slowly
from tracking import attribute
from tracking.contrast import METRIC

STEPS = 2  # an integral need not be complete to be compared


def differences(model: Any, tasks: Sequence[Task]) -> list[tuple[str, int, float]]:
    """Of the first pair of every task: its name, how many edges were compared, and how far the
    worst of them is from the twin's, in parts of the largest score."""
    out = []
    logging.getLogger("tracking.attribution.attribute").setLevel(logging.ERROR)
    for task in tasks:
        one = task.pairs[:1]
        scores = attribute(model, one, metric=METRIC, steps=STEPS, per_pair=True)
        wanted = slowly(model, one, METRIC, path("eap-ig", "midpoint", STEPS))["edges"][0]
        error = (scores.edges.double() - wanted).abs().max() / wanted.abs().max()
        out.append((task.name, int(scores.graph.edge_mask.sum()), float(error)))
    return out
