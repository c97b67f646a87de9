"""What a control is, and where its runs lie."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from train.run.manifest import MANIFEST

REPO = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class World:
    """What all controls share: the folder of their runs, and whether a few draws are to do."""

    folder: Path
    quick: bool = False

    def draws(self, all_of_them: int) -> int:
        """How many draws a control makes that would make so many."""
        return max(1, all_of_them // 20) if self.quick else all_of_them

    @property
    def trained(self) -> Path:
        """A model that has learned to read the cue: the last of an SFT run."""
        return self.run("trained", "sft")

    def run(self, name: str, job: str, **keys: object) -> Path:
        """The folder of a run of the tiny world under the recipe of `job`, by the project's own
        command line; trained now where it is not there whole."""
        folder = self.folder / name
        keys = {"config": REPO / "recipes" / "tiny" / f"{job}.yaml", "output_dir": folder,
                "report_to": "none", **keys}  # fmt: skip
        words = [word for key, value in keys.items() for word in (f"--{key}", str(value))]
        with (self.folder / f"{name}.log").open("a") as log:
            fcntl.flock(log, fcntl.LOCK_EX)  # two controls may ask for one run
            if (folder / MANIFEST).exists():
                return folder
            shutil.rmtree(folder, ignore_errors=True)
            command = [sys.executable, "-m", "train.cli", job, *words]
            ended = subprocess.run(command, cwd=REPO, stdout=log, stderr=log, check=False)
        if ended.returncode:
            raise RuntimeError(f"sparks {job}: exit code {ended.returncode}; see {log.name}")
        return folder


@dataclass(frozen=True)
class Outcome:
    """What came out of a control, in a line, and whether that was asked."""

    came: str
    as_asked: bool


@dataclass(frozen=True)
class Control:
    """Checkpoints of which it is known what must be said of them."""

    name: str
    must: str  # come out
    make: Callable[[World], Outcome]
    trains: bool = False  # for minutes, so that `quick` leaves it out


@dataclass(frozen=True)
class Row:
    """A control that was made."""

    control: Control
    outcome: Outcome
    seconds: float

    def __str__(self) -> str:
        """As a row of a Markdown table."""
        verdict = "yes" if self.outcome.as_asked else "**no**"
        cells = (self.control.name, self.control.must, self.outcome.came, verdict,
                 f"{self.seconds:.0f}")  # fmt: skip
        return f"| {' | '.join(cells)} |"
