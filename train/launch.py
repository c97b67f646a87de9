"""The processes of a job: which of them this one is, and how they share the training.

Nothing heavy is imported here: who a process is must be known before torch looks.
"""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from typing import Any

from tracking.errors import BadInput

STEP = ("SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NUM_TASKS", "SLURM_SRUN_COMM_PORT")
LOST = (
    "another process of this job has died, or does not answer; go on with "
    "--resume_from_checkpoint latest"
)
SIGNS = (  # in errors of gloo, NCCL and the store
    "Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting",
    "ncclRemoteError", "collective operation timeout", "communicator was aborted",
)  # fmt: skip


def take_rank(env: MutableMapping[str, str]) -> None:
    """Where `srun` started several processes of a job, give each the variables that torch reads:
    RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; those that are set stay.

    Raises `BadInput` where SLURM has several tasks and `srun` did not start this process, or where
    the address of the first cannot be known: each would train by itself.
    """
    tasks = int(env.get("SLURM_STEP_NUM_TASKS") or env.get("SLURM_NTASKS") or 1)
    if "RANK" in env or "SLURM_PROCID" not in env or tasks == 1:
        return
    if not any(name in env for name in STEP):
        raise BadInput(
            f"SLURM has {tasks} tasks and srun did not start this process: put srun before it, or "
            "ask for one task and start the processes with accelerate launch"
        )
    nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST") or ""
    if not (nodes or "MASTER_ADDR" in env):
        raise BadInput("srun has not said on which nodes it runs: set MASTER_ADDR to the first one")
    env.update(
        RANK=env["SLURM_PROCID"],
        WORLD_SIZE=str(tasks),
        LOCAL_RANK=env.get("SLURM_LOCALID", "0"),
        MASTER_ADDR=env.get("MASTER_ADDR") or first_node(nodes),
        MASTER_PORT=env.get("MASTER_PORT") or str(_port(env)),
    )


def first_node(nodes: str) -> str:
    """The first node of a list as SLURM writes it: `gpu[03-05,9],cpu1` is `gpu03`."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first[0] if first else nodes)


def _port(env: MutableMapping[str, str]) -> int:
    """The same in all processes of a step, another in the next."""
    job, step = (re.sub(r"\D", "", env.get(name, "")) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return 20000 + (7 * int(job or 0) + int(step or 0)) % 20000


def strategy(args: Any) -> str:
    """How the processes of a job with these training arguments share a model: `DEEPSPEED ZeRO-3`,
    `FSDP2`, `MULTI_GPU` (DDP), `NO` (one process), ..."""
    if args.deepspeed_plugin is not None:
        return f"DEEPSPEED ZeRO-{args.deepspeed_plugin.zero_stage}"
    if version := fsdp_version(args):
        return f"FSDP{version}"
    return str(args.distributed_state.distributed_type.value)


def sharded(args: Any) -> bool:
    """Whether no process of a job with these training arguments holds all weights."""
    shared = strategy(args)
    return shared.startswith("FSDP") or shared == "DEEPSPEED ZeRO-3"


def fsdp_version(args: Any) -> int:
    """Of FSDP, by accelerate's variables or the trainer's own arguments; 0 where it is not used."""
    if args.fsdp_plugin_args is not None:
        return int(args.fsdp_plugin_args["fsdp_version"])
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return 0
    return int(os.environ.get("FSDP_VERSION", "1"))


def shard_on_cpus(args: Any) -> None:
    """Let accelerate shard on CPUs too. It knows FSDP for accelerators only: with processes on
    CPUs it would train the whole model in each, without a word."""
    from accelerate.utils import DistributedType

    state = args.distributed_state
    if fsdp_version(args) and state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_GPU  # its device stays the CPU


def lost_a_process(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, is that another process of the job has died or does
    not answer."""
    from torch.distributed import DistNetworkError, DistStoreError

    while error is not None:
        if isinstance(error, DistNetworkError | DistStoreError):
            return True
        if isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS):
            return True
        error = error.__cause__ or error.__context__
    return False
