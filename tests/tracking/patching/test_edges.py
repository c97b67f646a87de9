"""A patched run computes what its circuit keeps, no more; each row may have its own circuit."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.closeness import assert_close
from tests.builders.draws import arches, few, seeds
from tests.builders.edges import drawn
from tracking.circuits.circuit import Circuit
from tracking.circuits.faithfulness import Experiment
from tracking.model.decoder import Decoder
from tracking.model.ends import Ends
from tracking.patching.edges import patched_logits


@contextmanager
def counted(model: Any) -> Iterator[Counter]:
    """How many heads' z and how many MLPs are computed within it, by layer."""
    seen: Counter = Counter()
    with ExitStack() as stack:
        for layer, module in enumerate(model.model.layers):

            def z(_module: Any, args: tuple, place: int = layer) -> None:
                seen[f"heads of {place}"] += args[0].shape[-1] // 8

            def mlp(*_: Any, place: int = layer) -> None:
                seen[f"M{place}"] += 1

            stack.callback(module.self_attn.o_proj.register_forward_pre_hook(z).remove)
            stack.callback(module.mlp.down_proj.register_forward_pre_hook(mlp).remove)
        yield seen


@arches
@few(4)
@given(seed=seeds, kept=st.floats(0.05, 0.95))
def test_rows_with_circuits_of_their_own_do_as_each_alone(
    tiny_decoder, random_pairs, arch: str, seed: int, kept: float
) -> None:
    model, pairs = tiny_decoder(arch, seed=seed), random_pairs(pairs=3, seed=seed)
    decoder = Decoder.of(model)
    ends = Ends.of(decoder, pairs)
    circuits = drawn(decoder.graph, kept, seed, 3)
    result = patched_logits(decoder, decoder.graph, ends.rest, ends.corrupted, circuits)
    for row, circuit in enumerate(circuits):
        shared = patched_logits(decoder, decoder.graph, ends.rest, ends.corrupted, circuit)
        assert_close(result[row], shared[row], 1e-5)


def test_only_what_the_circuit_keeps_is_computed(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(layers=3), random_pairs()
    decoder = Decoder.of(model)
    ends = Ends.of(decoder, pairs)
    edges = ["embed->L0H1.v", "embed->L0H2.k", "L0H1->M2", "L0H2->M2", "M2->logits"]
    circuit = Circuit.of(decoder.graph, edges)
    with counted(model) as seen:
        patched_logits(decoder, decoder.graph, ends.rest, ends.corrupted, circuit.edge_mask)
    assert seen == {"heads of 0": 2, "M2": 1}
    with counted(model) as seen:
        nothing = torch.zeros_like(decoder.graph.edge_mask)
        patched_logits(decoder, decoder.graph, ends.rest, ends.corrupted, nothing)
    assert not seen


@pytest.mark.parametrize("arch", ["qwen3", "mistral"])
def test_in_half_precision_all_edges_are_exactly_1_and_none_exactly_0(
    tiny_decoder, random_pairs, arch: str
) -> None:
    model = tiny_decoder(arch).to(torch.bfloat16)
    pairs, graph = random_pairs(ragged=True), Decoder.of(model).graph
    circuits = [graph.edge_mask, torch.zeros_like(graph.edge_mask), drawn(graph, 0.5, 0)]
    for metric in ("neg_logit_diff", "kl"):
        runs = Experiment.of(model, pairs, metric, 3).run(circuits)
        assert torch.equal(runs.patched[0], runs.clean)
        assert torch.equal(runs.patched[1], runs.corrupted)
        again = Experiment.of(model, pairs, metric, 3).run(circuits[:1])
        assert torch.equal(again.clean, runs.clean)


def test_a_forward_that_was_replaced_before_is_put_back(tiny_decoder, random_pairs) -> None:
    model, pairs = tiny_decoder(), random_pairs()
    decoder, mlp = Decoder.of(model), model.model.layers[0].mlp
    mlp.forward = own = mlp.forward
    ends = Ends.of(decoder, pairs)
    patched_logits(decoder, decoder.graph, ends.rest, ends.corrupted, decoder.graph.edge_mask)
    assert mlp.forward is own and "forward" not in vars(model.model.layers[1].mlp)
