"""A run is tracked on pairs of the user's own, and a mistake in them stops it before it begins."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tracking import BadInput, Ledger
from tracking.pairs.frozen import load_pairs

Run = Callable[..., Path]


def pairs_file(folder: Path, count: int = 16, **more: str) -> Path:
    rows = [
        {"clean": f"{i:02}+1=", "corrupted": f"{i:02}+2=", "correct": "a", "incorrect": "b", **more}
        for i in range(count)
    ]
    path = folder / "letters.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_a_run_is_tracked_on_pairs_of_one_s_own(run_job: Run, tmp_path: Path) -> None:
    keys = {"track_pairs_file": pairs_file(tmp_path), "track_contrasts": "letters", "max_steps": 2}
    run = run_job("sft", tmp_path / "run", **keys)
    pairs = load_pairs(run / "heads" / "pairs.safetensors")
    assert {contrast: len(of_contrast) for contrast, of_contrast in pairs.items()} == {
        "letters": 16
    }
    assert [*Ledger(run / "heads").read(2).analyses] == ["letters"]


@pytest.mark.parametrize(
    ("count", "keys", "complaint"),
    [
        (16, {"track_contrasts": "operand"}, "no contrast 'operand' in .*track_contrasts: letters"),
        (15, {"track_contrasts": "letters"}, "15 usable pairs of 15"),
        (16, {"track_pairs_dataset": "tiny"}, "or from track_pairs_dataset; name one"),
        (16, {"track_pairs_file": "missing.jsonl"}, "missing.jsonl: No such file"),
    ],
)
def test_a_mistake_in_them_is_told_before_training(
    run_job: Run, tmp_path: Path, count: int, keys: dict[str, str], complaint: str
) -> None:
    keys = {"track_pairs_file": str(pairs_file(tmp_path, count)), **keys}
    with pytest.raises(BadInput, match=complaint):
        run_job("sft", tmp_path / "run", **keys)
