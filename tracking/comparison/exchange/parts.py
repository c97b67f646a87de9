"""Which part of a model carries what another's behaviour on prompt pairs is more than its own?

By `writes`: a part of one model writes into the other's stream what it writes in its own, on the
clean prompt and on the corrupted one. By `weights`: the model with the part's weights, which read
the stream that is there. A part that passes on what another part changed does something by writes
and nothing by weights; where the change was made, say the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tracking.comparison.exchange.crossed import (
    Crossed,
    Looks,
    Part,
    crossed_parts,
    layer_heads,
    whole,
)
from tracking.comparison.exchange.effect_table import (
    WAYS,
    beside,
    effect_table,
    is_there,
    surely,
)
from tracking.comparison.exchange.transplant import figures, transplanted
from tracking.model.decoder import Decoder
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.stability.bootstrap import Interval, interval, resamples

RESAMPLES = 1000
ERROR = 0.05


@dataclass(frozen=True)
class PartEffects:
    """What each part carries of the difference in behaviour between two models.

    Where the difference is not `there`, its interval over pairs has 0 in it, and shares of it say
    nothing: they are NaN.
    """

    base: Interval  # behaviour, in logits: clean less corrupted logit difference
    trained: Interval
    difference: Interval  # trained less base
    there: bool
    table: pd.DataFrame  # `part`, `by` and the columns of `effect_table`
    exchanges: Mapping[str, Crossed]  # `by` of the table: rows are pairs, columns its parts

    def against(self, control: PartEffects, least: float) -> pd.DataFrame:
        """What the same parts do between a control's ends, on the same pairs: `lost_control` and
        `gained_control` in logits, a row for each of the table; and whether a part goes `beyond`:
        in a direction its effect less the control's, in size, has the sign of its own, is surely at
        least `least` of the behaviour, and significant after correction over parts."""
        weights, rows = resamples(RESAMPLES, len(self.exchanges["writes"].base)), []
        for by, mine in self.exchanges.items():
            names = self.table.loc[self.table["by"] == by, "part"].tolist()
            own = effect_table("part", names, mine, weights, ERROR)
            theirs, less = (
                effect_table("part", names, one, weights, ERROR)
                for one in beside(mine, control.exchanges[by])
            )
            more = self.there & less["significant"] & surely(less, least, own)
            levels = {f"{way}_control": theirs[way] for way in WAYS}
            rows.append(pd.DataFrame({**levels, "beyond": more}))
        return pd.concat(rows, ignore_index=True)


def part_effects(base: Any, trained: Any, pairs: PromptPairs, batch_size: int = 8) -> PartEffects:
    """Of all heads, all MLPs, embeddings, unembedding (with the last norm) and the heads of each
    layer, of one model in the other: by writes and by weights, with paired 95 % intervals.

    `everything` must come out with shares of 1, by either. Neither model is changed. Raises
    `BadInput` for models that cannot be exchanged, or pairs without labels.
    """
    ours, theirs = Decoder.of(base), Decoder.of(trained)
    parts = [*whole(ours.graph), *layer_heads(ours.graph)]
    clean, corrupted = (Looks.of_pairs(pairs, clean) for clean in (True, False))
    crossed = crossed_parts(ours, theirs, clean, parts, batch_size).minus(
        crossed_parts(ours, theirs, corrupted, parts, batch_size)
    )
    by_weights = _by_weights(base, trained, (clean, corrupted), parts, crossed, batch_size)
    return _part_effects({"writes": crossed, "weights": by_weights}, [one.name for one in parts])


def _part_effects(by: dict[str, Crossed], names: Sequence[str]) -> PartEffects:
    behaviour = by["writes"]
    weights = resamples(RESAMPLES, len(behaviour.base))
    there = is_there(behaviour.behaviour, weights)
    tables = [
        effect_table("part", names, one, weights, ERROR).assign(by=how) for how, one in by.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    if not there:
        table.loc[:, table.columns.str.contains("_share")] = float("nan")
    base, trained, difference = (
        interval(one[:, None], weights)
        for one in (behaviour.base, behaviour.trained, behaviour.behaviour)
    )
    return PartEffects(base, trained, difference, there, table, by)


def _by_weights(
    base: Any,
    trained: Any,
    sides: tuple[Looks, Looks],
    parts: Sequence[Part],
    crossed: Crossed,
    batch_size: int,
) -> Crossed:
    """The same of models with the parts' weights; `crossed` has their own figures."""

    def behaviour(model: Any) -> Tensor:
        clean, corrupted = (figures(model, looks, batch_size) for looks in sides)
        return clean - corrupted

    lost, gained = [], []
    for part in parts:
        lost.append(crossed.trained - behaviour(transplanted(trained, base, part)))
        gained.append(behaviour(transplanted(base, trained, part)) - crossed.base)
    return Crossed(crossed.base, crossed.trained, torch.stack(lost, 1), torch.stack(gained, 1))
