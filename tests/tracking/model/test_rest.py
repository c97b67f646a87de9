"""Running only where prompts differ changes nothing that is said of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.builders.closeness import assert_close, correlation
from tests.builders.decoders import VARIANTS, with_adapter
from tests.builders.draws import few, seeds, sides
from tracking.attribution.attribute import attributed
from tracking.attribution.metrics import resolve
from tracking.attribution.plan import Plan
from tracking.circuits.faithfulness import Experiment
from tracking.model import rest as module
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds
from tracking.model.passes import Metric
from tracking.model.rest import alike, batches, ending_together, most
from tracking.nodes.effects import node_effects, together
from tracking.pairs.prompt_pairs import PromptPairs

CASES = [(arch, variant) for arch, variants in VARIANTS.items() for variant in variants]
METRIC = resolve("neg_logit_diff")
ROOM_GB = 16.0


@contextmanager
def apart() -> Iterator[None]:
    """Within it whole prompts are run, whatever they begin with."""
    before, module.alike = module.alike, lambda pairs: torch.zeros(len(pairs), dtype=torch.long)
    try:
        yield
    finally:
        module.alike = before


def all_of(
    decoder: Decoder,
    pairs: PromptPairs,
    sharing: bool,
    metric: Metric = METRIC,
    methods: Sequence[str] = ("eap-ig",),
) -> list[Tensor]:
    """Scores by the methods, runs of random circuits, effects of nodes one by one and together, of
    a part of the pairs."""
    generator, graph = torch.Generator().manual_seed(len(pairs)), decoder.graph
    drawn = (torch.rand(3, *graph.edge_mask.shape, generator=generator) < 0.6) & graph.edge_mask
    nodes = torch.ones(len(graph.nodes), dtype=torch.bool)
    some = torch.rand(2, len(nodes), generator=generator) < 0.5
    ends, out = AllEnds.of(decoder, pairs, 3, ROOM_GB), []
    assert all((end.rest.past is not None) == sharing for end in ends)
    for method in methods:
        rule = "adaptive" if method == "eap-ig" else "midpoint"
        (scores,) = attributed(ends, [metric], Plan(method, rule, 2, 4), per_pair=True)
        assert scores.per_pair is not None
        out.append(scores.per_pair)
    part = ends.among(torch.tensor([3, 0, 4]))
    runs = Experiment(part, metric).run([*drawn, graph.edge_mask])
    effects = node_effects(part, nodes, metric, least=0.05)
    out += [runs.clean, runs.corrupted, runs.patched, *together(part, some, metric)]
    return [*out, effects.corrupt, effects.restore, effects.behaviour]


def second_token(logits: Tensor, clean_logits: Tensor, pairs: PromptPairs) -> Tensor:
    """A metric of one's own: by a token of the prompt itself, which is the same in both."""
    first = pairs.attention_mask.int().argmax(1, keepdim=True)
    return -logits[:, 0].gather(1, pairs.clean.gather(1, first + 1))[:, 0]


def check(decoder: Decoder, pairs: PromptPairs, **more: Any) -> None:
    ours = all_of(decoder, pairs, sharing=True, **more)
    with apart():
        wanted = all_of(decoder, pairs, sharing=False, **more)
    for mine, one in zip(ours, wanted, strict=True):
        assert torch.equal(mine.isnan(), one.isnan())
        assert_close(mine.nan_to_num(), one.nan_to_num(), 1e-4)


@pytest.mark.parametrize(
    ("place", "arch", "variant"), [(place, *case) for place, case in enumerate(CASES)], ids=str
)
def test_what_is_said_of_pairs_is_the_same_from_where_they_differ(
    tiny_decoder, random_pairs, place: int, arch: str, variant: dict
) -> None:
    kinds = list(product(("left", "right"), (1, 2), (2, 3)))
    side, looks, shared = kinds[place % len(kinds)]
    decoder = Decoder.of(tiny_decoder(arch, seed=place, **variant))
    pairs = random_pairs(length=8, ragged=True, side=side, looks=looks, shared=shared, seed=place)
    check(decoder, pairs)


@pytest.mark.parametrize("method", ["eap-ig-activations", "node-ig", "exact"])
def test_other_methods_and_metrics_of_one_s_own_say_the_same(
    tiny_decoder, random_pairs, method: str
) -> None:
    pairs = random_pairs(length=8, ragged=True, shared=3)
    check(Decoder.of(tiny_decoder()), pairs, metric=second_token, methods=[method])


