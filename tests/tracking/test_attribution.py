"""Scores are those of the reference, of a slow twin written by hand, and leave no trace.

The twin runs in float64 on one probe at a time, without padding, hooks or Hugging Face's forward:
every head's q, k and v read a copy of the residual stream of their own, and autograd does the rest.
"""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from tracking.attribution import attribute
from tracking.errors import BadInput
from tracking.probes import ProbeSet

ARCHES = ["qwen2", "qwen3", "llama", "mistral"]
METRICS = ["kl", "neg_logit_diff", "prob", "nll"]
GOLDEN = ["qwen2_tiny", "qwen2_ragged", "qwen3_tiny", "llama_tied"]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

arches = pytest.mark.parametrize("arch", ARCHES)
seeds = st.integers(0, 10_000)


def few(examples: int) -> Callable:
    """Few examples, the same ones on every run: each is a comparison of floats."""
    return settings(max_examples=examples, deadline=None, derandomize=True)


def assert_close(found: Tensor, wanted: Tensor, share: float = 1e-5) -> None:
    """Equal to within `share` of the largest wanted value."""
    assert found.shape == wanted.shape
    largest = float(wanted.abs().max())
    assert largest > 0
    assert float((found - wanted).abs().max()) <= share * largest


def correlation(first: Tensor, second: Tensor) -> float:
    return float(np.corrcoef(first.flatten().numpy(), second.flatten().numpy())[0, 1])


# Parity with the reference implementation


@dataclass
class Golden:
    model: Any
    probes: ProbeSet
    tensors: dict[str, Tensor]


