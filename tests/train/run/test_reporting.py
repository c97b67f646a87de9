"""W&B that cannot be reached, or dies, costs its own curves and nothing of the run."""

from pathlib import Path

import pytest

from scripts.campaign.campaign import Campaign
from scripts.campaign.variants import Variant
from tests.builders.campaigns import GRPO
from tests.builders.disturbances import WandbKilled, WandbUnreachable
from tracking import Ledger

SHORT: dict[str, object] = {"max_steps": 4}
LOGGED: dict[str, object] = {"log_completions": "true", "logging_steps": 1}
WANDB: dict[str, object] = {"report_to": "wandb"}


@pytest.mark.slow
def test_w_and_b_s_process_killed_stops_no_training(campaign: Campaign, tmp_path: Path) -> None:
    models = []
    keys = {**GRPO.keys, **SHORT, **LOGGED}
    for name, more, disturbance in (("plain", {}, None), ("run", WANDB, WandbKilled())):
        job = campaign.world.start(
            Variant(name, "grpo", {**keys, **more}), tmp_path / name, disturbance
        )
        assert job.wait() == 0, job.log.read_text()
        models.append((tmp_path / name / "model.safetensors").read_bytes())
    text = job.log.read_text()
    assert "wandb-core is killed" in text
    assert text.count("wandb failed") == 1
    assert Ledger(tmp_path / "run" / "heads").steps() == [0, 2, 4]
    assert models[0] == models[1]


@pytest.mark.slow
def test_w_and_b_out_of_reach_is_kept_offline(campaign: Campaign, tmp_path: Path) -> None:
    online = Variant("run", "sft", {**WANDB, "max_steps": 2})
    job = campaign.world.start(online, tmp_path / "run", WandbUnreachable())
    assert job.wait() == 0, job.log.read_text()
    assert "cannot be reached, the run is kept offline" in job.log.read_text()
    assert len(list((tmp_path / "run").glob("wandb/offline-run-*"))) == 1
    assert Ledger(tmp_path / "run" / "heads").steps() == [0, 2]
