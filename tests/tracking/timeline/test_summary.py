"""What a run is summed up as, from figures by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.builders.analyses import make_analysis
from tracking import Record, Timeline
from tracking.model.graph import Graph
from tracking.timeline.regime import Regime
from tracking.timeline.summary import Summary

NAN = float("nan")


def run(*active: str, **more: Any) -> Timeline:
    """A run on one layer of four heads; a word of 1 and 0 for each checkpoint."""
    records = []
    for index, word in enumerate(active):
        there = torch.tensor([letter == "1" for letter in word])
        effect = torch.where(there, 0.5, 0.0).expand(16, 4)
        analysis = make_analysis(Graph(1, 4), in_circuit=there.expand(10, 4), effect=effect, **more)
        records.append(Record(10 * index, 1, 4, "0", {"cue": analysis}))
    return Timeline.of(records)


def summary(**more: Any) -> Summary:
    """Ten checkpoints in which one of two heads stayed, sure of it; `more` are what differs."""
    plain: dict[str, Any] = {
        "contrast": "cue", "step": 90,
        "survivors": ("L0H1",), "emerged": 2, "low": 1.0, "high": 2.0,
        "base": 8, "retained": 7, "turned": 9, "compared": 9, "sound": 8, "checkpoints": 10,
        "faithfulness": 0.75, "verdict": "sound", "regime": Regime(2, 0.5, 0.4, 0.1, 0.5),
    }  # fmt: skip
    return Summary(**{**plain, **more})


@pytest.mark.parametrize(
    ("more", "beyond", "words"),
    [
        ({}, True, "beyond the noise of sampling pairs"),
        ({"low": 0.0}, False, "not beyond the noise of sampling pairs"),
        ({"turned": 2}, False, "not beyond the noise of sampling pairs"),
        ({"low": NAN}, None, "how far that is noise is not known"),
        ({"compared": 0, "turned": 0}, None, "how far that is noise is not known"),
    ],
)
def test_beyond_noise_takes_a_sure_head_and_turnover_above_its_null(
    more: dict[str, Any], beyond: bool | None, words: str
) -> None:
    told = summary(**more)
    assert told.beyond_noise is beyond and told.noise == words
    assert f", {words}; 7 of 8 base heads are retained; turnover" in told.sentence


def test_a_summary_is_of_the_last_checkpoint_and_counts_all() -> None:
    told = run("1000", "1110", "1011", "1010", "1010")
    counts = told.counts.assign(
        turnover=[NAN, 0.5, 0.5, 0.1, 0.3],
        null_high=[0.2, 0.2, 0.5, 0.2, 0.2],
        emergent_low=1,
        emergent_high=3,
    )
    counts.loc[2, "verdict"] = "weak"
    said = Summary.of(replace(told, counts=counts), "cue")
    assert (said.step, said.survivors, said.emerged) == (40, ("L0H2",), 3)
    assert (said.low, said.high) == (1, 3)
    assert (said.turned, said.compared) == (2, 4)  # one is at its null, one below it
    assert (said.sound, said.checkpoints, said.verdict) == (4, 5, "sound")
    assert said.faithfulness == pytest.approx(0.9)
    assert said.regime.word == "searches"


def test_the_sentence_says_the_figures() -> None:
    assert summary().sentence == (
        "On 'cue' pairs 1 of 2 heads that emerged are there at step 90 (95 %: 1 to 2), beyond "
        "the noise of sampling pairs; 7 of 8 base heads are retained; turnover was above its null "
        "at 9 of 9 checkpoints; the last circuit is sound (faithfulness 0.75), and 8 of 10 "
        "circuits are sound."
    )
    assert "no head emerged in 10 checkpoints; turnover" in summary(emerged=0, base=0).sentence
    assert "(95 %: 2), " in summary(low=2.0).sentence
    assert "95 %" not in summary(low=NAN, high=NAN).sentence
    absent = summary(verdict="absent", faithfulness=3.0).sentence
    assert "absent (clean and corrupted prompts hardly differ)" in absent and "3.0" not in absent


def test_one_checkpoint_says_nothing_of_time() -> None:
    said = Summary.of(run("1000"), "cue")
    assert said.beyond_noise is None and said.compared == 0 and np.isnan(said.regime.survive)
    assert "nothing can be said yet of heads over time" in said.sentence
