"""A slow twin of attribution, written by hand.

It runs in float64 on one pair at a time, without padding, hooks or Hugging Face's forward: every
head's q, k and v read a copy of the residual stream of their own, and autograd does the rest.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tracking.pairs.prompt_pairs import PromptPairs


@dataclass
class Pass:
    """What was written and read, by name, and the logits, in one pass over one prompt."""

    logits: Tensor = field(init=False)
    writes: dict[str, Tensor] = field(default_factory=dict)  # [position, width]
    reads: dict[str, Tensor] = field(default_factory=dict)


def apart(model: Any) -> dict[str, Tensor]:
    """The parameters in float64; q, k and v, gate and up, one matrix in Phi-3, as several."""
    weights = {name: tensor.detach().double() for name, tensor in model.named_parameters()}
    size = model.model.layers[0].self_attn.head_dim
    keys = size * model.config.num_key_value_heads
    queries, inner = size * model.config.num_attention_heads, model.config.intermediate_size
    for whole, names, rows in (
        ("qkv_proj", ("q_proj", "k_proj", "v_proj"), (queries, keys, keys)),
        ("gate_up_proj", ("gate_proj", "up_proj"), (inner, inner)),
    ):
        for name in [name for name in weights if f".{whole}." in name]:
            for part, weight in zip(names, weights.pop(name).split(rows), strict=True):
                weights[name.replace(whole, part)] = weight
    return weights


def embedded(model: Any, ids: Tensor) -> Tensor:
    """What `embed` writes, float64 [position, width]; Gemma scales inside it."""
    return model.get_input_embeddings()(ids).detach().double()


def turns(model: Any, layer: int, count: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [position, feature] by which a layer turns q and k, by the model's own
    frequencies."""
    rotary, kind = model.model.rotary_emb, ""
    if not hasattr(rotary, "inv_freq"):
        kind = f"{model.config.layer_types[layer]}_"
    places = torch.arange(count, dtype=torch.double)[:, None]
    angles = (places * getattr(rotary, f"{kind}inv_freq").double()).repeat(1, 2)
    scale = getattr(rotary, f"{kind}attention_scaling")
    return scale * angles.cos(), scale * angles.sin()


