"""Comparisons of small models, by quick settings."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from tests.builders.records import recorded
from tracking.comparison.party import Comparison, Party
from tracking.comparison.relation import Relation, by_weights
from tracking.ledger.record import Analysis, Record
from tracking.model.graph import Graph
from tracking.nodes.weight_change import snapshot
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.timeline.activity import Thresholds


def comparison_of(models: Mapping[str, Any], pairs: PromptPairs, **more: Any) -> Comparison:
    """Of models on the same pairs, of contrast `pairs`; `more` are settings of their records."""
    parties = [
        Party(name, recorded(model, pairs, **more), {"pairs": pairs}, lambda model=model: model)
        for name, model in models.items()
    ]
    weights = {name: snapshot(model) for name, model in models.items()}
    relations = {(name, name): Relation(True, "the same") for name in models}
    for one, other in combinations(models, 2):
        relation = by_weights(weights[one], weights[other])
        relations[one, other] = relations[other, one] = relation
    return Comparison(parties, relations, Thresholds())


def comparison_by(graph: Graph, analyses: Mapping[str, Analysis], **more: Any) -> Comparison:
    """Of analyses by hand, of contrast `cue`, of models that are gone and of one base."""
    parties = [
        Party(name, Record(0, graph.n_layers, graph.n_heads, "ab12", {"cue": one}), {}, None)
        for name, one in analyses.items()
    ]
    one_base = Relation(True, "by hand")
    relations = {(one, other): one_base for one in analyses for other in analyses}
    return Comparison(parties, relations, Thresholds(), **more)
