"""Exact scores are those of the reference and of the slow twin with one edge patched at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.closeness import assert_close
from tests.builders.draws import METRICS, arches, few, seeds
from tests.builders.golden import Golden
from tests.builders.twin import slowly_patched
from tracking.attribution.attribute import attribute


@pytest.mark.parametrize("golden", ["qwen2_tiny"], indirect=True)
@pytest.mark.parametrize("metric", ["kl", "neg_logit_diff"])
def test_exact_scores_are_the_reference_implementation_s(golden: Golden, metric: str) -> None:
    scores = attribute(golden.model, golden.pairs, "exact", metric, batch_size=4)
    assert_close(scores.edges, golden.tensors[f"scores/exact/{metric}"], 1e-4)


@arches
@few(3)
@given(seed=seeds, metric=st.sampled_from(METRICS), side=st.sampled_from(["left", "right"]))
def test_exact_scores_are_those_of_one_patch_at_a_time(
    tiny_decoder, random_pairs, arch: str, seed: int, metric: str, side: str
) -> None:
    model = tiny_decoder(arch, heads=2, kv_heads=1, head_dim=6, seed=seed)
    pairs = random_pairs(pairs=2, length=6, ragged=True, side=side, looks=2, seed=seed)
    result = attribute(model, pairs, "exact", metric, per_pair=True)
    wanted = slowly_patched(model, pairs, metric, result.graph.targets)
    assert result.per_pair is not None
    assert_close(result.per_pair.double(), wanted, 3e-5)
