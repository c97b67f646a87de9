"""Which of a job's processes this one is, and what the death of another looks like."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from tests.builders.ranks import in_two
from tracking import BadInput
from train.launch import first_node, lost_a_process, take_rank

SRUN = {
    "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "8",
    "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "gpu[03,07]",
}  # fmt: skip
TORCH = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu03"}


def newly_set(env: dict[str, str]) -> dict[str, str]:
    """What is new in an environment."""
    after = dict(env)
    take_rank(after)
    return {name: value for name, value in after.items() if env.get(name) != value}


def test_a_process_that_srun_started_takes_its_rank() -> None:
    new = newly_set(SRUN)
    port = new.pop("MASTER_PORT")
    assert new == TORCH
    assert 1024 < int(port) < 65536


def test_all_processes_of_a_step_meet_at_one_port_and_the_next_at_another() -> None:
    ports = [newly_set({**SRUN, "SLURM_PROCID": str(rank)})["MASTER_PORT"] for rank in range(8)]
    assert len({*ports}) == 1
    assert newly_set({**SRUN, "SLURM_STEP_ID": "1"})["MASTER_PORT"] != ports[0]


def test_what_the_user_has_set_stays() -> None:
    assert "MASTER_ADDR" not in newly_set({**SRUN, "MASTER_ADDR": "head", "MASTER_PORT": "1234"})


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"},
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},  # one launcher a job
        {**SRUN, "RANK": "0"},  # under torchrun, which srun started
    ],
)
def test_one_task_or_another_launcher_is_left_alone(env: dict[str, str]) -> None:
    assert newly_set(env) == {}


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu03", "gpu03"), ("gpu03,gpu07", "gpu03"), ("gpu[03-05,9],cpu1", "gpu03"),
        ("a-[1,4]-b[07-08],c", "a-1-b07"), ("10.0.0.4", "10.0.0.4"),
    ],
)  # fmt: skip
def test_the_first_node_of_a_list(nodes: str, first: str) -> None:
    assert first_node(nodes) == first


def test_processes_that_srun_did_not_start_are_refused() -> None:
    with pytest.raises(BadInput, match="SLURM has 2 tasks and srun did not start"):
        newly_set({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"})


def test_without_the_first_nodes_name_nothing_is_guessed() -> None:
    with pytest.raises(BadInput, match="set MASTER_ADDR"):
        newly_set({name: value for name, value in SRUN.items() if "NODELIST" not in name})


def test_the_death_of_another_process_is_told_from_other_errors(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        if rank:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            dist.barrier()
        except RuntimeError as error:
            os._exit(0 if lost_a_process(error) else 3)

    assert in_two(tmp_path, work) == [0, -signal.SIGKILL]
    assert not lost_a_process(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not lost_a_process(BadInput("gloo"))


def test_a_process_that_does_not_answer_is_lost_too(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        time.sleep(5 * rank)
        try:
            dist.barrier()
        except RuntimeError as error:
            os._exit(0 if rank or lost_a_process(error) else 3)
        os._exit(0 if rank else 4)

    assert in_two(tmp_path, work) == [0, 0]
