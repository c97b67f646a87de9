"""Trials: runs that were disturbed, compared with those that were not."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from scripts.campaign.faults import Fault
from scripts.campaign.outcome import Outcome, far_apart
from scripts.campaign.running import Disturbance, Running, tail
from scripts.campaign.variants import FAST, JOBS, WATCHED, Variant
from tracking.errors import BadInput
from tracking.ledger.ledger import Ledger
from train.run.manifest import Manifest

REPO = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class World:
    """What all runs of a campaign share."""

    model: Path | str
    folder: Path
    keys: Mapping[str, object] = field(default_factory=lambda: FAST)

    def arguments(self, variant: Variant, run: Path, **more: object) -> list[str]:
        """The command line of a variant's job."""
        keys = {
            "config": REPO / "recipes" / "tiny" / f"{variant.job}.yaml",
            "model_name_or_path": self.model,
            "output_dir": run,
            **JOBS[variant.job],
            **self.keys,
            **variant.keys,
            **more,
        }
        return [word for key, value in keys.items() for word in (f"--{key}", str(value))]

    def start(self, variant: Variant, run: Path, fault: Disturbance | None = None) -> Running:
        """Begin a run, or go on with it."""
        there = (run / "config.yaml").exists()
        more = {"resume_from_checkpoint": "latest"} if there else {}
        log = run.with_name(f"{run.name}.log")
        return Running(variant, self.arguments(variant, run, **more), log, fault)

    def watch(self, run: Path, fault: Disturbance | None = None, name: str = "watcher") -> Running:
        """Begin to watch a run."""
        log = run.with_name(f"{run.name}-{name}.log")
        return Running(Variant("watcher", "track"), [str(run), "--watch"], log, fault)


@dataclass(frozen=True)
class Trial:
    """A run that was disturbed, compared with the one that was not."""

    variant: str
    fault: str
    kills: int
    problems: list[str]
    lost: int  # records
    seconds: float


class Campaign:
    """All trials; `seed` decides where the random ones are killed."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.random = world, random.Random(seed)
        self.seconds: dict[str, float] = {}  # of undisturbed runs
        self.outcomes: dict[str, Outcome] = {}
        self.trials: list[Trial] = []

    def undisturbed(self, variant: Variant) -> Outcome:
        """What the variant's run comes to."""
        if variant.name not in self.outcomes:
            run = self.folder(variant)
            begin = time.monotonic()
            job = self.world.start(variant, run)
            code = job.wait()
            if code != 0:
                raise SystemExit(f"{variant.name}: exit code {code}\n{tail(job.log)}")
            self.seconds[variant.name] = time.monotonic() - begin
            self.outcomes[variant.name] = Outcome.of(run)
        return self.outcomes[variant.name]

    def folder(self, variant: Variant) -> Path:
        """Where the undisturbed run lies."""
        return self.world.folder / f"{_slug(variant.name)}-undisturbed"

    def random_kills(self, variant: Variant, kills: int) -> Trial:
        """Kill a run so often, each time at a moment of an undisturbed run's time."""

        def disturb(run: Path) -> int:
            killed, span = 0, self.seconds[variant.name]
            while killed < kills:
                job = self.world.start(variant, run)
                if job.wait(self.random.uniform(0, span)) is None:
                    job.kill()
                    job.wait()
                    killed += 1
                else:  # it ended before its moment came
                    shutil.rmtree(run)
                    killed, span = 0, span / 2
            return kills

        return self._trial(variant, "random moments", disturb)

    def faults(self, variant: Variant, name: str, *faults: Fault) -> Trial:
        """Kill a run at these faults, one in each of its jobs."""

        def disturb(run: Path) -> int:
            for fault in faults:
                code = self.world.start(variant, run, fault).wait()
                if code != -signal.SIGKILL:
                    raise SystemExit(f"{variant.name}: {fault.name} never came; exit code {code}")
            return len(faults)

        return self._trial(variant, name, disturb)

    def watcher_kills(self, variant: Variant, kills: int) -> Trial:
        """Train in watch mode beside a watcher that is killed so often at random moments, and begun
        again."""
        watched = replace(variant, keys={**variant.keys, **WATCHED})

        def disturb(run: Path) -> int:
            killed, job = 0, self.world.start(watched, run)
            for _ in range(kills):
                watcher = self.world.watch(run)
                moment = self.random.uniform(0, self.seconds[variant.name] / kills)
                if watcher.wait(moment) is None:
                    watcher.kill()
                    watcher.wait()
                    killed += 1
            codes = job.wait(), self.world.watch(run).wait()
            if any(codes):
                raise SystemExit(f"{variant.name}, watched: exit codes {codes}")
            return killed

        return self._trial(variant, "a watcher, at random moments", disturb)

    def by_one_process(self, variant: Variant) -> Trial:
        """Analyse the checkpoints of the undisturbed run again, in one process, and hold the
        records against those that its processes made."""
        self.undisturbed(variant)
        begin, run = time.monotonic(), self.folder(variant)
        one = run.with_name(f"{_slug(variant.name)}-one")
        shutil.copytree(run, one, ignore=shutil.ignore_patterns("step-*", "*.parquet"))
        job = Running(Variant("one process", "track"), [str(one)], run.with_name(f"{one.name}.log"))
        problems = [] if job.wait() == 0 else [tail(job.log, 1)]
        ours, theirs = (Ledger(each / "heads") for each in (run, one))
        lost = len({*ours.steps()} ^ {*theirs.steps()})
        problems += far_apart(ours, theirs)
        name = "not killed, but analysed by one process"
        trial = Trial(variant.name, name, 0, problems, lost, time.monotonic() - begin)
        self.trials.append(trial)
        return trial

    def _trial(self, variant: Variant, name: str, disturb: Callable[[Path], int]) -> Trial:
        whole, begin = self.undisturbed(variant), time.monotonic()
        run = self.world.folder / f"{_slug(variant.name)}-{len(self.trials)}"
        kills = disturb(run)
        problems = self._end(variant, run)
        outcome = Outcome.of(run)
        lost = len({*whole.steps} - {*outcome.steps})
        problems += outcome.differences(whole)
        trial = Trial(variant.name, name, kills, problems, lost, time.monotonic() - begin)
        self.trials.append(trial)
        return trial

    def _end(self, variant: Variant, run: Path) -> list[str]:
        try:
            Manifest.read(run)
            return []  # killed after its end
        except BadInput:
            pass
        job = self.world.start(variant, run)
        code = job.wait()
        return [] if code == 0 else [f"exit code {code}: {tail(job.log, 1)}"]


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
