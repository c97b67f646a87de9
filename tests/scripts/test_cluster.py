"""What runs on a cluster: asked to end, a job saves, is queued again, and goes on."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.campaigns import FAST
from tests.builders.cluster import Cluster
from tests.builders.paths import REPO, TINY
from tracking import Ledger
from train.run import resume
from train.run.manifest import Manifest

SLURM = REPO / "scripts" / "slurm"
BATCH = sorted(SLURM.glob("*.sbatch"))
TOOLS = Path(sys.executable).parent


def check(tool: str, *words: object) -> None:
    if not (TOOLS / tool).exists():
        pytest.skip(f"{tool} is not installed")
    ran = subprocess.run([TOOLS / tool, *map(str, words)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_shell_scripts_are_sound() -> None:
    check("shellcheck", *BATCH, *REPO.glob("scripts/*.sh"))


def test_the_dockerfile_is_sound() -> None:
    check("hadolint", REPO / "docker" / "Dockerfile")


def test_the_kubernetes_job_follows_its_schema() -> None:
    check("kubernetes-validate", "--strict", REPO / "scripts" / "k8s" / "job.yaml")


@pytest.mark.parametrize(("code", "queued"), [(0, False), (1, False), (2, False), (85, True)])
@pytest.mark.parametrize("script", BATCH, ids=lambda path: path.stem)
def test_a_job_is_queued_again_where_it_was_asked_to_end_and_only_there(
    script: Path, code: int, queued: bool, tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path / "bin")
    cluster.command("sparks", f"exit {code}")
    assert cluster.start(script, "recipe.yaml", tmp_path / "run").wait() == code
    assert cluster.requeued == queued


def test_a_run_that_there_is_goes_on(tmp_path: Path) -> None:
    cluster, run = Cluster(tmp_path / "bin"), tmp_path / "run"
    cluster.command("sparks", f"mkdir -p {run}; touch {run}/config.yaml")
    for _ in range(2):
        assert cluster.start(SLURM / "sft.sbatch", "recipe.yaml", run, "--seed", 3).wait() == 0
    first, second = cluster.steps
    assert first.endswith("--resume_from_checkpoint false --seed 3")
    assert second.endswith("--resume_from_checkpoint latest --seed 3")


def test_the_last_node_serves_generations_and_the_others_train(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "bin", ("a", "b", "c"), tasks=2)
    cluster.environment["VLLM"] = "a/model"
    seen = tmp_path / "seen"
    cluster.command("sparks", f'echo "$MASTER_ADDR $SLURM_PROCID/$SLURM_NTASKS" >> {seen}')
    cluster.command("trl", "sleep 60")
    job = cluster.start(SLURM / "grpo.sbatch", "recipe.yaml", tmp_path / "run")
    assert job.wait(30) == 0  # the server ends with the training
    assert sorted(seen.read_text().split("\n"))[1:] == [f"a {rank}/4" for rank in range(4)]
    assert {step.split()[0] for step in cluster.steps} == {"a,b", "c"}
    (training,) = [step for step in cluster.steps if step.startswith("a,b 4: ")]
    assert "--use_vllm true --vllm_mode server --vllm_server_host c" in training


def test_a_server_without_a_node_of_its_own_is_refused(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "bin")
    cluster.environment["VLLM"] = "a/model"
    job = cluster.start(SLURM / "grpo.sbatch", "recipe.yaml", tmp_path / "run")
    printed, _ = job.communicate()
    assert job.returncode == 2 and "ask for --nodes 2 or more" in printed


@pytest.mark.slow
def test_a_job_of_two_tasks_whose_time_is_up_is_queued_again_and_ends(tmp_path: Path) -> None:
    cluster, run = Cluster(tmp_path / "bin", tasks=2), tmp_path / "run"
    keys = {**FAST, "max_steps": 6, "save_steps": 3}
    words = [word for key, value in keys.items() for word in (f"--{key}", str(value))]
    codes = cluster.queue(
        SLURM / "sft.sbatch", TINY / "sft.yaml", run, *words, asked_at=lambda: resume.complete(run)
    )
    assert codes == [85, 0], cluster.printed
    manifest = Manifest.read(run)
    assert manifest.step == 6 and manifest.identity.layout["processes"] == 2
    assert {0, 3, 6} <= {*Ledger(run / "heads").steps()}
