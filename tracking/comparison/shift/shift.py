"""What a training changed, found on texts of the two models and not guessed by a contrast.

1. Where: the positions of the texts at which the policies differ most (`Divergence`, `Places`).
2. What: there the behaviour is the logit of the token that the trained model prefers less that of
   the one that its base prefers, trained model less base, in logits a place.
3. Who carries it: each node of the one model in the other (`crossed`), single and together; and of
   the nodes that come out also their weights, since a node that only passes on what others changed
   carries it by its writes and not by its weights.

Intervals are over prompts. What another choice of the texts does: `Halves`. What a run does in
which nothing was taught: `tracking.comparison.shift.control`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracking.comparison.exchange.crossed import (
    Crossed,
    Looks,
    Part,
    crossed_nodes,
    crossed_parts,
    whole,
)
from tracking.comparison.exchange.effect_table import WAYS, effect_table, surely
from tracking.comparison.exchange.estimates import estimated_nodes
from tracking.comparison.exchange.transplant import figures, transplanted
from tracking.comparison.shift.divergence import Divergence
from tracking.comparison.shift.places import Places
from tracking.comparison.shift.texts import Texts
from tracking.errors import BadInput
from tracking.model.decoder import Decoder
from tracking.stability.bootstrap import Interval, halves, interval, resamples

RESAMPLES = 1000
SPLITS = 50  # of the prompts into halves
WEIGHED = 8  # nodes that come out whose weights are tried alone: each takes copies of both models
SAMPLE = 8  # nodes that the screen leaves out and that are measured all the same
FEWEST = 4  # prompts of which something can be said
TOGETHER = "nodes that come out"


@dataclass(frozen=True)
class Judged:
    """What a node must do to come out: a share surely as large as `share`, lost or gained, and
    significant at `error` after correction. Nodes whose estimated shares are below `screen` are
    left out, but for a sample; 0 measures all."""

    share: float = 0.05
    error: float = 0.05
    screen: float = 0.0


@dataclass(frozen=True)
class Screened:
    """Nodes that were not worth a pass by their estimates."""

    left_out: int
    sampled: int  # of these measured all the same
    missed: int  # of these came out


@dataclass(frozen=True)
class Halves:
    """Shares of the same nodes on two halves of the prompts, over `SPLITS` of them."""

    correlation: float  # of the nodes' shares, both ways, mean over splits
    level: float  # half the largest difference of any share that 95 % of splits stay below: what
    # the choice of these prompts alone makes of a node


@dataclass(frozen=True)
class Carried:
    """Who carries the behaviour at the places."""

    places: Places
    behaviour: Interval  # logits a place: above 0 by construction
    measured: Tensor  # BoolTensor [node], in the order of `Graph.nodes`
    figures: Crossed  # [prompt, measured node]
    nodes: pd.DataFrame  # `node`, the columns of `effect_table`, `comes_out`
    parts: pd.DataFrame  # `part` and the same columns; the nodes that come out, together
    by_weights: pd.DataFrame  # the same of the weights of the first `WEIGHED` that come out, and of
    # all that do
    screened: Screened
    halves: Halves
    least: float  # share from which on a node comes out

    @property
    def carriers(self) -> list[str]:
        """The nodes that come out, those of the largest share first."""
        return _largest_first(self.nodes[self.nodes["comes_out"]])

    @property
    def uncorrected(self) -> list[str]:
        """The nodes that would come out if each were the only one asked about."""
        sure = surely(self.nodes, self.least) & ~self.nodes["comes_out"]
        return _largest_first(self.nodes[sure])


@dataclass(frozen=True)
class Shift:
    """What two policies do otherwise on the same texts, and who carries it."""

    divergence: Divergence
    carried: Carried | None
    places: Places | None  # None where both prefer the same token everywhere
    why_not: str = ""  # nobody is said to carry it

    @classmethod
    def of(
        cls, base: Any, trained: Any, texts: Texts, judged: Judged | None = None,
        batch_size: int = 8,
    ) -> Shift:  # fmt: skip
        """Between a model and what was trained from it. Neither is changed.

        Raises `BadInput` for models of different shape or vocabulary.
        """
        ours, theirs = Decoder.of(base), Decoder.of(trained)
        divergence = Divergence.of(ours, theirs, texts, batch_size)
        places = Places.of(texts, divergence)
        if not bool(divergence.carrying.any()):
            return cls(divergence, None, None, "the two policies do not differ on any token")
        if places is None:
            where = int(divergence.carrying.sum())
            return cls(
                divergence, None, None,
                f"both prefer the same token at all {where} positions at which they differ most: "
                "how sure they are has changed, not what they would say",
            )  # fmt: skip
        if places.prompts < FEWEST:
            return cls(
                divergence, None, places,
                f"they prefer different tokens in texts of {_prompts(places.prompts)} only; "
                f"{FEWEST} at least are needed to say who carries it",
            )  # fmt: skip
        who = carried(base, trained, places, judged or Judged(), batch_size)
        return cls(divergence, who, places)

    @property
    def figures(self) -> dict[str, float]:
        """Its figures by name; `behaviour` and what belongs to it NaN where nobody is said to carry
        it."""
        policy, carried, places = self.divergence, self.carried, self.places
        none = float("nan")
        low = mean = high = none
        if carried is not None:
            mean, low, high = (float(end) for end in vars(carried.behaviour).values())
        return {
            "tokens": int(policy.asks.sum()),
            "nats": policy.mean,
            "concentration": policy.concentration,
            "concentration_of_entropy": policy.concentration_of_entropy,
            "places": places.count if places else 0,
            "prompts": places.prompts if places else 0,
            "behaviour": mean,
            "behaviour_low": low,
            "behaviour_high": high,
            "level": carried.halves.level if carried else none,
        }


def carried(
    base: Any, trained: Any, places: Places, judged: Judged, batch_size: int = 8
) -> Carried:
    """Who carries the behaviour at `places`."""
    ours, theirs, looks = Decoder.of(base), Decoder.of(trained), places.looks
    graph = ours.graph
    kept, sample = _screen(ours, theirs, places, judged.screen, batch_size)
    measured = kept | sample
    single = crossed_nodes(ours, theirs, looks, measured, batch_size)
    weights = resamples(RESAMPLES, places.prompts)
    each = places.by_prompt(single)
    names = [graph.nodes[place] for place in measured.nonzero()[:, 0].tolist()]
    nodes = effect_table("node", names, each, weights, judged.error)
    nodes = nodes.assign(comes_out=nodes["significant"] & surely(nodes, judged.share))
    carriers = _largest_first(nodes[nodes["comes_out"]])
    parts = [*whole(graph), *_together(graph.nodes, carriers)]
    together = places.by_prompt(crossed_parts(ours, theirs, looks, parts, batch_size))
    swapped = [_part(graph.nodes, [name]) for name in carriers[:WEIGHED]]
    swapped += _together(graph.nodes, carriers)
    sampled = sample[measured].numpy()
    return Carried(
        places=places,
        behaviour=interval(each.behaviour[:, None], weights),
        measured=measured,
        figures=each,
        nodes=nodes,
        parts=effect_table("part", [part.name for part in parts], together, weights, judged.error),
        by_weights=_by_weights(base, trained, places, swapped, single, weights, judged.error),
        least=judged.share,
        screened=Screened(
            int((~kept).sum()), int(sampled.sum()), int(nodes["comes_out"][sampled].sum())
        ),
        halves=_halves(each),
    )


def _largest_first(nodes: pd.DataFrame) -> list[str]:
    """By their shares, lost or gained."""
    size = nodes[[f"{way}_share" for way in WAYS]].abs().max(axis=1)
    return nodes.loc[size.sort_values(ascending=False, kind="stable").index, "node"].tolist()


def _prompts(count: int) -> str:
    return "1 prompt" if count == 1 else f"{count} prompts"


def _screen(
    base: Decoder, trained: Decoder, places: Places, least: float, batch_size: int
) -> tuple[Tensor, Tensor]:
    """BoolTensor [node] twice: what is measured for its estimate, and a sample of the rest."""
    count = len(base.graph.nodes)
    if not least:
        return torch.ones(count, dtype=torch.bool), torch.zeros(count, dtype=torch.bool)
    guess = estimated_nodes(base, trained, places.looks, batch_size)
    both = torch.stack([guess.lost.sum(0), guess.gained.sum(0)]) / guess.behaviour.sum()
    kept = both.abs().amax(0) >= least
    rest = (~kept).nonzero()[:, 0]
    drawn = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(0))[:SAMPLE]]
    return kept, torch.zeros_like(kept).index_fill(0, drawn, True)


def _part(nodes: Sequence[str], names: Sequence[str], called: str = "") -> Part:
    chosen = torch.tensor([node in names for node in nodes])
    return Part(called or names[0], chosen)


def _together(nodes: Sequence[str], names: Sequence[str]) -> list[Part]:
    return [_part(nodes, names, TOGETHER)] if len(names) > 1 else []


def _by_weights(
    base: Any,
    trained: Any,
    places: Places,
    parts: Sequence[Part],
    single: Crossed,
    weights: Tensor,
    error: float,
) -> pd.DataFrame:
    """Effects of the parts' weights; NaN where heads cannot be told apart in them (`graft`)."""
    lost = [_swapped(trained, base, part, places.looks) for part in parts]
    gained = [_swapped(base, trained, part, places.looks) for part in parts]
    if not parts:
        return pd.DataFrame({"part": []})
    crossed = Crossed(
        single.base,
        single.trained,
        single.trained[:, None] - torch.stack(lost, 1),
        torch.stack(gained, 1) - single.base[:, None],
    )
    names = [part.name for part in parts]
    return effect_table("part", names, places.by_prompt(crossed), weights, error)


def _swapped(base: Any, donor: Any, part: Part, looks: Looks) -> Tensor:
    """[row]: the figure of `base` with the donor's weights of a part."""
    try:
        return figures(transplanted(base, donor, part), looks, 8)
    except BadInput:  # norms of q and k that all heads of a layer share
        return torch.full((len(looks),), torch.nan)


def _halves(each: Crossed) -> Halves:
    """Of figures of prompts."""
    effect = torch.cat([each.lost, each.gained], 1)
    split = halves(SPLITS, len(each.base))  # [split, half, prompt]
    shares = (split @ effect) / (split @ each.behaviour)[..., None]
    first, second = shares.unbind(1)  # [split, effect]
    alike = [np.corrcoef(*both)[0, 1] for both in zip(first.numpy(), second.numpy(), strict=True)]
    largest = (first - second).abs().amax(1) / 2
    return Halves(float(np.mean(alike)), float(largest.quantile(0.95)))
