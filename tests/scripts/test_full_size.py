"""A record at the true size: its prompts, its parts, what it says where something is missing."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts import full_size
from scripts.bench.parts import PARTS, by_part
from scripts.bench.prompts import digit_pairs, random_pairs, told_apart
from scripts.bench.shapes import QWEN, Shape, build
from tests.builders.records import recorded
from tests.builders.tokenizers import CHARACTERS
from tracking.errors import BadInput

TINY = Shape("tiny", 2, 4, 2, 8, 32, 64, 60, pairs=4, tokens=20)


def problems(folder: Path, *texts: str) -> Path:
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps({"problem": text}) + "\n" for text in texts))
    return path


def test_real_prompts_are_of_one_length_and_differ_in_their_digits_alone(tmp_path: Path) -> None:
    path = problems(tmp_path, "What is 12 + 9?", "No number.", "Is 7 prime? Are 8 and 19?")
    pairs = digit_pairs(CHARACTERS, path, pairs=9, tokens=15)
    assert pairs.clean.shape == (9, 15)
    texts = (
        [str(CHARACTERS.decode(ids)) for ids in side] for side in (pairs.clean, pairs.corrupted)
    )
    rows = list(zip(*texts, strict=True))
    assert rows[0] == ("What is 12 + 9?", "What is 23 + 0?")
    assert len({clean for clean, _ in rows}) == 9
    for clean, corrupted in rows:
        assert clean != corrupted and clean[-1] == corrupted[-1]
        changed = [ours for ours, theirs in zip(clean, corrupted, strict=True) if ours != theirs]
        assert all(letter.isdigit() for letter in changed)


def test_too_few_tokens_or_no_problems_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="fewer than 50"):
        digit_pairs(CHARACTERS, problems(tmp_path, "Is 7 prime?"), pairs=1, tokens=50)
    with pytest.raises(BadInput, match="one `problem` a line"):
        digit_pairs(CHARACTERS, tmp_path / "none.jsonl", pairs=1, tokens=5)


def test_labels_are_those_that_a_model_tells_apart_best() -> None:
    model, pairs = build(TINY, "cpu"), random_pairs(60, 5, 20)
    labelled = told_apart(model, pairs, batch_size=2)
    with torch.no_grad():
        clean, corrupted = (model(ids).logits[:, -1] for ids in (pairs.clean, pairs.corrupted))
    assert labelled.labels is not None
    right, wrong = (clean - corrupted).gather(1, labelled.labels).unbind(1)
    assert bool((right > 0).all() and (wrong < 0).all())
    assert torch.allclose(right, (clean - corrupted).amax(1))


def test_every_part_of_a_record_is_said_once_as_it_is_done() -> None:
    model = build(TINY, "cpu")
    pairs, reported = told_apart(model, random_pairs(60, 4, 20), 4), []
    with by_part(model.device, lambda part, cost: reported.append((part, cost))):
        recorded(model, pairs)
    assert [part for part, _ in reported] == list(PARTS.values())
    assert all(cost.seconds >= 0 and cost.peak_gb > 0 for _, cost in reported)


def test_it_prints_a_table_of_the_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(full_size, "QWEN", TINY)
    monkeypatch.setattr(sys, "argv", ["full_size", "--random_tokens"])
    full_size.main()
    printed = capsys.readouterr().out
    assert "prompts: random tokens" in printed and "float32 on cpu; 4 pairs of 24 tokens" in printed
    assert (
        "| floor: 8 forward and backward passes |" in printed
        and "| **whole record 0** |" in printed
    )
    assert "with all edges patched 1.000" in printed


def test_without_the_tokenizer_it_says_what_would_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["full_size", "--tokenizer", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        full_size.main()
    assert "or take --random_tokens" in capsys.readouterr().err


def test_the_real_tokenizer_and_problems_make_the_pairs_that_are_asked_for(shared: Path) -> None:
    from transformers import AutoTokenizer

    if not (shared / "qwen-tokenizer").is_dir():
        pytest.skip("the tokenizer is not there")
    tokenizer: Any = AutoTokenizer.from_pretrained(shared / "qwen-tokenizer")
    pairs = digit_pairs(tokenizer, shared / "data" / "amc23.jsonl", pairs=64, tokens=256)
    assert pairs.clean.shape == (64, 256) and int(pairs.clean.max()) < QWEN.vocabulary
    assert bool((pairs.clean != pairs.corrupted).any(1).all())
    assert len(pairs.clean.unique(dim=0)) == 64
