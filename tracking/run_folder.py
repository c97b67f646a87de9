"""A run's folder: where everything in it lies, what made it, and which checkpoints it has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tracking.ledger.ledger import Ledger


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run under `path`; nothing need be there yet."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))  # a string will do

    @property
    def ledger(self) -> Ledger:
        """The records, in `heads/`."""
        return Ledger(self.path / "heads")

    @property
    def config_path(self) -> Path:
        """Everything that was resolved for the job that made the run."""
        return self.path / "config.yaml"

    @property
    def completions(self) -> Path:
        """What the model wrote while it was trained."""
        return self.path / "completions"

    @property
    def evals(self) -> Path:
        """What it solves: a folder a checkpoint."""
        return self.path / "evals"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def picture_path(self) -> Path:
        return self.path / "report.png"

    @property
    def card_path(self) -> Path:
        """The model card, which TRL's trainers write."""
        return self.path / "README.md"

    @property
    def superseded(self) -> Path:
        """Checkpoints later than one that the run was resumed from."""
        return self.path / "superseded"

    @property
    def waiting(self) -> RunFolder:
        """Weights of checkpoints that have no record yet, in folders of the checkpoints' names;
        they stay when the checkpoint is deleted."""
        return RunFolder(self.path / "heads" / "waiting")

    def shift(self, step: int) -> Path:
        """What training had changed from the base at a step; its figures are in `figures.json`."""
        return self.path / "shift" / f"step-{step:08}"

    def shifts(self) -> dict[int, Path]:
        """These folders by step, in order."""
        paths = sorted(self.path.glob("shift/step-*/figures.json"))
        return {int(path.parent.name[5:]): path.parent for path in paths}

    def evaluation(self, step: int) -> Path:
        """What the model solved at a step; accuracies are in `summary.parquet`."""
        return self.evals / f"step-{step:08}"

    def evaluations(self) -> dict[int, Path]:
        """These folders by step, in order, those that are not complete among them."""
        named = (
            (re.fullmatch(r"step-(\d+)", path.name), path) for path in self.evals.glob("step-*")
        )
        return dict(sorted((int(name[1]), path) for name, path in named if name))

    def config(self) -> dict[str, Any]:
        """What `config.yaml` says by its keys; empty where it is missing or cannot be read."""
        try:
            values = yaml.safe_load(self.config_path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return {}
        return values if isinstance(values, dict) else {}

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.path / f"checkpoint-{step}"

    def checkpoints(self) -> dict[int, Path]:
        """The checkpoints by step, in order; complete or not."""
        paths = self.path.glob("checkpoint-*")
        steps = ((re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in paths)
        return dict(sorted((int(name[1]), path) for name, path in steps if name))
