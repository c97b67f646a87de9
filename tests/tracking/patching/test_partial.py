"""A pass that begins in the middle ends as the whole one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.closeness import assert_close
from tests.builders.decoders import VARIANTS
from tests.builders.draws import few, seeds, sides
from tracking.model.decoder import Decoder, embed
from tracking.model.ends import Kept
from tracking.model.passes import logits
from tracking.model.taps import quiet
from tracking.pairs.prompt_pairs import PromptPairs, look
from tracking.patching.partial import last_stream, side_by_side, streams_with

CASES = [(arch, variant) for arch, variants in VARIANTS.items() for variant in variants]


def end_from(decoder: Decoder, pairs: PromptPairs, kept: Kept, layer: int) -> torch.Tensor:
    """Logits of a pass that begins before `layer` with the stream that was there."""
    positions = look(pairs)[0]
    before = kept.layers[layer - 1]
    if layer == len(decoder.blocks):
        before = before.at(positions)
    stream = before.mid + before.mlp_out
    with torch.no_grad(), quiet(decoder):
        last = last_stream(decoder, layer, stream, pairs.attention_mask, positions)
        return decoder.logits(last)


def kept_of(decoder: Decoder, pairs: PromptPairs) -> Kept:
    with torch.no_grad():
        return Kept.of(decoder, pairs.clean, pairs.attention_mask, look(pairs)[0])


@pytest.mark.parametrize(("arch", "variant"), CASES, ids=str)
@few(3)
@given(seed=seeds, side=sides, looks=st.integers(1, 3))
def test_a_pass_from_any_layer_gives_the_logits_of_the_whole(
    tiny_decoder, random_pairs, arch: str, variant: dict, seed: int, side: str, looks: int
) -> None:
    decoder = Decoder.of(tiny_decoder(arch, layers=3, seed=seed, **variant))
    pairs = random_pairs(ragged=True, side=side, looks=looks, seed=seed)
    kept, weights = kept_of(decoder, pairs), look(pairs)[1]
    with torch.no_grad():
        whole = logits(decoder, embed(decoder, pairs.clean), pairs)
        ended = decoder.logits(kept.last)
    assert_close(ended[weights > 0], whole[weights > 0])
    for layer in (1, 2, 3):
        assert_close(end_from(decoder, pairs, kept, layer)[weights > 0], whole[weights > 0])


def test_layers_of_different_attention_keep_their_own(tiny_decoder, random_pairs) -> None:
    kinds = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
    more = {"layer_types": kinds, "sliding_window": 2, "use_sliding_window": True}
    decoder = Decoder.of(tiny_decoder("qwen2", layers=4, **more))
    pairs = random_pairs(ragged=True)
    kept = kept_of(decoder, pairs)
    with torch.no_grad():
        whole = decoder.logits(kept.last)
    for layer in (1, 2, 3, 4):
        assert_close(end_from(decoder, pairs, kept, layer), whole)
    decoder.causal.config.layer_types[3] = "full_attention"
    assert float((kept_of(decoder, pairs).last - kept.last).abs().max()) > 0.01


def test_layers_are_back_in_their_places_also_after_an_exception(
    tiny_decoder, random_pairs
) -> None:
    decoder, pairs = Decoder.of(tiny_decoder(layers=3)), random_pairs()
    kept, layers = kept_of(decoder, pairs), list(decoder.layers)
    end_from(decoder, pairs, kept, 2)
    assert list(decoder.layers) == layers
    wrong = torch.zeros(1, 1, decoder.width + 1)
    with pytest.raises(RuntimeError):
        last_stream(decoder, 1, wrong, torch.ones(1, 1), torch.zeros(1, 1).long())
    assert list(decoder.layers) == layers


def test_a_node_that_gives_what_it_gave_changes_nothing(tiny_decoder, random_pairs) -> None:
    decoder, pairs = Decoder.of(tiny_decoder()), random_pairs()
    kept = kept_of(decoder, pairs)
    mask, positions = pairs.attention_mask, look(pairs)[0]
    nodes = torch.ones(len(decoder.graph.nodes), dtype=torch.bool)
    with torch.no_grad(), quiet(decoder):
        for chosen in side_by_side(decoder.graph, nodes, 3):
            for after in streams_with(kept, kept, chosen, mask, positions):
                assert_close(after, kept.last)
