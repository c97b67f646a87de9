"""What is logged to W&B, read back with W&B's own tool from an offline run, and to TensorBoard,
read back with TensorBoard's own reader."""

import io
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import wandb
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.builders.analyses import make_analysis
from tests.builders.wandb_files import history, increments, keys, merged, rows_of
from tracking import Record, Timeline
from tracking.ledger.record import Analysis
from tracking.model.graph import Graph
from tracking.timeline.summary import Summary
from tracking.views import dashboard
from tracking.views.dashboard import Dashboard, Entry
from tracking.views.figures import node_map

PREFIXES = {"cue": "heads", "operand": "heads/operand"}
SHARES = [None, 0.25, 0.125, 0.5]
CONFIG = {"tracking": {"member": 0.9}, "pairs": {"hash": "0", "count": {"cue": 16}}}


def analysis(active: list[bool], **more: Any) -> Analysis:
    """On a graph of 1 layer of 3 heads and an MLP: these nodes are active, the others not."""
    return make_analysis(Graph(1, 3), 0.5 * torch.tensor(active), 0.01, **more)


HISTORIES = [
    [True, False, False, False],
    [True, True, False, False],
    [True, False, True, True],
    [True, False, True, False],
]


def records() -> list[Record]:
    """Four checkpoints; the operand circuit is weak at the last two."""
    return [
        Record(
            step=10 * index,
            n_layers=1,
            n_heads=3,
            pairs="0",
            analyses={
                "cue": analysis(active, **({} if index else {"wiring": None})),
                "operand": analysis(active[::-1], faithfulness=0.6 if index > 1 else 0.9),
            },
            reward=None if index == 0 else 0.5 + index / 10,
            seconds=1.5 + index,
        )
        for index, active in enumerate(HISTORIES)
    ]


def arguments(folder: Path, *report_to: str) -> Any:
    return SimpleNamespace(report_to=list(report_to), output_dir=str(folder))


def begin(folder: Path) -> None:
    wandb.init(
        project="test", mode="offline", dir=folder, id="one", resume="allow",
        settings=wandb.Settings(silent=True),
    )  # fmt: skip


