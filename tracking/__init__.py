"""Which attention heads carry a behaviour, checkpoint by checkpoint, and how sure that is."""

from tracking.attribution import Scores, attribute, attribute_all
from tracking.callback import HeadTracker, TrackingConfig
from tracking.circuit import Circuit
from tracking.errors import BadInput
from tracking.faithfulness import Faithfulness, curve, faithfulness
from tracking.graph import Graph
from tracking.ledger import Ledger, Record
from tracking.lifecycle import Timeline
from tracking.probes import ProbeSet
from tracking.regime import Regime
from tracking.reward import Coupling
from tracking.settings import Settings
from tracking.survival import cohort_table, survival

__all__ = [
    "BadInput",
    "Circuit",
    "Coupling",
    "Faithfulness",
    "Graph",
    "HeadTracker",
    "Ledger",
    "ProbeSet",
    "Record",
    "Regime",
    "Scores",
    "Settings",
    "Timeline",
    "TrackingConfig",
    "attribute",
    "attribute_all",
    "cohort_table",
    "curve",
    "faithfulness",
    "survival",
]
