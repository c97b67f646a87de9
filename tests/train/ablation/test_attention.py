"""Attention over the responses that turned, held against passes of the model itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from tracking import Reference, intervene
from train.ablation import attention
from train.ablation.arms import Arm, Comparison
from train.ablation.attention import Pair, Tokens, attention_rows, turned_pairs
from train.ablation.modes import GRAFT, Mode
from train.ablation.targets import Target
from train.evals.benchmarks import benchmarks
from train.evals.sampling import Request, Sampling, noise_seed
from train.tiny.base import base_model
from train.tiny.tokenizer import tokenizer

SAMPLING = Sampling(max_new_tokens=36)
PROBLEMS = benchmarks(["tiny-easy"], limit=8)[0].problems
REQUESTS = [Request(problem, 0) for problem in PROBLEMS]
HEADS = ("L1H3", "L2H2")


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(base_model(), dtype=torch.float32).eval()


def arm(mode: str = "zero", nodes: tuple[str, ...] = (*HEADS, "M2")) -> Arm:
    return Arm(Mode.parse(mode), nodes)


def rows(*arms: Arm) -> pd.DataFrame:
    """All right as the model is, all wrong under the arms; texts of their own length."""
    requests = [*REQUESTS, *(one for each in arms for one in each.of(REQUESTS))]
    return pd.DataFrame(
        [{**dict(zip(attention.KEY, one.key, strict=True)), "right": not one.condition,
          "prompt": f"<|user|>{one.problem.question}<|assistant|>",
          "response": "4+1=5;####5" if one.condition else f"####{one.problem.answer}"}
         for one in requests]
    )  # fmt: skip


def weights(row: dict[str, Any], side: str) -> np.ndarray:
    """[head, query, key]."""
    shape = (len(row["heads"]), -1, len(row[f"{side}_tokens"]))
    return np.frombuffer(row[f"{side}_weights"], np.uint8).reshape(shape) / 255


@pytest.mark.parametrize("mode", ["zero", "mean", "resample"])
def test_weights_are_those_of_the_model_before_and_under_the_arm(
    mode: str, model: Any, tmp_path: Path
) -> None:
    changed, words = arm(mode), tokenizer()
    table = rows(changed)
    pair = Pair(REQUESTS[0], changed, HEADS)
    (row,) = attention_rows(model, words, SAMPLING, table, [pair], tmp_path)
    assert (row["condition"], row["heads"]) == (changed.condition, [*HEADS])
    model.set_attn_implementation("eager")
    before, after = (table.iloc[place] for place in (0, len(REQUESTS)))
    for side, answered in (("before", before), ("after", after)):
        ids = words(answered["prompt"] + answered["response"], return_tensors="pt",
                    add_special_tokens=False)["input_ids"]  # fmt: skip
        assert "".join(row[f"{side}_tokens"]) == answered["prompt"] + answered["response"]
        factors = dict.fromkeys(changed.nodes, 0.0) if side == "after" else {}
        reference = None if mode == "zero" else reference_of(model, table, mode)
        with torch.no_grad(), intervene(model, factors, mode, reference):
            layers = model(ids, output_attentions=True).attentions
        own = np.stack([layers[int(head[1])][0, int(head[3])] for head in HEADS])
        first = row["first"]
        assert row[f"{side}_tokens"][first] == "<|assistant|>"
        assert np.abs(weights(row, side) - own[:, first:]).max() < 1e-2


def reference_of(model: Any, table: pd.DataFrame, mode: str) -> Reference:
    """Of the responses as the model is; the draw of the first request."""
    as_it_is = table[table["condition"] == ""]
    texts = [*(as_it_is["prompt"] + as_it_is["response"])]
    ids = tokenizer()(texts, padding=True, return_tensors="pt", add_special_tokens=False)
    if mode == "mean":
        return Reference.mean(model, ids["input_ids"], ids["attention_mask"])
    drawn = Reference.resample(model, ids["input_ids"], ids["attention_mask"])
    return drawn.rows(torch.tensor([noise_seed(SAMPLING.seed, REQUESTS[0])]))


def test_what_is_long_or_has_no_room_is_left_out(
    model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pairs = [Pair(request, arm(), HEADS) for request in REQUESTS[:4]]
    every = attention_rows(model, tokenizer(), SAMPLING, rows(arm()), pairs, tmp_path)
    monkeypatch.setattr(attention, "BYTES", 900)
    some = attention_rows(model, tokenizer(), SAMPLING, rows(arm()), pairs, tmp_path)
    assert 0 < len(some) < len(every) == 4
    monkeypatch.setattr(attention, "LONGEST", 10)
    assert attention_rows(model, tokenizer(), SAMPLING, rows(arm()), pairs, tmp_path) == []


def test_pairs_are_the_problems_that_the_report_shows_first_ones_first(tmp_path: Path) -> None:
    many, alone = arm(), arm(nodes=("M3",))
    held = [Comparison(Target("set", one.nodes), one.mode, {}) for one in (many, alone)]
    (tmp_path / "responses").mkdir()
    rows(many, alone).to_parquet(tmp_path / "responses" / "part-000000.parquet")
    numbers = dict.fromkeys(("problems", "on", "off", "change", "change_low", "change_high"), 0.5)
    table = [
        {"heads": "set", "nodes": ",".join(one.nodes), "mode": mode, "benchmark": "tiny-easy",
         **numbers, "p": p, "smallest": 0.1}
        for one, mode, p in ((many, "zero", 0.01), (alone, "zero", 0.01), (many, GRAFT.name, 0.01))
    ]  # fmt: skip
    pd.DataFrame(table).to_parquet(tmp_path / "ablation.parquet")
    pairs = turned_pairs(tmp_path, REQUESTS, held, {"L2H2": -0.5, "L1H3": 0.1})
    assert {pair.arm for pair in pairs} == {many}, "MLPs attend to nothing, grafts are left out"
    assert len(pairs) == 5 and all(pair.heads == HEADS for pair in pairs)
    pd.DataFrame([{**table[0], "p": 0.2}]).to_parquet(tmp_path / "ablation.parquet")
    assert turned_pairs(tmp_path, REQUESTS, held, {}) == []


def test_tokens_of_a_prompt_and_a_response_make_their_text() -> None:
    tokens = Tokens.of(tokenizer(), "<|user|>+(1-2)<|assistant|>", "1-2=9;####9")
    assert "".join(tokens.texts) == "<|user|>+(1-2)<|assistant|>1-2=9;####9"
    assert tokens.texts[tokens.first] == "<|assistant|>"
    assert len(tokens.ids) == len(tokens.texts)
