"""What a model is made of is told before its weights are loaded, and nothing of it may lack."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.builders.checkpoints import save_adapter, save_model
from tracking import BadInput
from train.checkpoints import models
from train.checkpoints.models import Model


def described(folder: Path) -> Model:
    return models.describe(models.locate(str(folder)))


def test_an_adapter_that_lacks_weights_is_not_loaded(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", 0)
    adapter = save_adapter(tmp_path / "adapter", base, 1)
    assert described(adapter).load() is not None
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(BadInput, match="Found missing adapter keys"):
        described(adapter).load()


def test_weights_keep_the_precision_that_they_were_saved_in(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", 0)
    described(folder).load().to(torch.bfloat16).save_pretrained(tmp_path / "half")
    assert described(tmp_path / "half").load().dtype == torch.bfloat16


@pytest.mark.parametrize("adapted", [False, True])
def test_a_precision_asked_for_is_the_weights_alone(tmp_path: Path, adapted: bool) -> None:
    """Rotations and adapters are as they are in the precision that weights were saved in."""
    base = save_model(tmp_path / "base", seed=0)
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(base)
    folder = save_adapter(tmp_path / "adapter", base, seed=1) if adapted else base
    model = described(folder)
    assert model.precision == torch.bfloat16
    saved, asked = model.load(), model.load(precision=torch.bfloat16)
    for one, other in zip(all_of(saved), all_of(asked), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
    wide = model.load(precision=torch.float32)
    for one, other in zip(all_of(saved), all_of(wide), strict=True):
        assert other.dtype == torch.float32 and torch.equal(one.float(), other)


def all_of(model: Any) -> list[torch.Tensor]:
    """Parameters and buffers, also those that are not saved."""
    return [*model.parameters(), *model.buffers()]


def test_tied_embeddings_lack_nothing(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", 0)
    model = described(folder).load()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tmp_path / "tied")
    assert "lm_head.weight" not in load_file(tmp_path / "tied" / "model.safetensors")
    assert described(tmp_path / "tied").load() is not None


def test_the_tokenizer_is_the_first_that_there_is_or_the_base_s(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", 0)
    mute = save_model(tmp_path / "mute", 0, tokenizer=False)
    adapter = save_adapter(tmp_path / "adapter", base, 1)
    for first in (mute, adapter):
        tokenizer = models.tokenizer([described(first), described(adapter)])
        assert tokenizer.decode(tokenizer("1+2")["input_ids"]).replace(" ", "") == "1+2"
    with pytest.raises(BadInput, match=r"no tokenizer in .*mute"):
        models.tokenizer([described(mute)])


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("/no/where", "'/no/where': no such folder"),
        ("./here@main", "no such folder"),
        ("a b", "no such folder"),
    ],
)
def test_a_word_that_is_no_model_is_told(word: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        models.locate(word)


def test_a_damaged_description_is_told(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", 0)
    (folder / "config.json").write_text("{")
    with pytest.raises(BadInput, match=r"model: its config\.json cannot be read"):
        described(folder)
    adapter = save_adapter(tmp_path / "adapter", save_model(tmp_path / "base", 0), 1)
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(BadInput, match="names no base_model_name_or_path"):
        described(adapter)
