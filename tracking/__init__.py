"""Which attention heads carry a behaviour, checkpoint by checkpoint, and how sure that is."""

from tracking.attribution.attribute import attribute, attribute_all
from tracking.attribution.scores import Scores
from tracking.callback import HeadTracker, TrackingConfig
from tracking.circuits.circuit import Circuit
from tracking.circuits.curve import curve
from tracking.circuits.faithfulness import Faithfulness, faithfulness
from tracking.circuits.select import select
from tracking.errors import BadInput
from tracking.ledger.ledger import Ledger
from tracking.ledger.record import Record
from tracking.model.graph import Graph
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.settings import Settings
from tracking.timeline.activity import Thresholds
from tracking.timeline.coupling import Coupling
from tracking.timeline.regime import Regime
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
    "PromptPairs",
    "Record",
    "Regime",
    "Scores",
    "Settings",
    "Thresholds",
    "Timeline",
    "TrackingConfig",
    "attribute",
    "attribute_all",
    "cohort_table",
    "curve",
    "faithfulness",
    "select",
    "survival",
]
