"""One colour, one sign and one word for each state of a node, the same wherever it is shown; and
for the reward and for shares.

The colours are Okabe and Ito's, told apart with any kind of colour vision; the signs do without.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Look:
    """How a state looks."""

    color: str
    sign: str


LOOKS = {
    "base": Look("#0072B2", "●"),
    "retained": Look("#0072B2", "●"),
    "faded": Look("#56B4E9", "×"),
    "new": Look("#E69F00", "○"),
    "surviving": Look("#009E73", "▲"),
    "revived": Look("#F0E442", "◆"),
    "emergent": Look("#8FD3B6", "△"),
    "pruned": Look("#CC79A7", "▽"),
    "undecided": Look("#777777", "?"),
    "inactive": Look("#E4E4E4", "·"),
}
UNDECIDED = LOOKS["undecided"]
REWARD = "#D55E00"
POSITIVE, NEGATIVE = "#0072B2", "#D55E00"  # of shares and of edges: for the behaviour, against it


def untold(nodes: pd.DataFrame) -> pd.Series:
    """Of rows of a timeline's nodes, which the checkpoint alone does not bear out: it cannot tell
    whether they are active, or says otherwise than their state. Where the behaviour is absent
    nothing is known of any, and that is said once."""
    active = nodes["active"].astype(bool)
    settled = nodes["alone"] == np.where(active, "active", "inactive")
    unsettled = (nodes["state"] == "undecided") & ~nodes["undecided"].astype(bool)
    return ~(settled | unsettled) & (nodes["verdict"] != "absent")


def called(reward: object) -> str:
    """In words, what stands for the reward: `reward`, `token accuracy` or `loss`."""
    return {"eval_mean_token_accuracy": "token accuracy"}.get(str(reward), str(reward))
