"""What is logged to W&B, read back with W&B's own tool from an offline run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import wandb
from PIL import Image

from tests.tracking.conftest import make_analysis
from tracking import Record, Timeline, dashboard
from tracking.graph import Graph
from tracking.ledger import Analysis

WANDB = Path(sys.executable).parent / "wandb"


def analysis(active: list[bool], **more: Any) -> Analysis:
    """On a graph of 2 layers and 2 heads: these heads are active, the others not."""
    heads = torch.tensor(active)
    return make_analysis(
        Graph(2, 2),
        in_circuit=heads.expand(10, -1).clone(),
        effect=(heads * 0.5).expand(8, -1).clone(),
        **more,
    )


def records() -> list[Record]:
    histories = [[True, False, False, False], [True, True, False, False], [True, False, True, True]]
    return [
        Record(
            step=10 * index,
            layers=2,
            heads=2,
            probes="0",
            analyses={
                "cue": analysis(active),
                "operand": analysis(active[::-1], faithfulness=0.6 if index == 2 else 0.9),
            },
            reward=None if index == 0 else 0.5 + index / 10,
            seconds=1.5,
        )
        for index, active in enumerate(histories)
    ]


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A W&B run to which every record was logged as it came; its folder."""
    folder = tmp_path_factory.mktemp("wandb")
    wandb.init(project="test", mode="offline", dir=folder, settings=wandb.Settings(silent=True))
    for end in range(1, 4):
        dashboard.log_step(Timeline.of(records()[:end]), records()[end - 1].step)
    wandb.finish()
    (run,) = folder.glob("wandb/offline-run-*")
    return run


def history(run: Path) -> list[dict]:
    (log,) = run.glob("*.wandb")
    told = subprocess.run(
        [WANDB, "leet", "inspect", "--json", log], capture_output=True, text=True, check=True
    )
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    return [row["history"] for row in rows if row["type"] == "history"]


def values(row: dict) -> dict:
    items = row.get("item", row)
    if isinstance(items, list):
        return {i.get("key") or "/".join(i["nested_key"]): i["value_json"] for i in items}
    return items


def test_scalars_equal_the_timeline_row_by_row(offline: Path) -> None:
    counts = Timeline.of(records()).counts
    logged = [values(row) for row in history(offline)]
    assert [row["train/global_step"] for row in logged] == [0, 10, 20]
    for row in logged:
        for kind, prefix in (("cue", "heads"), ("operand", "heads/operand")):
            step = row["train/global_step"]
            (expected,) = counts[(counts["kind"] == kind) & (counts["step"] == step)].to_dict(
                "records"
            )
            for name in dashboard.SCALARS:
                if pd.isna(expected[name]):
                    assert f"{prefix}/{name}" not in row
                else:
                    assert row[f"{prefix}/{name}"] == pytest.approx(expected[name])
    assert [row["heads/weak"] for row in logged] == [0, 0, 0]
    assert [row["heads/operand/weak"] for row in logged] == [0, 0, 1]


def test_the_map_is_an_image_and_the_table_has_every_head_once_active(offline: Path) -> None:
    images = list(offline.glob("files/media/images/**/*.png"))
    assert len(images) == 6
    assert all(Image.open(path).size[0] > 100 for path in images)
    tables = sorted(offline.glob("files/media/table/heads/*.json"), key=lambda p: p.stat().st_size)
    rows = json.loads(tables[-1].read_text())
    cue = {(row[0], row[2]) for row in rows["data"] if row[1] == "cue"}
    assert cue == {(0, "L0H0"), (10, "L0H0"), (20, "L0H0"), (10, "L0H1"), (20, "L0H1"),
                   (20, "L1H0"), (20, "L1H1")}  # fmt: skip


def test_the_table_names_the_verdict_of_the_step_a_row_is_of(offline: Path) -> None:
    tables = sorted(offline.glob("files/media/table/heads/*.json"), key=lambda p: p.stat().st_size)
    told = json.loads(tables[-1].read_text())
    step, kind, verdict = (told["columns"].index(name) for name in ("step", "kind", "verdict"))
    for row in told["data"]:
        weak = (row[step], row[kind]) == (20, "operand")
        assert row[verdict] == ("weak" if weak else "sound")


def test_nothing_happens_without_a_run() -> None:
    assert wandb.run is None
    dashboard.log_step(Timeline.of(records()), 20)
