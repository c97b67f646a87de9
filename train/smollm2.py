"""SmolLM2-135M-Instruct where `scripts/get_smollm2.sh` has put it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tracking.errors import BadInput
from train.cache import cached

NAME = "smollm2-135m-instruct"


def smollm2() -> Path:
    """Its folder in the cache: model and tokenizer. Raises `BadInput` where it is not there."""
    folder = cached(NAME)
    if not folder.is_dir():
        raise BadInput(
            f"model 'smollm2': {folder} is not there; bash scripts/get_smollm2.sh fetches it, or "
            "name the Hub's: model_name_or_path: HuggingFaceTB/SmolLM2-135M-Instruct"
        )
    return folder


def smollm2_tokenizer() -> Any:
    """Its tokenizer, which splits digits. Raises `BadInput` as `smollm2`."""
    return AutoTokenizer.from_pretrained(smollm2())
