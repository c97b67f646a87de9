"""A record of a model on a task, and how it agrees with what the papers tell heads by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from scripts.known.heads import Heads
from scripts.known.task import HeadClass, Task, Wire
from tracking.analysis import analyse
from tracking.attribution.metrics import resolve
from tracking.circuits.faithfulness import Experiment
from tracking.circuits.wiring import carried
from tracking.contrast import METRIC, Before
from tracking.ledger.record import Analysis
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds
from tracking.model.graph import READS, Graph
from tracking.nodes.effects import together
from tracking.nodes.role_words import SCORES
from tracking.settings import Settings
from tracking.stability.bootstrap import Interval, resamples, share
from tracking.timeline.activity import Activity, Thresholds
from tracking.timeline.shares import Shares

RANDOM_SIZES = (0.01, 0.1, 0.5)  # shares of all edges
RANDOM_PAIRS = 8
KINDS = {"logits": "logits", "MLPs": r"M\d+"}  # targets that are no class, as patterns of names


@dataclass(frozen=True)
class Study:
    """One task, as a record of the model has it and as its attention has it."""

    task: Task
    graph: Graph
    heads: Heads
    analysis: Analysis
    shares: Shares
    members: dict[str, Tensor]  # BoolTensor [head], by class
    together: dict[str, tuple[Interval, Interval]]  # corrupt and restore share of a class at once
    random: Tensor  # float32 [size], faithfulness of random edges at `RANDOM_SIZES`
    right: float  # share of pairs whose top token is right after the clean prompt

    @classmethod
    def of(cls, model: Any, task: Task) -> Study:
        decoder = Decoder.of(model)
        heads = Heads.of(decoder, task)
        members = heads.members(task.classes)
        nodes = {name: nodes_of(decoder.graph, inside) for name, inside in members.items()}
        before = Before(measured=torch.stack(list(nodes.values())).any(0))
        pairs = {task.name: task.pairs}
        settings = Settings(batch_size=len(task.pairs))
        analysis = analyse(model, pairs, settings, before={task.name: before})[task.name]
        return cls(
            task=task,
            graph=decoder.graph,
            heads=heads,
            analysis=analysis,
            shares=Shares.of(analysis),
            members=members,
            together={
                name: _together(decoder, task, analysis, chosen)
                for name, chosen in nodes.items()
                if chosen.any()
            },
            random=_random(model, task),
            right=accuracy(model, task),
        )

    # What the record says of heads, float [head] in the order of `Graph.head_names`

    @property
    def score(self) -> np.ndarray:
        """Share of the behaviour by the sum of a head's edge scores."""
        attributed = self.analysis.nodes.attributed[:, self.graph.node_heads].mean(0)
        return (attributed / self.behaviour.mean()).double().numpy()

    @property
    def effects(self) -> np.ndarray:
        """Corrupt and restore share, [2, head]; as attributed where the screen left a head out."""
        return self.shares.value[:, self.graph.node_heads.numpy()]

    @property
    def measured(self) -> np.ndarray:
        return self.shares.measured[self.graph.node_heads.numpy()]

    @property
    def sampled(self) -> np.ndarray:
        """Bool: left out by the screen, and measured to see how often it errs."""
        return self.analysis.nodes.sampled[self.graph.node_heads].numpy()

    @property
    def size(self) -> np.ndarray:
        """The larger of both shares in size: how much a head matters."""
        return np.abs(self.effects).max(0)

    @property
    def active(self) -> np.ndarray:
        judged = Activity.judged(self.shares, Thresholds().share)
        return judged.active[self.graph.node_heads.numpy()]

    @property
    def behaviour(self) -> Tensor:
        """Float32 [pair], logits."""
        return self.analysis.behaviour.clean - self.analysis.behaviour.corrupted

    def role(self, name: str) -> np.ndarray:
        """A role's score."""
        return self.analysis.heads.roles[SCORES.index(name)].double().numpy()

    @property
    def in_a_class(self) -> np.ndarray:
        """Bool: of any class to which the papers give an effect."""
        given = [self.members[one.name] for one in self.task.classes if one.sign]
        return torch.stack(given).any(0).numpy()

    # Agreement

    def rank_agreement(self, direction: int) -> tuple[float, float]:
        """Spearman's correlation over the measured heads of score and exact effect (0: corrupt,
        1: restore): of their sizes, and with their signs."""
        score, effect = self.score[self.measured], self.effects[direction][self.measured]
        return correlation(np.abs(score), np.abs(effect)), correlation(score, effect)

    def separation(self, one: HeadClass) -> float:
        """How often a head of the class matters more than one of no class."""
        return auc(self.size[self.members[one.name].numpy()], self.size[~self.in_a_class])

    def role_separation(self, one: HeadClass) -> float:
        """How often a head of the class has a higher score of the role that says the same than one
        that does not attend so."""
        inside, score = self.members[one.name].numpy(), self.role(one.role)
        return auc(score[inside], score[~inside])

    def wire(self, wire: Wire) -> tuple[int, float, float]:
        """Of the edges of a wire: how many, the sum of their scores over the behaviour, and how
        often one of them is larger in size than another edge from a head to reads of that kind."""
        inside, kind = self._edges(wire), self._edges_like(wire)
        scores = self.analysis.scores.edge_scores
        sizes = scores.abs().double().numpy()
        separated = auc(sizes[inside.numpy()], sizes[(kind & ~inside).numpy()])
        return int(inside.sum()), float(scores[inside].sum() / self.behaviour.mean()), separated

    def read_by(self, head: int, count: int = 3) -> list[tuple[str, str, float]]:
        """The strongest edges into a head: source, "q", "k" or "v", score over the behaviour."""
        names = [f"{self.graph.head_names[head]}.{read}" for read in READS]
        columns = [self.graph.targets.index(name) for name in names]
        into = self.analysis.scores.edge_scores[:, columns] / self.behaviour.mean()
        strongest = into.flatten().abs().topk(count).indices.tolist()
        places = [divmod(place, len(READS)) for place in strongest]
        return [
            (self.graph.sources[row], READS[read], float(into[row, read])) for row, read in places
        ]

    def _edges(self, wire: Wire) -> Tensor:
        """BoolTensor [source, target]."""
        sources = torch.zeros(len(self.graph.sources), dtype=torch.bool)
        sources[self.graph.head_sources] = self.members[wire.source]
        kind = self._edges_like(wire)
        if wire.read:
            inside = self.members[wire.target].nonzero()[:, 0].tolist()
            wanted = {f"{self.graph.head_names[place]}.{wire.read}" for place in inside}
            kind &= torch.tensor([target in wanted for target in self.graph.targets])
        return kind & sources[:, None]

    def _edges_like(self, wire: Wire) -> Tensor:
        """BoolTensor [source, target]: all edges from heads to the same kind of read."""
        sources = torch.zeros(len(self.graph.sources), dtype=torch.bool)
        sources[self.graph.head_sources] = True
        of_kind = re.compile(rf".+\.{wire.read}" if wire.read else KINDS[wire.target])
        targets = torch.tensor([bool(of_kind.fullmatch(one)) for one in self.graph.targets])
        return sources[:, None] & targets & self.graph.edge_mask


