"""Runs whose processes share a model's weights are tracked as if one process had all of them."""

import json
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from scripts.campaign.campaign import Campaign
from scripts.campaign.faults import Fault, Place
from scripts.campaign.running import tail
from scripts.campaign.variants import FSDP2, LORA, ZERO3, Variant
from tracking import BadInput, Ledger, contrast
from train.commands import sft, track
from train.launch import LOST
from train.run.stop import PreemptionCallback

SHORT: dict[str, object] = {"max_steps": 2, "track_contrasts": "operand"}
can_compile = shutil.which("g++") and shutil.which("ninja")  # what DeepSpeed needs on a CPU

zero3 = pytest.param(
    Variant("sft, ZeRO-3", "sft", SHORT, ranks=2, launch=ZERO3),
    "DEEPSPEED ZeRO-3",
    marks=pytest.mark.skipif(
        not (find_spec("deepspeed") and can_compile), reason="DeepSpeed cannot run here"
    ),
    id="ZeRO-3",
)
fsdp2 = pytest.param(
    Variant("sft, LoRA, FSDP2", "sft", {**SHORT, **LORA}, ranks=2, launch=FSDP2),
    "FSDP2",
    id="FSDP2, LoRA",
)


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "strategy"), [zero3, fsdp2])
def test_the_ledger_of_shared_weights_is_that_of_one_process(
    campaign: Campaign, tmp_path: Path, variant: Variant, strategy: str
) -> None:
    run, one = tmp_path / "run", tmp_path / "one"
    job = campaign.world.start(variant, run)
    assert job.wait() == 0, tail(job.log)
    last = run / "checkpoint-2"
    assert json.loads((last / "sparks.json").read_bytes())["identity"]["layout"] == {
        "processes": 2, "strategy": strategy, "device": "cpu",
    }  # fmt: skip
    assert [*last.glob("**/zero_pp_rank_1*model*"), *last.glob("pytorch_model_fsdp.bin")]
    shutil.copytree(run, one, ignore=shutil.ignore_patterns("step-*", "*.parquet"))
    track.main([str(one)])
    ours, theirs = Ledger(run / "heads"), Ledger(one / "heads")
    assert ours.steps() == theirs.steps() == [0, 2]
    shared, alone = (pd.read_parquet(ledger.timeline_path) for ledger in (ours, theirs))
    pd.testing.assert_frame_equal(shared, alone, rtol=1e-5, atol=1e-5)
    with pytest.raises(BadInput, match=f"strategy was '{strategy}', is 'NO'"):
        more = {"max_steps": 4, "resume_from_checkpoint": "latest"}
        sft.main(campaign.world.arguments(variant, run, **more))


@pytest.mark.parametrize(
    ("dead", "where"),
    [(0, Place(contrast, "attributed")), (1, Place(PreemptionCallback, "on_step_end"))],
    ids=["while it is waited for", "in training"],
)
def test_the_death_of_a_process_ends_the_other_in_one_line(
    campaign: Campaign, tmp_path: Path, dead: int, where: Place
) -> None:
    both = Variant("sft, 2 processes", "sft", SHORT, ranks=2)
    job = campaign.world.start(both, tmp_path / "run", Fault("", where, rank=dead))
    job.wait()
    codes = [rank.exitcode for rank in job.ranks]
    assert codes[dead] == -signal.SIGKILL and codes[1 - dead] == 1, tail(job.log)
    assert tail(job.log, 1) == f"sparks: {LOST}"
    assert "Traceback" not in job.log.read_text()
