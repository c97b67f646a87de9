"""`sparks compare` of openings and of thinking on and off, end to end on small models."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import trl
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from tests.builders.checkpoints import QUICK, save_model, write_pairs
from tests.builders.paths import SHARED
from tracking import BadInput
from tracking.pairs.frozen import load_pairs
from train.commands import compare, track

Printed = pytest.CaptureFixture[str]
QWEN = SHARED / "qwen-tokenizer"
OPENINGS = ["--contrast", "opening", "--benchmarks", "tiny-hard", "--limit", "24",
            "--opening_tokens", "3"]  # fmt: skip


def compared(folder: Path, *words: object) -> Path:
    """The folder that `sparks compare` writes into."""
    compare.main([str(word) for word in (*words, "--output_dir", folder, *QUICK)])
    return folder


def save_qwen3(folder: Path) -> Path:
    """A random two-layer Qwen3 with its own tokenizer and TRL's template."""
    tokenizer = AutoTokenizer.from_pretrained(QWEN)
    template = Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja"
    tokenizer.chat_template = template.read_text()
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, initializer_range=0.4,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_chats(folder: Path, count: int = 16) -> Path:
    """A file of pairs whose prompts are chats with the model's turn begun."""

    def chat(asked: str, begun: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": asked}, {"role": "assistant", "content": begun}]

    rows = [
        {"clean": chat(f"{i:02}+1", "so"), "corrupted": chat(f"{i:02}+2", "so"),
         "correct": "a", "incorrect": "b"}
        for i in range(count)
    ]  # fmt: skip
    path = folder / "chats.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv", keep_default_na=False)


def test_openings_of_two_models_give_a_two_by_two(tmp_path: Path, capsys: Printed) -> None:
    models = [save_model(tmp_path / name, seed) for seed, name in enumerate(("base", "trained"))]
    out = compared(tmp_path / "out", *models, *OPENINGS)
    printed = capsys.readouterr().out
    assert "Weights and opening" in printed and "by the swapped design" in printed
    table = read(out, "two_by_two")
    assert table["metric"].value_counts().to_dict() == {"logit difference": 10, "KL": 10}
    parts = table["weights"] + table["opening"] - table["swapped"]
    assert parts.abs().max() < 1e-5
    assert not read(out, "emergent").empty


def test_a_model_and_its_copy_open_alike_and_there_is_nothing_to_compare(tmp_path: Path) -> None:
    one = save_model(tmp_path / "one", seed=3)
    other = shutil.copytree(one, tmp_path / "other")
    with pytest.raises(BadInput, match=r"0 usable pairs of 24 .*24 both models open alike"):
        compared(tmp_path / "out", one, other, *OPENINGS)


def test_openings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    models = [save_model(tmp_path / name, seed) for seed, name in enumerate("abc")]
    with pytest.raises(BadInput, match="of two models, base first, not of 3"):
        compared(tmp_path / "out", *models, *OPENINGS)
    with pytest.raises(BadInput, match="--benchmarks NAMES, and no --pairs"):
        compared(tmp_path / "out", *models[:2], "--contrast", "opening")
    with pytest.raises(BadInput, match="--opening_tokens is 0"):
        compared(tmp_path / "out", *models[:2], *OPENINGS[:-1], "0")
    run, pairs = tmp_path / "run", write_pairs(tmp_path)
    words = [models[2], "--pairs", pairs, "--output_dir", run, *QUICK]
    track.main([str(word) for word in words])
    shutil.rmtree(models[2])
    with pytest.raises(BadInput, match="run: its weights are gone"):
        compared(tmp_path / "out", run, models[1], *OPENINGS)


def test_a_model_is_compared_in_its_modes_of_thinking(tmp_path: Path, capsys: Printed) -> None:
    model, chats = save_model(tmp_path / "model", seed=3), write_chats(tmp_path)
    out = compared(tmp_path / "out", model, "--thinking", "--pairs", chats)
    printed = capsys.readouterr().out
    assert printed.count("analysing") == 3
    assert set(read(out, "behaviour")["model"]) == {"on", "off", "template"}
    assert {"Thinking on and off", "Breadth at equal faithfulness", "Wiring"} <= {
        *printed.split("\n")
    }
    modes = read(out, "modes")
    if len(modes):
        assert set(modes["mode"]) <= {"both", "on only", "off only", "none", "undecided"}
    compared(tmp_path / "out", model, "--thinking", "--pairs", chats)
    assert "analysing" not in capsys.readouterr().out


def test_thinking_is_of_one_model_and_of_chats(tmp_path: Path) -> None:
    models = [save_model(tmp_path / name, seed) for seed, name in enumerate("ab")]
    with pytest.raises(BadInput, match="--thinking compares the modes of one model"):
        compared(tmp_path / "out", *models, "--thinking")
    with pytest.raises(BadInput, match="--thinking compares the modes of one model"):
        compared(tmp_path / "out", "--thinking")
    with pytest.raises(BadInput, match="goes with neither"):
        compared(tmp_path / "out", models[0], "--thinking", "--control", tmp_path)
    with pytest.raises(BadInput, match="pair 0: no turn of the model's has begun"):
        compared(tmp_path / "out", models[0], "--thinking", "--pairs", write_pairs(tmp_path))


@pytest.mark.skipif(not QWEN.is_dir(), reason=f"no tokenizer at {QWEN}")
def test_qwen3_is_compared_in_its_modes_by_its_own_template(tmp_path: Path) -> None:
    model = save_qwen3(tmp_path / "qwen3")
    out = compared(tmp_path / "out", model, "--thinking", "--pairs", write_chats(tmp_path, 4))
    for mode, begins in (("on", "<think>\nso"), ("off", "<think>\n\n</think>\n\nso")):
        (folder,) = (out / "records").glob(f"{mode}-*")
        (pairs,) = load_pairs(folder / "heads" / "pairs.safetensors").values()
        assert pairs.texts[0][0].endswith(f"<|im_start|>assistant\n{begins}⟦a⟧")
    assert set(read(out, "behaviour")["model"]) == {"on", "off", "template"}
