"""Stands for SLURM's `srun` on this machine: starts the tasks, hands USR1 and TERM on to them, and
ends with the highest of their codes. The steps are noted in $SLURM_STEPS, a line each."""

import argparse
import os
import signal
import subprocess
import sys


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("nodes", "ntasks", "ntasks-per-node", "nodelist"):
        parser.add_argument(f"--{name}")
    words = sys.argv[1:]
    first = next(place for place, word in enumerate(words) if not word.startswith("--"))
    options, command = parser.parse_args(words[:first]), words[first:]
    count = int(options.ntasks or os.environ["SLURM_NTASKS"])
    with open(os.environ["SLURM_STEPS"], "a") as steps:
        steps.write(f"{options.nodelist} {count}: {' '.join(command)}\n")
    step = {
        "SLURM_NTASKS": str(count), "SLURM_STEP_NUM_TASKS": str(count), "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": options.nodelist or os.environ["SLURM_JOB_NODELIST"],
        "SLURM_NODEID": "0",
    }  # fmt: skip
    tasks = [
        subprocess.Popen(
            command,
            env={**os.environ, **step, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in range(count)
    ]

    def hand_on(number: int, _: object) -> None:
        for task in tasks:
            if task.poll() is None:
                task.send_signal(number)

    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, hand_on)
    return max(128 - code if code < 0 else code for code in [task.wait() for task in tasks])


if __name__ == "__main__":
    sys.exit(main())