def show(folder: Path, ends: range, *report_to: str) -> None:
    """What a process does that trains from the first of these checkpoints to the last."""
    shown, every = Dashboard(raises=True), records()
    begins = 0 if ends[0] == 1 else every[ends[0] - 2].step
    shown.open(arguments(folder, *report_to), begins, CONFIG)
    for end in ends:
        shown.show(Timeline.of(every[:end]), SHARES[end - 1])
    shown.close()


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A W&B run to which every record was logged as it came; its folder."""
    folder = tmp_path_factory.mktemp("wandb")
    begin(folder)
    show(folder, range(1, 5), "wandb")
    wandb.finish()
    (run,) = folder.glob("wandb/offline-run-*")
    return run


def expected_table(upto: int) -> set[tuple[int, str, str]]:
    """Step, contrast and node of the rows that the table must have: who is or was active."""
    result, seen = set(), set()
    for record, row in zip(records()[:upto], HISTORIES, strict=False):
        for contrast, active in (("cue", row), ("operand", row[::-1])):
            names = zip(record.graph.nodes, active, strict=True)
            seen |= {(contrast, node) for node, on in names if on}
        result |= {(record.step, contrast, node) for contrast, node in seen}
    return result


def test_scalars_equal_the_records_row_by_row(offline: Path) -> None:
    counts = Timeline.of(records()).counts
    rows = history(offline)
    assert [row["train/global_step"] for row in rows] == [0, 10, 20, 30]
    for row, record in zip(rows, records(), strict=True):
        assert row["heads/seconds"] == record.seconds
        for contrast, prefix in PREFIXES.items():
            here = (counts["contrast"] == contrast) & (counts["step"] == record.step)
            (expected,) = counts[here].to_dict("records")
            for name in (*dashboard.SCALARS, *dashboard.CARRIED):
                key = f"{prefix}/{dashboard.logged(name)}"
                if pd.isna(expected[name]):
                    assert key not in row
                else:
                    assert row[key] == pytest.approx(expected[name])
            assert row[f"{prefix}/faithfulness_lo"] == pytest.approx(
                record.analyses[contrast].circuit.faithfulness_low
            )
            assert row[f"{prefix}/jaccard"] == pytest.approx(
                record.analyses[contrast].stability.jaccard
            )
    assert [row["heads/weak"] for row in rows] == [0, 0, 0, 0]
    assert [row["heads/operand/weak"] for row in rows] == [0, 0, 1, 1]
    assert [row.get("heads/share") for row in rows] == SHARES
    for name in ("behaviour", "wiring_kept"):
        ends = [(row.get(f"heads/{name}_lo"), row.get(f"heads/{name}_hi")) for row in rows]
        assert all(low <= high for low, high in ends if low is not None)
    assert ["heads/wiring_kept" in row for row in rows] == [False, True, True, True]
    assert [row["heads/mlps_active"] for row in rows] == [0, 0, 1, 0]


def test_heads_are_drawn_against_training_steps(offline: Path) -> None:
    (metric,) = [row for row in rows_of(offline, "metric") if row.get("glob_name") == "heads/*"]
    assert metric["step_metric"] == "train/global_step"


def test_the_picture_and_the_map_are_images_at_every_step(offline: Path) -> None:
    for row in history(offline):
        for prefix in PREFIXES.values():
            for name in ("picture", "map"):
                image = Image.open(offline / "files" / row[f"{prefix}/{name}.path"])
                assert min(image.size) > 100
                assert min(image.convert("L").tobytes()) < 100  # something is drawn


def test_the_table_grows_by_the_rows_of_each_step_and_has_each_once(offline: Path) -> None:
    grown = increments(offline)
    assert len(grown) == 4
    for table, record in zip(grown, records(), strict=True):
        assert set(table["step"]) == {record.step}
    rows = keys(pd.concat(grown))
    assert len(rows) == len(set(rows))
    assert set(rows) == expected_table(4)


def test_the_table_says_what_the_timeline_says(offline: Path) -> None:
    nodes = Timeline.of(records()).nodes.set_index(["step", "contrast", "node"]).to_dict("index")
    for row in pd.concat(increments(offline)).to_dict("records"):
        expected = nodes[row["step"], row["contrast"], row["node"]]
        for name in set(dashboard.TABLE) - {"step", "contrast", "node"}:
            if pd.isna(expected[name]):
                assert pd.isna(row[name])
            else:
                known = expected[name]
                assert row[name] == (
                    pytest.approx(known, rel=1e-3) if isinstance(known, float) else known
                )


def test_config_has_the_settings_and_the_pairs(offline: Path) -> None:
    config = merged(offline, "config")
    assert config["tracking"] == {"member": 0.9}
    assert config["pairs"] == {"hash": "0", "count": {"cue": 16}}


def test_the_summary_is_that_of_the_run_so_far(offline: Path) -> None:
    summary = merged(offline, "summary")
    expected = Summary.of(Timeline.of(records()), "cue")
    assert summary["heads/sentence"] == expected.sentence
    assert summary["heads/base"] == "L0H0" and summary["heads/recruited"] == "L0H2"
    assert summary["heads/transient"] == "L0H1, M0" and summary["heads/faded"] == ""
    assert summary["heads/behaviour"] == pytest.approx(4.0)
    assert summary["heads/survive"] == pytest.approx(1 / 2)
    assert summary["heads/regime"] == "too few heads"
    assert summary["heads/verdict"] == "sound" and summary["heads/sound"] == 4
    assert summary["heads/operand/verdict"] == "weak"
    assert summary["heads/operand/recruited"] == "L0H1"


def test_a_killed_run_has_a_summary_too() -> None:
    entry = Entry.of(Timeline.of(records()[:1]))
    assert "one checkpoint" in str(entry.summary["heads/sentence"])
    assert entry.summary["heads/recruited"] == ""
    assert entry.summary["heads/survive"] is None and entry.summary["heads/wiring"] is None


def test_a_circuit_that_turns_weak_is_alerted_to_once(offline: Path) -> None:
    (alert,) = rows_of(offline, "alert")
    assert alert["title"] == "Weak circuit on 'operand' pairs"
    assert "step 20" in alert["text"]


def test_a_circuit_that_is_weak_from_the_first_on_is_alerted_to_once() -> None:
    first = records()[0]
    weak = replace(first, analyses={"cue": analysis([True] * 4, faithfulness=0.1)})
    later = replace(weak, step=first.step + 10)
    assert Entry.of(Timeline.of([weak])).turned_weak == ["cue"]
    assert Entry.of(Timeline.of([weak, later])).turned_weak == []


def test_an_absent_behaviour_has_no_faithfulness() -> None:
    first = records()[0]
    absent = replace(first, analyses={"cue": analysis([True] * 4, clean=torch.full((16,), -2.0))})
    shown = [Entry.of(Timeline.of([one])).scalars for one in (first, absent)]
    for name in ("faithfulness", "wiring_kept_lo"):
        assert [f"heads/{name}" in scalars for scalars in shown] == [name == "faithfulness", False]
    assert [scalars["heads/behaviour"] for scalars in shown] == [4.0, 0.0]


def test_a_process_that_goes_on_shows_the_whole_table_without_doubles(tmp_path: Path) -> None:
    begin(tmp_path)
    show(tmp_path, range(1, 4), "wandb")
    show(tmp_path, range(3, 5), "wandb")  # it goes on from step 10 and trains step 20 again
    wandb.finish()
    (run,) = tmp_path.glob("wandb/offline-run-*")
    before, after = increments(run)[:3], increments(run)[3:]
    assert set(keys(pd.concat(before))) == expected_table(3)
    assert sorted(keys(pd.concat(after))) == sorted(expected_table(4))
    last = merged(run, "summary")
    assert last["heads/table.increment_num"] == 1  # it begins anew, with what this process wrote
    assert last["heads/table.nrows"] == len(expected_table(4))


def test_a_long_run_keeps_its_whole_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "INCREMENTS", 2)
    begin(tmp_path)
    show(tmp_path, range(1, 5), "wandb")
    wandb.finish()
    (run,) = tmp_path.glob("wandb/offline-run-*")
    assert sorted(keys(pd.concat(increments(run)[2:]))) == sorted(expected_table(4))


def test_a_picture_in_few_colours_is_the_picture_to_the_eye() -> None:
    timeline, whole = Timeline.of(records()), io.BytesIO()
    node_map(timeline, 30, "cue").savefig(whole, format="png", dpi=100)
    exact = np.asarray(Image.open(whole).convert("RGB")).astype(int)
    shown = np.asarray(dashboard._image(node_map(timeline, 30, "cue")).convert("RGB")).astype(int)
    assert abs(shown - exact).max() <= 8  # of 255


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventAccumulator]:
    """A TensorBoard folder of a run that went on from step 20 after it had been at step 30."""
    folder = tmp_path_factory.mktemp("tensorboard")
    show(folder, range(1, 5), "tensorboard")
    show(folder, range(4, 5), "tensorboard")
    read = EventAccumulator(str(folder / "runs" / "heads"), {"images": 0, "scalars": 0})
    read.Reload()
    yield read


def test_tensorboard_has_the_scalars_and_images_of_w_and_b(
    offline: Path, events: EventAccumulator
) -> None:
    tags: Any = events.Tags()
    for row in history(offline):
        scalars = {key for key in row if key.startswith("heads/") and "." not in key}
        images = {key.removesuffix(".path") for key in row if key.endswith(".path")}
        for key in scalars:
            (shown,) = [e.value for e in events.Scalars(key) if e.step == row[dashboard.STEP]]
            assert shown == pytest.approx(row[key])
        for key in images - {"heads/table"}:
            (image,) = [e for e in events.Images(key) if e.step == row[dashboard.STEP]]
            theirs = Image.open(offline / "files" / row[f"{key}.path"])
            ours = Image.open(io.BytesIO(image.encoded_image_string))
            assert ours.convert("RGB").tobytes() == theirs.convert("RGB").tobytes()
    logged = {key for row in history(offline) for key in row if "." not in key}
    assert {tag for tag in tags["scalars"] if tag not in logged} == set()


def test_tensorboard_follows_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    show(tmp_path, range(1, 2), "tensorboard")
    assert list((tmp_path / "logs" / "heads").glob("events.out.tfevents.*"))


class Broken:
    """A place that cannot be reached."""

    name = "Broken"

    def show(self, entry: Entry, timeline: Timeline) -> None:
        raise OSError("the network is down")

    def alert(self, title: str, text: str) -> None:
        raise OSError("the network is down")

    def close(self) -> None:
        raise OSError("the network is down")


class Keeps:
    """A place that keeps at which steps it was shown images."""

    name = "Keeps"

    def __init__(self) -> None:
        self.drawn: list[int] = []

    def show(self, entry: Entry, timeline: Timeline) -> None:
        if entry.images:
            self.drawn.append(entry.step)

    def alert(self, title: str, text: str) -> None:
        pass

    def close(self) -> None:
        pass


def test_pictures_come_more_and_more_seldom_and_the_last_one_always(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = [count for count in range(1, 101) if dashboard.pictured(count)]
    assert counts == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]
    monkeypatch.setattr(dashboard, "EACH", 1)
    shown, kept = Dashboard(raises=True), Keeps()
    shown.sinks.append(kept)
    for end in (1, 2, 3):
        shown.show(Timeline.of(records()[:end]), None)
    assert kept.drawn == [0, 10]
    shown.close()
    assert kept.drawn == [0, 10, 20]


def test_a_place_that_fails_is_told_and_stops_neither_training_nor_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown = Dashboard()
    shown.open(arguments(tmp_path, "tensorboard"), 0, CONFIG)
    shown.sinks.insert(0, Broken())
    with caplog.at_level(logging.WARNING, "tracking.views.dashboard"):
        shown.show(Timeline.of(records()), 0.5)
    (message,) = {
        record.getMessage() for record in caplog.records if "Broken" in record.getMessage()
    }
    assert message == "Broken failed: the network is down; the ledger has the record all the same"
    shown.close()
    read = EventAccumulator(str(tmp_path / "runs" / "heads"))
    read.Reload()
    assert [event.value for event in read.Scalars("heads/share")] == [0.5]


def test_a_place_that_fails_stops_who_wants_that(tmp_path: Path) -> None:
    shown = Dashboard(raises=True)
    shown.sinks.append(Broken())
    with pytest.raises(OSError, match="the network is down"):
        shown.show(Timeline.of(records()), None)


def test_nothing_happens_without_a_run(tmp_path: Path) -> None:
    assert wandb.run is None
    shown = Dashboard(raises=True)
    shown.open(arguments(tmp_path, "wandb"), 0, CONFIG)
    shown.show(Timeline.of(records()), None)
    shown.alert("Tracking failed", "Step 0")
    shown.close()
    assert not list(tmp_path.iterdir())
