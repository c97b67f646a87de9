"""A SLURM of one machine: starts batch scripts, tells their steps to end, queues them again."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from tests.builders.paths import REPO

SRUN = REPO / "tests" / "builders" / "srun.py"


class Cluster:
    """Its commands lie in `folder`; `steps` has a line for each call of `srun`."""

    def __init__(self, folder: Path, nodes: Sequence[str] = ("localhost",), tasks: int = 1) -> None:
        folder.mkdir()
        job = str(os.getpid())  # the port of its processes is made from it
        self.folder, self._steps, self._requeued = folder, folder / "steps", folder / "requeued"
        self.printed = ""  # by the last job of the queue
        self.environment = {
            **os.environ,
            "PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SLURM_JOB_ID": job,
            "SLURM_JOB_NODELIST": ",".join(nodes),
            "SLURM_NTASKS": str(tasks * len(nodes)),
            "SLURM_NTASKS_PER_NODE": str(tasks),
            "SLURM_STEPS": str(self._steps),
        }
        self.command("srun", f'exec {sys.executable} {SRUN} "$@"')
        names = " ".join(nodes)
        self.command(
            "scontrol",
            f"""case "$1 $2" in
            "show hostnames") printf '%s\\n' {names} ;;
            "requeue {job}") touch {shlex.quote(str(self._requeued))} ;;
            *) exit 9 ;;
            esac""",
        )

    def command(self, name: str, script: str) -> None:
        """Put a command in the path of the jobs."""
        path = self.folder / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def start(self, script: Path, *words: object) -> subprocess.Popen[str]:
        """Begin a batch script."""
        self._requeued.unlink(missing_ok=True)
        return subprocess.Popen(
            ["bash", str(script), *map(str, words)],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def queue(self, script: Path, *words: object, asked_at: Callable[[], object]) -> list[int]:
        """Begin a batch script, tell its steps to end once `asked_at` holds, and begin it again as
        often as it asks for that; the codes that it ended with."""
        job, codes = self.start(script, *words), []
        while not asked_at() and job.poll() is None:
            time.sleep(0.05)
        self.signal(job)
        while True:
            self.printed, _ = job.communicate()
            codes.append(job.returncode)
            if not self.requeued:
                return codes
            job = self.start(script, *words)

    def signal(self, job: subprocess.Popen[str], number: int = signal.SIGUSR1) -> None:
        """Tell all steps of a job, as `#SBATCH --signal` does; the script itself is not told."""
        for process in psutil.Process(job.pid).children():
            if str(SRUN) in process.cmdline():
                process.send_signal(number)

    @property
    def requeued(self) -> bool:
        """Whether the last script asked for that."""
        return self._requeued.exists()

    @property
    def steps(self) -> list[str]:
        return self._steps.read_text().splitlines()
