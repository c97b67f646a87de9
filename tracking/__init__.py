"""Which attention heads carry a behaviour, checkpoint by checkpoint, and how sure that is.

A name is imported when it is first asked for, so that reading a run's records does not load the
libraries that training needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracking.attribution.attribute import attribute, attribute_all
    from tracking.attribution.scores import Scores
    from tracking.callback import HeadTracker, TrackingConfig
    from tracking.circuits.circuit import Circuit
    from tracking.circuits.curve import curve
    from tracking.circuits.faithfulness import Faithfulness, faithfulness
    from tracking.circuits.select import select
    from tracking.errors import BadInput
    from tracking.interventions.export import export
    from tracking.interventions.graft import graft
    from tracking.interventions.grafted import grafted
    from tracking.interventions.intervene import intervene
    from tracking.interventions.matched import matched_by_layer, matched_by_norm, write_norms
    from tracking.interventions.reference import Reference
    from tracking.ledger.ledger import Ledger
    from tracking.ledger.record import Record
    from tracking.model.graph import Graph
    from tracking.nodes.effects import NodeEffects, effects
    from tracking.pairs.prompt_pairs import PromptPairs
    from tracking.settings import Settings
    from tracking.timeline.activity import Thresholds
    from tracking.timeline.coupling import Coupling
    from tracking.timeline.regime import Regime
    from tracking.timeline.summary import Summary
    from tracking.timeline.survival import cohort_table, survival
    from tracking.timeline.timeline import Timeline

__all__ = [
    "BadInput",
    "Circuit",
    "Coupling",
    "Faithfulness",
    "Graph",
    "HeadTracker",
    "Ledger",
    "NodeEffects",
    "PromptPairs",
    "Record",
    "Reference",
    "Regime",
    "Scores",
    "Settings",
    "Summary",
    "Thresholds",
    "Timeline",
    "TrackingConfig",
    "attribute",
    "attribute_all",
    "cohort_table",
    "curve",
    "effects",
    "export",
    "faithfulness",
    "graft",
    "grafted",
    "intervene",
    "matched_by_layer",
    "matched_by_norm",
    "select",
    "survival",
    "write_norms",
]

HOMES = {
    "BadInput": "errors",
    "Circuit": "circuits.circuit",
    "Coupling": "timeline.coupling",
    "Summary": "timeline.summary",
    "Faithfulness": "circuits.faithfulness",
    "Graph": "model.graph",
    "HeadTracker": "callback",
    "Ledger": "ledger.ledger",
    "NodeEffects": "nodes.effects",
    "PromptPairs": "pairs.prompt_pairs",
    "Record": "ledger.record",
    "Reference": "interventions.reference",
    "Regime": "timeline.regime",
    "Scores": "attribution.scores",
    "Settings": "settings",
    "Thresholds": "timeline.activity",
    "Timeline": "timeline.timeline",
    "TrackingConfig": "callback",
    "attribute": "attribution.attribute",
    "attribute_all": "attribution.attribute",
    "cohort_table": "timeline.survival",
    "curve": "circuits.curve",
    "effects": "nodes.effects",
    "export": "interventions.export",
    "faithfulness": "circuits.faithfulness",
    "graft": "interventions.graft",
    "grafted": "interventions.grafted",
    "intervene": "interventions.intervene",
    "matched_by_layer": "interventions.matched",
    "matched_by_norm": "interventions.matched",
    "select": "circuits.select",
    "survival": "timeline.survival",
    "write_norms": "interventions.matched",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'tracking' has no attribute {name!r}")
    value = getattr(import_module(f"tracking.{HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__]
