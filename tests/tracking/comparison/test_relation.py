"""Two models are of one base where their weights are parallel, and not by chance."""

from typing import Any

import torch

from tests.builders.comparisons import comparison_of
from tests.builders.decoders import make_decoder
from tests.builders.prompt_pairs import make_pairs
from tracking.comparison.nodes import nodes_section
from tracking.comparison.relation import by_name, by_weights
from tracking.nodes.weight_change import snapshot


def moved(model: Any, share: float) -> Any:
    """With noise of this share of their spread on all weights."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += share * weight.std() * torch.randn_like(weight) if weight.ndim == 2 else 0
    return model


def exchanged(model: Any, layer: int) -> Any:
    """With the first two heads of a layer, which share a KV head, in each other's place."""
    attention, size = model.model.layers[layer].self_attn, model.config.head_dim
    with torch.no_grad():
        for one in (attention.q_proj.weight, attention.q_proj.bias, attention.o_proj.weight.T):
            one[: 2 * size] = one[: 2 * size].clone().roll(size, 0)
    return model


def test_a_model_that_has_moved_is_of_its_base() -> None:
    base = snapshot(make_decoder("qwen2", seed=0))
    for share in (0.0, 0.1, 0.5):
        relation = by_weights(base, snapshot(moved(make_decoder("qwen2", seed=0), share)))
        assert relation.one_base and "cosine" in relation.rule


def test_other_models_are_not() -> None:
    base = snapshot(make_decoder("qwen2", seed=0))
    assert not by_weights(base, snapshot(make_decoder("qwen2", seed=1))).one_base
    assert by_weights(base, snapshot(make_decoder("qwen2", seed=0))).cosine > 0.999


def test_heads_in_another_order_are_of_no_same_name() -> None:
    base, turned = (make_decoder("qwen2", seed=0) for _ in range(2))
    assert by_weights(snapshot(base), snapshot(exchanged(turned, layer=1))).rule.endswith(
        "heads of it stand in other places: L1H0 is L1H1, L1H1 is L1H0"
    )
    assert not by_weights(snapshot(base), snapshot(turned)).one_base


def test_layers_that_are_all_alike_prove_nothing() -> None:
    alike: Any = make_decoder("qwen2", seed=0)
    first = alike.model.layers[0].state_dict()
    for layer in alike.model.layers:
        layer.load_state_dict(first)
    assert not by_weights(snapshot(alike), snapshot(alike)).one_base


def test_where_weights_are_gone_runs_name_their_base() -> None:
    assert by_name("tiny of seed 0", "tiny of seed 0").one_base
    assert not by_name("tiny of seed 0", "tiny of seed 1").one_base
    assert not by_name(None, "tiny of seed 1").one_base


def test_nodes_of_other_bases_are_not_compared_by_name() -> None:
    models = {str(seed): make_decoder("qwen2", seed=seed) for seed in (0, 1)}
    section = nodes_section(comparison_of(models, make_pairs(6)))
    assert section.sentences[-1] == "Nodes are compared by name only within one base: 0 | 1."
    assert "nodes" not in section.tables
