"""Kill small runs at every bad moment, resume them, compare them with undisturbed ones.

    python scripts/chaos.py [--quick] [--seed 0] [--only grpo] [--folder DIR]

Each kind of training runs once undisturbed. Then its jobs are killed with SIGKILL, at random
moments and at chosen ones, and resumed with `--resume_from_checkpoint latest` until they end. A run
ended equal where its weights, its last checkpoint, its timeline, its records and its log are those
of the undisturbed run, byte for byte; times and rates are left out of log and records. Exit code 1
where one is not.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import json
import multiprocessing
import multiprocessing.connection
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
LIMIT = 120.0  # seconds that one job may take
FAST = {
    "max_steps": 9,
    "save_steps": 3,
    "report_to": "none",
    "dataset_size": 64,
    "track_pairs_count": 16,
    "track_resamples": 20,
    "track_ig_steps": 3,
    "track_max_ig_steps": 6,
}
GRPO = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 36}
SFT = {"per_device_train_batch_size": 4}
LORA = {"use_peft": "true", "lora_r": 4, "lora_target_modules": "all-linear"}
CLOCKS = ("time", "runtime", "per_second")  # what ends like this in a log is no finding

# Children are forked from one process that has imported the libraries: that takes seconds.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    [
        "train.prepare",
        "train.rewards.registry",
        "trl.trainer.grpo_trainer",
        "trl.trainer.sft_trainer",
    ]
)


@dataclass(frozen=True)
class Variant:
    """A kind of training."""

    name: str
    job: str
    keys: dict[str, object] = field(default_factory=dict)
    ranks: int = 1


VARIANTS = (
    Variant("sft", "sft"),
    Variant("grpo", "grpo"),
    Variant("grpo, LoRA", "grpo", LORA),
    Variant("sft, accumulation", "sft", {"gradient_accumulation_steps": 2}),
    Variant("grpo, accumulation", "grpo", {"gradient_accumulation_steps": 2}),
    Variant("grpo, batch kept 3 steps", "grpo", {"num_iterations": 3}),
    Variant("sft, 2 processes", "sft", ranks=2),
    Variant("grpo, 2 processes", "grpo", ranks=2),
)


@dataclass(frozen=True)
class Fault:
    """Where a job kills itself: at the `count`-th call of `Owner.method`, or, where `torn`, with
    half of what is written there. Another signal than SIGKILL comes before the call is made."""

    name: str
    where: str  # module:attribute
    count: int = 1
    torn: bool = False
    file: str = ""  # only calls for paths that have this in their names count
    number: int = signal.SIGKILL


FAULTS = (
    Fault("in config.yaml", "tracking.atomic:write_whole", torn=True, file="config.yaml"),
    Fault("in the pairs", "tracking.pairs.frozen:write_whole", torn=True),
    Fault("before the first checkpoint", "transformers:Trainer._save_checkpoint"),
    Fault(
        "in a checkpoint, before its optimizer",
        "transformers:Trainer._save_optimizer_and_scheduler",
        2,
    ),
    Fault("in a checkpoint, in its optimizer", "torch:save", 2, True, "optimizer"),
    Fault("in a checkpoint, before its manifest", "train.run.manifest:CheckpointCallback.seal", 2),
    Fault("in a checkpoint, in its manifest", "train.run.manifest:write_whole", 2, True, "sparks"),
    Fault("between a checkpoint and its record", "tracking.callback:HeadTracker.on_save", 2),
    Fault("in a record", "tracking.ledger.ledger:write_whole", 3, True, "step-"),
    Fault("between a record and the timeline", "tracking.ledger.ledger:Ledger.write_timeline", 3),
    Fault("in the timeline", "tracking.ledger.ledger:write_whole", 2, True, "timeline"),
    Fault("after the last checkpoint", "tracking.callback:HeadTracker.on_train_end"),
    Fault(
        "in the finished model, before its manifest",
        "train.run.manifest:CheckpointCallback.seal",
        4,
    ),
)


AGAIN = (  # a resume is killed too: it has a checkpoint without a manifest to move aside
    Fault("in a checkpoint, before its manifest", "train.run.manifest:CheckpointCallback.seal", 2),
    Fault("in its resume", "train.run.resume:write_whole", 1, True, "resumes"),
    Fault("before the next checkpoint", "transformers:Trainer._save_checkpoint"),
)


class Running:
    """A job under way in processes of its own, one per rank; stdout and stderr go to `log`."""

    def __init__(
        self, variant: Variant, arguments: Sequence[str], log: Path, fault: Fault | None = None
    ) -> None:
        self.log = log
        ports = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        self.ranks = []
        for rank in range(variant.ranks):
            world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": variant.ranks}
            told = {**ports, **{key: str(value) for key, value in world.items()}}
            environment = told if variant.ranks > 1 else {}
            words = [variant.job, *arguments]
            process = processes.Process(target=_run, args=(words, environment, log, fault))
            process.start()
            self.ranks.append(process)

    def kill(self) -> None:
        """SIGKILL for all its processes, those that score rewards included."""
        for process in self.ranks:
            try:
                os.killpg(process.pid or 0, signal.SIGKILL)
            except ProcessLookupError:  # ended, or too young to have a group
                process.kill()

    def wait(self, seconds: float = LIMIT) -> int | None:
        """The exit code of the first rank that fails, which ends the others, as torchrun does; 0;
        or None where it has not ended in this time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            codes = [process.exitcode for process in self.ranks]
            failed = [code for code in codes if code]
            if failed:
                self._settle()
                return failed[0]
            if all(code == 0 for code in codes):
                return 0
            multiprocessing.connection.wait(
                [p.sentinel for p in self.ranks if p.exitcode is None], end - time.monotonic()
            )
        return None

    def _settle(self) -> None:
        """Give the other ranks a moment to end by themselves, then none."""
        for process in self.ranks:
            process.join(5 if process.exitcode is None else 0)
        self.kill()
        for process in self.ranks:
            process.join()


