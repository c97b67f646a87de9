"""An exported checkpoint gives what the model gives within `intervene`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.builders.closeness import assert_close
from tests.builders.decoders import VARIANTS, with_adapter
from tests.builders.generation import generated, prompts
from tests.builders.tiny_model import save_tiny_model
from tests.builders.untouched import assert_same, everything
from tracking.errors import BadInput
from tracking.interventions.export import export
from tracking.interventions.intervene import intervene

FACTORS = {"L0H1": 0.0, "L1H0": 0.5, "L1H3": -1.7, "M0": 0.25, "M1": 1.3}
SHAPES = [(arch, more) for arch, variants in VARIANTS.items() for more in variants]


def loaded(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype="auto").eval()


@pytest.mark.parametrize(("arch", "more"), SHAPES, ids=str)
def test_the_checkpoint_gives_the_same_logits_and_texts(
    tiny_decoder, tmp_path: Path, arch: str, more: dict[str, Any]
) -> None:
    model, inputs = tiny_decoder(arch, **more), prompts()
    before = everything(model)
    export(model, FACTORS, tmp_path / "new" / "model")
    assert_same(before, everything(model))
    written = loaded(tmp_path / "new" / "model")
    tied = written.lm_head.weight is written.model.embed_tokens.weight
    assert tied == more.get("tied", False)
    with torch.no_grad(), intervene(model, FACTORS):
        wanted = model(**inputs).logits
        texts = generated(model, inputs)
        assert torch.equal(texts, generated(model, inputs, use_cache=False))
    with torch.no_grad():
        assert_close(written(**inputs).logits, wanted, 1e-5)
    assert torch.equal(generated(written, inputs), texts)


def test_adapters_are_merged_into_what_is_written(tiny_decoder, tmp_path: Path) -> None:
    model, inputs = with_adapter(tiny_decoder(tied=True), 0).eval(), prompts()
    before = everything(model)
    export(model, FACTORS, tmp_path / "model")
    assert_same(before, everything(model))
    with torch.no_grad(), intervene(model, FACTORS):
        assert_close(loaded(tmp_path / "model")(**inputs).logits, model(**inputs).logits, 1e-5)
    with model.disable_adapter():
        export(model, FACTORS, tmp_path / "without")
        with torch.no_grad(), intervene(model, FACTORS):
            assert_close(loaded(tmp_path / "without")(**inputs).logits, model(**inputs).logits)
    with pytest.raises(BadInput, match="merge them first"):
        export(model.get_base_model(), FACTORS, tmp_path / "bare")


def test_low_precision_and_the_tokenizer_are_kept(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    (tmp_path / "empty").mkdir()
    export(model, ["L0H1"], tmp_path / "empty", AutoTokenizer.from_pretrained(folder))
    written = loaded(tmp_path / "empty")
    assert written.dtype == torch.bfloat16
    assert not written.model.layers[0].self_attn.o_proj.weight[:, 4:8].any()
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "empty")
    assert (
        tokenizer("-(3+5)")["input_ids"]
        == AutoTokenizer.from_pretrained(folder)("-(3+5)")["input_ids"]
    )


def test_it_is_there_whole_or_not_at_all(tiny_decoder, tmp_path: Path) -> None:
    class Full:
        def save_pretrained(self, path: Path) -> None:
            assert (path / "config.json").is_file()
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        export(tiny_decoder(), FACTORS, tmp_path / "model", Full())
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused(tiny_decoder, tmp_path: Path) -> None:
    model = tiny_decoder()
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(BadInput, match="is there already; export into a new folder"):
            export(model, FACTORS, path)
    with pytest.raises(BadInput, match="weights have no rows"):
        export(model, [FACTORS, {}], tmp_path / "model")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no node 'L7H0'"):
        export(model, {"L7H0": 0.0}, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
