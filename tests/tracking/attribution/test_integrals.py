"""Scores are those of the reference and of the slow twin, and follow the laws of integrals."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.builders.closeness import assert_close
from tests.builders.decoders import VARIANTS
from tests.builders.draws import METRICS, arches, few, seeds
from tests.builders.golden import Golden
from tests.builders.twin import loss_by_hand, path, slowly
from tracking.attribution.attribute import attribute
from tracking.errors import BadInput
from tracking.model.adapters import bias_of
from tracking.model.decoder import Decoder


@pytest.mark.parametrize("metric", ["kl", "neg_logit_diff"])
@pytest.mark.parametrize(
    ("method", "theirs"),
    [
        ("eap-ig", "EAP-IG-inputs"),
        ("eap-ig-activations", "EAP-IG-activations"),
        ("eap", "EAP"),
        ("clean-corrupted", "clean-corrupted"),
    ],
)
def test_scores_are_the_reference_implementation_s(
    golden: Golden, method: str, theirs: str, metric: str
) -> None:
    scores = attribute(golden.model, golden.pairs, method, metric, 5, "left", 4)
    wanted = golden.tensors[f"scores/{theirs}/{metric}"]
    if (method, metric) == ("eap", "kl"):  # zero in theory
        assert float((scores.edges - wanted).abs().max()) < 1e-6
    else:
        assert_close(scores.edges, wanted, 1e-4)
    for side in ("clean", "corrupted"):
        values = golden.tensors[f"metric/{metric}/{side}"]
        assert torch.allclose(getattr(scores, side), values, atol=1e-3)


@arches
@few(8)
@given(data=st.data())
def test_scores_are_those_of_the_slow_twin(tiny_decoder, random_pairs, arch: str, data) -> None:
    model = tiny_decoder(
        arch, seed=data.draw(seeds), **data.draw(st.sampled_from(VARIANTS[arch]), "variant")
    )
    pairs = random_pairs(
        pairs=3,
        length=6,
        ragged=True,
        side=data.draw(st.sampled_from(["left", "right"])),
        looks=data.draw(st.integers(1, 3)),
        seed=data.draw(seeds),
    )
    metric = data.draw(st.sampled_from(METRICS))
    method = data.draw(st.sampled_from(["eap-ig", "eap-ig", "eap-ig", "eap", "clean-corrupted"]))
    rule = data.draw(st.sampled_from(["left", "right", "midpoint", "gauss-legendre"]))
    result = attribute(model, pairs, method, metric, 3, rule, batch_size=2, per_pair=True)
    wanted = slowly(model, pairs, metric, path(method, rule, 3))
    assert torch.allclose(result.clean.double(), wanted["clean"], atol=1e-5)
    assert torch.allclose(result.corrupted.double(), wanted["corrupted"], atol=1e-5)
    assert result.per_pair is not None
    if (method, metric) == ("eap", "kl"):  # zero in theory
        assert float((result.per_pair - wanted["edges"]).abs().max()) < 1e-5
    else:
        # 1e-5 is typical; the worst of float32 passes, the twin's own among them, is beyond
        assert_close(result.per_pair.double(), wanted["edges"], 3e-5)
        assert_close(result.edges.double(), wanted["edges"].mean(0), 3e-5)


@arches
@few(3)
@given(seed=seeds, metric=st.sampled_from(METRICS), rule=st.sampled_from(["left", "adaptive"]))
def test_node_scores_are_the_sums_of_the_edges_that_leave_a_node(
    tiny_decoder, random_pairs, arch: str, seed: int, metric: str, rule: str
) -> None:
    model, pairs = tiny_decoder(arch, seed=seed), random_pairs(ragged=True, seed=seed)
    edges = attribute(model, pairs, "eap-ig", metric, 4, rule, per_pair=True)
    nodes = attribute(model, pairs, "node-ig", metric, 4, rule, per_pair=True)
    assert edges.per_pair is not None and nodes.per_pair is not None
    assert_close(nodes.per_pair.sum(-1), edges.per_pair.sum(-1), 3e-5)
    assert_close(nodes.nodes, edges.nodes, 3e-5)
    assert nodes.gap == pytest.approx(edges.gap, abs=1e-3)
    with pytest.raises(BadInput, match="node-ig"):
        nodes.edge("embed", "M0")


@arches
@few(4)
@given(data=st.data())
def test_permuted_heads_have_permuted_scores(
    tiny_decoder, random_pairs, arch: str, data: st.DataObject
) -> None:
    heads, groups, size = 6, 3, 8
    model = tiny_decoder(arch, heads=heads, kv_heads=groups, width=48, seed=data.draw(seeds))
    other = copy.deepcopy(model)
    now = {}  # by a node's name in `other`, the same node's in `model`
    for layer, block in enumerate(Decoder.of(other).blocks):
        order = data.draw(st.permutations(range(groups)))
        inside = [data.draw(st.permutations(range(heads // groups))) for _ in order]
        swapped = [
            group * (heads // groups) + head
            for group, within in zip(order, inside, strict=True)
            for head in within
        ]
        now |= {f"L{layer}H{new}": f"L{layer}H{old}" for new, old in enumerate(swapped)}
        for projection, rows in zip(block.reads, (swapped, order, order), strict=True):
            for values in (projection.weight, bias_of(projection)):
                if values is not None:
                    split = values.data.unflatten(0, (-1, size))
                    values.data.copy_(split[list(rows)].flatten(0, 1))
        columns = block.o.weight.data.unflatten(1, (-1, size))
        block.o.weight.data = columns[:, swapped].flatten(1)
    pairs = random_pairs(pairs=3, ragged=True, seed=data.draw(seeds))
    before, after = (attribute(m, pairs, metric="neg_logit_diff") for m in (model, other))
    rows = [before.graph.sources.index(now.get(name, name)) for name in before.graph.sources]
    columns = []
    for name in before.graph.targets:
        head, dot, part = name.partition(".")
        columns.append(before.graph.targets.index(now.get(head, head) + dot + part))
    assert_close(after.edges, before.edges[rows][:, columns])


@arches
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_every_query_head_of_a_group_has_edges_into_its_k_and_v(
    tiny_decoder, random_pairs, arch: str, kv_heads: int
) -> None:
    scores = attribute(
        tiny_decoder(arch, kv_heads=kv_heads), random_pairs(), metric="neg_logit_diff"
    )
    into = scores.edges.abs().amax(0)
    reads = [i for i, name in enumerate(scores.graph.targets) if name.endswith((".k", ".v"))]
    assert len(reads) == 2 * 2 * 4
    assert float(into[reads].min()) > 1e-4 * float(into.max())


@arches
@pytest.mark.parametrize("read", ["k", "v"])
def test_edges_into_a_group_s_k_and_v_sum_to_the_shared_head_s_score(
    tiny_decoder, random_pairs, arch: str, read: str
) -> None:
    """The shared head's score is taken from the plain model: an offset of zero on the stream that
    one projection of layer 1 reads, and autograd's gradient there."""
    model, pairs = tiny_decoder(arch, kv_heads=2), random_pairs()
    scores = attribute(model, pairs, method="eap", metric="neg_logit_diff", per_pair=True)
    block, embedding = Decoder.of(model).blocks[1], model.get_input_embeddings()
    projection, head_dim = getattr(block, read), block.attention.head_dim
    rows = projection.rows if block.fused else slice(None)
    offsets = torch.zeros(2, *pairs.clean.shape, embedding.embedding_dim, requires_grad=True)
    streams = []

    def shifted(_module: Any, _args: tuple, out: Tensor) -> Tensor:
        normed = block.attention_norm.forward(streams[0] + offsets)  # [group, pair, ...]
        own = F.linear(normed, projection.weight, bias_of(projection)).split(head_dim, dim=-1)
        changed = out.clone()
        changed[..., rows] = torch.cat([part[group] for group, part in enumerate(own)], dim=-1)
        return changed

    see = block.attention_norm.register_forward_pre_hook(lambda _, args: streams.append(args[0]))
    swap = (block.fused or projection).register_forward_hook(shifted)
    logits = model(pairs.clean, attention_mask=pairs.attention_mask).logits
    see.remove()
    swap.remove()
    last = logits[torch.arange(len(pairs)), pairs.supervised.int().argmax(-1)]
    correct, incorrect = last.gather(-1, pairs.labels).unbind(-1)
    gradients = torch.autograd.grad((incorrect - correct).sum(), offsets)[0]  # [group, pair, ...]
    change = embedding(pairs.corrupted) - embedding(pairs.clean)
    wanted = (gradients * change).sum((2, 3)).T  # [pair, group]
    columns = [scores.graph.targets.index(f"L1H{head}.{read}") for head in range(4)]
    assert scores.per_pair is not None
    result = scores.per_pair[:, 0, columns].unflatten(-1, (2, 2)).sum(-1)
    assert_close(result, wanted.detach(), 1e-4)