def test_adapters_are_read_behind_what_is_alike_too(tiny_decoder, random_pairs) -> None:
    model = with_adapter(tiny_decoder(), seed=1)
    check(Decoder.of(model), random_pairs(length=8, ragged=True, shared=3))


def test_in_half_precision_it_is_near(tiny_decoder, random_pairs) -> None:
    pairs = random_pairs(length=8, ragged=True, shared=3)
    with apart():
        wanted = all_of(Decoder.of(tiny_decoder()), pairs, sharing=False)
    ours = all_of(Decoder.of(tiny_decoder().to(torch.bfloat16)), pairs, sharing=True)
    for mine, one in zip(ours, wanted, strict=True):
        assert correlation(mine.nan_to_num(), one.nan_to_num()) > 0.97


@few(20)
@given(seed=seeds, looks=st.integers(1, 3), shared=st.integers(0, 4))
def test_prompts_are_alike_up_to_the_first_token_that_differs(
    random_pairs, seed: int, looks: int, shared: int
) -> None:
    pairs = random_pairs(length=10, looks=looks, shared=shared, seed=seed)
    assert (alike(pairs) == shared).all()
    looked_at = PromptPairs(pairs.clean, pairs.clean, supervised=pairs.supervised)
    first = [int(row.nonzero()[0]) for row in pairs.supervised]
    assert alike(looked_at).tolist() == first


@few(20)
@given(seed=seeds, side=sides, looks=st.integers(1, 3), batch_size=st.integers(1, 6))
def test_pairs_that_end_together_are_the_same_pairs(
    tiny_decoder, random_pairs, seed: int, side: str, looks: int, batch_size: int
) -> None:
    pairs = random_pairs(length=10, ragged=True, side=side, looks=looks, shared=2, seed=seed)
    moved = ending_together(pairs)
    assert moved.attention_mask[:, -1].all()
    for name in ("clean", "corrupted", "supervised"):
        for place, (ours, own) in enumerate(
            zip(getattr(moved, name), getattr(pairs, name), strict=True)
        ):
            real, there = moved.attention_mask[place].bool(), pairs.attention_mask[place].bool()
            assert torch.equal(ours[real], own[there])
    rows = list(batches(Decoder.of(tiny_decoder()), pairs, batch_size))
    assert sorted(torch.cat(rows).tolist()) == list(range(len(pairs)))
    rest = [10 - int(alike(moved[[row]])) for row in torch.cat(rows).tolist()]
    assert rest == sorted(rest)
    sizes = [len(one) for one in rows]
    assert len(sizes) == -(-len(pairs) // batch_size) and max(sizes) - min(sizes) <= 1


LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
STRETCHED = {"rope_type": "dynamic", "factor": 4.0}


@pytest.mark.parametrize(
    ("arch", "scaling"), [("phi3", LONG), ("llama", STRETCHED)], ids=["longrope", "dynamic"]
)
def test_where_rotation_depends_on_the_length_long_prompts_are_run_whole(
    tiny_decoder, random_pairs, arch: str, scaling: dict
) -> None:
    more = {"rope_parameters": {"rope_theta": 10_000.0, **scaling}, "max_position_embeddings": 8}
    more |= {"original_max_position_embeddings": 6} if arch == "phi3" else {}
    model = tiny_decoder(arch, **more)
    for length, sharing in ((10, False), (5, True)):
        pairs = random_pairs(length=length, shared=3)
        ends = AllEnds.of(Decoder.of(model), pairs, 8)[0]
        assert (ends.rest.past is not None) == sharing
        assert most(Decoder.of(model), pairs) == ((2, 3) if sharing else (10, 0))
        with torch.no_grad():
            wanted = model(pairs.clean).logits[:, -1]
        assert_close(ends.clean_logits[:, 0], wanted)


@few(30)
@given(seed=seeds, size=st.integers(1, 6), shared=st.integers(0, 4))
def test_no_batch_runs_more_positions_than_are_counted(
    tiny_decoder, random_pairs, seed: int, size: int, shared: int
) -> None:
    decoder, pairs = (
        Decoder.of(tiny_decoder()),
        random_pairs(pairs=6, length=12, ragged=True, shared=shared, seed=seed),
    )
    runs, before = most(decoder, pairs)
    assert runs + before == 12
    for ends in AllEnds.of(decoder, pairs, size):
        assert ends.rest.pairs.clean.shape[1] <= runs