def _run(words: list[str], environment: dict[str, str], log: Path, fault: Fault | None) -> None:
    os.setsid()
    os.environ.update(environment)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    from train import cli

    torch.set_num_threads(1)
    if fault is not None and int(os.environ.get("RANK", "0")) == 0:
        _plant(fault)
    sys.argv = ["sparks", *words]
    cli.main()


def _plant(fault: Fault) -> None:
    """Put the fault where it is to happen, in this process only."""
    from importlib import import_module

    module, _, path = fault.where.partition(":")
    owner: Any = import_module(module)
    *classes, name = path.split(".")
    for one in classes:
        owner = getattr(owner, one)
    real, calls = getattr(owner, name), 0

    def deadly(*args: Any, **keys: Any) -> Any:
        nonlocal calls
        paths = [arg for arg in args if isinstance(arg, str | Path)]
        calls += fault.file in "".join(map(str, paths))
        if calls == fault.count and fault.number != signal.SIGKILL:
            os.kill(os.getpid(), fault.number)
        if calls < fault.count or fault.number != signal.SIGKILL:
            return real(*args, **keys)
        if fault.torn:
            _tear(real, args)
        os.killpg(0, signal.SIGKILL)

    setattr(owner, name, deadly)


def _tear(write: Callable[..., object], args: Sequence[Any]) -> None:
    """Leave what `torch.save(value, path)` or `write_whole(path, data)` leave where they are cut
    off in the middle."""
    if isinstance(args[0], Path):
        path, data = args
        path.parent.mkdir(parents=True, exist_ok=True)
        path = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    else:
        value, path = args
        write(value, buffer := io.BytesIO())
        data = buffer.getvalue()
    Path(path).write_bytes(data[: len(data) // 2])


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


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
            **(GRPO if variant.job == "grpo" else SFT),
            **self.keys,
            **variant.keys,
            **more,
        }
        return [word for key, value in keys.items() for word in (f"--{key}", str(value))]

    def start(self, variant: Variant, run: Path, fault: Fault | None = None) -> Running:
        """Begin a run, or go on with it."""
        there = (run / "config.yaml").exists()
        more = {"resume_from_checkpoint": "latest"} if there else {}
        log = run.with_name(f"{run.name}.log")
        return Running(variant, self.arguments(variant, run, **more), log, fault)


@dataclass(frozen=True)
class Outcome:
    """What is left of a run that has ended, by name: hashes of bytes, and the ledger's steps."""

    hashes: dict[str, str]
    steps: list[int]

    @classmethod
    def of(cls, run: Path) -> Outcome:
        """Read it from the run's folder."""
        from tracking.ledger.codec import to_bytes
        from tracking.ledger.ledger import Ledger

        ledger = Ledger(run / "heads")
        last = max(run.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
        files = [*run.glob("*.safetensors"), *last.glob("*.safetensors"), *last.glob("*.pt")]
        kept = {str(p.relative_to(run)): p.read_bytes() for p in (*files, *last.glob("rng*"))}
        for step in ledger.steps():
            untimed = dataclasses.replace(ledger.read(step), seconds=0.0)
            kept[f"record of step {step}"] = _checksum(to_bytes(untimed))
        kept["timeline"] = ledger.timeline_path.read_bytes()
        kept["log"] = json.dumps(_log(last)).encode()
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in kept.items()}
        return cls(hashes, ledger.steps())

    def differences(self, other: Outcome) -> list[str]:
        """What is not the same."""
        names = sorted({*self.hashes, *other.hashes})
        return [name for name in names if self.hashes.get(name) != other.hashes.get(name)]


def _checksum(record: bytes) -> bytes:
    """Of all that a record holds; the order in a safetensors header is not always the same."""
    size = int.from_bytes(record[:8], "little")
    return json.loads(record[8 : 8 + size])["__metadata__"]["sha256"].encode()


def _log(checkpoint: Path) -> list[dict[str, Any]]:
    """What was logged up to a checkpoint, without what a clock says."""
    told = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    return [{key: row[key] for key in row if not key.endswith(CLOCKS)} for row in told]


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

    def _trial(self, variant: Variant, name: str, disturb: Callable[[Path], int]) -> Trial:
        whole, begin = self.undisturbed(variant), time.monotonic()
        run = self.world.folder / f"{_slug(variant.name)}-{len(self.trials)}"
        kills = disturb(run)
        problems = self._end(variant, run)
        found = Outcome.of(run)
        lost = len({*whole.steps} - {*found.steps})
        problems += found.differences(whole)
        trial = Trial(variant.name, name, kills, problems, lost, time.monotonic() - begin)
        self.trials.append(trial)
        return trial

    def _end(self, variant: Variant, run: Path) -> list[str]:
        from tracking.errors import BadInput
        from train.run.manifest import Manifest

        try:
            Manifest.read(run)
            return []  # killed after its end
        except BadInput:
            pass
        job = self.world.start(variant, run)
        code = job.wait()
        return [] if code == 0 else [f"exit code {code}: {tail(job.log, 1)}"]


def tail(log: Path, lines: int = 20) -> str:
    """The end of what a job said."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def warm_up() -> None:
    """Import the libraries in the process that all others are forked from."""
    first = processes.Process(target=time.sleep, args=(0,))
    first.start()
    first.join()


def plan(campaign: Campaign, variants: Sequence[Variant], quick: bool) -> Iterator[Trial]:
    """Make all trials: every fault with one kind of training after another, then random moments."""
    chosen = FAULTS[4::4] if quick else FAULTS
    for index, fault in enumerate(chosen):
        yield campaign.faults(variants[index % len(variants)], fault.name, fault)
    yield campaign.faults(variants[0], "before a manifest, and in its resume", *AGAIN)
    for variant in variants[:2] if quick else variants:
        for _ in range(1 if quick else 2):
            yield campaign.random_kills(variant, 2)


def table(trials: Sequence[Trial]) -> Any:
    """One row per fault and kind of training."""
    from rich.table import Table

    rows: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        rows.setdefault((trial.fault, trial.variant), []).append(trial)
    found = Table("where killed", "training", "kills", "runs", "ended equal", "records lost")
    for (fault, variant), some in rows.items():
        found.add_row(fault, variant, *_totals(some))
    found.add_section()
    found.add_row("all", "", *_totals(trials))
    return found


def _totals(trials: Sequence[Trial]) -> list[str]:
    equal = sum(not trial.problems for trial in trials)
    kills, lost = sum(t.kills for t in trials), sum(t.lost for t in trials)
    return [str(kills), str(len(trials)), str(equal), str(lost)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a handful of trials")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--only", default="", help="kinds of training with this in their names")
    parser.add_argument("--folder", type=Path, help="where the runs are kept")
    options = parser.parse_args()
    from rich.console import Console

    from train.tiny.base import base_model

    console, begin = Console(highlight=False, width=104), time.monotonic()
    variants = [variant for variant in VARIANTS if options.only in variant.name]
    base_model()
    warm_up()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        world = World("tiny", options.folder or Path(folder))
        world.folder.mkdir(parents=True, exist_ok=True)
        campaign = Campaign(world, options.seed)
        for trial in plan(campaign, variants, options.quick):
            verdict = "; ".join(trial.problems) or "equal"
            told = f"{trial.kills} kills, {trial.seconds:.0f} s: {verdict}"
            console.print(f"{trial.variant}, {trial.fault}: {told}")
    console.print(table(campaign.trials), f"{time.monotonic() - begin:.0f} s")
    if any(trial.problems or trial.lost for trial in campaign.trials):
        sys.exit(1)


if __name__ == "__main__":
    main()
