"""What a model is made of is told before its weights are loaded, and nothing of it may lack."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

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