def accuracy(model: Any, task: Task) -> float:
    """Share of pairs whose top token after the clean prompt is a right one."""
    pairs, rows = task.pairs, torch.arange(len(task.pairs))
    with torch.no_grad():
        logits = model(pairs.clean, attention_mask=pairs.attention_mask).logits
    top = logits[rows, task.places["END"]].argmax(-1).tolist()
    return float(np.mean([token in right for token, right in zip(top, task.right, strict=True)]))


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's."""
    return float(np.corrcoef(stats.rankdata(first), stats.rankdata(second))[0, 1])


def auc(inside: np.ndarray, outside: np.ndarray) -> float:
    """How often a value of `inside` is above one of `outside`, ties a half; NaN without either."""
    if not len(inside) or not len(outside):
        return float("nan")
    return float(stats.mannwhitneyu(inside, outside).statistic / (len(inside) * len(outside)))


def nodes_of(graph: Graph, heads: Tensor) -> Tensor:
    """BoolTensor [node] of BoolTensor [head]."""
    chosen = torch.zeros(len(graph.nodes), dtype=torch.bool)
    chosen[graph.node_heads] = heads
    return chosen


def _together(
    decoder: Decoder, task: Task, analysis: Analysis, nodes: Tensor
) -> tuple[Interval, Interval]:
    pairs = task.pairs
    effects = together(AllEnds.of(decoder, pairs, len(pairs)), nodes[None], resolve(METRIC))
    behaviour = analysis.behaviour.clean - analysis.behaviour.corrupted
    weights = resamples(1000, len(pairs))
    corrupt, restore = (share(effect, behaviour, weights) for effect in effects)
    return corrupt, restore


def _random(model: Any, task: Task) -> Tensor:
    """Float32 [size]."""
    experiment = Experiment.of(model, task.pairs[:RANDOM_PAIRS], METRIC, RANDOM_PAIRS)
    graph = experiment.graph
    ranked = torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(0))
    total = int(graph.edge_mask.sum())
    return carried(experiment, ranked * graph.edge_mask, [round(s * total) for s in RANDOM_SIZES])
