"""The look at a run's pairs before training says what the model answers and changes nothing."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tracking import BadInput, PromptPairs
from train.data.preview import Preview, preview
from train.tiny.tokenizer import tokenizer

CHARACTERS: Any = tokenizer()
HARDLY, NEVER = "clean and corrupted hardly differ", "the right token is never on top"


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_it_says_what_a_plain_pass_says(tiny_decoder, random_pairs, batch_size: int) -> None:
    model, pairs = tiny_decoder(), random_pairs(pairs=40, ragged=True, side="left")
    seen, few = preview(model, pairs, batch_size), pairs[:32]
    with torch.no_grad():
        clean, corrupted = (
            model(input_ids=ids, attention_mask=few.attention_mask).logits[:, -1].softmax(-1)
            for ids in (few.clean, few.corrupted)
        )
    right = few.labels[:, :1]
    assert seen.clean == pytest.approx(float(clean.gather(1, right).mean()), rel=1e-4)
    assert seen.corrupted == pytest.approx(float(corrupted.gather(1, right).mean()), rel=1e-4)
    assert seen.accuracy == float((clean.argmax(-1) == right[:, 0]).float().mean())
    assert (seen.times, seen.count) == (int(clean.argmax(-1).bincount().max()), 32)


def test_the_model_and_the_random_state_are_as_before(tiny_decoder, random_pairs) -> None:
    model = tiny_decoder(attention_dropout=0.5).train()
    model.model.layers[0].eval()
    model.lm_head.weight.requires_grad_(False)
    before = [
        torch.get_rng_state(),
        [module.training for module in model.modules()],
        [p.requires_grad for p in model.parameters()],
        [p.detach().clone() for p in model.parameters()],
    ]
    preview(model, random_pairs())
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == [module.training for module in model.modules()]
    assert before[2] == [p.requires_grad for p in model.parameters()]
    assert all(map(torch.equal, before[3], model.parameters()))


@pytest.mark.parametrize("labels", [None, torch.tensor([[3, 3]])])
def test_pairs_whose_right_token_is_the_wrong_one_are_refused(tiny_decoder, labels: Any) -> None:
    pairs = PromptPairs(torch.tensor([[1, 2]]), torch.tensor([[1, 3]]), labels=labels)
    with pytest.raises(BadInput, match="a correct and an incorrect token that differ"):
        preview(tiny_decoder(), pairs)


@pytest.mark.parametrize(
    ("clean", "corrupted", "accuracy", "hints"),
    [
        (0.9, 0.1, 0.9, []),
        (0.60, 0.49, 0.5, [HARDLY]),
        (0.3, 0.1, 0.0, [NEVER]),
        (0.0, 0.0, 0.0, [NEVER, HARDLY]),
    ],
)
def test_what_looks_wrong_has_a_line(
    clean: float, corrupted: float, accuracy: float, hints: list[str]
) -> None:
    top = CHARACTERS.convert_tokens_to_ids("7")
    first, *more = Preview(clean, corrupted, accuracy, top, 5, 32).lines(CHARACTERS)
    assert first == (
        f"P(right) {clean:.2f} clean, {corrupted:.2f} corrupted; accuracy {accuracy:.2f}; "
        "most often on top '7' (5 of 32)"
    )
    assert len(more) == len(hints) and all(map(str.startswith, more, hints))


def test_a_job_says_it_before_training(
    run_job: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run_job("sft", tmp_path / "run", max_steps=2)
    before = capsys.readouterr().out.partition("training ")[0]
    assert re.search(
        r"^cue +P\(right\) 0\.\d\d clean, 0\.\d\d corrupted; acc", before, re.MULTILINE
    )
