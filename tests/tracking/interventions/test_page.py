"""The code of docs/interventions.md runs as it stands."""

import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.builders.decoders import make_decoder
from tests.builders.paths import REPO
from tests.builders.tiny_model import save_tiny_model
from tracking.model.graph import Graph


def test_the_pages_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (REPO / "docs/interventions.md").read_text()
    folder = save_tiny_model(tmp_path / "tiny")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
    texts = ["-(3+5)", "+(3+5*2)", "+(1)"]
    names: dict[str, Any] = {
        "model": AutoModelForCausalLM.from_pretrained(folder).eval(),
        "base": make_decoder(width=16, head_dim=4, vocabulary=len(tokenizer), seed=1),
        "tokenizer": tokenizer,
        "texts": texts,
        "inputs": tokenizer(texts[:1], return_tensors="pt"),
        "inactive": Graph(2, 4).head_names,
    }
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        exec(compile(block, "docs/interventions.md", "exec"), names)
    assert AutoModelForCausalLM.from_pretrained("exported").config.model_type == "qwen2"
    assert names["controls"].moved == 0 and len(names["controls"].sets) == 1
    assert len(names["rows"]) == 2
