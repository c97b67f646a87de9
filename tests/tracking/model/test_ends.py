"""Both ends of pairs: those of some are theirs, and what is kept is run once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.builders.closeness import assert_close
from tests.builders.draws import METRICS, arches, few, seeds, sides
from tracking.attribution.metrics import resolve
from tracking.errors import BadInput
from tracking.model.decoder import Decoder
from tracking.model.ends import AllEnds, Ends, Kept, KeptLayer, kept_gb
from tracking.pairs.prompt_pairs import PromptPairs

ROOM_GB = 16.0


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """The rows of every pass within it."""
    rows: list[int] = []

    def see(_module: Any, _args: tuple, out: Tensor) -> None:
        rows.append(len(out))

    hook = model.model.norm.register_forward_hook(see)
    yield rows
    hook.remove()


def tensors(kept: Kept) -> list[Tensor]:
    """All that a pass left, of which nothing is a part of another tensor."""
    layers = [part for layer in kept.layers for part in layer.parts]
    return [kept.embeddings, *layers, kept.last_stream, kept.last]


@arches
@few(4)
@given(seed=seeds, side=sides, metric=st.sampled_from(METRICS), looks=st.integers(1, 3))
def test_the_ends_of_some_pairs_are_those_of_their_own_passes(
    tiny_decoder, random_pairs, arch: str, seed: int, side: str, metric: str, looks: int
) -> None:
    decoder = Decoder.of(tiny_decoder(arch, seed=seed))
    pairs = random_pairs(pairs=5, ragged=True, side=side, looks=looks, seed=seed)
    rows = torch.tensor([4, 0, 2])
    some, own = Ends.of(decoder, pairs).rows(rows), Ends.of(decoder, pairs[rows])
    for ours, theirs in ((some.clean, own.clean), (some.corrupted, own.corrupted)):
        for place in range(len(rows)):
            masks = [one.rest.pairs.attention_mask[place].bool() for one in (some, own)]
            for mine, wanted in zip(ours.layers, theirs.layers, strict=True):
                rests = [
                    one.mid[place, real] for one, real in zip((mine, wanted), masks, strict=True)
                ]
                run = min(map(len, rests))  # of fewer pairs more may be alike
                assert_close(rests[0][-run:], rests[1][-run:])
    assert_close(some.losses([resolve(metric)]), own.losses([resolve(metric)]))


@few(6)
@given(seed=seeds, batch_size=st.integers(1, 7), metric=st.sampled_from(METRICS))
def test_batches_and_parts_of_kept_ends_change_no_loss(
    tiny_decoder, random_pairs, seed: int, batch_size: int, metric: str
) -> None:
    decoder = Decoder.of(tiny_decoder(seed=seed))
    pairs, loss = random_pairs(pairs=7, ragged=True, looks=2, seed=seed), [resolve(metric)]
    places = torch.randperm(7, generator=torch.Generator().manual_seed(seed))[:4]
    wanted = AllEnds.of(decoder, pairs, 7).losses(loss)
    for memory_gb in (0.0, ROOM_GB):
        ends = AllEnds.of(decoder, pairs, batch_size, memory_gb)
        assert_close(ends.losses(loss), wanted)
        some = ends.among(places)
        assert torch.equal(some.pairs.clean, pairs.clean[places])
        assert sorted(torch.cat(list(some.rows)).tolist()) == [0, 1, 2, 3]
        assert_close(some.losses(loss), wanted[..., places])


def test_what_is_kept_is_run_once_and_parts_of_it_not_at_all(tiny_decoder, random_pairs) -> None:
    model = tiny_decoder()
    pairs, loss = random_pairs(pairs=6), [resolve("neg_logit_diff")]
    ends = AllEnds.of(Decoder.of(model), pairs, 4, ROOM_GB)
    with counted(model) as rows:
        ends.losses(loss)
        ends.losses([resolve("prob"), *loss])
        ends.among(torch.tensor([5, 1])).losses(loss)
        assert rows == [3, 3, 3, 3]
        assert ends.among(torch.arange(6))[0] is ends[0]
    again = AllEnds.of(Decoder.of(model), pairs, 4)
    with counted(model) as rows:
        again.losses(loss)
        again.losses(loss)
        again.among(torch.tensor([5, 1])).losses(loss)
    assert rows == 2 * [3, 3, 3, 3] + [2, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_kept_ends_take_what_is_counted(tiny_decoder, random_pairs, dtype: torch.dtype) -> None:
    decoder = Decoder.of(tiny_decoder(layers=3).to(dtype))
    pairs = random_pairs(pairs=6, looks=2)
    ends, size = Ends.of(decoder, pairs), 0
    for end, logits in (
        (ends.clean, ends.clean_logits),
        (ends.corrupted, ends.corrupted_logits),
    ):
        float32 = end.outputs.parts if dtype != torch.float32 else []
        size += sum(part.nbytes for part in (*tensors(end), *float32, logits))
    assert kept_gb(decoder, pairs, ROOM_GB) == pytest.approx(size / 1e9)
    assert kept_gb(decoder, pairs, 7.9 * size / 1e9) == 0.0
    assert not AllEnds.of(decoder, pairs, 4, 7.9 * size / 1e9).keeps
    assert AllEnds.of(decoder, pairs, 4, 8.1 * size / 1e9).keeps


def test_pairs_that_do_not_fit_the_model_are_refused(tiny_decoder) -> None:
    decoder = Decoder.of(tiny_decoder())
    beyond = torch.full((2, 3), decoder.embedding.num_embeddings)
    pairs = PromptPairs(beyond, beyond, labels=torch.zeros(2, 2).long())
    with pytest.raises(BadInput, match="the model knows"):
        AllEnds.of(decoder, pairs, 2)


def test_a_layer_kept_at_positions_holds_these_positions() -> None:
    parts = [torch.randn(2, 5, size) for size in (4, 6, 4, 4)]
    positions = torch.tensor([[4, 0], [1, 1]])
    for part, whole in zip(KeptLayer(*parts).at(positions).parts, parts, strict=True):
        for row, places in enumerate(positions.tolist()):
            assert torch.equal(part[row], torch.stack([whole[row, place] for place in places]))