@pytest.fixture(scope="module", params=GOLDEN)
def golden(request: pytest.FixtureRequest, shared: Path) -> Golden:
    with safe_open(shared / "golden" / f"{request.param}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["hf_config"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).eval()
    weights = {k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert missing == (["lm_head.weight"] if config["tie_word_embeddings"] else [])
    probes = ProbeSet(
        tensors["clean_ids"],
        tensors["corrupted_ids"],
        tensors["attention_mask"],
        tensors["labels"],
    )
    return Golden(model, probes, tensors)


@pytest.mark.parametrize("batch_size", [4, 100])
@pytest.mark.parametrize("metric", ["kl", "neg_logit_diff"])
@pytest.mark.parametrize(
    ("method", "theirs"),
    [("eap-ig", "EAP-IG-inputs"), ("eap", "EAP"), ("clean-corrupted", "clean-corrupted")],
)
def test_scores_are_the_reference_implementation_s(
    golden: Golden, method: str, theirs: str, metric: str, batch_size: int
) -> None:
    scores = attribute(golden.model, golden.probes, method, metric, 5, "left", batch_size)
    wanted = golden.tensors[f"scores/{theirs}/{metric}"]
    if (method, metric) == ("eap", "kl"):  # zero in theory
        assert float((scores.edges - wanted).abs().max()) < 1e-6
    else:
        assert_close(scores.edges, wanted, 1e-4)
    for side in ("clean", "corrupted"):
        values = golden.tensors[f"metric/{metric}/{side}"]
        assert torch.allclose(getattr(scores, side), values, atol=1e-3)


# The slow twin


@dataclass
class Pass:
    """What was written and read, by name, and the logits, in one pass over one prompt."""

    logits: Tensor = field(init=False)
    writes: dict[str, Tensor] = field(default_factory=dict)  # [position, width]
    reads: dict[str, Tensor] = field(default_factory=dict)


def by_hand(model: Any, embeddings: Tensor) -> Pass:
    """The forward pass of a Qwen2, Qwen3, Llama or Mistral on embeddings [position, width]."""
    config, out = model.config, Pass()
    weights = {name: tensor.detach().double() for name, tensor in model.named_parameters()}
    size = config.head_dim
    place = torch.arange(len(embeddings), dtype=torch.double)
    turns = place[:, None] / config.rope_parameters["rope_theta"] ** (
        torch.arange(0, size, 2, dtype=torch.double) / size
    )
    cos, sin = turns.cos().repeat(1, 2), turns.sin().repeat(1, 2)
    distance = place[:, None] - place[None, :]
    hidden = distance < 0
    if getattr(config, "sliding_window", None):
        hidden |= distance >= config.sliding_window

    def norm(values: Tensor, name: str) -> Tensor:
        rate = (values.square().mean(-1, keepdim=True) + config.rms_norm_eps).rsqrt()
        return values * rate * weights[f"{name}.weight"]

    def linear(values: Tensor, name: str) -> Tensor:
        return F.linear(values, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def rotated(values: Tensor) -> Tensor:
        first, second = values.chunk(2, dim=-1)
        return values * cos + torch.cat([-second, first], dim=-1) * sin

    def read(stream: Tensor, target: str) -> Tensor:
        out.reads[target] = stream.clone()
        return out.reads[target]

    out.writes["embed"] = stream = embeddings
    for layer in range(config.num_hidden_layers):
        at, attention = f"model.layers.{layer}", f"model.layers.{layer}.self_attn"
        written = torch.zeros_like(stream) + weights.get(f"{attention}.o_proj.bias", 0)
        for head in range(config.num_attention_heads):
            group = head * config.num_key_value_heads // config.num_attention_heads
            parts = {}
            for part, number in (("q", head), ("k", group), ("v", group)):
                own = read(stream, f"L{layer}H{head}.{part}")
                values = linear(norm(own, f"{at}.input_layernorm"), f"{attention}.{part}_proj")
                parts[part] = values[:, number * size : (number + 1) * size]
                if part != "v" and f"{attention}.{part}_norm.weight" in weights:
                    parts[part] = norm(parts[part], f"{attention}.{part}_norm")
            match = rotated(parts["q"]) @ rotated(parts["k"]).T / size**0.5
            mixed = match.masked_fill(hidden, -torch.inf).softmax(-1) @ parts["v"]
            columns = slice(head * size, (head + 1) * size)
            write = mixed @ weights[f"{attention}.o_proj.weight"][:, columns].T
            out.writes[f"L{layer}H{head}"] = write
            written = written + write
        stream = stream + written
        normed = norm(read(stream, f"M{layer}"), f"{at}.post_attention_layernorm")
        inner = F.silu(linear(normed, f"{at}.mlp.gate_proj")) * linear(normed, f"{at}.mlp.up_proj")
        out.writes[f"M{layer}"] = linear(inner, f"{at}.mlp.down_proj")
        stream = stream + out.writes[f"M{layer}"]
    head_weight = model.lm_head.weight.detach().double()
    out.logits = norm(read(stream, "logits"), "model.norm") @ head_weight.T
    return out


def loss_by_hand(
    metric: str, logits: Tensor, clean: Tensor, ids: Tensor, where: Tensor, labels: Tensor
) -> Tensor:
    """The metric of one probe from logits [position, vocabulary], its mean over `where`."""
    logits, clean = logits[where], clean[where]
    if metric == "kl":
        return (clean.softmax(-1) * (clean.log_softmax(-1) - logits.log_softmax(-1))).sum(-1).mean()
    if metric == "neg_logit_diff":
        return (logits[:, labels[1]] - logits[:, labels[0]]).mean()
    if metric == "prob":
        return -logits.softmax(-1)[:, labels[0]].mean()
    following = torch.cat([ids[1:], labels[:1]])[where]
    return F.cross_entropy(logits, following)


def path(method: str, rule: str, steps: int) -> list[tuple[float, float]]:
    """Places and weights."""
    if method == "eap":
        return [(1.0, 1.0)]
    if method == "clean-corrupted":
        return [(0.0, 0.5), (1.0, 0.5)]
    if rule == "gauss-legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return [(n / 2 + 0.5, w / 2) for n, w in zip(nodes, weights, strict=True)]
    shift = {"left": 0, "midpoint": 0.5, "right": 1}[rule]
    return [((step + shift) / steps, 1 / steps) for step in range(steps)]


def rank(node: str) -> float:
    """When a node runs: a layer's heads together, then its MLP."""
    if node in ("embed", "logits"):
        return -1 if node == "embed" else float("inf")
    return 2 * int(node[1:].split("H")[0]) + (node[0] == "M")


def slowly(
    model: Any, probes: ProbeSet, metric: str, steps: list[tuple[float, float]]
) -> dict[str, Tensor]:
    """`edges` [probe, source, target] and the metric of `clean` and `corrupted` prompts [probe]."""
    table = model.get_input_embeddings().weight.detach().double()
    edges, ends = [], {"clean": [], "corrupted": []}
    for index in range(len(probes)):
        real = probes.attention_mask[index].bool()
        ids = probes.clean[index][real]
        start, end = table[probes.corrupted[index][real]], table[ids]
        before, after = by_hand(model, start), by_hand(model, end)
        assert probes.labels is not None
        rest = after.logits, ids, probes.supervised[index][real], probes.labels[index]
        ends["clean"].append(loss_by_hand(metric, after.logits, *rest))
        ends["corrupted"].append(loss_by_hand(metric, before.logits, *rest))
        score = torch.zeros(len(after.writes), len(after.reads), dtype=torch.double)
        for place, weight in steps:
            here = by_hand(model, (start + place * (end - start)).requires_grad_())
            loss = loss_by_hand(metric, here.logits, *rest)
            gradients = torch.autograd.grad(loss, list(here.reads.values()))
            for row, (source, clean) in enumerate(after.writes.items()):
                change = before.writes[source] - clean
                for column, (target, gradient) in enumerate(
                    zip(here.reads, gradients, strict=True)
                ):
                    if rank(source) < rank(target.split(".")[0]):
                        score[row, column] += weight * (change * gradient).sum()
        edges.append(score)
    # the reads were made head by head; a score matrix has all q, then all k, then all v of a layer
    names, heads = list(here.reads), model.config.num_attention_heads
    order = [
        names.index(name)
        for layer in range(model.config.num_hidden_layers)
        for name in [f"L{layer}H{h}.{part}" for part in "qkv" for h in range(heads)] + [f"M{layer}"]
    ]
    stacked = torch.stack(edges)[:, :, [*order, len(names) - 1]]
    return {"edges": stacked, **{side: torch.stack(values) for side, values in ends.items()}}


VARIANTS = {
    "qwen2": [{}, {"tied": True}, {"kv_heads": 1}, {"kv_heads": 4, "heads": 4}],
    "qwen3": [{"head_dim": 12}, {"head_dim": 6, "tied": True}, {"attention_bias": True}],
    "llama": [{}, {"attention_bias": True, "mlp_bias": True}, {"tied": True, "head_dim": 10}],
    "mistral": [{"sliding_window": 3}, {"sliding_window": 100, "tied": True}, {"head_dim": 4}],
}


@arches
@few(10)
@given(data=st.data())
def test_scores_are_those_of_the_slow_twin(tiny_decoder, random_probes, arch: str, data) -> None:
    model = tiny_decoder(
        arch, seed=data.draw(seeds), **data.draw(st.sampled_from(VARIANTS[arch]), "variant")
    )
    probes = random_probes(
        probes=3,
        length=6,
        ragged=True,
        side=data.draw(st.sampled_from(["left", "right"])),
        looks=data.draw(st.integers(1, 3)),
        seed=data.draw(seeds),
    )
    metric = data.draw(st.sampled_from(METRICS))
    method = data.draw(st.sampled_from(["eap-ig", "eap-ig", "eap-ig", "eap", "clean-corrupted"]))
    rule = data.draw(st.sampled_from(["left", "right", "midpoint", "gauss-legendre"]))
    found = attribute(model, probes, method, metric, 3, rule, batch_size=2, per_probe=True)
    wanted = slowly(model, probes, metric, path(method, rule, 3))
    assert torch.allclose(found.clean.double(), wanted["clean"], atol=1e-5)
    assert torch.allclose(found.corrupted.double(), wanted["corrupted"], atol=1e-5)
    assert found.per_probe is not None
    if (method, metric) == ("eap", "kl"):  # zero in theory
        assert float((found.per_probe - wanted["edges"]).abs().max()) < 1e-5
    else:
        assert_close(found.per_probe.double(), wanted["edges"])
        assert_close(found.edges.double(), wanted["edges"].mean(0))
