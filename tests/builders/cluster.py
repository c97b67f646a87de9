"""A SLURM of one machine: starts batch scripts, tells their steps to end, queues them again."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.builders.paths import REPO

SRUN = REPO / "tests" / "builders" / "srun.py"


class Cluster:
    """Its commands lie in `folder`; `steps` has a line for each call of `srun`."""

    def __init__(self, folder: Path, nodes: Sequence[str] = ("localhost",), tasks: int = 1) -> None:
        folder.mkdir()
        self.folder, self._steps, self._requeued = folder, folder / "steps", folder / "requeued"
        self.environment = {
            **os.environ,
            "PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "4711",
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
            "requeue 4711") touch {shlex.quote(str(self._requeued))} ;;
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
