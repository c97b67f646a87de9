"""Runs whose processes share a model's weights are tracked as if one process had all of them."""

import json
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest

from scripts.campaign.campaign import Campaign
from scripts.campaign.faults import Fault, Place
from scripts.campaign.running import tail
from scripts.campaign.variants import FSDP2, LORA, ZERO3, Variant
from tracking import BadInput, Ledger, contrast
from train.commands import grpo, sft
from train.launch import LOST
from train.run.stop import PreemptionCallback

COMMANDS = {"grpo": grpo, "sft": sft}
SHORT: dict[str, object] = {"max_steps": 2, "track_contrasts": "operand"}
SHARED = {**SHORT, "track_batch_size": 5}  # of 16 pairs
can_compile = shutil.which("g++") and shutil.which("ninja")  # what DeepSpeed needs on a CPU

zero3 = pytest.param(
    Variant("grpo, ZeRO-3", "grpo", SHORT, ranks=2, launch=ZERO3),
    "DEEPSPEED ZeRO-3",
    marks=pytest.mark.skipif(
        not (find_spec("deepspeed") and can_compile),
        reason="no g++, or no DeepSpeed: pip install -e '.[deepspeed]'",
    ),
    id="GRPO, ZeRO-3",
)
fsdp2 = pytest.param(
    Variant("sft, LoRA, FSDP2", "sft", {**SHORT, **LORA}, ranks=2, launch=FSDP2),
    "FSDP2",
    id="SFT, LoRA, FSDP2",
)


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "strategy"), [zero3, fsdp2])
def test_the_ledger_of_shared_weights_is_that_of_one_process(
    campaign: Campaign, variant: Variant, strategy: str
) -> None:
    trial, run = campaign.by_one_process(variant), campaign.folder(variant)
    assert (trial.problems, trial.lost) == ([], 0)
    assert Ledger(run / "heads").steps() == [0, 2]
    last = run / "checkpoint-2"
    assert json.loads((last / "sparks.json").read_bytes())["identity"]["layout"] == {
        "processes": 2, "strategy": strategy, "device": "cpu",
    }  # fmt: skip
    assert [*last.glob("**/zero_pp_rank_1*model*"), *last.glob("pytorch_model_fsdp.bin")]
    with pytest.raises(BadInput, match=f"strategy was '{strategy}', is 'NO'"):
        more = {"max_steps": 4, "resume_from_checkpoint": "latest"}
        COMMANDS[variant.job].main(campaign.world.arguments(variant, run, **more))


def test_pairs_that_processes_share_have_the_records_of_one_process(campaign: Campaign) -> None:
    variant = Variant("grpo, LoRA, shared pairs", "grpo", {**SHARED, **LORA}, ranks=2)
    trial = campaign.by_one_process(variant)
    assert (trial.problems, trial.lost) == ([], 0)
    assert Ledger(campaign.folder(variant) / "heads").steps() == [0, 2]


@pytest.mark.parametrize(
    ("launch", "dead", "where"),
    [
        (None, 0, Place(contrast, "attributed")),
        (None, 1, Place(contrast, "node_effects")),
        (None, 1, Place(PreemptionCallback, "on_step_end")),
        (FSDP2, 0, Place(contrast, "attributed")),
        (FSDP2, 1, Place(PreemptionCallback, "on_step_end")),
    ],
    ids=["DDP, helped", "DDP, helping", "DDP, training", "FSDP2, waited for", "FSDP2, training"],
)
def test_the_death_of_a_process_ends_the_other_in_one_line(
    campaign: Campaign, tmp_path: Path, launch: Path | None, dead: int, where: Place
) -> None:
    both = Variant("sft, 2 processes", "sft", SHARED, ranks=2, launch=launch)
    job = campaign.world.start(both, tmp_path / "run", Fault("", where, rank=dead))
    job.wait()
    codes = [rank.exitcode for rank in job.ranks]
    assert codes[dead] == -signal.SIGKILL and codes[1 - dead] == 1, tail(job.log)
    assert tail(job.log, 1) == f"sparks: {LOST}"
    assert "Traceback" not in job.log.read_text()
