"""Going on from what prompts begin with alike changes nothing that is said of them."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.builders.closeness import assert_close
from tests.builders.decoders import VARIANTS
from tests.builders.draws import few, seeds, sides
from tracking.attribution.attribute import attributed
from tracking.attribution.metrics import resolve
from tracking.attribution.plan import Plan
from tracking.circuits.faithfulness import Experiment
from tracking.model import ends as module
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds
from tracking.model.past import alike, by_rest, ending_together
from tracking.nodes.effects import node_effects, together
from tracking.pairs.prompt_pairs import PromptPairs

CASES = [(arch, variant) for arch, variants in VARIANTS.items() for variant in variants]
METRIC = resolve("neg_logit_diff")


@contextmanager
def apart() -> Iterator[None]:
    """Within it whole prompts are run, whatever they begin with."""
    before, module.LEAST_SHARED = module.LEAST_SHARED, 2.0
    yield
    module.LEAST_SHARED = before


def all_of(decoder: Decoder, pairs: PromptPairs, sharing: bool) -> list[Tensor]:
    """Scores, runs of random circuits, effects of nodes one by one and together."""
    ends, graph = AllEnds.of(decoder, pairs, 3), decoder.graph
    assert all((end.clean.past is not None) == sharing for _, end in ends)
    generator = torch.Generator().manual_seed(len(pairs))
    drawn = (torch.rand(3, *graph.edge_mask.shape, generator=generator) < 0.6) & graph.edge_mask
    nodes = torch.ones(len(graph.nodes), dtype=torch.bool)
    some = torch.rand(2, len(nodes), generator=generator) < 0.5
    methods = (attributed(ends, [METRIC], Plan(name, "midpoint", 3, 3), per_pair=True)[0]
               for name in ("eap-ig", "eap-ig-activations", "node-ig"))  # fmt: skip
    scores = [one.per_pair for one in methods if one.per_pair is not None]
    assert len(scores) == 3
    runs = Experiment(ends, METRIC).run([*drawn, graph.edge_mask])
    effects = node_effects(ends, nodes, METRIC)
    return [
        *scores,
        *(runs.clean, runs.corrupted, runs.patched),
        *(effects.corrupt, effects.restore, effects.behaviour),
        *together(ends, some, METRIC),
    ]


@pytest.mark.parametrize(("arch", "variant"), CASES, ids=str)
@few(3)
@given(seed=seeds, side=sides, looks=st.integers(1, 2), shared=st.integers(2, 4))
def test_what_is_said_of_pairs_is_the_same_from_where_they_differ(
    tiny_decoder,
    random_pairs,
    arch: str,
    variant: dict,
    seed: int,
    side: str,
    looks: int,
    shared: int,
) -> None:
    decoder = Decoder.of(tiny_decoder(arch, seed=seed, **variant))
    pairs = random_pairs(length=10, ragged=True, side=side, looks=looks, shared=shared, seed=seed)
    ours = all_of(decoder, pairs, sharing=True)
    with apart():
        wanted = all_of(decoder, pairs, sharing=False)
    for mine, one in zip(ours, wanted, strict=True):
        assert_close(mine, one)


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
    random_pairs, seed: int, side: str, looks: int, batch_size: int
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
    rows = list(by_rest(pairs, batch_size))
    assert sorted(torch.cat(rows).tolist()) == list(range(len(pairs)))
    rest = [10 - int(alike(moved[[row]])) for row in torch.cat(rows).tolist()]
    assert rest == sorted(rest)


LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
STRETCHED = {"rope_type": "dynamic", "factor": 4.0}


@pytest.mark.parametrize(
    ("arch", "scaling"), [("phi3", LONG), ("llama", STRETCHED)], ids=["longrope", "dynamic"]
)
def test_where_rotation_depends_on_the_length_whole_prompts_are_run(
    tiny_decoder, random_pairs, arch: str, scaling: dict
) -> None:
    more = {"rope_parameters": {"rope_theta": 10_000.0, **scaling}, "max_position_embeddings": 8}
    more |= {"original_max_position_embeddings": 6} if arch == "phi3" else {}
    model = tiny_decoder(arch, **more)
    pairs = random_pairs(length=10, shared=4)
    (_, ends), *_ = AllEnds.of(Decoder.of(model), pairs, 8)
    assert ends.clean.past is None
    with torch.no_grad():
        wanted = model(pairs.clean).logits[:, -1]
    assert_close(ends.clean_logits[:, 0], wanted)
