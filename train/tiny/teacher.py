"""The tiny world's teacher: a larger model that does the task, for a base to learn from.

It has the base's tokenizer, and is made as the bases are (`train/tiny/base.py`), on text in which
the cue is always obeyed, every problem is worked out and nothing is written down wrong.
"""

from __future__ import annotations

from pathlib import Path

from train.tiny.base import BaseSettings, base_model

TEACHER = BaseSettings(
    heads=8,
    width=128,
    mlp_width=512,
    steps=240,
    batch_size=32,
    worked=(1.0, 1.0, 1.0),
    slip=0.0,
    cue_obeyed=1.0,
)


def teacher_model(seed: int = 0) -> Path:
    """The folder of the teacher of a seed, model and tokenizer, which lies in the cache; it is
    made where it is not there, once, in about forty seconds on one core, whole or not at all."""
    return base_model(seed, settings=TEACHER)
