"""A training run's checkpoints, analysed outside its training process with its own settings."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tracking.contrast import Subject
from tracking.ledger.ledger import Ledger
from tracking.ledger.record import Record
from tracking.ledger.reward import reward_between
from tracking.nodes.weight_change import snapshot
from tracking.pairs.frozen import freeze, load_pairs
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.run_folder import RunFolder
from tracking.worker import Worker
from train import model
from train.checkpoints import folders, stages, waiting
from train.config import Job
from train.data import contrasts
from train.data.contrasts import digit_ids
from train.model import Start


class Analyst:
    """Makes records of a run as its training process would; it loads the model of step 0 first (of
    a later stage, that of the first one), which the others are compared with."""

    def __init__(self, job: Job) -> None:
        self.job, self.run = job, RunFolder(job.folder)
        self.start = model.start(job)
        base = snapshot(stages.first_model(job)())
        self.worker = Worker(
            self.run.ledger,
            _pairs(job, self.start, self.run.ledger),
            job.settings,
            job.thresholds,
            Subject(base, digit_ids(self.start.tokenizer)),
        )

    def work(
        self, step: int, checkpoints: Mapping[int, Path], awaited: Collection[int] = ()
    ) -> Record | None:
        """Make the record of a step, `checkpoints` being those that can be analysed; None as of
        `Worker.work`, and it raises what that does, and where the checkpoint cannot be read."""
        current = waiting.unchanged(self.run, step) if step else lambda: True
        history = []
        if step:
            folders.weights(checkpoints[step])
            history = _history(checkpoints[step])
        before = self.worker.ledger.before(step, checkpoints)
        expected = "reward" if self.job.name == "grpo" else "loss"
        reward = reward_between(history, before, step, expected)
        load = model.at_steps(self.job, self.start, checkpoints)[step]
        return self.worker.work(step, load, reward, current, awaited)


def _pairs(job: Job, start: Start, ledger: Ledger) -> dict[str, PromptPairs]:
    """The run's frozen pairs; where it was not tracked, those that its recipe means."""
    if ledger.pairs_path.exists():
        return load_pairs(ledger.pairs_path)
    frozen = contrasts.build(job, start.tokenizer, lambda: model.weights(job, start))
    with ledger.alone():  # what killed writes left is removed so
        freeze(frozen, ledger.pairs_path)
    return frozen


def _history(checkpoint: Path) -> list[dict[str, Any]]:
    return json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
