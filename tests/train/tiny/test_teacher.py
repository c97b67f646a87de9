"""The tiny world's teacher is larger than the bases, of their tokens, and is taught no mistakes."""

import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from train.tiny import base, teacher
from train.tiny.base import BaseSettings
from train.tiny.task import Problem
from train.tiny.tokenizer import tokenizer


def test_all_that_a_teacher_reads_is_worked_out_and_right() -> None:
    texts = [*islice(base._texts(random.Random(0), teacher.TEACHER), 500)]
    for prompt, reply in texts:
        cue, expression = prompt[0], prompt[2:-1]
        assert reply == Problem(expression, cue).solution, prompt
    assert {prompt[0] for prompt, _ in texts} == {"+", "-"}


def test_a_teacher_is_made_like_a_base_and_is_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARKS_CACHE", str(tmp_path))
    monkeypatch.setattr(teacher, "TEACHER", replace(teacher.TEACHER, steps=1, batch_size=2))
    folder = teacher.teacher_model(3)
    assert folder.parent == tmp_path and folder == teacher.teacher_model(3)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    bases = base._new_model(BaseSettings(), tokenizer())
    assert model.num_parameters() > 1.5 * bases.num_parameters()
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == tokenizer().get_vocab()
