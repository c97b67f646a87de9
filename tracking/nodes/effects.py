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
from tracking.model.decoder import Decoder, embed
from tracking.model.graph import Graph
from tracking.model.passes import Metric, by_length, check, logits, trimmed
from tracking.pairs.prompt_pairs import PromptPairs, look
from tracking.patching.partial import (
    Chosen,
    Kept,
    exchanged,
    side_by_side,
    streams_with,
    undisturbed,
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
    check(decoder, pairs, batch_size)
    measured = node_effects(decoder, pairs, asked, loss, batch_size)
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
    decoder: Decoder,
    pairs: PromptPairs,
    nodes: Tensor,
    loss: Metric,
    batch_size: int,
    least: float | None = None,
) -> NodeEffects:
    """The effects of `nodes`, BoolTensor [node], on all pairs, and the behaviour of each pair.

    With `least`, a share that matters, a node sees only a first quarter of the pairs (at least
    `FIRST`, drawn by a fixed seed) where on these both its shares are surely within `least` / 2 of
    0; NaN on the others means that they were not needed. A pass takes `AT_ONCE` x `batch_size`
    rows, nodes of one layer side by side.
    """
    shape = (len(pairs), len(nodes))
    corrupt, restore = torch.full(shape, torch.nan), torch.full(shape, torch.nan)
    behaviour = torch.zeros(len(pairs))

    def measure(part: Tensor, nodes: Tensor) -> None:
        for places in by_length(pairs[part], batch_size):
            rows = part[places]
            ends = Ends.of(decoder, trimmed(pairs[rows]), loss)
            behaviour[rows] = ends.behaviour.cpu()
            for chosen in side_by_side(decoder.graph, nodes, AT_ONCE * batch_size // len(rows)):
                lost, gained = ends.effects(decoder, loss, chosen)
                corrupt[rows[:, None], chosen.places] = lost.T.cpu()
                restore[rows[:, None], chosen.places] = gained.T.cpu()

    first, rest = _parts(len(pairs), thrifty=least is not None)
    with undisturbed(decoder):
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


def together(
    decoder: Decoder, pairs: PromptPairs, sets: Tensor, loss: Metric, batch_size: int
) -> tuple[Tensor, Tensor]:
    """Corrupt and restore, float32 [pair, set] each, with all nodes of a set exchanged at once;
    `sets` is BoolTensor [set, node]."""
    corrupt, restore = torch.zeros(2, len(pairs), len(sets))
    by_layer = sets.view(len(sets), len(decoder.blocks), decoder.n_heads + 1)
    with undisturbed(decoder):
        for rows in by_length(pairs, batch_size):
            ends = Ends.of(decoder, trimmed(pairs[rows]), loss)
            for place, nodes in enumerate(by_layer):
                with exchanged(decoder, nodes, ends.corrupted):
                    given = logits(decoder, embed(decoder, ends.pairs.clean), ends.pairs)
                corrupt[rows, place] = (ends.loss(given, loss) - ends.clean_loss).cpu()
                with exchanged(decoder, nodes, ends.clean):
                    given = logits(decoder, embed(decoder, ends.pairs.corrupted), ends.pairs)
                restore[rows, place] = (ends.corrupted_loss - ends.loss(given, loss)).cpu()
    return corrupt, restore


@dataclass(frozen=True)
class Ends:
    """The clean and the corrupted run of a batch of pairs."""

    pairs: PromptPairs
    clean: Kept
    corrupted: Kept
    clean_logits: Tensor  # float32 [pair, look, vocabulary]
    clean_loss: Tensor  # float32 [pair]
    corrupted_loss: Tensor  # float32 [pair]

    @classmethod
    def of(cls, decoder: Decoder, pairs: PromptPairs, loss: Metric) -> Ends:
        pairs = pairs.to(decoder.device)
        mask, positions = pairs.attention_mask, look(pairs)[0]
        clean, corrupted = (
            Kept.of(decoder, ids, mask, positions) for ids in (pairs.clean, pairs.corrupted)
        )
        clean_logits, corrupted_logits = (decoder.logits(end.last) for end in (clean, corrupted))
        losses = (loss(given, clean_logits, pairs) for given in (clean_logits, corrupted_logits))
        return cls(pairs, clean, corrupted, clean_logits, *losses)

    @property
    def behaviour(self) -> Tensor:
        """Float32 [pair]."""
        return self.corrupted_loss - self.clean_loss

    def loss(self, given: Tensor, loss: Metric) -> Tensor:
        """[pair], of logits [pair, look, vocabulary]."""
        return loss(given, self.clean_logits, self.pairs)

    def effects(self, decoder: Decoder, loss: Metric, chosen: Chosen) -> tuple[Tensor, Tensor]:
        """Corrupt and restore, float32 [node, pair] each, of the chosen nodes one by one."""
        lost = self._losses(decoder, loss, chosen, self.clean, self.corrupted) - self.clean_loss
        rest = self._losses(decoder, loss, chosen, self.corrupted, self.clean)
        return lost, self.corrupted_loss - rest

    def _losses(
        self, decoder: Decoder, loss: Metric, chosen: Chosen, here: Kept, other: Kept
    ) -> Tensor:
        """[node, pair]: of the run `here`, one node at its value in the other."""
        mask, positions = self.pairs.attention_mask, look(self.pairs)[0]
        each = streams_with(here, other, chosen, mask, positions)
        # logits of one node at a time: those of all would fill the memory
        return torch.stack([self.loss(decoder.logits(one), loss) for one in each])
