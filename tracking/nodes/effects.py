"""What each head and MLP does for the behaviour, by intervention: exact effects, pair by pair.

For a node (a head's z, an MLP's output) and a metric that is a loss,

    corrupt = loss(clean prompt, the node alone at its corrupted value) - loss(clean)
    restore = loss(corrupted) - loss(corrupted prompt, the node alone at its clean value)

both against behaviour = loss(corrupted) - loss(clean). All that lies behind the node is computed
again (total effects, Vig et al. 2020, arXiv 2004.12265; `restore` is the causal tracing of Meng et
al. 2022, arXiv 2202.05262, with another prompt in the place of noise). A pass begins at the node's
own layer: `tracking.patching.partial`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tracking.attribution import metrics
from tracking.errors import BadInput
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds, Ends, Kept
from tracking.model.graph import Graph
from tracking.model.passes import Metric, logits
from tracking.model.taps import undisturbed
from tracking.pairs.prompt_pairs import PromptPairs, look
from tracking.patching.partial import (
    Chosen,
    exchanged,
    side_by_side,
    streams_with,
)
from tracking.stability.bootstrap import interval, resamples, share

AT_ONCE = 4
"""Batches of pairs, each with another node, in one pass."""

FIRST = 32
"""Pairs that every node sees, at least."""

RESAMPLES = 1000


@dataclass(frozen=True)
class NodeEffects:
    """Exact effects of nodes on a loss, in the order of `Graph.nodes`, on the CPU.

    NaN where a node was not measured on a pair.
    """

    corrupt: Tensor  # float32 [pair, node], loss gained with the node alone corrupted
    restore: Tensor  # float32 [pair, node], loss saved with the node alone clean
    behaviour: Tensor  # float32 [pair], loss corrupted less loss clean


def effects(
    model: Any,
    pairs: PromptPairs,
    nodes: Iterable[str] | None = None,
    metric: str | Metric = "neg_logit_diff",
    batch_size: int = 8,
) -> pd.DataFrame:
    """The exact effect of each head and MLP of `model` on `pairs`, a row each.

    `nodes` names some, like `["L5H1", "M5"]`; all by default, in any case in the order of
    `Graph.nodes`. Columns: `node`; `corrupt`, the behaviour lost when the node's output alone takes
    its corrupted value, and `restore`, the behaviour gained when it alone is clean in the corrupted
    run, means over pairs in the metric's units (logits for `neg_logit_diff`); `corrupt_share` and
    `restore_share`, the same over the mean behaviour. Each has a 95 % interval over pairs by
    bootstrap in `.._low` and `.._high`. Where the pairs show no behaviour (mean at most 0) shares
    are NaN; their intervals are infinite where resamples show none.

    The model may be wrapped by PEFT or DDP; it is left as it was. Raises `BadInput` for a name that
    is no node, a model that is not supported, or pairs that do not fit it or its metric.
    """
    decoder, graph = Decoder.of(model), Decoder.of(model).graph
    asked, loss = _asked(graph, nodes), metrics.resolve(metric)
    measured = node_effects(AllEnds.of(decoder, pairs, batch_size), asked, loss)
    weights = resamples(RESAMPLES, len(pairs))
    columns: dict[str, Any] = {"node": [graph.nodes[i] for i in asked.nonzero()[:, 0].tolist()]}
    for name, effect in (("corrupt", measured.corrupt), ("restore", measured.restore)):
        effect = effect[:, asked]
        shares = share(effect, measured.behaviour, weights)
        for column, bounds in ((name, interval(effect, weights)), (f"{name}_share", shares)):
            columns[column] = bounds.mean
            columns[f"{column}_low"], columns[f"{column}_high"] = bounds.low, bounds.high
    return pd.DataFrame(columns)


def _asked(graph: Graph, nodes: Iterable[str] | None) -> Tensor:
    """BoolTensor [node]: the nodes of these names, or all."""
    names = graph.nodes if nodes is None else tuple(nodes)
    for name in names:
        if name not in graph.nodes:
            raise BadInput(
                f"no node {name!r} in a decoder of {graph.n_layers} layers x {graph.n_heads} "
                "heads; write a head like 'L0H1', an MLP like 'M0'"
            )
    if not names:
        raise BadInput("no node is named; leave `nodes` out for all of them")
    return torch.tensor([node in set(names) for node in graph.nodes])


def node_effects(
    ends: AllEnds, nodes: Tensor, loss: Metric, least: float | None = None
) -> NodeEffects:
    """The effects of `nodes`, BoolTensor [node], on all pairs, and the behaviour of each pair.

    With `least`, a share that matters, a node sees only a first quarter of the pairs (at least
    `FIRST`, drawn by a fixed seed) where on these both its shares are surely within `least` / 2 of
    0; NaN on the others means that they were not needed. A pass takes `AT_ONCE` x as many rows as a
    batch has at most, nodes of one layer side by side.
    """
    pairs, graph = len(ends.pairs), ends.decoder.graph
    corrupt, restore = torch.full((2, pairs, len(nodes)), torch.nan)
    behaviour = torch.zeros(pairs)

    def measure(part: Tensor, nodes: Tensor) -> None:
        some = ends.among(part)
        for places, measured in some.each(lambda number: of_batch(some[number], nodes)):
            corrupt[part[places]], restore[part[places]], behaviour[part[places]] = measured

    def of_batch(of_pairs: Ends, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, count = Exchanged.of(of_pairs, loss), len(of_pairs.pairs)
        effects = torch.full((2, count, len(nodes)), torch.nan)
        for chosen in side_by_side(graph, nodes, AT_ONCE * ends.batch_size // count):
            effects[:, :, chosen.places] = torch.stack(batch.effects(chosen)).mT.cpu()
        return effects[0], effects[1], (batch.corrupted_loss - batch.clean_loss).cpu()

    first, rest = _parts(pairs, thrifty=least is not None)
    with undisturbed(ends.decoder):
        measure(first, nodes)
        if least is not None and len(rest):
            both = (effect[first] for effect in (corrupt, restore))
            below = [surely_within(effect, behaviour[first], least / 2) for effect in both]
            measure(rest, nodes & ~(below[0] & below[1]))
    return NodeEffects(corrupt, restore, behaviour)


def _parts(pairs: int, thrifty: bool) -> tuple[Tensor, Tensor]:
    """Places of the pairs that all nodes see, and of those that not all need to, LongTensor [pair]
    each: a random quarter (the order of pairs may mean something), or all of them, and the rest."""
    if not thrifty:
        return torch.arange(pairs), torch.arange(0)
    order = torch.randperm(pairs, generator=torch.Generator().manual_seed(0))
    count = max(FIRST, pairs // 4)
    return order[:count], order[count:]


def surely_within(effect: Tensor, behaviour: Tensor, share: float) -> Tensor:
    """BoolTensor [node]: whether mean effect over mean behaviour, of [pair, node] and [pair], is
    between -share and share, by normal intervals of 99.9 % for effect -+ share x behaviour."""

    def error(values: Tensor) -> Tensor:
        return 3.29 * values.std(0) / len(values) ** 0.5

    above, below = (effect - sign * share * behaviour[:, None] for sign in (1, -1))
    return (above.mean(0) + error(above) < 0) & (below.mean(0) - error(below) > 0)


def together(ends: AllEnds, sets: Tensor, loss: Metric) -> tuple[Tensor, Tensor]:
    """Corrupt and restore, float32 [pair, set] each, with all nodes of a set exchanged at once;
    `sets` is BoolTensor [set, node]."""

    def of_batch(number: int) -> tuple[Tensor, Tensor]:
        batch = Exchanged.of(ends[number], loss)
        return batch.corrupt_together(sets), batch.restore_together(sets)

    corrupt, restore = torch.zeros(2, len(ends.pairs), len(sets))
    with undisturbed(ends.decoder):
        for rows, both in ends.each(of_batch):
            corrupt[rows], restore[rows] = both
    return corrupt, restore


def corrupt_together(ends: AllEnds, sets: Tensor, loss: Metric) -> Tensor:
    """The first of these two alone."""
    corrupt = torch.zeros(len(ends.pairs), len(sets))
    with undisturbed(ends.decoder):
        for rows, of_batch in ends.each(
            lambda number: Exchanged.of(ends[number], loss).corrupt_together(sets)
        ):
            corrupt[rows] = of_batch
    return corrupt


@dataclass(frozen=True)
class Exchanged:
    """Runs of a batch of pairs in which a node does what it did at the other end."""

    ends: Ends
    loss: Metric
    clean_loss: Tensor  # float32 [pair]
    corrupted_loss: Tensor  # float32 [pair]

    @classmethod
    def of(cls, ends: Ends, loss: Metric) -> Exchanged:
        return cls(ends, loss, *ends.losses([loss])[:, 0])

    def of_logits(self, given: Tensor) -> Tensor:
        """The loss [pair] of logits [pair, look, vocabulary]."""
        return self.loss(given, self.ends.clean_logits, self.ends.pairs)

    def effects(self, chosen: Chosen) -> tuple[Tensor, Tensor]:
        """Corrupt and restore, float32 [node, pair] each, of the chosen nodes one by one."""
        clean, corrupted = self.ends.clean, self.ends.corrupted
        lost = self._losses(chosen, clean, corrupted) - self.clean_loss
        return lost, self.corrupted_loss - self._losses(chosen, corrupted, clean)

    def corrupt_together(self, sets: Tensor) -> Tensor:
        """Float32 [pair, set] on the CPU, with all nodes of a set corrupted at once."""
        lost = self._losses_together(sets, self.ends.clean, self.ends.corrupted)
        return (lost - self.clean_loss).T.cpu()

    def restore_together(self, sets: Tensor) -> Tensor:
        """The same with all of them clean in the corrupted run."""
        rest = self._losses_together(sets, self.ends.corrupted, self.ends.clean)
        return (self.corrupted_loss - rest).T.cpu()

    def _losses_together(self, sets: Tensor, here: Kept, other: Kept) -> Tensor:
        """[set, pair]: of the run `here`, with all nodes of a set at their values in the other."""
        decoder, rest, out = here.decoder, self.ends.rest, []
        for nodes in sets.view(len(sets), len(decoder.blocks), decoder.n_heads + 1):
            with exchanged(decoder, nodes, other):
                given = logits(decoder, here.embeddings, rest.pairs, rest.past)
            out.append(self.of_logits(given))
        return torch.stack(out)

    def _losses(self, chosen: Chosen, here: Kept, other: Kept) -> Tensor:
        """[node, pair]: of the run `here`, one node at its value in the other."""
        decoder, rest = here.decoder, self.ends.rest
        mask, positions = rest.pairs.attention_mask, look(rest.pairs)[0]
        each = streams_with(here, other, chosen, mask, positions, rest.past)
        # logits of one node at a time: those of all would fill the memory
        return torch.stack([self.of_logits(decoder.logits(one)) for one in each])
