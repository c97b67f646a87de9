"""The level of a shift under a run in which nothing was taught: a random reward, another seed.

Such a run moves the policy too. Asked are both: how much it differs from the base on texts of its
own, which says what a shift is anyway; and what it does at the places of the run, with the tokens
that were chosen there for the run, which says what of the run's own change it would have made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tracking.comparison.exchange.crossed import crossed_nodes
from tracking.comparison.exchange.effect_table import beside, effect_table, surely
from tracking.comparison.shift.shift import RESAMPLES, Carried, Judged, Shift
from tracking.comparison.shift.texts import Texts
from tracking.model.decoder import Decoder
from tracking.stability.bootstrap import Interval, resamples, share


@dataclass(frozen=True)
class ControlLevel:
    """What the control does beside the run."""

    own: Shift  # between the base and the control, on texts of these two
    moved: Interval | None  # of the run's behaviour at its places, the share that the control shows
    nodes: pd.DataFrame  # `node`, `effect_table` of the control's nodes at the run's places and of
    # the run's less these (`beyond_..`), as shares of the run's behaviour; `beyond`


def control_level(
    base: Any,
    control: Any,
    carried: Carried | None,
    texts: Texts,
    judged: Judged | None = None,
    batch_size: int = 8,
) -> ControlLevel:
    """Of a `control` that began with the same base, on `texts` of base and control, and at the
    places of a run's shift. Nodes are those that were measured there.

    `beyond` of a node: in a direction its share less the control's, in size, has the sign of its
    share, is surely as large as `judged.share`, and significant after correction over nodes. Where
    the control's is the larger one, it is not, whichever way that goes.

    Raises `BadInput` as `Shift.of`.
    """
    judged = judged or Judged()
    own = Shift.of(base, control, texts, judged, batch_size)
    if carried is None:
        return ControlLevel(own, None, pd.DataFrame({"node": []}))
    ours, theirs, places = Decoder.of(base), Decoder.of(control), carried.places
    measured = crossed_nodes(ours, theirs, places.looks, carried.measured, batch_size)
    level, run = places.by_prompt(measured), carried.figures
    weights = resamples(RESAMPLES, places.prompts)
    moved = share(level.behaviour[:, None], run.behaviour, weights)
    names = carried.nodes["node"].tolist()
    table, apart = (
        effect_table("node", names, one, weights, judged.error) for one in beside(run, level)
    )
    more = apart["significant"] & surely(apart, judged.share, carried.nodes)
    renamed = apart.drop(columns="node").add_prefix("beyond_")
    return ControlLevel(own, moved, pd.concat([table, renamed], axis=1).assign(beyond=more))


def beyond(level: ControlLevel, carried: Carried) -> list[str]:
    """The nodes that come out and carry more than the control's do."""
    mine = level.nodes.loc[np.asarray(level.nodes["beyond"], dtype=bool), "node"]
    return [node for node in carried.carriers if node in set(mine)]