def by_hand(model: Any, embeddings: Tensor, **patches: Tensor) -> Pass:
    """The forward pass of a Qwen2, Qwen3, Llama, Mistral, Phi-3 or Gemma on embeddings [position,
    width].

    `patches` are added to what the targets of these names read.
    """
    config, out = model.config, Pass()
    weights = apart(model)
    size, gemma = model.model.layers[0].self_attn.head_dim, config.model_type.startswith("gemma")
    place = torch.arange(len(embeddings))
    distance = place[:, None] - place[None, :]

    def norm(values: Tensor, name: str) -> Tensor:
        rate = (values.square().mean(-1, keepdim=True) + config.rms_norm_eps).rsqrt()
        return values * rate * (weights[f"{name}.weight"] + gemma)

    def linear(values: Tensor, name: str) -> Tensor:
        return F.linear(values, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def activation(values: Tensor) -> Tensor:
        return F.gelu(values, approximate="tanh") if gemma else F.silu(values)

    def capped(values: Tensor, name: str) -> Tensor:
        cap = getattr(config, name, None)
        return values if cap is None else cap * (values / cap).tanh()

    def read(stream: Tensor, target: str) -> Tensor:
        out.reads[target] = stream + patches.get(target, 0)
        return out.reads[target]

    out.writes["embed"] = stream = embeddings
    for layer in range(config.num_hidden_layers):
        at, attention = f"model.layers.{layer}", f"model.layers.{layer}.self_attn"
        cos, sin = turns(model, layer, len(embeddings))

        def rotated(values: Tensor, cos: Tensor = cos, sin: Tensor = sin) -> Tensor:
            turned, rest = values[:, : cos.shape[1]], values[:, cos.shape[1] :]
            first, second = turned.chunk(2, dim=-1)
            return torch.cat([turned * cos + torch.cat([-second, first], -1) * sin, rest], -1)

        hidden = distance < 0
        kinds = getattr(config, "layer_types", None)
        if getattr(config, "sliding_window", None) and (
            kinds is None or kinds[layer] == "sliding_attention"
        ):
            hidden = hidden | (distance >= config.sliding_window)
        writes = {}
        for head in range(config.num_attention_heads):
            group = head * config.num_key_value_heads // config.num_attention_heads
            parts = {}
            for part, number in (("q", head), ("k", group), ("v", group)):
                own = read(stream, f"L{layer}H{head}.{part}")
                values = linear(norm(own, f"{at}.input_layernorm"), f"{attention}.{part}_proj")
                parts[part] = values[:, number * size : (number + 1) * size]
                if part != "v" and f"{attention}.{part}_norm.weight" in weights:
                    parts[part] = norm(parts[part], f"{attention}.{part}_norm")
            match = rotated(parts["q"]) @ rotated(parts["k"]).T
            match = match * model.model.layers[layer].self_attn.scaling
            match = capped(match, "attn_logit_softcapping")
            mixed = match.masked_fill(hidden, -torch.inf).softmax(-1) @ parts["v"]
            columns = slice(head * size, (head + 1) * size)
            write = mixed @ weights[f"{attention}.o_proj.weight"][:, columns].T
            writes[f"L{layer}H{head}"] = write
        given = torch.stack([*writes.values()]).sum(0) + weights.get(f"{attention}.o_proj.bias", 0)
        before_mlp = f"{at}.post_attention_layernorm"
        if f"{at}.pre_feedforward_layernorm.weight" in weights:  # norms behind: each head's share
            attended = norm(given, before_mlp)
            share = torch.where(given == 0, 0.0, attended / given)
            writes = {name: write * share for name, write in writes.items()}
            given, before_mlp = attended, f"{at}.pre_feedforward_layernorm"
        out.writes |= writes
        stream = stream + given
        normed = norm(read(stream, f"M{layer}"), before_mlp)
        gate = activation(linear(normed, f"{at}.mlp.gate_proj"))
        written = linear(gate * linear(normed, f"{at}.mlp.up_proj"), f"{at}.mlp.down_proj")
        if before_mlp.endswith("pre_feedforward_layernorm"):
            written = norm(written, f"{at}.post_feedforward_layernorm")
        out.writes[f"M{layer}"] = written
        stream = stream + written
    head_weight = model.lm_head.weight.detach().double()
    logits = norm(read(stream, "logits"), "model.norm") @ head_weight.T
    out.logits = capped(logits, "final_logit_softcapping")
    return out


def loss_by_hand(
    metric: str, logits: Tensor, clean: Tensor, ids: Tensor, where: Tensor, labels: Tensor
) -> Tensor:
    """The metric of one pair from logits [position, vocabulary], its mean over `where`."""
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
    model: Any, pairs: PromptPairs, metric: str, steps: list[tuple[float, float]]
) -> dict[str, Tensor]:
    """`edges` [pair, source, target] and the metric of `clean` and `corrupted` prompts [pair]."""
    edges, ends = [], {"clean": [], "corrupted": []}
    for index in range(len(pairs)):
        real = pairs.attention_mask[index].bool()
        ids = pairs.clean[index][real]
        start, end = embedded(model, pairs.corrupted[index][real]), embedded(model, ids)
        before, after = by_hand(model, start), by_hand(model, end)
        assert pairs.labels is not None
        rest = after.logits, ids, pairs.supervised[index][real], pairs.labels[index]
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


def slowly_patched(model: Any, pairs: PromptPairs, metric: str, target_order: Any) -> Tensor:
    """The exact score of every edge, [pair, source, target]."""
    out = []
    for index in range(len(pairs)):
        real = pairs.attention_mask[index].bool()
        ids = pairs.clean[index][real]
        before = by_hand(model, embedded(model, pairs.corrupted[index][real]))
        after = by_hand(model, embedded(model, ids))
        assert pairs.labels is not None
        rest = after.logits, ids, pairs.supervised[index][real], pairs.labels[index]
        score = torch.zeros(len(after.writes), len(after.reads), dtype=torch.double)
        for row, (source, clean) in enumerate(after.writes.items()):
            for column, target in enumerate(target_order):
                if rank(source) < rank(target.split(".")[0]):
                    patch = {target: before.writes[source] - clean}
                    here = by_hand(model, embedded(model, ids), **patch)
                    score[row, column] = loss_by_hand(metric, here.logits, *rest)
                    score[row, column] -= loss_by_hand(metric, after.logits, *rest)
        out.append(score)
    return torch.stack(out)
