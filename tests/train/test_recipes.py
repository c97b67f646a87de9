"""The recipes of every family resolve as they stand: names, template, pairs, memory.

No Hub: the model is a folder with the published configuration, the real Qwen tokenizer and the
family's own chat template, and the data is GSM8K from a file.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trl
import yaml
from transformers import AutoTokenizer

from tests.builders.paths import REPO, SHARED
from tests.builders.published import PUBLISHED
from train import config
from train.commands import grpo, sft
from train.data import contrasts

GSM8K, TOKENIZER = SHARED / "data" / "gsm8k_train.jsonl", SHARED / "qwen-tokenizer"
TEMPLATES = {
    "Qwen/Qwen2.5-Math-1.5B": "qwen2_5",
    "Qwen/Qwen2.5-Math-7B": "qwen2_5",
    "Qwen/Qwen3-8B": "qwen3",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": "deepseek_r1_distill",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": "deepseek_r1_distill",
    "meta-llama/Llama-3.2-1B-Instruct": "llama3_2",
    "microsoft/Phi-4-mini-instruct": "phi3",
    "google/gemma-3-1b-it": "gemma3",
}
OURS = ("tiny", "smollm2")  # their models and data are no Hub's: tried where they are run

RECIPES = {
    path.relative_to(REPO / "recipes"): yaml.safe_load(path.read_text())
    for path in sorted((REPO / "recipes").glob("*/*.yaml"))
    if path.parent.name != "launch"
}
FAMILIES = [
    path
    for path, keys in RECIPES.items()
    if path.name == "grpo.yaml" and keys["model_name_or_path"] not in OURS
]


def stand_in(folder: Path, name: str) -> Path:
    """What of a published model a dry run reads."""
    shutil.copytree(TOKENIZER, folder, dirs_exist_ok=True)
    template = Path(trl.__file__).parent / "chat_templates" / f"{TEMPLATES[name]}.jinja"
    shutil.copyfile(template, folder / "chat_template.jinja")
    (folder / "config.json").write_text(json.dumps(PUBLISHED[name]))
    return folder


NEEDS = pytest.mark.skipif(
    not (GSM8K.exists() and TOKENIZER.exists()), reason=f"needs {GSM8K} and {TOKENIZER}"
)


@pytest.mark.slow
@NEEDS
@pytest.mark.parametrize("path", FAMILIES, ids=str)
def test_a_dry_run_counts_its_pairs_and_memory(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {
        "config": REPO / "recipes" / path,
        "model_name_or_path": stand_in(tmp_path / "model", RECIPES[path]["model_name_or_path"]),
        "dataset_name": GSM8K,
        "dataset_size": 300,
        "track_pairs_count": 16,
        "output_dir": tmp_path / "run",
        "report_to": "none",
        "dry_run": "true",
    }
    if "track_pairs_dataset" in RECIPES[path]:
        keys["track_pairs_dataset"] = GSM8K
    words = [str(word) for key, value in keys.items() for word in (f"--{key}", value)]
    grpo.main(words)
    printed = capsys.readouterr().out
    assert "pairs      16 operand, 16 result\n" in printed
    assert "in each process" in printed and "or the analysis" in printed


def traces(folder: Path) -> Path:
    """Conversations as of a reasoning model, a chat a row."""
    chats = []
    for line in GSM8K.read_text().splitlines()[:200]:
        row = json.loads(line)
        reply = f"<think>\n{row['answer']}\n</think>\n\nSo it is that."
        asked = {"role": "user", "content": row["question"]}
        chats.append({"messages": [asked, {"role": "assistant", "content": reply}]})
    path = folder / "traces.jsonl"
    path.write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    return path


@pytest.mark.slow
@NEEDS
@pytest.mark.parametrize(
    ("name", "rows"), [("sft", lambda _: GSM8K), ("distill", traces)], ids=["sft", "distill"]
)
def test_a_dry_run_of_sft_counts_its_rows_and_length(
    name: str, rows: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("qwen2.5-math-1.5b") / f"{name}.yaml"
    keys = {
        "config": REPO / "recipes" / path,
        "model_name_or_path": stand_in(tmp_path / "model", RECIPES[path]["model_name_or_path"]),
        "dataset_name": rows(tmp_path),
        "dataset_size": 200,
        "track_pairs_dataset": GSM8K,
        "track_pairs_count": 16,
        "output_dir": tmp_path / "run",
        "report_to": "none",
        "dry_run": "true",
    }
    sft.main([str(word) for key, value in keys.items() for word in (f"--{key}", value)])
    printed = capsys.readouterr().out
    assert "200 rows" in printed and "pairs      16 operand, 16 result\n" in printed
    assert f"sft: {RECIPES[path]['num_train_epochs']}.0 epochs" in printed
    assert "in each process" in printed


@NEEDS
@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("qwen3-8b/grpo.yaml", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("qwen2.5-math-7b/grpo.yaml", "<|im_start|>assistant\n"),
        ("r1-distill-qwen-7b/grpo.yaml", "<think>\n"),
        ("llama-3.2-1b/grpo.yaml", "Today Date: 26 Jul 2024"),
        ("gemma-3-1b/grpo.yaml", "<start_of_turn>user\nReason step by step"),
    ],
)
def test_pairs_stand_in_the_prompts_of_the_training(
    path: str, written: str, tmp_path: Path
) -> None:
    name = RECIPES[Path(path)]["model_name_or_path"]
    tokenizer: Any = AutoTokenizer.from_pretrained(stand_in(tmp_path, name))
    words = ["--config", str(REPO / "recipes" / path), "--dry_run", "true"]
    more = ["--track_pairs_dataset", str(GSM8K), "--track_pairs_count", "16"]
    job = config.load("grpo", [*words, *more, "--track_contrasts", "operand"])
    pairs = contrasts.build(job, tokenizer, lambda: None)["operand"]
    template = job.training.chat_template_kwargs or {}
    system = [{"role": "system", "content": job.ours.system_prompt}] * bool(job.ours.system_prompt)
    messages = [*system, {"role": "user", "content": "?"}]
    asked = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **template
    )
    begin, end = asked.split("?")[0], asked.rpartition("?")[2]
    assert written in asked
    for text in (text for texts in pairs.texts for text in texts):
        assert text.startswith(begin) and end in text
