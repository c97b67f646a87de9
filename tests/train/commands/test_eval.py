"""`sparks eval` as a user runs it: a table, a folder that goes on, mistakes in one line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.builders.paths import REPO
from tracking import BadInput
from train.commands.eval import main
from train.evals.responses import read

EASY = ["tiny", "--benchmarks", "tiny-easy", "--limit", "5", "--samples", "2"]


def test_it_prints_a_table_and_writes_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*EASY, "--output_dir", str(tmp_path)])
    printed = capsys.readouterr().out
    (summary,) = pd.read_parquet(tmp_path / "summary.parquet").to_dict("records")
    rows = read(tmp_path)
    assert len(rows) == 10
    assert summary["avg"] == pytest.approx(rows["right"].mean())
    assert f"{summary['avg']:.3f} ({summary['avg_low']:.3f}-{summary['avg_high']:.3f})" in printed
    assert "responses  10 to generate, 0 there" in printed
    assert "avg@2" in printed and "pass@2" in printed

    main([*EASY, "--output_dir", str(tmp_path), "--samples", "3"])
    assert "responses  5 to generate, 10 there" in capsys.readouterr().out
    assert len(read(tmp_path)) == 15


def test_greedy_has_no_pass_at_k(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*EASY, "--samples", "1", "--temperature", "0", "--output_dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "greedy, at most 36 tokens" in printed
    assert "avg@1" in printed and "pass@" not in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--benchmarks", "tiny-midle"], "unknown benchmark 'tiny-midle'; one of amc23"),
        (["--samples", "0"], "samples is 0"),
        (["--temperature", "-1"], "temperature is -1.0"),
        (["--temperature", "0"], "temperature 0 is greedy, so samples must be 1, not 2"),
        (["--max_new_tokens", "128"], "max_new_tokens is 128, but the longest prompt leaves"),
        (["--benchmark_dir", "nowhere"], "--benchmark_dir nowhere: no such folder"),
        (["--limit", "0"], "limit is 0"),
        (["--sample", "1"], "unrecognized arguments: --sample"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(
    words: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        main([*EASY, *words, "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    main([*EASY, "--output_dir", str(tmp_path)])
    other = str(REPO / "train" / "tiny" / "bases" / "seed1")
    with pytest.raises(BadInput, match=r"holds other responses: model was .*seed0', is .*seed1'"):
        main([other, *EASY[1:], "--output_dir", str(tmp_path)])


def test_a_signal_ends_it_at_once_and_it_goes_on(tmp_path: Path) -> None:
    words = ["tiny", "--benchmarks", "tiny-hard", "--batch_size", "2", "--output_dir"]
    job = [sys.executable, "-m", "train.cli", "eval", *words, str(tmp_path)]
    process = subprocess.Popen(job, cwd=REPO, stderr=subprocess.PIPE, text=True)
    first = tmp_path / "responses" / "part-000000.parquet"
    for _ in range(600):
        if first.exists():
            break
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 85
    there = len(read(tmp_path))
    assert 0 < there < 1024
    kept = f"{there} of 1024 responses are kept"
    assert printed == f"sparks: asked to end; {kept}; the same command goes on\n"