@arches
@pytest.mark.parametrize(
    ("metric", "quadrature"), zip(METRICS, ("gauss-legendre", "adaptive") * 2, strict=True)
)
def test_embed_s_row_sums_to_the_metric_s_change(
    tiny_decoder, random_pairs, arch: str, metric: str, quadrature: str
) -> None:
    """By the model's own forward pass, not by what the scores say of it."""
    model, pairs = tiny_decoder(arch, seed=5), random_pairs(seed=5)
    scores = attribute(model, pairs, "eap-ig", metric, 40, quadrature, per_pair=True)
    with torch.no_grad():
        clean, corrupted = model(pairs.clean).logits, model(pairs.corrupted).logits
    change = torch.stack(
        [
            loss_by_hand(metric, corrupted[i], clean[i], *rest)
            - loss_by_hand(metric, clean[i], clean[i], *rest)
            for i, rest in enumerate(zip(pairs.clean, pairs.supervised, pairs.labels, strict=True))
        ]
    )
    assert torch.allclose(scores.corrupted - scores.clean, change, atol=1e-5)
    assert scores.per_pair is not None
    rows = scores.per_pair[:, 0].sum(-1)
    assert torch.allclose(rows, scores.embed_sum, atol=1e-5)
    gap = float((rows - change).abs().sum() / change.abs().sum())
    assert gap < 0.01
    assert scores.gap == pytest.approx(gap, abs=1e-4)
